"""The README's examples run as they stand, and its commands are the ones CI calls."""

import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_there_are_two_examples():
    assert len(EXAMPLES) == 2


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*smaller than the logging interval.*")
@pytest.mark.parametrize("number", [0, 1])
def test_examples(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scope = {"__name__": "example"}
    exec(compile(EXAMPLES[number], f"README example {number}", "exec"), scope)
    phases = scope["phases"] if number else scope["trainer"].callbacks[0].active
    assert phases.finished
    assert phases.phase.name == "redense"
    assert phases.held is None
    assert all(bool(torch.isfinite(p).all()) for p in phases.module.parameters())


def test_the_two_commands_come_first():
    first, second = re.findall(r"```\n(.*?)\n(.*?)\n```", README)[0]
    assert first == "python -m pip install -e . && python run.py experiment=dsd_resnet18"
    assert second == "python -m pip install -e '.[test]' && python -m pytest"
    assert "python -m pytest" in (ROOT / ".ci" / "run").read_text()


def test_every_choice_that_it_names_exists():
    for group in ("experiment", "profile", "method", "trainer", "criterion", "granularity"):
        for name in re.findall(rf"\b{group}=(\w+)", README):
            assert (ROOT / "conf" / group / f"{name}.yaml").exists(), f"{group}={name}"
