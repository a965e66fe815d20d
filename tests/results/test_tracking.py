"""Whatever happens inside a run, its logger is closed and its data are in the run's own folder."""

import csv as csv_files
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest
import pytorch_lightning as pl
import torch
import wandb as client
from omegaconf import OmegaConf
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger

from dsd.results import tracking
from dsd.results.tracking import UpdateLogger, log_artifact, log_histogram

RUN: dict[str, Any] = {
    "run_id": "0123456789ab",
    "name": "quick",
    "group": "study",
    "tags": ["dsd"],
    "config": {"model": {"depth": 5}},
}
# Lightning 2.6 constructs a class that torch deprecates; not ours, and only Trainer.fit does it.
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")

Tracker = Callable[[Path], AbstractContextManager[Logger | None]]


def offline(**options: Any) -> Tracker:
    """The W&B tracker as conf/track/wandb.yaml makes it, offline."""
    given = {**settings("wandb"), "mode": "offline", **options}
    return lambda folder: tracking.wandb(folder, **RUN, **given)


def load(path: Path) -> dict[str, Any]:
    return cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(path)))


def settings(name: str) -> dict[str, Any]:
    path = Path(__file__).parents[2] / "conf" / "track" / f"{name}.yaml"
    return {key: value for key, value in load(path).items() if not key.startswith("_")}


@pytest.fixture(autouse=True, scope="module")
def _no_account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No key, no netrc, no reports, nothing written to the home; W&B reads its environment once, so it is forgotten."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("API_KEY", "MODE", "BASE_URL", "SWEEP_ID", "RUN_ID", "PROJECT", "ENTITY", "IDENTITY_TOKEN_FILE"):
            patch.delenv(f"WANDB_{name}", raising=False)
        for name in ("DATA", "CACHE", "CONFIG", "ARTIFACT"):
            patch.setenv(f"WANDB_{name}_DIR", str(home))
        patch.setenv("NETRC", str(home / "netrc"))
        patch.setenv("WANDB_ERROR_REPORTING", "false")
        client.teardown()
        yield
        client.teardown()


@pytest.fixture
def exit_codes(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """The exit codes of the W&B runs, in the order they are finished."""
    codes: list[int | None] = []
    finish = client.Run.finish

    def record(run: client.Run, exit_code: int | None = None) -> None:
        codes.append(exit_code)
        finish(run, exit_code)

    monkeypatch.setattr(client.Run, "finish", record)
    return codes


class Tiny(pl.LightningModule):
    def __init__(self, width: int = 1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(4, width)

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        loss = self.layer(batch).square().mean()
        self.log("train/loss", loss)
        return loss  # type: ignore[no-any-return]

    def test_step(self, batch: torch.Tensor) -> None:
        self.log("test/loss", self.layer(batch).square().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Batches:
    """Three batches, as a loader that is not a `DataLoader` and so warns about no workers."""

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter([torch.ones(2, 4)] * 3)

    def __len__(self) -> int:
        return 3


def fit(logger: Logger | None, folder: Path) -> None:
    """Three updates and a test, with the logger attached."""
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=3, log_every_n_steps=1, logger=logger or False, default_root_dir=folder, **quiet
    )
    module = Tiny()
    trainer.fit(module, Batches())
    trainer.test(module, Batches(), verbose=False)


def test_offline_runs_are_complete_and_separate(
    tmp_path: Path, exit_codes: list[int | None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="dsd.results.tracking")
    track = offline(artifact=True)
    for _ in range(2):  # a second run in the same process, of the same id, as after an interruption
        with track(tmp_path) as logger:
            assert isinstance(logger, UpdateLogger)
            run = client.run
            assert run is not None
            assert run is logger.experiment
            assert logger.version == run.id == RUN["run_id"]
            assert run.config["model"] == {"depth": 5}
            logger.log_hyperparams(RUN["config"])
            fit(logger, tmp_path)
            log_histogram(logger, "weights/conv1", [-1.0, 0.0, 1.0], [3, 4], update=3)
            path = tmp_path / "final.safetensors"
            path.write_bytes(b"weights")
            log_artifact(logger, path, "final-0123456789ab")
        assert client.run is None
    assert exit_codes == [0, 0]
    client.teardown()  # W&B's own process writes the last bytes just after the run is finished
    recorded = list(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))
    assert recorded
    written = b"".join(path.read_bytes() for path in recorded)
    for name in (b"train/loss", b"test/loss", b"weights/conv1", b"histogram", b"final-0123456789ab", b"update"):
        assert name in written
    assert b"trainer/global_step" not in written
    assert f"wandb sync {tmp_path}/wandb/offline-run-" in caplog.text


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_failed_run_is_finished_and_the_next_one_starts(
    tmp_path: Path, exit_codes: list[int | None], error: type[BaseException]
) -> None:
    track = offline()
    with pytest.raises(error), track(tmp_path):
        raise error
    assert client.run is None
    with track(tmp_path) as logger:
        assert logger is not None
        logger.log_metrics({"a": 1.0}, step=1)
    assert exit_codes == [1, 0]


def test_a_failure_to_finish_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    finish = client.Run.finish

    def fail(run: client.Run, exit_code: int | None = None) -> None:
        finish(run, exit_code)
        raise TimeoutError("the upload took too long")

    monkeypatch.setattr(client.Run, "finish", fail)
    with offline()(tmp_path):
        pass
    assert "the upload took too long" in caplog.text
    assert "wandb sync" in caplog.text


def test_an_artifact_is_made_only_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "final.safetensors"
    path.write_bytes(b"weights")
    with offline(artifact=False)(tmp_path) as logger:
        monkeypatch.setattr(client, "Artifact", None)
        log_artifact(logger, path, "final")
        with pytest.raises(FileNotFoundError, match=r"absent\.bin does not exist.*artifact final"):
            log_artifact(logger, tmp_path / "absent.bin", "final")


class Refusal(BaseHTTPRequestHandler):
    """A server that knows no key."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def refusing() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusal) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def elsewhere() -> Iterator[pytest.MonkeyPatch]:
    """An environment to change before W&B reads it."""
    with pytest.MonkeyPatch.context() as patch:
        client.teardown()
        yield patch
    client.teardown()


def assert_recorded_offline(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An online run is recorded offline instead, after one warning."""
    with offline(mode="online", init_timeout=1)(folder) as logger:
        assert isinstance(logger, UpdateLogger)
        assert logger.experiment.offline
        assert logger.version == RUN["run_id"]
        logger.log_metrics({"loss": 1.0}, step=1)
    [warning] = [record for record in caplog.records if record.name == tracking.__name__]
    assert warning.levelname == "WARNING"
    assert "recording offline instead, nothing is lost" in warning.getMessage()
    client.teardown()  # W&B's own process writes the last bytes just after the run is finished
    [recorded] = folder.glob("wandb/offline-run-*/run-*.wandb")
    assert b"loss" in recorded.read_bytes()


@pytest.mark.parametrize("key", ["0" * 40, "too-short", ""])
def test_an_unreachable_server_or_no_key_loses_nothing(
    tmp_path: Path,
    elsewhere: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    exit_codes: list[int | None],
    key: str,
) -> None:
    elsewhere.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    elsewhere.setenv("WANDB_API_KEY", key)
    assert_recorded_offline(tmp_path, caplog)
    assert exit_codes == [0]


def test_a_refused_key_loses_nothing(
    tmp_path: Path, elsewhere: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, refusing: str
) -> None:
    elsewhere.setenv("WANDB_BASE_URL", refusing)
    elsewhere.setenv("WANDB_API_KEY", "0" * 40)
    assert_recorded_offline(tmp_path, caplog)


@pytest.mark.parametrize(
    ("mode", "environment", "expected"),
    [
        ("auto", {}, "offline"),
        ("auto", {"WANDB_API_KEY": "0" * 40}, "online"),
        ("auto", {"WANDB_API_KEY": "0" * 40, "WANDB_MODE": "offline"}, "offline"),
        ("auto", {"WANDB_MODE": "online"}, "online"),
        ("auto", {"WANDB_MODE": "dryrun"}, "offline"),
        ("auto", {"WANDB_MODE": "disabled"}, "disabled"),
        ("offline", {"WANDB_MODE": "online"}, "offline"),
        ("online", {}, "online"),
    ],
)
def test_the_mode(monkeypatch: pytest.MonkeyPatch, mode: str, environment: dict[str, str], expected: str) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert tracking._resolve_mode(mode) == expected


@pytest.mark.parametrize(
    ("server", "entry", "expected"),
    [
        ("", f"machine api.wandb.ai login user password {'0' * 40}", "online"),
        ("", f"machine example.org login user password {'0' * 40}", "offline"),
        ("https://example.org", f"machine example.org login user password {'0' * 40}", "online"),
        ("https://example.org", f"machine api.wandb.ai login user password {'0' * 40}", "offline"),
        ("", "machine machine machine broken", "offline"),
    ],
)
def test_a_key_in_netrc_means_online(
    tmp_path: Path, elsewhere: pytest.MonkeyPatch, server: str, entry: str, expected: str
) -> None:
    (tmp_path / "netrc").write_text(entry + "\n")
    elsewhere.setenv("NETRC", str(tmp_path / "netrc"))
    elsewhere.setenv("WANDB_BASE_URL", server or str(client.Settings().base_url))
    assert tracking._resolve_mode("auto") == expected


def test_an_unknown_mode_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"track\.mode is 'ofline'"), offline(mode="ofline")(tmp_path):
        raise AssertionError("started")
    monkeypatch.setenv("WANDB_MODE", "sometimes")
    with pytest.raises(ValueError, match="WANDB_MODE is 'sometimes'"), offline(mode="auto")(tmp_path):
        raise AssertionError("started")


def test_disabled_is_no_logger(tmp_path: Path) -> None:
    with offline(mode="disabled")(tmp_path) as logger:
        assert logger is None
    assert list(tmp_path.iterdir()) == []


def test_only_the_first_process_starts_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dsd.results.tracking.rank_zero_only.rank", 1)
    with offline()(tmp_path) as logger:
        assert isinstance(logger, UpdateLogger)
        logger.log_metrics({"a": 1.0}, step=1)
        log_histogram(logger, "h", [0, 1], [1], update=1)
        assert client.run is None
    assert list(tmp_path.iterdir()) == []


def fail_after_logging(logger: Any) -> None:
    logger.log_metrics({"train/loss": 2.0}, step=0)
    raise KeyError


def test_csv_keeps_the_metrics_of_every_start(tmp_path: Path) -> None:
    for _ in range(2):
        with tracking.csv(tmp_path, **RUN) as logger:
            assert isinstance(logger, CSVLogger)
            fit(logger, tmp_path)
            log_histogram(logger, "weights", [0, 1], [1], update=3)
    failing = tracking.csv(tmp_path, **RUN)
    with pytest.raises(KeyError), failing as logger:
        fail_after_logging(logger)
    for version in range(3):
        with (tmp_path / "csv" / f"version_{version}" / "metrics.csv").open() as file:
            assert next(csv_files.DictReader(file))["train/loss"]


def test_tensorboard_has_metrics_histograms_and_the_config(tmp_path: Path) -> None:
    with tracking.tensorboard(tmp_path, **RUN) as logger:
        assert isinstance(logger, TensorBoardLogger)
        fit(logger, tmp_path)
        log_histogram(logger, "weights", [-1, 0, 1], [3, 4], update=3)
    written = b"".join(path.read_bytes() for path in (tmp_path / "tensorboard").glob("events.*"))
    for name in (b"train/loss", b"test/loss", b"weights", b'"depth": 5'):
        assert name in written


def test_tensorboard_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with (
        pytest.raises(ModuleNotFoundError, match=r"pip install 'dsd\[tensorboard\]'"),
        tracking.tensorboard(tmp_path, **RUN),
    ):
        raise AssertionError("started")


def test_none_is_no_logger(tmp_path: Path) -> None:
    with tracking.none(tmp_path, **RUN) as logger:
        assert logger is None
        log_histogram(logger, "weights", [0, 1], [1], update=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("edges", "counts"), [([0, 1], [1, 2]), ([0], []), (list(range(514)), [1] * 513)])
def test_a_wrong_histogram_is_named(edges: list[float], counts: list[int]) -> None:
    with pytest.raises(ValueError, match="histogram weights: "):
        log_histogram(None, "weights", edges, counts, update=0)


@pytest.mark.parametrize("name", ["wandb", "csv", "tensorboard", "none"])
def test_the_configs_make_the_trackers(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hydra.utils import instantiate

    monkeypatch.setenv("WANDB_MODE", "disabled")
    path = Path(__file__).parents[2] / "conf" / "track" / f"{name}.yaml"
    tracker = instantiate(load(path))
    assert isinstance(tracker, partial)
    with tracker(tmp_path, **RUN) as logger:
        assert logger is None or isinstance(logger, Logger)
