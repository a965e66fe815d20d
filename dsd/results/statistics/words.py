"""How the sentences of the answers write numbers, so that all of them write them alike."""

from __future__ import annotations

from collections.abc import Sequence

LEVELS = (0.1, 0.05, 0.01, 0.001)


def number(value: float) -> str:
    """Four significant digits, without trailing zeros."""
    return f"{value:.4g}"


def sd(value: float | None) -> str:
    return "sd unknown" if value is None else f"sd {number(value)}"


def p_value(p: float) -> str:
    """Two significant digits, more if they would make it one of the usual levels; never "p = 0"."""
    digits = next((n for n in range(2, 17) if float(f"{p:.{n}g}") not in LEVELS), 2) if p not in LEVELS else 2
    return f"p = {p:.{digits}g}" if p >= 1e-15 else "p < 1e-15"


def plural(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def sentence(head: str, *rest: str | None, notes: Sequence[str] = ()) -> str:
    """`head, rest, rest; note; note.`"""
    return "; ".join([", ".join([head, *(part for part in rest if part)]), *notes]) + "."


def without_p(notes: Sequence[str], test: str) -> tuple[str, ...]:
    """The notes, the last of which is the reason there is no p."""
    *others, why = notes or ("nothing to test",)
    return *others, f"{why}, no p ({test})"


def probability(name: str, value: float) -> float:
    """The value, if it lies strictly between 0 and 1."""
    if not 0 < value < 1:
        raise ValueError(f"{name} lies between 0 and 1, got {value}")
    return value


def positive(name: str, value: float) -> float:
    """The value, if it is finite and more than 0."""
    if not 0 < value < float("inf"):
        raise ValueError(f"{name} must be a finite number above 0, got {value}")
    return value
