"""What is learned, and how it is measured."""

from dsd.tasks.captioning import Captioning
from dsd.tasks.classification import Classification
from dsd.tasks.speech import Speech

__all__ = ["Captioning", "Classification", "Speech"]
