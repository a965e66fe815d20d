"""What is learned, and how it is measured."""

from dsd.tasks.captioning import Captioning
from dsd.tasks.classification import Classification

__all__ = ["Captioning", "Classification"]
