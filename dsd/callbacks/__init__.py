"""Lightning callbacks: phases (DSD and every other plan), checkpoints, history, progress."""

from dsd.callbacks.averaging import Swa
from dsd.callbacks.checkpoint import LastCheckpoint
from dsd.callbacks.distributions import Distributions
from dsd.callbacks.history import History
from dsd.callbacks.keep import PhaseWeights
from dsd.callbacks.phases import DSD, PlanCallback
from dsd.callbacks.progress import PhaseProgress
from dsd.callbacks.seeds import Seeds

__all__ = [
    "DSD", "Distributions", "History", "LastCheckpoint", "PhaseProgress", "PhaseWeights", "PlanCallback", "Seeds", "Swa",
]  # fmt: skip
