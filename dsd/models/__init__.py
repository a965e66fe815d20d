"""Networks: images (N, channels, H, W) of floats in, logits (N, num_classes) out; sequences say it in their own file.

They know no task, no method and no training numbers; `conf/model/*.yaml` says how each is built. In training mode a
network with auxiliary heads returns a tuple `(logits, auxiliary logits, ...)`, in evaluation mode its logits alone.
To add one, write an `nn.Module` and a YAML file with its `_target_`.
"""

from dsd.models.deepspeech import DeepSpeech1, DeepSpeech2
from dsd.models.lenet import LeNet5, LeNet300
from dsd.models.neuraltalk import NeuralTalk
from dsd.models.resnet_cifar import ResNetCifar
from dsd.models.timm_zoo import timm_model
from dsd.models.torchvision_zoo import torchvision_model

__all__ = [
    "DeepSpeech1",
    "DeepSpeech2",
    "LeNet5",
    "LeNet300",
    "NeuralTalk",
    "ResNetCifar",
    "timm_model",
    "torchvision_model",
]
