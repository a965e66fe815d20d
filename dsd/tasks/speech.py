"""Speech recognition: CTC (Graves et al., ICML 2006), greedy decoding as in the DSD paper's tables, WER and CER in %."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import ctc_loss
from torch.optim import Optimizer
from torchmetrics import MeanMetric, Metric, MetricCollection
from torchmetrics.functional.text import word_error_rate
from torchmetrics.text import CharErrorRate, WordErrorRate

from dsd.callbacks.history import own_logging
from dsd.tasks.classification import parameter_groups

Batch = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
BLANK = 0


class Speech(pl.LightningModule):
    """Trains `net`: (spectrograms (B, T, bins), frames (B,)) -> (scores (B, T', symbols), steps (B,)).

    alphabet: symbols 1, 2, ...; 0 is the blank. The loss is the mean over utterances of CTC's, in nats. flush_denormal:
    gradients that vanish over hundreds of frames become denormal numbers, which stall a CPU (14 times slower measured
    on Deep Speech 1); they are taken as 0 in this thread, and in torch's own threads if it has made none yet (in a loop
    of your own call `torch.set_flush_denormal(True)` first of all). Logs val/ and test/ `wer`, `cer` (in %) and `loss`.

    `samples` afterwards: {utterance, reference, hypothesis, words, errors} of every test utterance.
    """

    shown: ClassVar[tuple[str, str]] = ("val/wer", "validation WER {:.2f} %")
    unit: ClassVar[str] = "utterances"

    def __init__(
        self,
        net: nn.Module,
        optimizer: Callable[[Iterable[dict[str, Any]]], Optimizer],
        *,
        alphabet: str,
        flush_denormal: bool,
        decoder: Callable[[Tensor, Tensor], list[str]] | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self._optimizer, self._alphabet, self._flush = optimizer, alphabet, flush_denormal
        self._decoder = decoder
        rates: dict[str, Metric | MetricCollection] = {
            "wer": WordErrorRate(),
            "cer": CharErrorRate(),
            "loss": MeanMetric(),
        }
        self._metrics = nn.ModuleDict({stage: MetricCollection(rates).clone() for stage in ("val", "test")})
        self.samples: list[dict[str, Any]] = []

    @property
    def network(self) -> nn.Module:
        """What the plan prunes and the run keeps."""
        return self.net

    def setup(self, stage: str) -> None:
        torch.set_flush_denormal(self._flush)

    def forward(self, x_BTF: Tensor, frames_B: Tensor) -> list[str]:
        """The transcripts, decoded as those of the test; call it in eval mode."""
        return self._decoded("test", *self.net(x_BTF, frames_B))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self._loss(batch)[0]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._measure("val", batch)

    def on_test_start(self) -> None:
        self.samples = []

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        name_of = self.trainer.datamodule.name_of  # type: ignore[attr-defined]
        for number, (reference, hypothesis) in zip(batch[4].tolist(), self._measure("test", batch), strict=True):
            words = len(reference.split())
            wrong = round(float(word_error_rate(hypothesis, reference)) * words) if words else len(hypothesis.split())
            named = {"utterance": name_of(number), "reference": reference, "hypothesis": hypothesis}
            self.samples.append({**named, "words": words, "errors": wrong})

    def on_validation_epoch_end(self) -> None:
        self._report("val")

    def on_test_epoch_end(self) -> None:
        self._report("test")

    def configure_optimizers(self) -> Optimizer:
        return self._optimizer(parameter_groups(self.net, 1.0, True))

    def _loss(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """(mean of CTC's loss over the utterances, scores (B, T', symbols), steps (B,))."""
        x_BTF, frames_B, symbols_BL, counts_B, _ = batch
        scores_BTS, steps_B = self.net(x_BTF, frames_B)
        log_TBS = scores_BTS.float().log_softmax(2).transpose(0, 1)
        # too short for its transcript: infinite; such utterances are left out of training, and of this mean
        total = ctc_loss(log_TBS, symbols_BL, steps_B, counts_B, BLANK, "sum", zero_infinity=True)
        return total / len(x_BTF), scores_BTS, steps_B

    def _measure(self, stage: str, batch: Batch) -> list[tuple[str, str]]:
        loss, scores_BTS, steps_B = self._loss(batch)
        found = self._decoded(stage, scores_BTS, steps_B)
        rows = zip(batch[2].tolist(), batch[3].tolist(), strict=True)
        said = ["".join(self._alphabet[number - 1] for number in row[:count]) for row, count in rows]
        for name, metric in self._metrics[stage].items():  # type: ignore[operator]
            metric.update(loss, weight=len(found)) if name == "loss" else metric.update(found, said)
        return list(zip(said, found, strict=True))

    def _decoded(self, stage: str, scores_BTS: Tensor, steps_B: Tensor) -> list[str]:
        if stage == "test" and self._decoder is not None:
            return self._decoder(scores_BTS, steps_B)
        return greedy(scores_BTS, steps_B, self._alphabet)

    def _report(self, stage: str) -> None:
        for name, value in self._metrics[stage].compute().items():  # type: ignore[operator]
            shown = value if name == "loss" else 100 * value.double()
            self.log(f"{stage}/{name}", shown, rank_zero_only=False, logger=own_logging(self.trainer))
        self._metrics[stage].reset()  # type: ignore[operator]


def greedy(scores_BTS: Tensor, steps_B: Tensor, alphabet: str) -> list[str]:
    """The best symbol of each step; repetitions are one, blanks go, and so do spaces that say nothing."""
    best_BT = scores_BTS.argmax(2).tolist()
    texts = []
    for row, steps in zip(best_BT, steps_B.tolist(), strict=True):
        text = "".join(alphabet[number - 1] for number, _ in groupby(row[:steps]) if number != BLANK)
        texts.append(" ".join(text.split()))
    return texts
