"""The parts of `run.py`: the config, the runs it makes, their training, and the scan of a trained network.

The one room that knows Hydra, Lightning and all the others. Whatever is imported of it, the formulas that the files of
`conf` use (`${plus:1,2}`) are known: a launcher's other processes resolve them too.
"""

from collections.abc import Callable
from typing import Any

from omegaconf import OmegaConf

from dsd.processes import share

FORMULAS: dict[str, Callable[..., Any]] = {
    "plus": lambda *terms: sum(terms),
    "minus": lambda a, b: a - b,
    "times": lambda a, b: a * b,
    "share": share,
}
for name, formula in FORMULAS.items():
    OmegaConf.register_new_resolver(name, formula, replace=True)
