"""Captions: cross-entropy of each next word, perplexity, BLEU-1 to BLEU-4 (Karpathy & Fei-Fei, CVPR 2015; PROTOCOLS 1.5)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer
from torchmetrics import MeanMetric

from dsd.callbacks.history import own_logging
from dsd.models.neuraltalk import END, NeuralTalk
from dsd.tasks.beam import decode
from dsd.tasks.bleu import Bleu
from dsd.tasks.classification import parameter_groups

Batch = tuple[Tensor, Tensor, Tensor]
PADDING = -1


class Captioning(pl.LightningModule):
    """Trains `net` on (features (B, F), words (B, T) padded with -1, images (B,)); measures it on whole images.

    A batch of evaluation has words (B, R, T), R sentences an image. The loss is NeuralTalk's, the sum over the words of
    a sentence (END included), averaged over sentences. Logs val/ and test/ `bleu1` .. `bleu4`, `perplexity` (a word's)
    and `loss` (a word's, nats); sentences are decoded with `val_beam` and `beam` beams, at most `longest` words.

    `samples` afterwards: {image, part, references, captions: {update: sentence}}, of the first `shown_images`
    validation images after each validation, and of every test image with the final weights.
    """

    shown: ClassVar[tuple[str, str]] = ("val/bleu4", "validation BLEU-4 {:.2f}")

    def __init__(
        self,
        net: NeuralTalk,
        optimizer: Callable[[Iterable[dict[str, Any]]], Optimizer],
        *,
        beam: int,
        val_beam: int,
        longest: int,
        shown_images: int,
    ) -> None:
        super().__init__()
        self.net = net
        self._optimizer = optimizer
        self._beam = {"val": val_beam, "test": beam}
        self._longest, self._shown_images = longest, shown_images
        self._losses = nn.ModuleDict({stage: MeanMetric() for stage in ("val", "test")})
        self._bleu = nn.ModuleDict({stage: Bleu() for stage in ("val", "test")})
        self._samples: dict[str, dict[str, Any]] = {}

    @property
    def network(self) -> nn.Module:
        """What the plan prunes and the run keeps."""
        return self.net

    @property
    def samples(self) -> list[dict[str, Any]]:
        """What was said of which image, see above."""
        return list(self._samples.values())

    def forward(self, features_BF: Tensor) -> list[list[int]]:
        """The most likely sentence for each image, as word numbers; call it in eval mode."""
        return decode(self.net, features_BF, beam=self._beam["test"], longest=self._longest)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        features_BF, words_BT, _ = batch
        total, _ = self._loss(features_BF, words_BT)
        return total / len(words_BT)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._measure("val", batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._measure("test", batch)

    def on_validation_epoch_end(self) -> None:
        self._report("val")

    def on_test_epoch_end(self) -> None:
        self._report("test")

    def configure_optimizers(self) -> Optimizer:
        return self._optimizer(parameter_groups(self.net, 1.0, True))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["samples"] = self._samples

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._samples = dict(checkpoint["samples"])

    def _loss(self, features_BF: Tensor, words_BT: Tensor) -> tuple[Tensor, Tensor]:
        """(sum of the cross-entropies in nats, how many words), END included."""
        end_B1 = words_BT.new_full((len(words_BT), 1), PADDING)
        targets_BT = torch.cat([words_BT, end_B1], 1)
        lengths_B = (words_BT != PADDING).sum(1)
        targets_BT = targets_BT.scatter(1, lengths_B[:, None], END)
        scores_BTV = self.net(features_BF, words_BT)
        total = cross_entropy(
            scores_BTV.flatten(0, 1).float(), targets_BT.flatten(), ignore_index=PADDING, reduction="sum"
        )
        return total, lengths_B.sum() + len(words_BT)

    def _measure(self, stage: str, batch: Batch) -> None:
        features_BF, words_BRT, images_B = batch
        words_NT, features_NF = words_BRT.flatten(0, 1), features_BF.repeat_interleave(words_BRT.shape[1], 0)
        said = (words_NT != PADDING).any(1)  # an image may have fewer sentences than another
        if said.any():  # else no word of the batch is known
            total, count = self._loss(features_NF[said], words_NT[said])
            self._losses[stage].update(total / count, weight=count)  # type: ignore[operator]
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        found = decode(self.net, features_BF, beam=self._beam[stage], longest=self._longest)
        sentences = [data.vocabulary.words_of(numbers) for numbers in found]
        pictures = [data.picture(stage, index) for index in images_B.tolist()]
        self._bleu[stage].update(sentences, [picture.sentences for picture in pictures])  # type: ignore[operator]
        for index, picture, sentence in zip(images_B.tolist(), pictures, sentences, strict=True):
            if (stage == "test" or index < self._shown_images) and not self.trainer.sanity_checking:
                self._remember(stage, picture.name, picture.sentences, sentence)

    def _remember(self, stage: str, name: str, references: Sequence[Sequence[str]], sentence: Sequence[str]) -> None:
        new = {"image": name, "part": stage, "references": [" ".join(words) for words in references], "captions": {}}
        sample = self._samples.setdefault(f"{stage}/{name}", new)
        sample["captions"][str(self.trainer.global_step)] = " ".join(sentence)

    def _report(self, stage: str) -> None:
        loss = self._losses[stage].compute()  # type: ignore[operator]
        values = self._bleu[stage].compute() | {"loss": loss, "perplexity": loss.exp()}  # type: ignore[operator]
        for name, value in values.items():
            self.log(f"{stage}/{name}", value.float(), rank_zero_only=False, logger=own_logging(self.trainer))
        self._losses[stage].reset()  # type: ignore[operator]
        self._bleu[stage].reset()  # type: ignore[operator]
