"""Small pruned networks with shared weights, and their archives."""

import json

import torch
from torch import nn

from dsd.compression import compress
from dsd.models import DeepSpeech1, LeNet5, LeNet300, NeuralTalk

LENET300 = {"num_classes": 10, "channels": 1, "side": 28, "hidden": [300, 100]}
LENET5 = {"num_classes": 10, "channels": 1, "side": 28, "widths": [20, 50, 500]}
TALK = {"features": 40, "vocabulary": 60, "encoding": 32, "hidden": 48, "dropout": 0.5, "tanh_cell": False}
SPEECH = {"bins": 20, "width": 64, "symbols": 29, "context": 5, "stride": 2, "dropout": 0.1}
NETWORKS = {
    "LeNet300": (LeNet300, LENET300),
    "LeNet5": (LeNet5, LENET5),
    "NeuralTalk": (NeuralTalk, TALK),
    "DeepSpeech1": (DeepSpeech1, SPEECH),
}


def shared_(net: nn.Module, *, kept: float = 0.1, values: int = 32, seed: int = 0) -> nn.Module:
    """Each weight takes few values, most of them 0."""
    random = torch.Generator().manual_seed(seed)
    for weight in (p.data for p in net.parameters() if p.ndim > 1):
        book = torch.randn(values, generator=random) / (kept * weight[0].numel()) ** 0.5
        index = torch.randint(0, values, weight.shape, generator=random)
        weight.copy_(book[index] * (torch.rand(weight.shape, generator=random) < kept))
    return net.eval()


def packed(name: str, *, kept: float = 0.1) -> tuple[nn.Module, bytes]:
    """A pruned network and its archive."""
    make, arguments = NETWORKS[name]
    net = shared_(make(**arguments), kept=kept)
    model = json.dumps({"_target_": f"dsd.models.{name}", **arguments})
    return net, compress(net.state_dict(), meta={"model": model}).data


def example(name: str, batch: int = 3) -> tuple[torch.Tensor, ...]:
    """What the network takes."""
    random = torch.Generator().manual_seed(1)
    if name == "NeuralTalk":
        words = torch.randint(0, 60, (batch, 7), generator=random)
        return torch.rand(batch, 40, generator=random), words
    if name == "DeepSpeech1":
        lengths = torch.tensor([30, 17, 25])[:batch]
        return torch.rand(batch, 30, 20, generator=random), lengths
    return (torch.rand(batch, 1, 28, 28, generator=random),)
