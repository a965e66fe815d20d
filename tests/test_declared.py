"""A study takes the runs that its commands mean, and no others."""

import importlib
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from dsd.results import records
from dsd.results.origins import digest
from dsd.results.store import Store
from dsd.run.config import composed
from dsd.run.stages import stages
from experiments import smoke
from experiments.__main__ import NAMES, main
from experiments.declared import as_declared, in_other_words, strays
from tests.warm import call

HERE = Path(__file__).parents[1] / "experiments"
WORDS = ("experiment=dsd_lenet300_mnist", "profile=cpu", "method=dsd")


def config(*words: str, seed: int = 0) -> dict:
    *_, stage = stages(composed(*words, f"seed={seed}"))
    return OmegaConf.to_container(stage, resolve=True)


def test_a_run_of_another_rate_is_not_of_the_arm_though_its_words_are_true():
    as_declared(config(*WORDS), WORDS, 0, "run a")
    as_declared(config(*WORDS, "baseline_seed=0"), (*WORDS, "baseline_seed=${seed}"), 0, "run a")
    with pytest.raises(ValueError, match=r"run b is not as declared: data\.batch_size is 32, declared 64"):
        as_declared(config(*WORDS, "data.batch_size=32"), WORDS, 0, "run b")
    with pytest.raises(ValueError, match=r"run c .*trainer\.limit_train_batches is 1, declared without it"):
        as_declared(config(*WORDS, "+trainer.limit_train_batches=1"), WORDS, 0, "run c")
    other = strays(config(*WORDS, "recipe.sparse.rate.rate=0.5", "data.root=elsewhere", "track=none"), WORDS, 0)
    assert [(has, means) for has, means in other.values()] == [(0.5, 0.001)]


@pytest.mark.parametrize("word", ["profiles.quick.dens=1", "a=[", "profile=nonsense"])
def test_a_word_of_a_study_that_is_none_is_told_with_its_arm(word, tmp_path):
    wrong = replace(smoke.STUDIES[0], words=("experiment=dsd_lenet300_mnist", word))
    with pytest.raises(ValueError, match=r"the words of an arm, experiment=dsd_lenet300_mnist .*cfg job"):
        in_other_words(wrong, [], [], Store(tmp_path))


def first_records() -> list:
    """Of each arm of each study the first committed record, with the words that declare it."""
    found = []
    for name in NAMES:
        kept = records.read(HERE / name / "records.jsonl")
        for study in importlib.import_module(f"experiments.{name}").STUDIES:
            for arm in study.arms:
                own = [r for r in kept if (r["study"], r["arm"]) == (study.name, arm.name)]
                found += [pytest.param(r, study.words_of(arm), id=f"{study.name}-{arm.name}") for r in own[:1]]
    return found


@pytest.mark.parametrize(("record", "words"), first_records())
def test_a_committed_record_is_of_what_its_command_means_today(record, words):
    *_, declared = stages(composed(*words, f"seed={record['seed']}"))
    parts = tuple(f"{part}." for part in ("data", "model", "task", "optimizer", "method", "trainer"))
    means = {
        k: v for k, v in records.flat(OmegaConf.to_container(declared, resolve=True)).items() if k.startswith(parts)
    }
    assert len(means) > 35
    assert {key: record["config"][key] for key in means} == means


MASKED = {"dsd", "dsdsd", "random_mask", "prune_restore", "early_prune"}  # arms that every word is about
OTHER = {"true": False, "${seed}": 7, "bf16-mixed": "32-true", "0.5": 0.25} | {str(n): n + 1 for n in range(200)}


def test_every_value_in_an_arms_words_is_part_of_its_run(tmp_path):
    """One that changes nothing could keep a run from its arm for ever: its command would say that it is finished."""
    studies = [study for name in NAMES for study in importlib.import_module(f"experiments.{name}").STUDIES]
    idle, tried = set(), 0
    for words in {study.words_of(arm) for study in studies for arm in study.arms if arm.name not in MASKED}:
        cfg = composed(*words, f"runs={tmp_path}", "seed=0")
        means = counting(cfg)
        for key, value in (word.split("=") for word in words if word.partition("=")[2] in OTHER):
            before = OmegaConf.select(cfg, key)
            OmegaConf.update(cfg, key, OTHER[value])
            apart = len(list(stages(cfg))) == 2 if key == "baseline_seed" else counting(cfg) != means
            idle |= set() if apart else {(words, key)}
            tried += 1
            OmegaConf.update(cfg, key, before)
    assert tried > 40
    assert not idle


def counting(cfg) -> dict:
    return {part: OmegaConf.to_container(cfg[part], resolve=True) for part in ("data", "task", "method", "trainer")}


def test_a_run_asked_for_in_other_words_is_of_the_study(tmp_path, capsys):
    runs = tmp_path / "runs"
    code, said = call(
        "experiment=dsd_lenet300_mnist", "profile=quick", "method=dsd", "recipe.dense.epochs=2", "recipe.sparse.epochs=1",
        "recipe.redense.epochs=1", "baseline_seed=1", "seed=1", "track=none", "progress=false", f"runs={runs}",
    )  # fmt: skip
    assert code == 0, said
    other, said = call("experiment=dsd_lenet300_mnist", "profile=quick", "method=baseline", "recipe.dense.epochs=3", "seed=1",
                       "track=none", "progress=false", f"runs={runs}")  # fmt: skip
    assert other == 0, said
    assert main(["smoke", "--runs", str(runs), "--to", str(tmp_path / "smoke")]) == 1
    kept = records.read(tmp_path / "smoke" / "records.jsonl")
    assert [(one["arm"], one["seed"]) for one in kept] == [("baseline", 1), ("dsd", 1)]
    assert [one["final_sha256"] == digest(runs / one["run_id"] / "final.safetensors") for one in kept] == [True, True]
    assert kept[1]["config"]["init_sha256"] == kept[0]["final_sha256"]
    assert "method=dsd seed=0,2,3" in capsys.readouterr().out
