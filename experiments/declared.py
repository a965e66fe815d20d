"""Whether a run is what its command says today: the same network, data, task, optimizer, plan and trainer, value by value."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from dsd.results.members import missing
from dsd.results.records import Record, flat, record
from dsd.results.schema import Result
from dsd.results.store import Store
from dsd.results.study import Study
from dsd.run.config import composed
from dsd.run.stages import COUNTS, place, stages

PARTS = tuple(part for part in COUNTS if part not in ("seed", "init_from"))


def strays(config: Mapping[str, Any], words: Iterable[str], seed: int) -> dict[str, tuple[Any, Any]]:
    """Of each value that differs: what the run's resolved config has, and what `words` and the seed mean.

    Keys that only one of the two has are left out: they came or went with the program; but what was asked of the Trainer beyond
    the declaration counts. Raises ValueError for words that are none.
    """
    *_, declared = stages(_composed(*words, f"seed={seed}"))
    means = flat(_counting(OmegaConf.to_container(declared, resolve=True)))
    has = flat(_counting(config))
    asked = {key: (has[key], "without it") for key in sorted(has.keys() - means.keys()) if key.startswith("trainer.")}
    return asked | {key: (has[key], means[key]) for key in sorted(has.keys() & means.keys()) if has[key] != means[key]}


def as_declared(config: Mapping[str, Any], words: Iterable[str], seed: int, who: str) -> None:
    """Nothing, or ValueError naming the run (`who`) and what is other in it."""
    if other := strays(config, words, seed):
        said = "; ".join(f"{key} is {has}, declared {means}" for key, (has, means) in list(other.items())[:6])
        raise ValueError(
            f"{who} is not as declared: {said}. Move it out of the folder of runs, or declare an arm for it"
        )


def in_other_words(study: Study, there: Sequence[Record], results: Iterable[Result], store: Store) -> list[Record]:
    """Runs that the study lacks and that were made, but asked for in other words, such as another experiment's name.

    Their ids are those of the study's commands, which would find them done. `there`: the records of all studies.
    """
    taken = {one["run_id"] for one in there}
    free = [result for result in results if result["run_id"] not in taken]
    found: list[Record] = []
    for name, seeds in missing(study, there).items():
        arm = study.arm(name)
        model = OmegaConf.to_container(_composed(*study.words_of(arm)).model, resolve=True)
        alike = {result["run_id"]: result for result in free if result["config"]["model"] == model}
        for seed in sorted({result["seed"] for result in alike.values()} & {*seeds}):
            *first, last = stages(_composed(*study.words_of(arm), f"seed={seed}", f"runs={store.root}"))
            if all(place(stage)[0].final.is_file() for stage in first) and (run := alike.get(place(last)[0].run_id)):
                found.append(record(study, arm, run))
    return found


def _composed(*words: str) -> DictConfig:
    """The config of a study's words. Raises ValueError with them, and what is wrong."""
    try:
        return composed(*words)
    except HydraException as error:
        said = str(error).splitlines()[0]
        raise ValueError(
            f"the words of an arm, {' '.join(words)}: {said}. `python run.py --cfg job` shows all keys"
        ) from error


def _counting(config: Any) -> dict[str, Any]:
    return {part: config[part] for part in PARTS if part in config}
