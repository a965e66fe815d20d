"""The sweeps that are kept in files: they compose, share what they should, and W&B's hand run.py words it understands."""

import importlib
import itertools
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate
from omegaconf import OmegaConf

from dsd.plan import flat
from dsd.results.members import belongs
from dsd.run.stages import place, stages

ROOT = Path(__file__).parents[1]
KEPT = sorted(path.stem for path in (ROOT / "sweeps").glob("*.yaml"))
WANDB = sorted(path.stem for path in (ROOT / "sweeps/wandb").glob("*.yaml"))


def kept(name: str, *words: str):
    """A sweep of ours: its primary config lies in `sweeps`, the rest in `conf`."""
    with initialize_config_dir(str(ROOT / "sweeps"), version_base="1.3"):
        return compose(name, [f"hydra.searchpath=[file://{ROOT / 'conf'}]", *words], return_hydra_config=True)


def jobs(cfg) -> list[list[str]]:
    words = [f"{key}={value}" for key, value in cfg.hydra.sweeper.params.items()]
    (batch,) = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(words), None)
    return batch


def seed_of(every: list[list[str]]) -> str:
    """One of a sweep's seeds, the same in all its arms."""
    return sorted({word for job in every for word in job if word.startswith("seed=")})[2]


def test_every_sweep_is_tested():
    assert KEPT == [
        "lenet300",
        "lenet300_momentum",
        "lenet300_restart",
        "lenet300_sparsity",
        "lenet5",
        "smoke",
        "table4",
        "table5",
        "table6",
        "table7",
        "table7_paired",
        "training_time",
    ]


@pytest.mark.parametrize("name", KEPT)
def test_a_sweep_composes_for_every_arm(name):
    cfg = kept(name)
    assert cfg.hydra.mode.name == "MULTIRUN"
    words = jobs(cfg)
    assert len(words) == len({tuple(w) for w in words})
    groups = {}  # what varies beside the seed, by W&B's name of it
    for job in [w for w in words if seed_of(words) in w]:
        one = kept(name, *job)
        assert flat(instantiate(one.method.phases, _convert_="all"))
        groups.setdefault((one.study, one.method.name), []).append(job)
    assert {len(alike) for alike in groups.values()} == {1}, "a group's mean is of one experiment"


def test_no_two_sweeps_share_their_groups():
    studies = [kept(name).study for name in KEPT]
    assert sorted(set(studies)) == sorted(studies)


@pytest.mark.parametrize(
    ("sweep", "module"),
    [("table7", "table7"), ("table7_paired", "table7"), ("lenet300", "mnist"), ("lenet300_momentum", "mnist"),
     ("lenet300_restart", "mnist"), ("lenet300_sparsity", "mnist"), ("lenet5", "mnist"), ("smoke", "smoke"), ("table4", "table4"),
     ("table5", "table5"), ("table6", "table6"), ("training_time", "training_time")],
)  # fmt: skip
def test_every_job_of_a_sweep_is_an_arm_of_its_study(sweep, module):
    studies = importlib.import_module(f"experiments.{module}").STUDIES
    found = set()
    every = jobs(kept(sweep))
    for job in [words for words in every if seed_of(every) in words]:
        cfg = kept(sweep, *job)
        config = OmegaConf.to_container(cfg, resolve=False)
        config.pop("hydra")
        config = OmegaConf.to_container(OmegaConf.create(config), resolve=True) | {
            "choices": {group: name for group, name in cfg.hydra.runtime.choices.items() if "hydra" not in group}
        }
        arms = [
            (study.name, arm.name)
            for study in studies
            for arm in study.arms
            if belongs(config, study.words_of(arm), config["seed"]) and config["seed"] in study.seeds_of(arm)
        ]
        assert len({arm for _, arm in arms}) == 1, (job, arms)
        apart = {
            study.words for study in studies if study.name in dict(arms)
        }  # the same runs may be read by two metrics
        assert len(apart) == 1 or arms[0][1] in ("finetune", "baseline"), f"{job} is in two studies: {arms}"
        found.update(arms)
    assert found


def test_the_shared_phase_is_the_baselines_own_run(tmp_path):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        shared = ["experiment=dsd_lenet300_mnist", f"runs={tmp_path}", "baseline_seed=4", "seed=9"]
        first, rest = stages(compose("config", [*shared, "method=dsd"]))
        (alone,) = stages(compose("config", [*shared[:2], "method=baseline", "seed=4"]))
        swa = list(stages(compose("config", [*shared, "method=swa"])))[1]
        whole = [
            len(list(stages(compose("config", [*shared, f"method={m}"]))))
            for m in ("dense", "sparse_scratch", "early_prune", "baseline")
        ]
    placed = [place(cfg)[0].run_id for cfg in (first, alone)]
    assert placed[0] == placed[1] == rest.init_from
    assert [p.name for p in rest.method.phases] == ["sparse", "redense"]
    assert (first.seed, rest.seed) == (4, 9)
    assert swa.method.callbacks[0].start == 0, "averaging begins with the run"
    assert whole == [1, 1, 1, 1], "arms that don't begin with the base schedule are whole runs"


def test_momentum_cannot_cross_into_a_run_that_starts_from_weights(tmp_path):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("config", [f"runs={tmp_path}", "baseline_seed=0", "recipe.reset_optimizer=false"])
        nested = compose(
            "config", [f"runs={tmp_path}", "baseline_seed=0", "recipe.reset_optimizer=false", "method=dsdsd"]
        )
    for each in (cfg, nested):
        with pytest.raises(ValueError, match="reset_optimizer=true"):
            list(stages(each))


def choices(key: str, parameter: dict, end: int) -> list:
    """The values a parameter of a W&B sweep can take; of seeds and of a range, which compose all alike, the first or the last."""
    values = parameter["values"] if "values" in parameter else [parameter["min"], parameter["max"]]
    return [values[end]] if key == "seed" or "values" not in parameter else values


@pytest.mark.parametrize("name", WANDB)
def test_wandbs_sweeps_compose_for_every_combination(name):
    sweep = yaml.safe_load((ROOT / f"sweeps/wandb/{name}.yaml").read_text())
    assert (ROOT / sweep["program"]).is_file()
    fixed = [word for word in sweep["command"] if not word.startswith("${")]
    assert sweep["command"][-1] == "${args_no_hyphens}", "Hydra's words have no hyphens"
    names = list(sweep["parameters"])
    each = [[choices(key, sweep["parameters"][key], end) for key in names] for end in (0, -1)]
    combinations = {one for ways in each for one in itertools.product(*ways)}
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        for values in combinations:
            words = [f"{key}={value}" for key, value in zip(names, values, strict=True)]
            cfg = compose("config", [*fixed, *words])
            OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
            assert flat(instantiate(cfg.method.phases, _convert_="all"))
    assert len(combinations) > 8
