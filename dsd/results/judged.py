"""A claim, weighed by the records: its test, the same question by others, and the verdict that follows by rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from dsd.results import statistics as st
from dsd.results.members import values
from dsd.results.statistics import words
from dsd.results.study import Claim, Study
from dsd.results.utterances import spoken_check


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
    lacking: str = ""  # which of the declared runs are not there yet
    robust: st.Spread | st.Robust | None = (
        None  # what must agree with `spread` or `comparison`, where the values are not normal
    )


def weigh(
    study: Study,
    records: Sequence[Mapping[str, Any]],
    claim: Claim,
    diverged: Mapping[str, Sequence[int]],
    apart: Mapping[str, str],
) -> Judged:
    """The claim's test and the others beside it, uncorrected. Of arms that diverged, or stand `apart` (why), nothing is tested."""
    empty = Judged(claim, None, None, None, None, None, None, None, (), None)
    if gone := {arm: diverged[arm] for arm in (claim.treated, claim.control) if arm in diverged}:
        said = ", ".join(f"{arm} with {words.plural(len(seeds), 'seed')}" for arm, seeds in gone.items())
        return replace(empty, why_not=f"{said} diverged, and the runs that are left would flatter it")
    if why_not := apart.get(claim.treated) or apart.get(claim.control):
        return replace(empty, why_not=why_not)
    metric = study.metrics[0]
    treated, control = (values(study, records, arm, metric, claim.phase) for arm in (claim.treated, claim.control))
    if claim.test == "one-sample t" and len(control) > 1:
        raise ValueError(f"study {study.name}: {claim.text!r} needs one run of {claim.control}, found {len(control)}")
    enough = len(treated) > 1 and len(control) > (0 if claim.test == "one-sample t" else 1)
    common = treated.keys() & control.keys()
    if not enough or (claim.test == "paired t" and len(common) < 2):
        few = f"too few runs: {len(treated)} of {claim.treated}, {len(control)} of {claim.control}"
        return replace(empty, why_not=few + f", and {len(common) or 'no'} seed in common" * enough)
    if why_not := _unmeasured(study, records, claim):
        return replace(empty, why_not=why_not)
    empty = replace(empty, lacking=_lacking(study, claim, treated, control))
    a, b, c = list(treated.values()), list(control.values()), study.confidence
    seed, n = 0, study.resamples
    checks: tuple[str, ...]
    others: tuple[st.Comparison, ...]
    bootstrap: Callable[..., st.Effect]
    if claim.spread:
        robust = st.brown_forsythe(a, b)
        spread, checks = st.f_test(a, b, confidence=c), (robust.sentence,)
        if claim.test == "paired t":  # the other two take pairs for independent
            checks += (spread.sentence,)
            spread = st.pitman_morgan(treated, control, confidence=c, missing="drop")
        caution, shapes = _shapes({claim.treated: a, claim.control: b}, 1 - c)
        needed = robust if caution else None
        return replace(empty, spread=spread, p=spread.p, checks=(*checks, *shapes), caution=caution, robust=needed)
    if claim.test == "Welch t":
        found = st.welch(a, b, confidence=c)
        caution, shapes = _shapes({claim.treated: a, claim.control: b}, 1 - c)
        moved = st.permutation(a, b, confidence=c, resamples=n, seed=seed)
        checks = (st.student(a, b, confidence=c).sentence, moved.sentence, *shapes)
        size = st.hedges_g(a, b, confidence=c)
        bootstrap = partial(st.unpaired_bootstrap, a, b, resamples=n, seed=seed)
    else:
        paired = claim.test == "paired t"
        against = control if paired else dict.fromkeys(treated, b[0])  # the one run, beside each seed
        found = (
            st.paired_t(treated, control, confidence=c, missing="drop")
            if paired
            else st.one_sample_t(a, b[0], confidence=c)
        )
        normal = st.normality(st.pair(treated, against, missing="drop").differences, alpha=1 - c)
        caution = "" if normal.normal in (True, None) else "the differences are not normal: weigh the other tests below"
        moved = st.paired_permutation(treated, against, confidence=c, resamples=n, seed=seed, missing="drop")
        others = (st.wilcoxon(treated, against, confidence=c, missing="drop"), moved)
        size = st.cohens_dz(treated, against, confidence=c, missing="drop")
        if not paired:  # by the same arithmetic, but not of pairs
            others = tuple(replace(one, effect=replace(one.effect, design="one sample")) for one in others)
            size = replace(size, effect=replace(size.effect, design="one sample"))
        checks = (*(one.sentence for one in others), normal.sentence)
        bootstrap = partial(st.paired_bootstrap, treated, against, resamples=n, seed=seed, missing="drop")
    tost = st.equivalence(found.effect, margin=study.margin, alpha=1 - c).sentence
    checks = (*checks, tost, *spoken_check(study, records, claim))
    robust_by = st.Robust(moved, bootstrap(confidence=2 * c - 1)) if caution else None
    return replace(
        empty, comparison=found, p=found.p, size=size, bootstrap=bootstrap(confidence=c), checks=checks, caution=caution, robust=robust_by
    )  # fmt: skip


def _unmeasured(study: Study, records: Sequence[Mapping[str, Any]], claim: Claim) -> str:
    """Why the claim has no numbers: the runs whose metric is not there, or no finite number. Empty if all have it."""
    metric, phase = study.metrics[0], "" if claim.phase == -1 else f" after phase {claim.phase + 1}"
    runs = [
        f"{r['arm']} with seed {r['seed']} (run {r['run_id']})"
        for r in records
        if r["study"] == study.name
        and r["arm"] in (claim.treated, claim.control)
        and not math.isfinite(metric.of(r, claim.phase))
    ]
    return f"{metric.key}{phase} is missing or no finite number: {', '.join(runs)}" if runs else ""


def _lacking(study: Study, claim: Claim, treated: Mapping[int, float], control: Mapping[int, float]) -> str:
    """That the claim is judged before all of its declared runs are there; empty if they are."""
    planned, there = 0, 0
    for name, found in ((claim.treated, treated), (claim.control, control)):
        planned, there = planned + len(study.seeds_of(study.arm(name))), there + len(found)
    return f"{planned - there} of the {planned} declared runs are missing" if there < planned else ""


def _shapes(arms: Mapping[str, Sequence[float]], alpha: float) -> tuple[str, tuple[str, ...]]:
    """What to say of arms that are not normal, empty if none is found so; and Shapiro-Wilk of each in words."""
    each = {arm: st.normality(found, alpha=alpha) for arm, found in arms.items()}
    odd = [arm for arm, normal in each.items() if normal.normal is False]
    caution = f"{' and '.join(odd)} not normal: weigh the other tests below" if odd else ""
    return caution, tuple(f"{arm}: {normal.sentence}" for arm, normal in each.items())


def judge(study: Study, judged: Judged, tests: int) -> Judged:
    """With its verdict, by the corrected p; `tests` are those of the study."""
    alpha, claim = 1 - study.confidence, judged.claim
    if judged.spread is not None:
        said = st.spread_verdict(
            claim.text, judged.spread, ratio=study.spread_ratio, alpha=alpha, power=study.power, corrected_p=judged.holm,
            tests=tests, robust=judged.robust if isinstance(judged.robust, st.Spread) else None,
        )  # fmt: skip
    elif judged.comparison is not None:
        said = st.verdict(
            claim.text, judged.comparison, better=study.metrics[0].better, margin=study.margin, alpha=alpha,
            power=study.power, corrected_p=judged.holm, tests=tests,
            robust=judged.robust if isinstance(judged.robust, st.Robust) else None,
        )  # fmt: skip
    else:
        return judged
    caution = "" if judged.spread is None and "not normal" in said.reason else judged.caution
    return replace(
        judged, verdict=replace(said, reason="; ".join(s for s in (said.reason, caution, judged.lacking) if s))
    )
