"""Whether a run is what its command says today: the same network, data, task, optimizer, plan and trainer, value by value."""

from collections.abc import Iterable, Mapping
from typing import Any

from omegaconf import OmegaConf

from dsd.results.records import flat
from dsd.run.config import composed
from dsd.run.stages import COUNTS, stages

PARTS = tuple(part for part in COUNTS if part not in ("seed", "init_from"))


def strays(config: Mapping[str, Any], words: Iterable[str], seed: int) -> dict[str, tuple[Any, Any]]:
    """Of each value that differs: what the run's resolved config has, and what `words` and the seed mean.

    Keys that only one of the two has are left out: they came or went with the program. Raises hydra's errors for words
    that are none.
    """
    *_, declared = stages(composed(*words, f"seed={seed}"))
    means = flat(_counting(OmegaConf.to_container(declared, resolve=True)))
    has = flat(_counting(config))
    return {key: (has[key], means[key]) for key in sorted(has.keys() & means.keys()) if has[key] != means[key]}


def as_declared(config: Mapping[str, Any], words: Iterable[str], seed: int, who: str) -> None:
    """Nothing, or ValueError naming the run (`who`) and what is other in it."""
    if other := strays(config, words, seed):
        said = "; ".join(f"{key} is {has}, declared {means}" for key, (has, means) in list(other.items())[:6])
        raise ValueError(
            f"{who} is not as declared: {said}. Move it out of the folder of runs, or declare an arm for it"
        )


def _counting(config: Any) -> dict[str, Any]:
    return {part: config[part] for part in PARTS if part in config}
