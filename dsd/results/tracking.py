"""Loggers. Each tracker is a context manager around a whole run: whatever happens inside, the logger is closed.

    with tracker(folder, run_id, name, group, tags, config) as logger:     # a Lightning logger, or None
        ...

A logger is a mirror; the truth is the run's own folder, where every logger here writes its files too. The x-axis is
`update`, the number of optimizer steps.
"""

import importlib.util
import json
import logging
import netrc
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

if TYPE_CHECKING:
    from wandb import Run

_log = logging.getLogger(__name__)
_MODES = ("online", "offline", "disabled")


class UpdateLogger(WandbLogger):
    """Lightning's W&B logger, with `update` as the x-axis; `artifact` says whether files are uploaded."""

    def __init__(self, *, artifact: bool, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.artifact = artifact

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """The metrics are logged at update `step`."""
        self.experiment.log(dict(metrics) if step is None else {**metrics, "update": step})


@contextmanager
def wandb(
    folder: Path,
    run_id: str,
    name: str,
    group: str,
    tags: list[str],
    config: dict[str, Any],
    *,
    project: str,
    entity: str | None,
    mode: str,
    artifact: bool,
    init_timeout: float,
    finish_timeout: float,
) -> Iterator[Logger | None]:
    """A W&B run of the same id, resumed if it exists; finished with exit code 0, or 1 after any exception.

    `mode` is auto (WANDB_MODE if set, else online when there is an API key, else offline), online, offline or disabled.
    When the server does not accept the run within `init_timeout` seconds, it is recorded offline under the same id, in
    `folder`/wandb. At the end, uploads get `finish_timeout` seconds; what is left stays there for `wandb sync`.
    Raises ValueError for an unknown mode.
    """
    resolved = _resolve_mode(mode)
    if resolved == "disabled":
        yield None
        return
    identity = {"project": project, "entity": entity, "id": run_id, "name": name, "group": group, "tags": tags}
    if getattr(rank_zero_only, "rank", 0) != 0:  # the first process owns the run; the logger of the others does nothing
        yield UpdateLogger(artifact=artifact, save_dir=folder, **identity)
        return
    folder.mkdir(parents=True, exist_ok=True)
    timeouts = {"init_timeout": init_timeout, "finish_timeout": finish_timeout}
    run = _start({**identity, "dir": folder, "config": config}, resolved, timeouts)
    exit_code = 1
    try:
        yield UpdateLogger(artifact=artifact, save_dir=folder, experiment=run, project=project, id=run_id, name=name)
        exit_code = 0
    finally:
        _finish(run, exit_code)


@contextmanager
def csv(
    folder: Path, run_id: str, name: str, group: str, tags: list[str], config: dict[str, Any]
) -> Iterator[Logger | None]:
    """Metrics go to `folder`/csv/version_N/metrics.csv, a new N for each restart so that nothing is overwritten."""
    with _closing(CSVLogger(folder, name="csv", flush_logs_every_n_steps=1)) as logger:
        yield logger


@contextmanager
def tensorboard(
    folder: Path, run_id: str, name: str, group: str, tags: list[str], config: dict[str, Any]
) -> Iterator[Logger | None]:
    """Metrics, histograms and the config go to event files in `folder`/tensorboard.

    Raises ModuleNotFoundError with the command that installs TensorBoard.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise ModuleNotFoundError(
            "track=tensorboard needs TensorBoard, which is not installed: pip install 'dsd[tensorboard]'"
        )
    with _closing(TensorBoardLogger(folder, name="tensorboard", version="", default_hp_metric=False)) as logger:
        text = json.dumps(config, indent=2, sort_keys=True, default=str)
        logger.experiment.add_text("config", "\n".join(f"    {line}" for line in text.splitlines()))
        yield logger


@contextmanager
def none(
    folder: Path, run_id: str, name: str, group: str, tags: list[str], config: dict[str, Any]
) -> Iterator[Logger | None]:
    """No logger."""
    yield None


@rank_zero_only
def log_histogram(logger: Logger | None, name: str, edges: Sequence[float], counts: Sequence[int], update: int) -> None:
    """The histogram `name` of `counts` between consecutive `edges` is logged at `update`.

    CSV has none. Raises ValueError unless there is one more edge than counts, and 1 to 512 counts (W&B's limit).
    """
    if len(edges) != len(counts) + 1 or not 1 <= len(counts) <= 512:
        raise ValueError(f"histogram {name}: {len(edges)} edges and {len(counts)} counts; expected n + 1 and n <= 512")
    edge_N = np.asarray(edges, dtype=np.float64)
    count_N = np.asarray(counts, dtype=np.int64)
    if isinstance(logger, WandbLogger):
        import wandb as client

        histogram = client.Histogram(np_histogram=(count_N, edge_N))
        logger.experiment.log({name: histogram, "update": update})
    elif isinstance(logger, TensorBoardLogger):
        middle_N = (edge_N[:-1] + edge_N[1:]) / 2  # the values themselves are gone; TensorBoard shows the counts
        logger.experiment.add_histogram_raw(
            name,
            min=float(edge_N[0]),
            max=float(edge_N[-1]),
            num=int(count_N.sum()),
            sum=float((count_N * middle_N).sum()),
            sum_squares=float((count_N * middle_N**2).sum()),
            bucket_limits=edge_N[1:].tolist(),
            bucket_counts=count_N.tolist(),
            global_step=update,
        )


@rank_zero_only
def log_artifact(logger: Logger | None, path: Path, name: str) -> None:
    """The file is a W&B artifact of type `model` called `name`, if the tracker was told `artifact: true`.

    Other loggers have no artifacts: the file is in the run's own folder anyway. Raises FileNotFoundError otherwise.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist, so it cannot be logged as artifact {name}")
    if isinstance(logger, UpdateLogger) and logger.artifact:
        import wandb as client

        artifact = client.Artifact(name=name, type="model")
        artifact.add_file(str(path))
        logger.experiment.log_artifact(artifact)


def _resolve_mode(mode: str) -> str:
    source, found = "track.mode", mode
    if mode == "auto":
        source, found = "WANDB_MODE", os.environ.get("WANDB_MODE", "") or ("online" if _has_key() else "offline")
        found = {"dryrun": "offline", "run": "online"}.get(found, found)  # W&B's old words
    if found not in _MODES:
        raise ValueError(f"{source} is {found!r}; expected one of {', '.join(_MODES)}")
    return found


def _has_key() -> bool:
    """True when W&B would find an API key in the environment or in netrc; nothing is sent, printed or kept."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    import wandb as client

    base_url = client.setup().settings.base_url
    hosts = [urlsplit(str(base_url)).netloc]
    if base_url == client.Settings().base_url:  # W&B's own cloud, which has changed its name: old entries still count
        hosts.append("api.wandb.ai")
    try:
        entries = netrc.netrc(os.environ.get("NETRC") or str(Path.home() / ".netrc"))
    except (OSError, netrc.NetrcParseError):
        return False
    return any(entries.authenticators(host) for host in hosts)


def _start(arguments: dict[str, Any], mode: str, timeouts: dict[str, float]) -> "Run":
    """A started W&B run; online falls back to offline under the same id."""
    import wandb as client

    if mode == "online":
        try:
            if not _has_key():  # W&B would ask for one in a terminal, and wait
                raise ValueError("no API key: set WANDB_API_KEY or call `wandb login`")
            run = client.init(**arguments, mode="online", resume="allow", settings=_settings(timeouts))
            _log.info("W&B records online: %s", run.url)
            return _define_axis(run)
        except (client.Error, OSError, ValueError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
            _log.warning("W&B did not start online (%s); recording offline instead, nothing is lost.", reason)
            client.teardown(exit_code=0)  # forgets the half-started run, its server and its credentials
    run = client.init(**arguments, mode="offline", resume="allow", settings=_settings(timeouts, silent=True))
    _log.info("W&B records offline; upload later with: wandb sync %s", Path(run.dir).parent)
    return _define_axis(run)


def _settings(timeouts: dict[str, float], *, silent: bool = False) -> Any:
    import wandb as client

    known: dict[str, Any] = {key: value for key, value in timeouts.items() if key in client.Settings.model_fields}
    # The run has its own log; capturing the console would break the progress bar and store it a second time.
    return client.Settings(console="off", quiet=True, silent=silent, **known)


def _define_axis(run: "Run") -> "Run":
    run.define_metric("update", hidden=True)
    run.define_metric("*", step_metric="update")
    return run


def _finish(run: "Run", exit_code: int) -> None:
    """The W&B run is closed; a failure to do so is a warning, never the end of a run that has its result."""
    try:
        run.finish(exit_code=exit_code)
    except Exception as error:
        _log.warning("W&B did not finish cleanly (%s); the data are in %s for wandb sync.", error, Path(run.dir).parent)


@contextmanager
def _closing(logger: Any) -> Iterator[Any]:
    status = "failed"
    try:
        yield logger
        status = "success"
    finally:
        logger.finalize(status)
