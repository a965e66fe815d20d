"""The runs that a config makes, in order, and where each lives."""

from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from sysconfig import get_path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dsd.results.identity import run_id
from dsd.results.origins import digest
from dsd.results.store import RunFolder, Store

MANY = 2**32 - 1  # Lightning's largest seed
WHOLE = {"seed": (0, MANY), "threads": (0, MANY), "observe": (0, MANY), "histogram_bins": (1, 512)}  # 512: W&B's limit
INSTALLED = ("dsd", "torch", "torchvision", "torchaudio", "pytorch_lightning")  # known without an import of theirs
FLAGS = ("force", "dry_run", "progress")
FILES = (
    "data.source.path", "data.source.images", "data.source.labels", "data.extractor.path",
    "task.decoder.lm", "task.decoder.lexicon",
)  # fmt: skip
COUNTS = ("data", "model", "task", "optimizer", "method", "trainer", "seed", "init_from", "init_skip", "observe")


def stages(cfg: DictConfig) -> Iterator[DictConfig]:
    """The run; or, with `baseline_seed`, its first dense phase as a run of its own, and the rest, which starts from it."""
    first = {"_target_": "dsd.plan.Phase", "name": "dense", **OmegaConf.to_container(cfg.recipe.dense, resolve=True)}  # type: ignore[dict-item]
    phases = OmegaConf.to_container(cfg.method.phases, resolve=True)
    if cfg.baseline_seed is None or not isinstance(phases, list) or phases[:1] != [first] or len(phases) == 1:
        yield cfg
        return
    second = phases[1]
    while "phase" in second or "phases" in second:  # a group of phases
        second = second["phase"] if "phase" in second else second["phases"][0]
    if not second.get("reset_optimizer", True):
        raise ValueError(
            "baseline_seed starts the second phase from weights alone: it needs recipe.reset_optimizer=true"
        )
    shared, rest = cfg.copy(), cfg.copy()
    OmegaConf.set_struct(shared, False)
    shared.method = {"name": "baseline", "callbacks": [], "phases": [first]}
    shared.seed, shared.baseline_seed, shared.force = cfg.baseline_seed, None, False  # force is about the arm
    yield shared
    rest.recipe.dense.epochs = 0
    rest.method.phases.pop(0)
    rest.init_from, rest.init_skip = place(shared)[0].run_id, []
    yield rest


def by_content(config: dict[str, Any]) -> dict[str, Any]:
    """The config where the user's own files count by what is in them, as `init_from` does: here, or below data.root."""
    config = deepcopy(config)
    for dotted in FILES:
        *way, last = dotted.split(".")
        inner: Any = config
        for key in way:
            inner = inner.get(key) if isinstance(inner, dict) else None
        if isinstance(inner, dict) and isinstance(name := inner.get(last), str):
            places = dict.fromkeys([Path(name).expanduser(), Path(config["data"].get("root") or ".", name)])
            inner[last] = "+".join(digest(path) for path in places if path.is_file()) or name
    return config


def own_sources(config: Any) -> dict[str, str]:
    """SHA-256 of each module of the user's own (neither ours nor installed) that a `_target_` names: it may change between two runs."""
    if isinstance(config, list):
        config = dict(enumerate(config))
    if not isinstance(config, dict):
        return {}
    found = {name: sha for inner in config.values() for name, sha in own_sources(inner).items()}
    if isinstance(target := config.get("_target_"), str) and target.partition(".")[0] not in INSTALLED:
        for name in list(accumulate(target.split(".")[:-1], "{}.{}".format))[::-1]:
            with suppress(ImportError, ValueError):
                spec = find_spec(name)
                path = Path(spec.origin) if spec and spec.origin and spec.has_location else None
                if path and path.is_file():
                    own = not any(
                        path.is_relative_to(installed) for installed in map(get_path, ("stdlib", "purelib", "platlib"))
                    )
                    return found | ({name: digest(path)} if own else {})
    return found


def started_from(init_from: str | None, runs: Path) -> tuple[Any, str | None]:
    """The weights that `init_from` means, and the SHA-256 of their file: what counts is what is in it, not its name."""
    from dsd.weights import load_weights, resolve  # torch takes seconds to import: --help answers at once

    if init_from is None:
        return None, None
    path = resolve(str(init_from), runs)
    return load_weights(path), digest(path)


def place(cfg: DictConfig) -> tuple[RunFolder, Any, dict[str, Any]]:
    """The run's folder, the weights to start from (or None), and the resolved config."""
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    for key, (least, most) in WHOLE.items():
        if (value := config[key]) is None and key == "threads":
            continue
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"{key} must be a whole number, found {value!r}")
        if not least <= value <= most:
            key = "seed (or baseline_seed)" if key == "seed" else key
            raise ValueError(f"{key} must be {least} or more{f', at most {most}' * (most < MANY)}, found {value}")
    for key in FLAGS:
        if not isinstance(config[key], bool):
            raise ValueError(f"{key} is true or false, found {config[key]!r}")
    if not isinstance(config["tags"], list):
        raise ValueError(f"tags are a list: tags=[{config['tags']}]")
    store = Store(Path(cfg.runs))
    weights, origin = started_from(cfg.init_from, store.root)
    counts = by_content(config)
    own = own_sources({key: counts[key] for key in COUNTS})
    folder = store.run(
        run_id({key: counts[key] for key in COUNTS} | {"init_from": origin} | ({"sources": own} if own else {}))
    )
    return folder, weights, config | ({"init_sha256": origin} if origin else {})
