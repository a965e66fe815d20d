"""One training: fit by the plan, save, compress, test."""

import json
import logging
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from dsd.callbacks import Distributions, History, LastCheckpoint, PhaseProgress, PhaseWeights, PlanCallback, Seeds
from dsd.callbacks.checkpoint import Diverged
from dsd.compression import Archive, compress
from dsd.console import hush
from dsd.heap import keep_freed
from dsd.plan import flat
from dsd.processor import slow_precision
from dsd.results.store import RunFolder, atomic_write
from dsd.results.tracking import log_artifact
from dsd.weights import initialise_, save_weights

log = logging.getLogger("dsd")
FEW = 16  # images of which a BatchNorm's mean and variance say little (Wu and He, ECCV 2018, figure 1)
__all__ = ["Diverged", "archived", "train"]


def train(cfg: DictConfig, folder: RunFolder, weights: Any, logger: Any) -> dict[str, Any]:
    """Fit, save and test; what there is to say of it."""
    hush()
    keep_freed()
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    if cfg.task.get("flush_denormal"):
        torch.set_flush_denormal(True)  # before the first parallel operation: threads inherit it when they are made
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # deterministic enough, and half the memory traffic
    began = datetime.now(UTC)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    if repr(cfg.trainer.get("limit_test_batches", 1.0)) != "1.0":  # 1 is one batch
        raise ValueError("trainer.limit_test_batches: the final weights are tested on the whole test set; leave it out")
    data = loaded(cfg)
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
    plan = PlanCallback(phases, seed=cfg.seed, observe=cfg.observe)
    trainer = instantiate(
        cfg.trainer, max_epochs=-1, logger=logger or False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, enable_checkpointing=True, default_root_dir=folder.path, limit_val_batches=None if data.val_size else 0,
        callbacks=[Seeds(cfg.seed), plan,
                   *instantiate(cfg.method.callbacks), history, distributions, *extra, checkpoint],
    )  # fmt: skip
    if slow := slow_precision(trainer.precision, trainer.strategy.root_device):
        log.warning(slow)
    if few := few_for_norm(
        net, cfg.data.get("batch_size"), trainer.world_size, synced=cfg.trainer.get("sync_batchnorm")
    ):
        log.warning(few)
    resume = str(folder.checkpoint) if folder.checkpoint.exists() and not cfg.force else None
    if resume:
        whole(folder)
    trainer.fit(task, datamodule=data, ckpt_path=resume, weights_only=True if resume else None)
    if plan.active is None or not plan.active.finished:
        raise ValueError(
            f"something stopped the Trainer at update {trainer.global_step} (max_time, fast_dev_run, a callback), before the plan's end: a "
            "run that is not whole has no result. The same command without it, or with more time, goes on from the last checkpoint"
        )
    if trainer.is_global_zero:
        save_weights(net, folder.final)
        atomic_write(folder.path / "distributions.json", distributions.as_json())
        if cfg.method.get("archive"):
            archived(cfg, net, data.sizes, run=folder.run_id).save(folder.path / "model.dsd")
    log_artifact(logger, folder.final, f"{cfg.name}-{folder.run_id}")
    trainer.test(task, datamodule=data, verbose=False)
    samples = gathered(getattr(task, "samples", []))
    if trainer.is_global_zero and samples:
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


def whole(folder: RunFolder) -> None:
    """Nothing, or ValueError if the checkpoint cannot be read: no repetition would get beyond it."""
    try:
        torch.load(folder.checkpoint, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        first = " ".join(str(error).split())[:80]
        raise ValueError(
            f"{folder.checkpoint} is damaged ({type(error).__name__}{f': {first}' if first else ''}): remove it, and the same command "
            "begins the run again"
        ) from error


def few_for_norm(net: torch.nn.Module, batch: int | None, processes: int, *, synced: bool | None) -> str:
    """What is to be said where BatchNorm layers count over few images, since several processes share a batch; else nothing."""
    norms = any(isinstance(module, torch.nn.modules.batchnorm._BatchNorm) for module in net.modules())
    if not norms or processes == 1 or synced or batch is None or batch >= FEW:
        return ""
    return (
        f"BatchNorm counts over the {batch} images of one of {processes} processes: ++trainer.sync_batchnorm=true counts over all "
        "(on GPUs), fewer trainer.devices give each more"
    )


def loaded(cfg: DictConfig) -> Any:
    """The data, at hand before the network is made: what is missing should be said at once."""
    data = instantiate(cfg.data)
    data.prepare_data()
    data.setup("fit")
    if cfg.data.get("num_classes", 0) is None:
        cfg.data.num_classes = data.num_classes  # the model and the task are made for as many as the labels say
    return data


def gathered(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What all processes saw, in the order of the data; what a sampler gave twice, to fill up, once."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return samples
    shares: list[list[dict[str, Any]]] = [[] for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(shares, samples)
    named: dict[tuple[Any, ...], dict[str, Any]] = {}
    for one in (one for each in zip_longest(*shares) for one in each if one is not None):
        named.setdefault((one.get("part"), one.get("utterance", one.get("image"))), one)
    return list(named.values())


def archived(cfg: DictConfig, net: Any, sizes: dict[str, int], **meta: str) -> Archive:
    """The weights of `net` as an archive that says which network it is."""
    model = json.dumps({**OmegaConf.to_container(cfg.model, resolve=True), **sizes})  # type: ignore[dict-item]
    return compress(net.state_dict(), meta={"model": model, "experiment": cfg.name, **meta})
