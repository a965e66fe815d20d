"""What a study's records say: the table, every comparison with its corrections, and a verdict a claim."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dsd.results import statistics as st
from dsd.results.judged import Judged, judge, weigh
from dsd.results.members import declared, missing, values
from dsd.results.origins import Mixed, mixed
from dsd.results.study import Row, Study, Values
from dsd.results.utterances import spoken


@dataclass(frozen=True)
class Line:
    """A row of the table with our numbers. `values` is empty while nothing has run."""

    row: Row
    values: Values
    summary: st.Summary | None
    interval: st.Interval | None
    others: tuple[st.Summary | None, ...]  # the study's further metrics
    epochs: float | None
    rate: tuple[float, float] | None
    sparsity: float | None
    spoken: st.Rate | None  # the same over utterances, all seeds together


@dataclass(frozen=True)
class Findings:
    """One study, analysed."""

    study: Study
    lines: tuple[Line, ...]
    judged: tuple[Judged, ...]
    decomposition: st.Decomposition | None
    missing: dict[str, list[int]]
    diverged: dict[str, list[int]]  # seeds, by arm
    mixed: tuple[Mixed, ...]  # what does not start from the weights it should share


def analyse(study: Study, records: Sequence[Mapping[str, Any]], lost: Sequence[Mapping[str, Any]] = ()) -> Findings:
    """Everything the report says of a study. A claim whose runs are missing, or diverged (`lost`), is left open and says so."""
    records, lost = declared(study, records), declared(study, lost)
    diverged: dict[str, list[int]] = {}
    for one in (one for one in lost if one["study"] == study.name):
        diverged.setdefault(one["arm"], []).append(one["seed"])
    origins = mixed(study, records)
    apart = {arm: one.sentence for one in origins if one.certain for arm in one.arms}
    first = [weigh(study, records, claim, diverged, apart) for claim in study.claims]
    p = {claim.text: judged.p for claim, judged in zip(study.claims, first, strict=True)}
    holm, bh = st.holm(p), st.benjamini_hochberg(p)
    tests = max(1, len(p))  # Holm counts those that have no p yet
    judged = tuple(judge(study, replace(j, holm=holm[j.claim.text], bh=bh[j.claim.text]), tests) for j in first)
    lines = tuple(_line(study, records, row) for row in study.rows)
    gain = None if set(study.decomposition or ()) & {*diverged, *apart} else _decompose(study, records)
    return Findings(study, lines, judged, gain, missing(study, [*records, *lost]), diverged, tuple(origins))


def _line(study: Study, records: Sequence[Mapping[str, Any]], row: Row) -> Line:
    own = [r for r in records if r["study"] == study.name and r["arm"] == row.arm]
    found = values(study, records, row.arm, study.metrics[0], row.phase)
    summary = _summary(list(found.values()))
    interval = None
    if summary and summary.n > 1 and summary.std:
        interval = st.one_sample_effect(list(found.values()), 0.0, confidence=study.confidence).interval
    others = tuple(_summary(list(values(study, records, row.arm, m, row.phase).values())) for m in study.metrics[1:])
    phases = own[0]["phases"] if own else []
    phase = phases[row.phase] if -len(phases) <= row.phase < len(phases) else None
    return Line(
        row, found, summary, interval, others, phase and phase["epochs"], phase and (phase["rate_first"], phase["rate_last"]),
        phase and max(phase["sparsity"], 0.0), spoken(study, own) if row.phase in (-1, _last(own)) else None,
    )  # fmt: skip


def _last(own: Sequence[Mapping[str, Any]]) -> int:
    return len(own[0]["phases"]) - 1 if own else -1


def _summary(found: Sequence[float]) -> st.Summary | None:
    if not found or not all(map(math.isfinite, found)):
        return None
    n, mean = len(found), math.fsum(found) / len(found)
    return st.Summary(n, mean, math.sqrt(math.fsum((v - mean) ** 2 for v in found) / (n - 1)) if n > 1 else None)


def _decompose(study: Study, records: Sequence[Mapping[str, Any]]) -> st.Decomposition | None:
    if study.decomposition is None:
        return None
    arms = [values(study, records, arm, study.metrics[0]) for arm in study.decomposition]
    if not all(math.isfinite(value) for arm in arms for value in arm.values()):
        return None  # the claims say which
    better = study.metrics[0].better
    if study.decomposition_paired:
        if len(set.intersection(*(set(arm) for arm in arms))) < 2:
            return None
        return st.decompose(*arms, better=better, confidence=study.confidence, missing="drop")
    treated, matched, baseline = (list(arm.values()) for arm in arms)
    if min(len(treated), len(matched)) < 2 or not baseline:
        return None
    return st.decompose_groups(
        treated, matched, baseline[0] if len(baseline) == 1 else baseline, better=better, confidence=study.confidence
    )
