"""The config of a command line, and the words there are for one."""

from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ValueType
from omegaconf import DictConfig, OmegaConf

CONF = Path(__file__).parents[2] / "conf"


def composed(*words: str) -> DictConfig:
    """The config of a command line, such as `experiment=dc_vgg16`, for who wants a run's parts without a run."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("config", list(words))


def vocabulary() -> tuple[list[str], dict[str, list[str]]]:
    """All keys of the default config, and all groups with their choices, also those of Hydra such as `hydra/launcher`."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = OmegaConf.to_container(hydra.compose("config"))
        loader = GlobalHydra.instance().config_loader()
        theirs = {f"hydra/{group}": loader.get_group_options(f"hydra/{group}") for group in loader.list_groups("hydra")}

    def keys(node: Any, path: str) -> list[str]:
        inside = node.items() if isinstance(node, dict) else ()
        return [name for key, value in inside for name in (f"{path}{key}", *keys(value, f"{path}{key}."))]

    ours = {
        f.name: sorted(one.stem for one in f.glob("*.yaml")) for f in CONF.iterdir() if f.is_dir() and f.name != "hydra"
    }
    return keys(cfg, ""), ours | theirs


def first_job(words: list[str]) -> list[str]:
    """A command line with the first value of every `key=a,b` or `key=range(3)` in it, and the rest as it is."""
    parser = OverridesParser.create()

    def first(word: str) -> str:
        if word.startswith("-") or "=" not in word:
            return word
        override = parser.parse_override(word)
        if not override.is_sweep_override() or override.value_type is ValueType.GLOB_CHOICE_SWEEP:
            return word
        return f"{override.get_key_element()}={next(override.sweep_string_iterator())}"

    return [first(word) for word in words]


def alone(hydra_cfg: Any) -> list[str]:
    """The command of this one job, whatever launched it."""
    folders = [source.path for source in hydra_cfg.runtime.config_sources if source.provider == "command-line"]
    where = [word for folder in folders for word in ("-cd", folder)]
    return [
        str(CONF.parent / "run.py"),
        *where,
        "-cn",
        hydra_cfg.job.config_name,
        *hydra_cfg.overrides.task,
        "hydra.mode=RUN",
    ]
