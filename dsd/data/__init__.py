"""Images for training and testing: in memory (`ImageData` with a source), or ImageNet's folders (`ImageNetData`)."""

from dsd.data.arrays import Arrays, ImageSet
from dsd.data.imagenet import ImageNetData
from dsd.data.memory import Batches, ImageData
from dsd.data.order import Order
from dsd.data.sources import Cifar10, Cifar100, Embedded, FashionMnist, Mnist

__all__ = [
    "Arrays",
    "Batches",
    "Cifar10",
    "Cifar100",
    "Embedded",
    "FashionMnist",
    "ImageData",
    "ImageNetData",
    "ImageSet",
    "Mnist",
    "Order",
]
