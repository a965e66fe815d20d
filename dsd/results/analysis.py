"""What a study's records say: the table, every comparison with its corrections, and a verdict a claim."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dsd.results import statistics as st
from dsd.results.statistics import words
from dsd.results.study import Claim, Metric, Row, Study, missing

Values = dict[int, float]  # seed -> value


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
class Judged:
    """A claim with everything that was computed for it. `checks` are the same question by other tests, in words."""

    claim: Claim
    comparison: st.Comparison | None
    spread: st.Spread | None
    p: float | None
    holm: float | None
    bh: float | None
    size: st.Size | None
    bootstrap: st.Effect | None
    checks: tuple[str, ...]
    verdict: st.Verdict | None
    why_not: str = ""
    caution: str = ""  # what the verdict's test assumes and the values do not show


@dataclass(frozen=True)
class Findings:
    """One study, analysed."""

    study: Study
    lines: tuple[Line, ...]
    judged: tuple[Judged, ...]
    decomposition: st.Decomposition | None
    missing: dict[str, list[int]]
    diverged: dict[str, list[int]]  # seeds, by arm


def values(study: Study, records: Sequence[Mapping[str, Any]], arm: str, metric: Metric, phase: int = -1) -> Values:
    """The metric of each seed of an arm."""
    return {r["seed"]: metric.of(r, phase) for r in records if r["study"] == study.name and r["arm"] == arm}


def analyse(study: Study, records: Sequence[Mapping[str, Any]], lost: Sequence[Mapping[str, Any]] = ()) -> Findings:
    """Everything the report says of a study. A claim whose runs are missing, or diverged (`lost`), is left open and says so."""
    diverged: dict[str, list[int]] = {}
    for one in (one for one in lost if one["study"] == study.name):
        diverged.setdefault(one["arm"], []).append(one["seed"])
    first = [_weigh(study, records, claim, diverged) for claim in study.claims]
    p = {claim.text: judged.p for claim, judged in zip(study.claims, first, strict=True)}
    holm, bh = st.holm(p), st.benjamini_hochberg(p)
    tests = max(1, len(p))  # Holm counts those that have no p yet
    judged = tuple(_judge(study, replace(j, holm=holm[j.claim.text], bh=bh[j.claim.text]), tests) for j in first)
    lines = tuple(_line(study, records, row) for row in study.rows)
    gain = None if set(study.decomposition or ()) & diverged.keys() else _decompose(study, records)
    return Findings(study, lines, judged, gain, missing(study, [*records, *lost]), diverged)


def _line(study: Study, records: Sequence[Mapping[str, Any]], row: Row) -> Line:
    own = [r for r in records if r["study"] == study.name and r["arm"] == row.arm]
    found = values(study, records, row.arm, study.metrics[0], row.phase)
    summary = _summary(list(found.values()))
    interval = None
    if summary and summary.n > 1 and summary.std:
        interval = st.one_sample_effect(list(found.values()), 0.0, confidence=study.confidence).interval
    others = tuple(_summary(list(values(study, records, row.arm, m, row.phase).values())) for m in study.metrics[1:])
    phase = own[0]["phases"][row.phase] if own else None
    return Line(
        row, found, summary, interval, others, phase and phase["epochs"], phase and (phase["rate_first"], phase["rate_last"]),
        phase and max(phase["sparsity"], 0.0), spoken(study, own) if row.phase in (-1, _last(own)) else None,
    )  # fmt: skip


def _last(own: Sequence[Mapping[str, Any]]) -> int:
    return len(own[0]["phases"]) - 1 if own else -1


def spoken(study: Study, own: Sequence[Mapping[str, Any]]) -> st.Rate | None:
    """Word errors of these runs in % of the words, with the interval over utterances; None if they have none."""
    if study.metrics[0].key != "test/wer" or not own or not all(r.get("utterances") for r in own):
        return None
    errors, sizes = _counts(study, own)
    return st.rate(errors, sizes, confidence=study.confidence, resamples=study.resamples, seed=0)


def _counts(study: Study, own: Sequence[Mapping[str, Any]]) -> tuple[list[int], list[int]]:
    """(errors, words) of each utterance, summed over the runs. Raises ValueError if they heard different utterances."""
    said = own[0]["utterances"]["words"]
    if other := next((r for r in own if r["utterances"]["words"] != said), None):
        raise ValueError(
            f"study {study.name}: runs {own[0]['run_id']} and {other['run_id']} were tested on different utterances; "
            "move one out of the folder"
        )
    return [sum(e) for e in zip(*(r["utterances"]["errors"] for r in own), strict=True)], [len(own) * n for n in said]


def _spoken_check(study: Study, records: Sequence[Mapping[str, Any]], claim: Claim) -> tuple[str, ...]:
    """The claim over utterances, where both arms have the same seeds: a sentence, or none."""
    own = [r for r in records if r["study"] == study.name and r["arm"] in (claim.treated, claim.control)]
    arms = {arm: {r["seed"]: r for r in own if r["arm"] == arm} for arm in (claim.treated, claim.control)}
    common = sorted(arms[claim.treated].keys() & arms[claim.control].keys())
    pairs = {arm: [found[seed] for seed in common] for arm, found in arms.items()}
    if claim.phase != -1 or not common or any(spoken(study, runs) is None for runs in pairs.values()):
        return ()
    _counts(study, [*pairs[claim.treated], *pairs[claim.control]])  # the same utterances
    (treated, sizes), (control, _) = (_counts(study, pairs[arm]) for arm in (claim.treated, claim.control))
    found = st.rate_difference(treated, control, sizes, confidence=study.confidence, resamples=study.resamples, seed=0)
    return (f"treated - control, these {words.plural(len(common), 'pair')} of networks. {found.sentence}",)


def _summary(found: Sequence[float]) -> st.Summary | None:
    if not found or any(math.isnan(value) for value in found):
        return None
    n, mean = len(found), math.fsum(found) / len(found)
    return st.Summary(n, mean, math.sqrt(math.fsum((v - mean) ** 2 for v in found) / (n - 1)) if n > 1 else None)


def _weigh(
    study: Study, records: Sequence[Mapping[str, Any]], claim: Claim, diverged: Mapping[str, Sequence[int]]
) -> Judged:
    """The claim's test and the others beside it, uncorrected."""
    empty = Judged(claim, None, None, None, None, None, None, None, (), None)
    if gone := {arm: diverged[arm] for arm in (claim.treated, claim.control) if arm in diverged}:
        said = ", ".join(f"{arm} with {words.plural(len(seeds), 'seed')}" for arm, seeds in gone.items())
        return replace(empty, why_not=f"{said} diverged, and the runs that are left would flatter it")
    metric = study.metrics[0]
    treated, control = (values(study, records, arm, metric, claim.phase) for arm in (claim.treated, claim.control))
    if claim.test == "one-sample t" and len(control) > 1:
        raise ValueError(f"study {study.name}: {claim.text!r} needs one run of {claim.control}, found {len(control)}")
    enough = len(treated) > 1 and len(control) > (0 if claim.test == "one-sample t" else 1)
    common = treated.keys() & control.keys()
    if not enough or (claim.test == "paired t" and len(common) < 2):
        return replace(
            empty, why_not=f"too few runs: {len(treated)} of {claim.treated}, {len(control)} of {claim.control}"
        )
    a, b, c = list(treated.values()), list(control.values()), study.confidence
    seed, n = 0, study.resamples
    checks: tuple[str, ...]
    if claim.spread:
        spread, checks = st.f_test(a, b, confidence=c), (st.brown_forsythe(a, b).sentence,)
        if claim.test == "paired t":  # the other two take pairs for independent
            checks += (spread.sentence,)
            spread = st.pitman_morgan(treated, control, confidence=c, missing="drop")
        return replace(empty, spread=spread, p=spread.p, checks=checks)
    if claim.test == "paired t":
        found = st.paired_t(treated, control, confidence=c, missing="drop")
        differences = [treated[s] - control[s] for s in sorted(common)]
        normal = st.normality(differences, alpha=1 - c)
        caution = "" if normal.normal in (True, None) else "the differences are not normal: weigh the other tests below"
        checks = (
            st.wilcoxon(treated, control, confidence=c, missing="drop").sentence,
            st.paired_permutation(treated, control, confidence=c, resamples=n, seed=seed, missing="drop").sentence,
            normal.sentence,
        )
        size = st.cohens_dz(treated, control, confidence=c, missing="drop")
        boot = st.paired_bootstrap(treated, control, confidence=c, resamples=n, seed=seed, missing="drop")
    elif claim.test == "Welch t":
        found = st.welch(a, b, confidence=c)
        each = {arm: st.normality(v, alpha=1 - c) for arm, v in ((claim.treated, a), (claim.control, b))}
        odd = [arm for arm, normal in each.items() if normal.normal is False]
        caution = f"{' and '.join(odd)} not normal: weigh the other tests below" if odd else ""
        checks = (
            st.student(a, b, confidence=c).sentence,
            st.permutation(a, b, confidence=c, resamples=n, seed=seed).sentence,
            *(f"{arm}: {normal.sentence}" for arm, normal in each.items()),
        )
        size = st.hedges_g(a, b, confidence=c)
        boot = st.unpaired_bootstrap(a, b, confidence=c, resamples=n, seed=seed)
    else:
        found = st.one_sample_t(a, b[0], confidence=c)
        return replace(empty, comparison=found, p=found.p, checks=(st.normality(a, alpha=1 - c).sentence,))
    tost = st.equivalence(found.effect, margin=study.margin, alpha=1 - c).sentence
    checks = (*checks, tost, *_spoken_check(study, records, claim))
    return replace(empty, comparison=found, p=found.p, size=size, bootstrap=boot, checks=checks, caution=caution)


def _judge(study: Study, judged: Judged, tests: int) -> Judged:
    alpha, claim = 1 - study.confidence, judged.claim
    if judged.spread is not None:
        said = st.spread_verdict(
            claim.text, judged.spread, ratio=study.spread_ratio, alpha=alpha, power=study.power, corrected_p=judged.holm,
            tests=tests,
        )  # fmt: skip
        return replace(judged, verdict=said)
    if judged.comparison is None:
        return judged
    said = st.verdict(
        claim.text, judged.comparison, better=study.metrics[0].better, margin=study.margin, alpha=alpha, power=study.power,
        corrected_p=judged.holm, tests=tests,
    )  # fmt: skip
    return replace(judged, verdict=replace(said, reason="; ".join(s for s in (said.reason, judged.caution) if s)))


def _decompose(study: Study, records: Sequence[Mapping[str, Any]]) -> st.Decomposition | None:
    if study.decomposition is None:
        return None
    arms = [values(study, records, arm, study.metrics[0]) for arm in study.decomposition]
    if study.decomposition_paired:
        if len(set.intersection(*(set(arm) for arm in arms))) < 2:
            return None
        return st.decompose(*arms, confidence=study.confidence, missing="drop")
    treated, matched, baseline = (list(arm.values()) for arm in arms)
    if min(len(treated), len(matched)) < 2 or not baseline:
        return None
    return st.decompose_groups(
        treated, matched, baseline[0] if len(baseline) == 1 else baseline, confidence=study.confidence
    )
