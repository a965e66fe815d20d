"""What is learned, and how it is measured."""

from dsd.tasks.beam_search import BeamSearch
from dsd.tasks.captioning import Captioning
from dsd.tasks.classification import Classification
from dsd.tasks.speech import Speech

__all__ = ["BeamSearch", "Captioning", "Classification", "Speech"]
