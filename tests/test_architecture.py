"""Which way the arrows point: rooms import only what is below them."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "dsd"
FILES = sorted(ROOT.rglob("*.py"))
LEVEL0 = {"plan", "schedules", "sparsity", "quantization", "coding", "models", "data", "results"}
LIGHTNING = ("tasks", "callbacks", "data", "results/tracking.py", "run/")


def imports(path: Path) -> set[str]:
    nodes = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, (ast.Import, ast.ImportFrom))]
    return {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names} | {
        n.module or "" for n in nodes if isinstance(n, ast.ImportFrom)
    }


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows(path):
    name = str(path.relative_to(ROOT))
    room = name.split("/")[0].removesuffix(".py")
    used = imports(path)
    rooms = (
        {m.split(".")[1] for m in used if m.startswith("dsd.")} - {room} - ({"schedules"} if room == "plan" else set())
    )
    packages = {m.split(".")[0] for m in used}
    assert "run" not in rooms, f"{name}: nothing below imports the parts of run.py"
    assert not (room in LEVEL0 and rooms), f"{name} is level 0 and imports {rooms}"
    assert room in ("tasks", "callbacks", "__init__", "run") or not rooms & {"tasks", "callbacks"}, name
    assert room == "run" or name == "sweep.py" or not packages & {"hydra"}, (
        f"{name}: only run.py, its parts and Hydra's own hook"
    )
    assert name.startswith(LIGHTNING) or not packages & {"pytorch_lightning", "lightning"}, name
    assert name not in ("plan.py", "schedules.py") or "torch" not in packages
    assert not name.startswith("results/") or name == "results/tracking.py" or not packages & {"torch"}, name


def test_files_are_nouns_of_at_most_250_lines():
    long = {str(p.relative_to(ROOT)): n for p in FILES if (n := len(p.read_text().splitlines())) > 250}
    assert not long
