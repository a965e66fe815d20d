"""A study: arms x seeds x metric x test x the published numbers. A table of a paper, as a declaration.

    LITERAL = Study(
        name="literal", words=("experiment=dsd_resnet20_cifar10", "profiles.cpu.sparse=3", "baseline_seed=0"),
        arms=(Arm("dsd", ("method=dsd",)), Arm("finetune", ("method=finetune",))), seeds=range(16), ...)

The words that make an arm's runs are also how they are found: a run belongs to an arm when every word is true of its
config. So the command of what is missing follows from the declaration, and nothing is written twice.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from dsd.results.statistics import words
from dsd.results.statistics.verdict import Better

SEED = "${seed}"  # as a value: the run's own seed
Values = dict[int, float]  # seed -> value
Test: TypeAlias = Literal["paired t", "Welch t", "one-sample t"]


@dataclass(frozen=True)
class Metric:
    """A number of a run: of its test set (`test/error1`), or of its validation set at the end of a phase (`val/error1`)."""

    key: str
    label: str
    unit: str
    better: Better

    def of(self, record: Mapping[str, Any], phase: int = -1) -> float:
        """The value after the phase of this index (-1: the final weights). NaN where it was not measured or there is no such phase.

        The test set is only shown to the final weights.
        """
        tested = self.key.startswith("test/")
        phases = record["phases"]
        if phase not in (-1, len(phases) - 1) if tested else not -len(phases) <= phase < len(phases):
            return math.nan
        found = record["test"] if tested else phases[phase]["metrics"]
        value = found.get(self.key)
        return math.nan if value is None else float(value)


@dataclass(frozen=True)
class Arm:
    """Runs that differ only in their seed. `without` names words of the study that say nothing about this arm."""

    name: str
    words: tuple[str, ...]
    label: str = ""
    seeds: tuple[int, ...] | None = None  # null: the study's
    without: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return self.label or self.name


@dataclass(frozen=True)
class Row:
    """A line of the table: an arm after one of its phases, beside what was published of it."""

    label: str
    arm: str
    phase: int = -1
    published: float | None = None
    published_std: float | None = None


@dataclass(frozen=True)
class Claim:
    """`treated` is better than `control`. `spread`: that it varies less, instead. `published_p`: in the paper's words."""

    text: str
    treated: str
    control: str
    test: Test
    phase: int = -1
    spread: bool = False
    published_p: str = ""


@dataclass(frozen=True)
class Samples:
    """What the report shows of single pictures or utterances: `count` of them, of these arms with this seed.

    `pictures`: their folder below that of all data sets; none for what isn't of pictures.
    """

    arms: tuple[str, ...]
    count: int = 6
    seed: int = 0
    pictures: str = ""


@dataclass(frozen=True)
class Study:
    """Everything that is decided before the first number is seen. The first metric is the one that claims are about."""

    name: str
    title: str
    question: str
    words: tuple[str, ...]
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    metrics: tuple[Metric, ...]
    rows: tuple[Row, ...]
    claims: tuple[Claim, ...]
    sweeps: tuple[str, ...]  # the commands that make its runs
    margin: float  # the smallest gain of interest, in the metric's unit
    source: str = ""
    notes: tuple[str, ...] = ()
    decomposition: tuple[str, str, str] | None = None  # treated, matched, baseline
    decomposition_paired: bool = True
    figure_arm: str = "dsd"  # whose weight distributions are shown
    confidence: float = 0.95
    power: float = 0.8
    spread_ratio: float = 0.75  # the weakest lowering of the standard deviation that is of interest
    resamples: int = 9999
    samples: Samples | None = None

    def __post_init__(self) -> None:
        """Raises ValueError naming the study and what is wrong with its declaration."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise ValueError(
                f"study {self.name!r}: its figures are files of that name: letters, digits, '.', '_' and '-'"
            )
        parts = {
            "words": str,
            "arms": Arm,
            "seeds": int,
            "metrics": Metric,
            "rows": Row,
            "claims": Claim,
            "sweeps": str,
            "notes": str,
        }
        for part, kind in parts.items():
            _several(f"study {self.name}: {part}", getattr(self, part), kind)
        for arm in self.arms:
            for part, kind in (("words", str), ("without", str), ("seeds", int)):
                _several(f"study {self.name}, arm {arm.name}: {part}", getattr(arm, part) or (), kind)
        for what, said in (("arms", [a.name for a in self.arms]), ("claims", [c.text for c in self.claims])):
            if twice := sorted(one for one, n in Counter(said).items() if n > 1):
                raise ValueError(f"study {self.name}: two {what} are called {twice}; results are kept by that name")
        used = {
            "rows": [row.arm for row in self.rows],
            "claims": [arm for claim in self.claims for arm in (claim.treated, claim.control)],
            "samples": self.samples.arms if self.samples else (),
            "decomposition": self.decomposition or (),
            "figure_arm": [self.figure_arm],
        }
        for what, arms in used.items():
            if unknown := sorted(set(arms) - {arm.name for arm in self.arms}):
                raise ValueError(f"study {self.name}: {unknown}, named in its {what}, are no arms of it")
        self._judgeable()

    def _judgeable(self) -> None:
        """Raises where a claim could not be judged, or would be by another rule than is meant."""
        if not self.metrics:
            raise ValueError(f"study {self.name} has no metrics; the first is the one that claims are about")
        said: list[tuple[str, str, tuple[str, ...]]] = [
            (f"test of claim {claim.text!r}", claim.test, get_args(Test)) for claim in self.claims
        ]
        said += [(f"better of metric {metric.key!r}", metric.better, get_args(Better)) for metric in self.metrics]
        for what, value, offered in said:
            if value not in offered:
                raise ValueError(f"study {self.name}: the {what} is one of {', '.join(offered)}, got {value!r}")
        for arm in self.arms:
            if odd := [word for word in self.words_of(arm) if "=" not in word]:
                raise ValueError(
                    f"study {self.name}: words are key=value, as on the command line; arm {arm.name} has {odd}"
                )
            if len(set(self.seeds_of(arm))) < len(self.seeds_of(arm)):
                raise ValueError(f"study {self.name}: arm {arm.name} has a seed twice: {self.seeds_of(arm)}")
        for name in ("confidence", "power"):
            words.probability(f"study {self.name}: {name}", getattr(self, name))
        for name in ("margin", "spread_ratio", "resamples"):
            words.positive(f"study {self.name}: {name}", getattr(self, name))

    @property
    def watched(self) -> Metric:
        """What the learning curves show: the first metric of the validation set."""
        shown = [metric for metric in self.metrics if metric.key.startswith("val/")]
        return shown[0] if shown else Metric("val/error1", "validation top-1 error", "%", "lower")

    def arm(self, name: str) -> Arm:
        return next(arm for arm in self.arms if arm.name == name)

    def seeds_of(self, arm: Arm) -> tuple[int, ...]:
        return self.seeds if arm.seeds is None else arm.seeds

    def words_of(self, arm: Arm) -> tuple[str, ...]:
        """The words that make the arm; an arm's word replaces the study's of the same key."""
        own = {word.partition("=")[0] for word in arm.words} | set(arm.without)
        return (*(word for word in self.words if word.partition("=")[0] not in own), *arm.words)

    def published(self, treated: str, control: str, phase: int = -1, *, spread: bool = False) -> float | None:
        """treated - control as published, by the rows of the table, or with `spread` the ratio of their sds; None without either."""
        a, b = (self._published(arm, phase, spread=spread) for arm in (treated, control))
        if a is None or b is None:
            return None
        return a / b if spread else a - b

    def _published(self, arm: str, phase: int, *, spread: bool) -> float | None:
        rows = [row for row in self.rows if row.arm == arm and phase in (-1, row.phase)]
        if not rows:
            return None
        row = next((row for row in rows if row.phase == -1), max(rows, key=lambda row: row.phase))
        return row.published_std if spread else row.published

    def first_seed(self, arm: Arm, seed: int) -> object:
        """The seed of the baseline that the arm's run goes on from; None if it is trained in one piece."""
        words = dict(word.split("=", 1) for word in self.words_of(arm))
        return meant(words.get("baseline_seed", "null"), seed)


def _several(what: str, value: object, kind: type) -> None:
    """Nothing, or ValueError: `("a")` is no tuple, and the letters of a word are no words."""
    if not isinstance(value, tuple | list | range) or not all(isinstance(one, kind) for one in value):
        raise ValueError(f"{what} must be a tuple of {kind.__name__}, as (one,) is with its comma; got {value!r}")


def meant(text: str, seed: int) -> object:
    """The value of a word `key=text`, for this seed."""
    if text == SEED:
        return seed
    try:
        return json.loads(text)
    except ValueError:
        return text
