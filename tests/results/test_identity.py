"""A run id names what can change the numbers of a run, and nothing else."""

import copy
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsd.results.identity import IGNORED, run_id

SAMPLE: dict[str, Any] = {
    "seed": 0,
    "init_from": None,
    "model": {"_target_": "dsd.models.lenet.LeNet5", "classes": 10, "root": "kept"},
    "data": {"_target_": "dsd.data.embedded.Embedded", "batch_size": 64, "sizes": [1000, 200]},
    "task": {"label_smoothing": 0.1},
    "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 0.9, "nesterov": False},
    "phases": [
        {"name": "dense", "epochs": 2, "constraint": {"kind": "dense"}},
        {"name": "sparse", "epochs": 1.25, "constraint": {"kind": "sparse", "density": 0.5}},
    ],
    "method": {"callbacks": []},
    "trainer": {
        "precision": "32-true",
        "accumulate_grad_batches": 1,
        "gradient_clip_val": None,
        "gradient_clip_algorithm": "norm",
        "deterministic": True,
        "channels_last": False,
        "compile": False,
        "devices": 1,
        "num_nodes": 1,
        "strategy": "auto",
    },
}


def changed(path: str, value: object) -> dict[str, Any]:
    """SAMPLE with the value at a dotted path (list items by number) replaced or added."""
    config: Any = copy.deepcopy(SAMPLE)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    node = config
    for part in parents:
        node = node[part]
    node[last] = value
    return config  # type: ignore[no-any-return]


def leaves(value: object, path: str = "") -> list[str]:
    items = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) and value else None
    )
    return (
        [path] if items is None else [leaf for key, item in items for leaf in leaves(item, f"{path}.{key}".strip("."))]
    )


def test_the_id_is_pinned() -> None:
    """A change of this id makes every finished run run again: never change it without a reason worth that."""
    assert run_id(SAMPLE) == "43bc6b2afc06"


@pytest.mark.parametrize("path", IGNORED)
@pytest.mark.parametrize("value", ["anything", {"a": {"b": 1}}, None])
def test_ignored_keys_do_not_count(path: str, value: object) -> None:
    assert run_id(changed(path, value)) == run_id(SAMPLE)


@pytest.mark.parametrize("path", leaves(SAMPLE))
def test_every_other_key_counts(path: str) -> None:
    assert run_id(changed(path, "something else")) != run_id(SAMPLE)


@pytest.mark.parametrize(
    "path",
    ["new", "data.new", "trainer.new", "model.num_workers", "model.name", "phases.0.name", "data.root2", "data.x"],
)
def test_unknown_keys_and_same_names_elsewhere_count(path: str) -> None:
    assert run_id(changed(path, {"root": "r"})) != run_id(SAMPLE)


def test_a_key_with_a_dot_is_not_a_path() -> None:
    assert run_id({**SAMPLE, "data.root": "x"}) != run_id(SAMPLE)


def test_the_order_of_a_list_counts() -> None:
    assert run_id(changed("phases", SAMPLE["phases"][::-1])) != run_id(SAMPLE)


def test_none_is_not_absent() -> None:
    assert run_id(changed("new", None)) != run_id(SAMPLE)


@pytest.mark.parametrize(("one", "other"), [(1, 1.0), (1e0, 1), (100, 1e2), (0.0, -0.0), (0.1, 1e-1), ((1, 2), [1, 2])])
def test_numbers_count_by_value(one: object, other: object) -> None:
    assert run_id({"x": one}) == run_id({"x": other})


@pytest.mark.parametrize(("one", "other"), [(1, True), (1, "1"), (0, None), (0.1, 0.1000001), (0, False), ([], {})])
def test_different_values_differ(one: object, other: object) -> None:
    assert run_id({"x": one}) != run_id({"x": other})


@pytest.mark.parametrize("key", ["limit_train_batches", "limit_val_batches", "overfit_batches"])
def test_a_batch_is_not_all_of_them(key: str) -> None:
    assert run_id({"trainer": {key: 1}}) != run_id({"trainer": {key: 1.0}})
    assert run_id({"trainer": {key: 0.5}}) == run_id({"trainer": {key: 0.50}})
    assert run_id({"data": {key: 1}}) == run_id({"data": {key: 1.0}})


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def shuffled(value: Any, generator: random.Random) -> Any:
    if isinstance(value, dict):
        keys = list(value)
        generator.shuffle(keys)
        return {key: shuffled(value[key], generator) for key in keys}
    return [shuffled(item, generator) for item in value] if isinstance(value, list) else value


@given(config=st.dictionaries(st.text(max_size=5), plain, max_size=5), generator=st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_count(config: dict[str, Any], generator: random.Random) -> None:
    identity = run_id(config)
    assert run_id(shuffled(config, generator)) == identity
    assert len(identity) == 12
    assert set(identity) <= set("0123456789abcdef")


@pytest.mark.parametrize("value", [Path("x"), {1, 2}, b"x", object()])
def test_an_unresolved_value_is_named(value: object) -> None:
    with pytest.raises(TypeError, match=r"phases\.1\.constraint\.density"):
        run_id(changed("phases.1.constraint.density", value))


def test_a_key_that_is_no_string_is_named() -> None:
    with pytest.raises(TypeError, match=r"key \(1, 2\) in model"):
        run_id({"model": {(1, 2): 3}})
