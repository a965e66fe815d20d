"""Compressed networks at work: loaded from an archive in three forms, timed beside their peers, and their energy modelled."""

from dsd.inference.loading import Part, convert_, load
from dsd.inference.matrices import Coded, Looked, Rows, resident

__all__ = ["Coded", "Looked", "Part", "Rows", "convert_", "load", "resident"]
