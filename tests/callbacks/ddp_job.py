"""What each of two processes runs in test_ddp.py: DSD under DistributedDataParallel on CPU."""

import sys
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from dsd import DSD
from dsd.sparsity import criteria


class Net(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))

    def training_step(self, batch, batch_idx):
        x, y = batch
        return nn.functional.cross_entropy(self.net(x), y)

    def train_dataloader(self):
        x = torch.randn(320, 6, generator=torch.Generator().manual_seed(1))
        return DataLoader(TensorDataset(x, (x[:, :3] + x[:, 3:]).argmax(1)), batch_size=16)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)


class Keep(Callback):
    """What this rank saw: zeros after every update, the mask, and the weights at the end."""

    def __init__(self, dsd: DSD, name: str) -> None:
        self.dsd, self.name, self.zeros, self.mask = dsd, name, [], {}

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.zeros.append(int((pl_module.net[0].weight == 0).sum()))
        if self.dsd.active.held is not None:
            self.mask = {name: keep.clone() for name, keep in self.dsd.active.held.mask.items()}

    def on_fit_end(self, trainer, pl_module):
        seen = {"zeros": self.zeros, "mask": self.mask, "weights": pl_module.state_dict()}
        torch.save(seen, Path(sys.argv[1]) / f"{self.name}-rank{trainer.global_rank}.pt")


if __name__ == "__main__":
    for name, how in {"magnitude": criteria.magnitude, "random": criteria.random, "taylor": criteria.Taylor()}.items():
        callback = DSD(0.5, (1, 1, 1), criterion=how, observe=4)
        pl.Trainer(
            max_epochs=3, accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, callbacks=[callback, Keep(callback, name)],
        ).fit(Net())  # fmt: skip
