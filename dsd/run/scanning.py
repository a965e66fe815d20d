"""`scan=true`: how much pruning each layer of a trained network bears, or how few bits."""

import json
import logging
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from dsd.callbacks import PlanCallback
from dsd.console import hush
from dsd.plan import Phase
from dsd.results.curves import sensitivity
from dsd.results.identity import run_id
from dsd.results.store import atomic_write
from dsd.run.stages import COUNTS, by_content, started_from
from dsd.run.training import loaded
from dsd.sparsity.sensitivity import scan as scanned
from dsd.sparsity.sensitivity import table_of
from dsd.weights import initialise_

log = logging.getLogger("dsd")


def scan(cfg: DictConfig) -> None:
    """Validation error as one layer after the other of `init_from` is pruned, or has few bits; curves, picture and allocation
    in runs/scan-<id>/."""
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    weights, origin = started_from(cfg.init_from, Path(cfg.runs))
    if weights is None:
        raise ValueError("scan=true looks at a trained network: say which with init_from=RUN_ID (or a file)")
    bits = cfg.scan == "bits"
    held = "quantization" if bits else "pruning"
    files = by_content(config)
    counts = {key: files[key] for key in (*COUNTS, "sensitivity", held)} | {"init_from": origin, "method": None}
    folder = Path(cfg.runs) / f"scan-{run_id(counts)}"
    hush()
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    data = loaded(cfg)
    net = instantiate(cfg.model, **data.sizes)
    initialise_(net, weights, skip=cfg.init_skip)
    if not data.val_size:
        raise ValueError("scan=true measures validation error, and data.validation=0 leaves nothing to validate on")
    task, constraint = instantiate(cfg.task)(net, instantiate(cfg.optimizer)), instantiate(cfg[held])
    if getattr(task, "shown", ("val/error1",))[0] != "val/error1":
        raise ValueError(
            f"scan=true measures a classifier's error, which {cfg.name} has not: choose another experiment"
        )
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
