"""A report: one HTML page that needs no network, and the same in Markdown, of one or more studies."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from dsd.results.analysis import Findings
from dsd.results.cost import Cost, costs
from dsd.results.figures import Figure, forest, points, weights
from dsd.results.learning import curves
from dsd.results.members import command, declared
from dsd.results.statistics import Rate, words
from dsd.results.store import atomic_write
from dsd.results.study import Study
from dsd.results.utterances import spoken

Records = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Section:
    """A study in the report."""

    findings: Findings
    figures: tuple[Figure, ...]
    provenance: Mapping[str, Any]
    commands: tuple[str, ...]
    samples: Mapping[str, Any] | None
    spoken: Mapping[str, Rate]  # by run
    costs: tuple[Cost, ...]
    published: Mapping[str, str]  # the papers' effects, by claim


def section(
    findings: Findings, records: Records, moments: Mapping[str, Any] | None, samples: Mapping[str, Any] | None = None
) -> Section:
    """The figures and the provenance of a study's findings.

    `moments`: one layer's histograms, see `experiments`; `samples`: see dsd/results/samples.py.
    """
    study = findings.study
    records = declared(study, records)
    own = [r for r in records if r["study"] == study.name]
    drawn = [points(findings), forest(findings), curves(findings, own)]
    if moments:
        drawn.append(weights(study.name, moments["moments"], moments["layer"], moments["run_id"]))
    commands = tuple(command(study, arm, seeds) for arm, seeds in findings.missing.items())
    rates = {r["run_id"]: spoken(study, [r]) for r in own}
    found = {run_id: rate for run_id, rate in rates.items() if rate is not None}
    return Section(
        findings,
        tuple(f for f in drawn if f is not None),
        provenance(own),
        commands,
        samples,
        found,
        costs(study, records),
        _published(study),
    )


def _published(study: Study) -> dict[str, str]:
    told = {}
    for claim in study.claims:
        effect = study.published(claim.treated, claim.control, claim.phase, spread=claim.spread)
        parts = [] if effect is None else [f"{'sd ratio ' * claim.spread}{effect:.2f}"]
        if parts := parts + [claim.published_p] * bool(claim.published_p):
            told[claim.text] = ", ".join(parts)
    return told


def _published_parts(study: Study) -> str:
    """The papers' own decomposition, as a sentence; empty without their numbers."""
    treated, matched, baseline = study.decomposition or ("", "", "")
    pairs = {"total": (treated, baseline), "training alone": (matched, baseline), "the method": (treated, matched)}
    found = {name: study.published(*arms) for name, arms in pairs.items()}
    if None in found.values():
        return ""
    return f" Published: {'; '.join(f'{name} {value:.2f}' for name, value in found.items())}."


def provenance(records: Records) -> dict[str, Any]:
    """Where every number comes from: what all runs share, what differs, and the runs by arm and seed."""
    if not records:
        return {"shared": {}, "arms": {}, "software": {}, "runs": [], "seconds": 0.0}
    keys = sorted({key for record in records for key in record["config"]})
    first = records[0]["config"]
    shared = {
        k: first[k]
        for k in keys
        if k in first and all(k in r["config"] and r["config"][k] == first[k] for r in records)
    }
    arms: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(r["arm"] for r in records):
        own = [r["config"] for r in records if r["arm"] == name]
        same = {k: own[0][k] for k in own[0] if k not in shared and all(k in c and c[k] == own[0][k] for c in own)}
        arms[name] = same
    software = {
        f"{group}: {key}": ", ".join(f"{value} ({words.plural(n, 'run')})" for value, n in Counter(str(r[group].get(key)) for r in records).items())
        for group in ("versions", "hardware", "git") for key in sorted({k for r in records for k in r[group]})
    }  # fmt: skip
    runs = [
        {name: r[name] for name in ("arm", "seed", "run_id", "updates", "seconds", "restarts", "finished")}
        | {"test": {k: v for k, v in r["test"].items() if k != "test/n"}, "start": r["config"].get("init_from"), "code": _code(r["git"])}
        for r in records
    ]  # fmt: skip
    return {
        "shared": shared,
        "arms": arms,
        "software": software,
        "runs": runs,
        "seconds": sum(r["seconds"] for r in records),
    }


def _code(git: Mapping[str, Any]) -> str | None:
    """The commit, short, and whether the code differed from it; None if there was no repository."""
    commit = git.get("commit")
    return commit and f"{commit[:7]}{' with changes' if git.get('dirty') else ''}"


def html(title: str, sections: Sequence[Section], regenerate: str) -> str:
    """The page: style, tables and figures all inside it."""
    return _environment().get_template("report.html").render(title=title, sections=sections, regenerate=regenerate)


def markdown(title: str, sections: Sequence[Section], regenerate: str) -> str:
    """The same for readers of text; figures are files beside it."""
    return _environment().get_template("report.md").render(title=title, sections=sections, regenerate=regenerate)


def write(folder: Path, title: str, sections: Sequence[Section], regenerate: str) -> None:
    """`report.html`, `report.md` and its figures are in the folder. Raises OSError naming the file."""
    atomic_write(folder / "report.html", html(title, sections, regenerate))
    atomic_write(folder / "report.md", markdown(title, sections, regenerate))
    for part in sections:
        for figure in part.figures:
            atomic_write(folder / f"{part.findings.study.name}-{figure.name}.svg", figure.file)


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("dsd.results", "templates"), autoescape=select_autoescape(["html"]), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.filters |= {
        "number": _number,
        "fixed": _fixed,
        "p": _p,
        "interval": _interval,
        "cell": _cell,
        "alt": _alt,
        "places": _places,
        "svg": Markup,
        "hours": _hours,
        "published_parts": _published_parts,
    }
    made.globals["cost_words"] = (
        "From nothing to the final weights; the shared updates are the baseline's, trained once for several arms. Images (sentences, "
        "utterances) count with repetition. Seconds: the median over the runs, on machines that did other things as well, so compare "
        "updates, not seconds. Weights not 0: the mean over all updates, each phase taken as it ended; dense arithmetic gains nothing from it."
    )
    return made


def _cell(text: str) -> str:
    """Text that stays in its cell of a Markdown table."""
    return " ".join(str(text).split()).replace("|", r"\|")


def _alt(text: str) -> str:
    """The text of a Markdown image, brackets and all."""
    return text.replace("[", r"\[").replace("]", r"\]")


def _places(value: float | None) -> int:
    """Decimals for a number as small as this: two significant digits of it, and two decimals at least."""
    return 2 if not value else max(2, 1 - math.floor(math.log10(abs(value))))


def _number(value: float | None) -> str:
    return "–" if value is None else words.number(value)


def _fixed(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _p(value: float | None) -> str:
    return "–" if value is None else words.p_value(value).removeprefix("p = ").removeprefix("p ")


def _interval(value: Any, digits: int = 2) -> str:
    return "–" if value is None else f"{value.low:.{digits}f} to {value.high:.{digits}f}"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h"
