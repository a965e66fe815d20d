"""Training, validation and test sets: images (`ImageData`, `ImageNetData`) and captioned pictures (`CaptionData`),
speech (`SpeechData`)."""

from dsd.data.arrays import Arrays, ImageSet
from dsd.data.captioned import CaptionData
from dsd.data.captions import Flickr8k, Karpathy, Scenes
from dsd.data.features import EfficientNetLite0, Pixels, Precomputed, Timm, Torchvision
from dsd.data.imagenet import ImageNetData
from dsd.data.ldc import Ldc
from dsd.data.memory import Batches, ImageData
from dsd.data.order import Order
from dsd.data.sources import Cifar10, Cifar100, Embedded, FashionMnist, Mnist
from dsd.data.speech import SpeechData
from dsd.data.utterances import Kaldi, LibriSpeech, Manifest, Synthesised

__all__ = [
    "Arrays",
    "Batches",
    "CaptionData",
    "Cifar10",
    "Cifar100",
    "EfficientNetLite0",
    "Embedded",
    "FashionMnist",
    "Flickr8k",
    "ImageData",
    "ImageNetData",
    "ImageSet",
    "Kaldi",
    "Karpathy",
    "Ldc",
    "LibriSpeech",
    "Manifest",
    "Mnist",
    "Order",
    "Pixels",
    "Precomputed",
    "Scenes",
    "SpeechData",
    "Synthesised",
    "Timm",
    "Torchvision",
]
