"""The config of a command line, and the words there are for one."""

from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

CONF = Path(__file__).parents[2] / "conf"


def composed(*words: str) -> DictConfig:
    """The config of a command line, such as `experiment=dc_vgg16`, for who wants a run's parts without a run."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("config", list(words))


def vocabulary() -> tuple[list[str], dict[str, list[str]]]:
    """All keys of the default config, and all groups with their choices."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = OmegaConf.to_container(hydra.compose("config"))

    def keys(node: Any, path: str) -> list[str]:
        inside = node.items() if isinstance(node, dict) else ()
        return [name for key, value in inside for name in (f"{path}{key}", *keys(value, f"{path}{key}."))]

    groups = {
        folder.name: sorted(f.stem for f in folder.glob("*.yaml")) for folder in CONF.iterdir() if folder.is_dir()
    }
    return keys(cfg, ""), groups
