"""DSD: sparse training, studied honestly.

from dsd import DSD                      # a Lightning callback for anybody's Trainer
from dsd import Phases, dsd_phases       # the same for a hand-written loop
from dsd import load                     # a network from an archive: dense, sparse or as a codebook
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dsd.callbacks import DSD, PlanCallback
    from dsd.inference import load
    from dsd.phases import Phases, dsd_phases
    from dsd.plan import Phase, Plan
    from dsd.sparsity import Mask, Sparse

__version__ = "0.1.0"
__all__ = ["DSD", "Mask", "Phase", "Phases", "Plan", "PlanCallback", "Sparse", "dsd_phases", "load"]

_HOME = {
    "DSD": "dsd.callbacks",
    "PlanCallback": "dsd.callbacks",
    "Phases": "dsd.phases",
    "dsd_phases": "dsd.phases",
    "load": "dsd.inference",
    "Phase": "dsd.plan",
    "Plan": "dsd.plan",
    "Mask": "dsd.sparsity",
    "Sparse": "dsd.sparsity",
}


def __getattr__(name: str) -> Any:
    """Import on first use: `import dsd` alone costs nothing."""
    if name not in _HOME:
        raise AttributeError(f"module 'dsd' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
