"""Image classification: cross-entropy (auxiliary heads counted), top-1 and top-5 error in %."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from dsd.callbacks.history import own_logging


class Classification(pl.LightningModule):
    """Trains `net`: images (N, C, H, W) -> logits (N, classes), or (logits, auxiliary logits...) while training.

    `optimizer` makes the optimizer from parameter groups; the plan sets its rate. `aux_weight` is the share of each
    auxiliary head's loss. Biases and norms take `bias_rate` times the rate, and no weight decay unless `bias_decay`
    (Caffe's nets: 2 and False; fb.resnet.torch: 1 and True). Logs val/ and test/ `error1`, `error5` (in %) and `loss`.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: Callable[[Iterable[dict[str, Any]]], Optimizer],
        *,
        num_classes: int,
        aux_weight: float = 0.0,
        label_smoothing: float = 0.0,
        bias_rate: float = 1.0,
        bias_decay: bool = True,
        channels_last: bool = False,
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.net = net.to(memory_format=torch.channels_last) if channels_last else net
        self._optimizer = optimizer
        self._aux_weight = aux_weight
        self._label_smoothing = label_smoothing
        self._bias_rate = bias_rate
        self._bias_decay = bias_decay
        self._channels_last = channels_last
        # Evaluation stays uncompiled: its last batch has another size. The list keeps the twin out of state_dict.
        self._training_net = [torch.compile(self.net) if compile else self.net]
        errors = {
            f"error{k}": MulticlassAccuracy(num_classes, top_k=k, average="micro") for k in (1, 5) if k < num_classes
        }
        self._metrics = nn.ModuleDict(
            {stage: MetricCollection({**errors, "loss": MeanMetric()}).clone() for stage in ("val", "test")}
        )

    @property
    def network(self) -> nn.Module:
        """What the plan prunes and the run keeps."""
        return self.net

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes); call it in eval mode."""
        return self.net(self._laid_out(images))  # type: ignore[no-any-return]

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        output = self._training_net[0](self._laid_out(images))
        logits, *heads = output if isinstance(output, tuple) else (output,)
        loss = self._loss(logits, labels)
        for head in heads:
            loss = loss + self._aux_weight * self._loss(head, labels)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._measure("val", batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._measure("test", batch)

    def on_validation_epoch_end(self) -> None:
        self._report("val")

    def on_test_epoch_end(self) -> None:
        self._report("test")

    def configure_optimizers(self) -> Optimizer:
        return self._optimizer(parameter_groups(self.net, self._bias_rate, self._bias_decay))

    def _laid_out(self, images: Tensor) -> Tensor:
        return images.to(memory_format=torch.channels_last) if self._channels_last else images

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(logits, labels, label_smoothing=self._label_smoothing)

    def _measure(self, stage: str, batch: tuple[Tensor, Tensor]) -> None:
        images, labels = batch
        logits = self(images).float()
        for name, metric in self._metrics[stage].items():  # type: ignore[operator]
            if name == "loss":
                metric.update(cross_entropy(logits, labels), weight=len(labels))
            else:
                metric.update(logits, labels)

    def _report(self, stage: str) -> None:
        values = self._metrics[stage].compute()  # type: ignore[operator]
        for name, value in values.items():
            shown = value if name == "loss" else 100 * (1 - value.double())
            self.log(f"{stage}/{name}", shown, rank_zero_only=False, logger=own_logging(self.trainer))
        self._metrics[stage].reset()  # type: ignore[operator]


def parameter_groups(net: nn.Module, bias_rate: float, bias_decay: bool) -> list[dict[str, Any]]:
    """Weights in one group; biases and norms in a second, if their rate or decay differs."""
    parameters = [p for p in net.parameters() if p.requires_grad]
    if bias_rate == 1 and bias_decay:
        return [{"params": parameters}]
    rest: dict[str, Any] = {"params": [p for p in parameters if p.dim() <= 1], "lr_scale": bias_rate}
    if not bias_decay:
        rest["weight_decay"] = 0.0
    return [{"params": [p for p in parameters if p.dim() > 1]}, rest]
