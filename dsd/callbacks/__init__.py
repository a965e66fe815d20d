"""Lightning callbacks: phases (DSD and every other plan), checkpoints, history, progress."""

from dsd.callbacks.phases import DSD, PlanCallback

__all__ = ["DSD", "PlanCallback"]
