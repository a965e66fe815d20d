"""Word errors over utterances: what the runs of an arm heard, all seeds together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dsd.results import statistics as st
from dsd.results.statistics import words
from dsd.results.study import Claim, Study


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


def spoken_check(study: Study, records: Sequence[Mapping[str, Any]], claim: Claim) -> tuple[str, ...]:
    """The claim over utterances, where both arms have the same seeds: a sentence, or none."""
    own = [r for r in records if r["study"] == study.name and r["arm"] in (claim.treated, claim.control)]
    arms = {arm: {r["seed"]: r for r in own if r["arm"] == arm} for arm in (claim.treated, claim.control)}
    common = sorted(arms[claim.treated].keys() & arms[claim.control].keys())
    pairs = {arm: [found[seed] for seed in common] for arm, found in arms.items()}
    if (
        claim.test == "one-sample t"
        or claim.phase != -1
        or not common
        or any(spoken(study, runs) is None for runs in pairs.values())
    ):
        return ()
    _counts(study, [*pairs[claim.treated], *pairs[claim.control]])  # the same utterances
    (treated, sizes), (control, _) = (_counts(study, pairs[arm]) for arm in (claim.treated, claim.control))
    found = st.rate_difference(treated, control, sizes, confidence=study.confidence, resamples=study.resamples, seed=0)
    return (f"treated - control, these {words.plural(len(common), 'pair')} of networks. {found.sentence}",)
