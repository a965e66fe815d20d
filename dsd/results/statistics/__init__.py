"""What the seeds say, in numbers and in one plain sentence each. NumPy and SciPy only; no torch.

Paired by seed: mappings seed -> value. Unpaired: sequences, or the `Summary` a published table gives. Every answer is
a frozen dataclass with a `sentence`; what the data cannot give is None, and the sentence says why. Confidence, alpha,
power, margins and random seeds are always the caller's: they belong to the study.

    found = paired_t(dsd, fine_tuned, confidence=0.95)
    adjusted = holm({"dsd": found.p, "llr": other.p})["dsd"]
    verdict("DSD helps", found, better="lower", margin=0.1, alpha=0.05, power=0.8, corrected_p=adjusted).sentence
"""

from dsd.results.statistics.comparison import (
    Comparison,
    one_sample_t,
    paired_permutation,
    paired_t,
    permutation,
    student,
    welch,
    wilcoxon,
)
from dsd.results.statistics.correction import benjamini_hochberg, holm
from dsd.results.statistics.decomposition import Decomposition, decompose, decompose_groups
from dsd.results.statistics.effect import (
    Effect,
    Interval,
    one_sample_effect,
    paired_bootstrap,
    paired_effect,
    unpaired_bootstrap,
    unpaired_effect,
)
from dsd.results.statistics.equivalence import Equivalence, equivalence
from dsd.results.statistics.normality import Normality, normality
from dsd.results.statistics.power import Seeds, fewest_for_ratio, power_of, seeds_needed
from dsd.results.statistics.rate import Rate, rate, rate_difference
from dsd.results.statistics.sample import Pairs, Summary, pair
from dsd.results.statistics.size import Size, cohens_dz, hedges_g
from dsd.results.statistics.spread import Spread, brown_forsythe, f_test, pitman_morgan
from dsd.results.statistics.verdict import Robust, Verdict, spread_verdict, verdict

__all__ = [
    "Comparison",
    "Decomposition",
    "Effect",
    "Equivalence",
    "Interval",
    "Normality",
    "Pairs",
    "Rate",
    "Robust",
    "Seeds",
    "Size",
    "Spread",
    "Summary",
    "Verdict",
    "benjamini_hochberg",
    "brown_forsythe",
    "cohens_dz",
    "decompose",
    "decompose_groups",
    "equivalence",
    "f_test",
    "fewest_for_ratio",
    "hedges_g",
    "holm",
    "normality",
    "one_sample_effect",
    "one_sample_t",
    "pair",
    "paired_bootstrap",
    "paired_effect",
    "paired_permutation",
    "paired_t",
    "permutation",
    "pitman_morgan",
    "power_of",
    "rate",
    "rate_difference",
    "seeds_needed",
    "spread_verdict",
    "student",
    "unpaired_bootstrap",
    "unpaired_effect",
    "verdict",
    "welch",
    "wilcoxon",
]
