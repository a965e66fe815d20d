"""Train by a plan, measure the final weights, keep the result: `python run.py experiment=dsd_resnet18`, `--help` for more.

cfg -> data, model -> task -> Trainer.fit(plan) -> final weights -> Trainer.test -> result.json
"""

import gc
import io
import json
import logging
import os
import sys
import time
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra
import psutil
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, MissingMandatoryValue, OmegaConf
from rich import get_console
from yaml import YAMLError

from dsd.console import Refused, explained, recorded, speak
from dsd.processes import begun_before, foremost, started_by
from dsd.results.provenance import git_state, hardware, versions
from dsd.results.schema import read_json
from dsd.results.store import RunBusy, RunFolder, atomic_write
from dsd.results.table import phase_table, sentences, unit
from dsd.run.config import CONF, alone, first_job, vocabulary
from dsd.run.stages import place, stages
from dsd.sweep import INCOMPLETE, Outcome, State, Sweep, done_by, total_epochs

os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors reach main(), which puts them in words
log = logging.getLogger("dsd")
failed: list[str] = []  # for the exit code: Hydra gives no result back


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def job(cfg: DictConfig) -> None:
    """One job of a sweep or the only one; a failure is told and doesn't stop the others."""
    speak()  # also in a launcher's own process, or its run.log would have nothing but warnings
    began, hydra_cfg = time.monotonic(), HydraConfig.get()
    sweep = Path(hydra_cfg.sweep.dir) if hydra_cfg.mode == RunMode.MULTIRUN else None
    outcome, first = Outcome(hydra_cfg.job.num if sweep else 0, list(hydra_cfg.overrides.task)), foremost()
    try:
        if not hydra_cfg.job.chdir:  # a worker of a cluster is anywhere: relative folders are those of the command
            os.chdir(hydra_cfg.runtime.cwd)
        if sweep and first:
            outcome.write(sweep)
        if cfg.scan and sweep:
            raise ValueError("scan=true is one command a network, not a job of a sweep: leave -m out")
        if cfg.scan and (cfg.trainer.devices, cfg.trainer.num_nodes) != (1, 1):
            raise ValueError("scan=true measures in one process: trainer.devices=1 trainer.num_nodes=1")
        if cfg.scan:
            from dsd.run.scanning import scan

            return scan(cfg)
        with started_by(alone(hydra_cfg)):
            for stage in stages(cfg):
                if outcome.state == "missing":  # what starts from a missing run is missing too
                    rest = total_epochs(OmegaConf.to_container(stage, resolve=True))  # type: ignore[arg-type]
                    outcome = replace(
                        outcome, run_id="", needs=outcome.run_id, needs_epochs=outcome.epochs, epochs=rest, method=stage.method.name
                    )  # fmt: skip
                    break
                folder, weights, config = place(stage)
                outcome = replace(
                    outcome, state="running", run_id=folder.run_id, log=str(folder.log), name=cfg.name, profile=cfg.profile,
                    method=stage.method.name,
                )  # fmt: skip
                if sweep and first:  # a job that is killed has said which run it was
                    outcome.write(sweep)
                if cfg.dry_run and (stage.force or not (folder.finished or folder.diverged.exists())):
                    outcome = replace(outcome, state="missing", epochs=total_epochs(config))
                    continue
                last = stage.method.name == cfg.method.name
                outcome = replace(outcome, state=run(stage, folder, weights, config, wait=not last))
    except RunBusy as error:
        outcome = replace(outcome, state="busy", reason=str(error))
    except MissingMandatoryValue as error:
        outcome = replace(
            outcome, state="failed", reason=f"{error.full_key} has no value: {error.full_key}=... sets it"
        )
    except (Refused, ValueError, OSError) as error:
        again = f"; others share it: method=baseline force=true seed={cfg.baseline_seed} makes it anew"
        shared = outcome.state == "skipped"  # it is finished, but nothing can start from it
        outcome = replace(outcome, state="failed", reason=f"{error}{again * shared}")
    except (KeyboardInterrupt, SystemExit) as end:
        if isinstance(end, SystemExit) and not isinstance(end.__context__, KeyboardInterrupt):
            raise  # SIGTERM's; Lightning makes one of Ctrl-C, too
        if sweep and first:
            replace(outcome, state="interrupted", seconds=time.monotonic() - began).write(sweep)
        raise KeyboardInterrupt from None
    except Exception as error:
        if not sweep:
            raise
        outcome = replace(outcome, state="failed", reason=f"{type(error).__name__}: {error}")
    if outcome.reason:
        log.error(outcome.reason)
    if sweep and first:
        gc.collect()  # a sweep in one process: the last job's network goes before the next is made
        memory = psutil.Process().memory_info().rss / 2**20
        Sweep.leave(replace(outcome, seconds=time.monotonic() - began, memory=memory), sweep)
    elif outcome.needs:
        log.info("run %s (baseline) would be executed: %s", outcome.needs, outcome.log)
        log.info("and then %s, which starts from it", outcome.method)
    elif outcome.state == "missing":
        log.info("run %s would be executed: %s", outcome.run_id, outcome.log)
    failed.extend([outcome.run_id] if outcome.state in INCOMPLETE else [])


def run(cfg: DictConfig, folder: RunFolder, weights: Any, config: dict[str, Any], *, wait: bool) -> State:
    """Done from the start, continued, or skipped since it is finished. `wait` for a process that executes it already."""
    if cfg.force and done_by(HydraConfig.get(), folder):
        cfg.force = False  # two jobs of a sweep may be one run
    if cfg.force and begun_before(folder.path / "forced"):
        log.info("started again by the cluster: force=true counted at the first start, and the run goes on")
        cfg.force = False
    if not cfg.force and folder.finished:
        return skip(folder, quiet=wait)
    if not cfg.force:
        refuse_diverged(folder)
    choices = {group: name for group, name in HydraConfig.get().runtime.choices.items() if "hydra" not in group}
    first = foremost()
    with recorded(folder, first=first, fresh=cfg.force, wait=wait):
        if not cfg.force and folder.finished:  # another process finished it a moment ago
            return skip(folder, quiet=wait)
        if not cfg.force:
            refuse_diverged(folder)  # or found that it diverges
        atomic_write(folder.config, OmegaConf.to_yaml(cfg, resolve=True))
        log.info("run %s: %s %s, seed %s, in %s", folder.run_id, cfg.name, cfg.method.name, cfg.seed, folder.path)
        tracker = instantiate(cfg.track)(
            folder=folder.path, run_id=folder.run_id, name=f"{cfg.name}/{cfg.method.name}/{cfg.seed}",
            group=f"{cfg.study}/{cfg.method.name}", tags=[cfg.profile, *cfg.tags], config=config | {"choices": choices},
        )  # fmt: skip
        with tracker as logger:
            # torch and Lightning take seconds to import: --help answers at once
            from dsd.run.training import Diverged, train

            try:
                result = train(cfg, folder, weights, logger)
            except Diverged as error:
                why = {
                    "run_id": folder.run_id,
                    "seed": cfg.seed,
                    "config": config | {"choices": choices},
                    "reason": str(error),
                }
                if first:
                    atomic_write(folder.diverged, json.dumps(why, indent=1) + "\n")
                raise
        if first:
            atomic = {"run_id": folder.run_id, "config": config | {"choices": choices}, "git": git_state(CONF.parent)}
            folder.write_result(result | atomic | {"versions": versions(), "hardware": hardware()})
            folder.checkpoint.unlink(missing_ok=True)
            show(folder)
    return "done"


def refuse_diverged(folder: RunFolder) -> None:
    """Raises Refused for a run that diverged: that is its result."""
    if folder.diverged.exists():
        why = read_json(folder.diverged, remedy="remove it, or force=true")["reason"]
        raise Refused(
            f"run {folder.run_id} is not tried again: {why}; force=true does all the same (of a baseline that others share: method=baseline force=true and its seed)"
        )


def skip(folder: RunFolder, *, quiet: bool) -> State:
    """Say that it is finished, and with what."""
    log.info("run %s is finished; force=true does it again", folder.run_id)
    if not quiet:
        show(folder)
    return "skipped"


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


def beneath(error: HydraException) -> HydraException:
    """Hydra asks for --multirun also where it could not compose a sweep's file, for another reason; that reason."""
    if "--multirun" not in str(error):
        return error
    words = sys.argv
    sys.argv = [*first_job(words), "--cfg", "job"]  # composes, and executes nothing
    try:
        with redirect_stdout(io.StringIO()):
            job()
    except HydraException as reason:
        return reason
    finally:
        sys.argv = words
    return error


def main() -> int:
    """Run, and put what goes wrong in words; the exit code."""
    speak()
    try:
        job()
    except HydraException as error:
        log.error(explained(beneath(error), *vocabulary()))
        return 2
    except YAMLError as error:
        log.error("a config file is not YAML: %s", " ".join(str(error).split()))
        return 2
    except KeyboardInterrupt:
        again = ", without force=true" if "force=true" in sys.argv else ""
        log.warning("interrupted; the same command%s continues", again)
        Sweep.close(interrupted=True)
        return 130  # as shells count SIGINT
    except SystemExit as end:
        if end.code is not None:
            raise  # --help's
        log.warning("terminated; the same command continues")  # Lightning's answer to SIGTERM
        Sweep.close(interrupted=True)
        return 143  # as shells count SIGTERM
    except Exception as error:
        if Sweep.folder is None:
            raise
        first = str(error).strip().partition("\n")[0]
        log.error("the launcher gave up: %s: %s The same command does what is missing.", type(error).__name__, first)
        failed.append("launcher")
    return 0 if Sweep.close() and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
