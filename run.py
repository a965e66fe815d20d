"""Train by a plan, measure the final weights, keep the result: `python run.py experiment=dsd_resnet18`, `--help` for more.

cfg -> data, model -> task -> Trainer.fit(plan) -> final weights -> Trainer.test -> result.json
"""

import gc
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
import psutil
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich import get_console
from yaml import YAMLError

from dsd.console import Refused, explained, hush, recorded, speak
from dsd.heap import keep_freed
from dsd.processes import foremost, share, started_by
from dsd.results.identity import run_id
from dsd.results.provenance import git_state, hardware, versions
from dsd.results.store import RunBusy, RunFolder, Store, atomic_write
from dsd.results.table import phase_table, sentences, unit
from dsd.sweep import INCOMPLETE, Outcome, State, Sweep, total_epochs

if TYPE_CHECKING:
    from dsd.compression import Archive

os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors reach main(), which puts them in words
CONF = Path(__file__).parent / "conf"
COUNTS = ("data", "model", "task", "optimizer", "method", "trainer", "seed", "init_from", "init_skip", "observe")
FORMULAS: dict[str, Callable[..., Any]] = {
    "plus": lambda *terms: sum(terms),
    "minus": lambda a, b: a - b,
    "times": lambda a, b: a * b,
    "share": share,
}
for name, formula in FORMULAS.items():
    OmegaConf.register_new_resolver(name, formula, replace=True)

log = logging.getLogger("dsd")
failed: list[str] = []  # for the exit code: Hydra gives no result back


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def job(cfg: DictConfig) -> None:
    """One job of a sweep or the only one; a failure is told and doesn't stop the others."""
    began, hydra_cfg = time.monotonic(), HydraConfig.get()
    sweep = Path(hydra_cfg.sweep.dir) if hydra_cfg.mode == RunMode.MULTIRUN else None
    outcome, first = Outcome(hydra_cfg.job.num if sweep else 0, list(hydra_cfg.overrides.task)), foremost()
    try:
        if sweep and first:
            outcome.write(sweep)
        if cfg.scan and sweep:
            raise ValueError("scan=true is one command a network, not a job of a sweep: leave -m out")
        if cfg.scan and (cfg.trainer.devices, cfg.trainer.num_nodes) != (1, 1):
            raise ValueError("scan=true measures in one process: trainer.devices=1 trainer.num_nodes=1")
        if cfg.scan:
            return scan(cfg)
        with started_by(alone(hydra_cfg)):
            for stage in stages(cfg):
                if outcome.state == "missing":  # what starts from a missing run is missing too
                    rest = total_epochs(OmegaConf.to_container(stage, resolve=True))  # type: ignore[arg-type]
                    outcome = replace(
                        outcome, run_id="", needs=outcome.run_id, needs_epochs=outcome.epochs, epochs=rest
                    )
                    break
                folder, weights, config = place(stage)
                outcome = replace(
                    outcome, run_id=folder.run_id, log=str(folder.log), name=cfg.name, profile=cfg.profile, method=stage.method.name
                )  # fmt: skip
                if cfg.dry_run and (stage.force or not folder.finished):
                    outcome = replace(outcome, state="missing", epochs=total_epochs(config))
                    continue
                last = stage.method.name == cfg.method.name
                outcome = replace(outcome, state=run(stage, folder, weights, config, wait=not last))
    except RunBusy as error:
        outcome = replace(outcome, state="busy", reason=str(error))
    except (Refused, ValueError, OSError) as error:
        outcome = replace(outcome, state="failed", reason=str(error))
    if outcome.reason:
        log.error(outcome.reason)
    if sweep and first:
        gc.collect()  # a sweep in one process: the last job's network goes before the next is made
        memory = psutil.Process().memory_info().rss / 2**20
        replace(outcome, seconds=time.monotonic() - began, memory=memory).write(sweep)
    elif outcome.state == "missing":
        log.info("run %s would be executed: %s", outcome.run_id, outcome.log)
    failed.extend([outcome.run_id] if outcome.state in INCOMPLETE else [])


def alone(hydra_cfg: Any) -> list[str]:
    """The command of this one job, whatever launched it."""
    folders = [source.path for source in hydra_cfg.runtime.config_sources if source.provider == "command-line"]
    where = [word for folder in folders for word in ("-cd", folder)]
    return [
        str(CONF.parent / "run.py"),
        *where,
        "-cn",
        hydra_cfg.job.config_name,
        *hydra_cfg.overrides.task,
        "hydra.mode=RUN",
    ]


def stages(cfg: DictConfig) -> Iterator[DictConfig]:
    """The run; or, with `baseline_seed`, its first dense phase as a run of its own, and the rest, which starts from it."""
    first = {"_target_": "dsd.plan.Phase", "name": "dense", **OmegaConf.to_container(cfg.recipe.dense, resolve=True)}  # type: ignore[dict-item]
    phases = OmegaConf.to_container(cfg.method.phases, resolve=True)
    if cfg.baseline_seed is None or not isinstance(phases, list) or phases[:1] != [first] or len(phases) == 1:
        yield cfg
        return
    if not all(phase.get("reset_optimizer", True) for phase in phases[1:2]):
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


def place(cfg: DictConfig) -> tuple[RunFolder, Any, dict[str, Any]]:
    """The run's folder, the weights to start from (or None), and the resolved config."""
    from dsd.weights import started_from  # torch takes seconds to import: --help answers at once

    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    if not isinstance(cfg.seed, int):
        raise ValueError(f"seed must be a whole number, found {cfg.seed!r}")
    store = Store(Path(cfg.runs))
    weights, origin = started_from(cfg.init_from, store.root)
    identity = {key: config[key] for key in COUNTS} | {"init_from": origin}
    return store.run(run_id(identity)), weights, config


def run(cfg: DictConfig, folder: RunFolder, weights: Any, config: dict[str, Any], *, wait: bool) -> State:
    """Done from the start, continued, or skipped since it is finished. `wait` for a process that executes it already."""
    if not cfg.force and folder.finished:
        return skip(folder, quiet=wait)
    choices = {group: name for group, name in HydraConfig.get().runtime.choices.items() if "hydra" not in group}
    first = foremost()
    with recorded(folder, first=first, fresh=cfg.force, wait=wait):
        if not cfg.force and folder.finished:  # another process finished it a moment ago
            return skip(folder, quiet=wait)
        atomic_write(folder.config, OmegaConf.to_yaml(cfg, resolve=True))
        log.info("run %s: %s %s, seed %s, in %s", folder.run_id, cfg.name, cfg.method.name, cfg.seed, folder.path)
        tracker = instantiate(cfg.track)(
            folder=folder.path, run_id=folder.run_id, name=f"{cfg.name}/{cfg.method.name}/{cfg.seed}",
            group=f"{cfg.study}/{cfg.method.name}", tags=[cfg.profile, *cfg.tags], config=config | {"choices": choices},
        )  # fmt: skip
        with tracker as logger:
            result = train(cfg, folder, weights, logger)
        if first:
            atomic = {"run_id": folder.run_id, "config": config | {"choices": choices}, "git": git_state(CONF.parent)}
            folder.write_result(result | atomic | {"versions": versions(), "hardware": hardware()})
            folder.checkpoint.unlink(missing_ok=True)
            show(folder)
    return "done"


def skip(folder: RunFolder, *, quiet: bool) -> State:
    """Say that it is finished, and with what."""
    log.info("run %s is finished; force=true does it again", folder.run_id)
    if not quiet:
        show(folder)
    return "skipped"


def train(cfg: DictConfig, folder: RunFolder, weights: Any, logger: Any) -> dict[str, Any]:
    """Fit, save and test; what there is to say of it."""
    import pytorch_lightning as pl
    import torch

    from dsd.callbacks import Distributions, History, LastCheckpoint, PhaseProgress, PhaseWeights, PlanCallback, Seeds
    from dsd.plan import flat
    from dsd.processor import slow_precision
    from dsd.results.tracking import log_artifact
    from dsd.weights import initialise_, save_weights

    hush()
    keep_freed()
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    if cfg.task.get("flush_denormal"):
        torch.set_flush_denormal(True)  # before the first parallel operation: threads inherit it when they are made
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # deterministic enough, and half the memory traffic
    began = datetime.now(UTC)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    data = instantiate(cfg.data)
    data.prepare_data()
    data.setup("fit")  # before the network is made: what is missing should be said at once
    net = instantiate(cfg.model, **data.sizes)
    if weights is not None:
        kept = initialise_(net, weights, skip=cfg.init_skip)
        log.info("started from %s%s", cfg.init_from, f"; new: {', '.join(kept)}" if kept else "")
    else:
        data.initialise_(net)
    task = instantiate(cfg.task)(net, instantiate(cfg.optimizer))
    phases = flat(instantiate(cfg.method.phases, _convert_="all"))
    history, distributions = History(phases), Distributions(phases, bins=cfg.histogram_bins)
    checkpoint = LastCheckpoint(folder.checkpoint, seconds=cfg.checkpoint.seconds)
    extra: list[pl.Callback] = [PhaseProgress(phases)] if cfg.progress else []
    extra += [PhaseWeights(phases, folder.path)] if cfg.save.phases else []
    trainer = instantiate(
        cfg.trainer, max_epochs=-1, logger=logger or False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, enable_checkpointing=True, default_root_dir=folder.path, limit_val_batches=None if data.val_size else 0,
        callbacks=[Seeds(cfg.seed), PlanCallback(phases, seed=cfg.seed, observe=cfg.observe),
                   *instantiate(cfg.method.callbacks), history, distributions, *extra, checkpoint],
    )  # fmt: skip
    if slow := slow_precision(trainer.precision, trainer.strategy.root_device):
        log.warning(slow)
    resume = str(folder.checkpoint) if folder.checkpoint.exists() and not cfg.force else None
    trainer.fit(task, datamodule=data, ckpt_path=resume, weights_only=True if resume else None)
    if trainer.is_global_zero:
        save_weights(net, folder.final)
        atomic_write(folder.path / "distributions.json", distributions.as_json())
        if cfg.method.get("archive"):
            pack(cfg, net, data.sizes, folder)
    log_artifact(logger, folder.final, f"{cfg.name}-{folder.run_id}")
    trainer.test(task, datamodule=data, verbose=False)
    if trainer.is_global_zero and (samples := getattr(task, "samples", None)):
        atomic_write(folder.path / "samples.jsonl", "".join(json.dumps(one) + "\n" for one in samples))
    test = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("test/")}
    return {
        "name": cfg.name, "method": cfg.method.name, "profile": cfg.profile, "seed": cfg.seed,
        "metrics": {"phases": history.phases, "test": test | {"test/n": data.test_size}},
        "published": OmegaConf.to_container(cfg.published) if cfg.get("published") else None,
        "history": history.rows, "updates": trainer.global_step, "images": history.images, "seconds": history.seconds,
        "images_per_second": history.images / max(history.seconds, 1e-9), "restarts": history.restarts,
        "started": began.isoformat(), "finished": datetime.now(UTC).isoformat(),
    }  # fmt: skip


def scan(cfg: DictConfig) -> None:
    """Validation error as one layer after the other of `init_from` is pruned, or has few bits; curves, picture and allocation
    in runs/scan-<id>/."""
    import pytorch_lightning as pl

    from dsd.callbacks import PlanCallback
    from dsd.plan import Phase
    from dsd.results.curves import sensitivity
    from dsd.sparsity.sensitivity import scan as scanned
    from dsd.sparsity.sensitivity import table_of
    from dsd.weights import initialise_, started_from

    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    weights, origin = started_from(cfg.init_from, Path(cfg.runs))
    if weights is None:
        raise ValueError("scan=true looks at a trained network: say which with init_from=RUN_ID (or a file)")
    bits = cfg.scan == "bits"
    held = "quantization" if bits else "pruning"
    counts = {key: config[key] for key in (*COUNTS, "sensitivity", held)} | {"init_from": origin, "method": None}
    folder = Path(cfg.runs) / f"scan-{run_id(counts)}"
    hush()
    data = instantiate(cfg.data)
    data.prepare_data()
    data.setup("fit")
    net = instantiate(cfg.model, **data.sizes)
    initialise_(net, weights, skip=cfg.init_skip)
    if not data.val_size:
        raise ValueError("scan=true measures validation error, and data.validation=0 leaves nothing to validate on")
    task, constraint = instantiate(cfg.task)(net, instantiate(cfg.optimizer)), instantiate(cfg[held])
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }

    def error() -> float:
        return float(instantiate(cfg.trainer, **quiet).validate(task, datamodule=data, verbose=False)[0]["val/error1"])

    def measure(layer: str, value: float) -> float:
        if epochs := cfg.sensitivity.epochs:
            alone = constraint.alone(layer, value)
            plan = PlanCallback([Phase("sparse", epochs, instantiate(cfg.sensitivity.rate), alone)], seed=cfg.seed)
            instantiate(cfg.trainer, max_epochs=-1, limit_val_batches=0, callbacks=[plan], **quiet).fit(
                task, datamodule=data
            )
        said = f"{value:2.0f} bits" if bits else f"{100 * value:5.1f} % pruned"
        log.info("%-24s %s: error %6.2f %%", layer, said, found := error())
        return found

    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    values, dense = list(cfg.sensitivity.bits if bits else cfg.sensitivity.sparsities), error()
    curves = scanned(net, constraint, values, measure, seed=cfg.seed)
    least, sign = (-max(values), -1) if bits else (0.0, 1)
    table = table_of(curves, [sign * v for v in values], dense=dense, tolerance=cfg.sensitivity.tolerance, least=least)
    table = {layer: -int(value) if bits else value for layer, value in table.items()}
    record = {
        "dense": dense,
        "bits" if bits else "sparsities": values,
        "curves": curves,
        "table": table,
        "config": config,
    }
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(folder / "sensitivity.json", json.dumps(record, indent=1) + "\n")
    atomic_write(folder / "sensitivity.svg", sensitivity(values, curves, dense, bits=bits).file)
    found = (
        {"table": table}
        if bits
        else {"_target_": "dsd.sparsity.allocation.per_layer", "_partial_": True, "table": table}
    )
    (folder / (group := "bits" if bits else "allocation")).mkdir(exist_ok=True)
    text = ("# @package codebook\n" if bits else "") + OmegaConf.to_yaml(OmegaConf.create(found))
    atomic_write(folder / group / "sensitivity.yaml", text)
    use = "+bits=sensitivity" if bits else "allocation=sensitivity"
    log.info("dense %.2f %%; picture and table in %s; use it: -cd %s %s", dense, folder, folder, use)


def pack(cfg: DictConfig, net: Any, sizes: dict[str, int], folder: RunFolder) -> None:
    """Write the final weights as an archive, `model.dsd`."""
    archived(cfg, net, sizes, run=folder.run_id).save(folder.path / "model.dsd")


def archived(cfg: DictConfig, net: Any, sizes: dict[str, int], **meta: str) -> "Archive":
    """The weights of `net` as an archive that says which network it is."""
    from dsd.compression import compress

    model = json.dumps({**OmegaConf.to_container(cfg.model, resolve=True), **sizes})  # type: ignore[dict-item]
    return compress(net.state_dict(), meta={"model": model, "experiment": cfg.name, **meta})


def composed(*words: str) -> DictConfig:
    """The config of a command line, such as `experiment=dc_vgg16`, for who wants a run's parts without a run."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("config", list(words))


def show(folder: RunFolder) -> None:
    """Print what a finished run reached."""
    result = folder.read_result()
    get_console().print(phase_table(result))
    for sentence in sentences(result):
        log.info(sentence)
    if (path := folder.path / "model.dsd").exists():
        from dsd.compression import read_ledger

        ledger = read_ledger(path)
        get_console().print(ledger.table((result["published"] or {}).get("ledger")))
        log.info("archive: %s bytes, %.1fx less than float32; %s", f"{ledger.size:,}", ledger.ratio, path)
    what = unit(result["metrics"]["test"])
    log.info("%.0f s, %.0f %s/s; result: %s", result["seconds"], result["images_per_second"], what, folder.result)


def vocabulary() -> tuple[list[str], dict[str, list[str]]]:
    """All keys of the default config, and all groups with their choices."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = OmegaConf.to_container(hydra.compose("config"))

    def keys(node: Any, path: str) -> list[str]:
        inside = node.items() if isinstance(node, dict) else ()
        return [name for key, value in inside for name in (f"{path}{key}", *keys(value, f"{path}{key}."))]

    groups = {
        folder.name: sorted(f.stem for f in folder.glob("*.yaml")) for folder in CONF.iterdir() if folder.is_dir()
    }
    return keys(cfg, ""), groups


def main() -> int:
    """Run, and put what goes wrong in words; the exit code."""
    speak()
    try:
        job()
    except HydraException as error:
        log.error(explained(error, *vocabulary()))
        return 2
    except YAMLError as error:
        log.error("a config file is not YAML: %s", " ".join(str(error).split()))
        return 2
    except Exception as error:
        if Sweep.folder is None:
            raise
        first = str(error).strip().partition("\n")[0]
        log.error("the launcher gave up: %s: %s The same command does what is missing.", type(error).__name__, first)
        failed.append("launcher")
    return 0 if Sweep.close() and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
