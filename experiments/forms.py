"""Trained archives at work: each in the three forms of the runtime, on its run's own test set.

    python -m experiments.forms RUNS [RUNS ...]   tests every finished run of these folders that left a model.dsd
    python -m experiments.forms                   writes the report again from the results that are there

Test data are found as the run found them (DSD_DATA). All three forms are tested in float32 whatever the run was trained in, so
its own record, beside them, may differ by the rounding of bfloat16. Writes experiments/forms/results.json and report.md.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.utils import instantiate
from omegaconf import OmegaConf

from dsd.console import hush
from dsd.inference import load, resident
from dsd.inference.layers import FORMS
from dsd.results.store import RunFolder, Store, atomic_write

FOLDER = Path(__file__).parent / "forms"
MAIN = {"test/error1": "test error %", "test/wer": "WER %", "test/bleu4": "BLEU-4"}  # the first that a run has is shown


def measured(folder: RunFolder) -> dict[str, Any]:
    """Test metrics and resident bytes of a run's archive in each form, beside the run's own record."""
    hush()
    cfg, result, path = OmegaConf.load(folder.config), folder.read_result(), folder.path / "model.dsd"
    data = instantiate(cfg.data)
    data.prepare_data()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    forms: dict[str, Any] = {}
    for form in FORMS:
        net = load(path, form=form)
        trainer = pl.Trainer(accelerator="cpu", enable_checkpointing=False, inference_mode=True, **quiet)  # type: ignore[arg-type]
        trainer.test(instantiate(cfg.task)(net, instantiate(cfg.optimizer)), datamodule=data, verbose=False)
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("test/")}
        forms[form] = {"metrics": metrics, "resident": resident(net)}
    return {
        "run": folder.run_id, "name": result["name"], "method": result["method"], "seed": result["seed"],
        "bytes": path.stat().st_size, "recorded": result["metrics"]["test"], "forms": forms,
    }  # fmt: skip


def same(row: Mapping[str, Any]) -> bool:
    """True if all forms have every metric of decisions (errors, WER, CER, BLEU) in common to the last digit."""
    found = [
        {k: v for k, v in one["metrics"].items() if not k.endswith(("loss", "perplexity"))}
        for one in row["forms"].values()
    ]
    return all(one == found[0] for one in found)


def table(rows: Iterable[Mapping[str, Any]]) -> str:
    """A row an experiment and method: seeds, file, resident bytes and the metric in each form."""
    groups = defaultdict(list)
    for row in rows:
        groups[row["name"], row["method"]].append(row)
    lines = [
        "| experiment, method | seeds | file | resident: dense | sparse | codebook | metric | recorded | dense | sparse | codebook |",
        "|---|---|---:|---:|---:|---:|---|---:|---:|---:|---:|",
    ]
    for (name, method), group in groups.items():
        metric = next(key for key in MAIN if key in group[0]["recorded"])
        held = [f"{_mean(r['forms'][f]['resident'] for r in group) / 1e3:,.0f} KB" for f in FORMS]
        reached = [f"{_mean(r['forms'][f]['metrics'][metric] for r in group):.2f}" for f in FORMS]
        size, before = _mean(r["bytes"] for r in group) / 1e3, _mean(r["recorded"][metric] for r in group)
        seeds = ", ".join(str(s) for s in sorted(r["seed"] for r in group))
        lines.append(
            f"| `{name}`, `{method}` | {seeds} | {size:,.1f} KB | {' | '.join(held)} | {MAIN[metric]} | {before:.2f} | {' | '.join(reached)} |"
        )
    return "\n".join(lines)


def report(rows: list[dict[str, Any]]) -> str:
    """The table in Markdown and which archives are not the same in all forms."""
    unlike = [f"{row['name']} seed {row['seed']}" for row in rows if not same(row)]
    said = (
        f"Of {len(rows)} archives, all have the same test metrics to the last digit in all three forms (loss and perplexity apart, which rounding moves)."
        if not unlike
        else f"Of {len(rows)} archives, {len(rows) - len(unlike)} have the same test metrics to the last digit in all three forms; "
        f"not the same, by rounding: {', '.join(unlike)} (results.json has every digit)."
    )
    return "\n".join([
        "# Trained archives in three forms", "",
        "`python -m experiments.forms RUNS`: `dsd.load(\"model.dsd\", form=...)`, then the run's own test, in float32. `recorded` is what the run",
        "itself reached with its trained network, in the precision it was trained in. Means over the seeds.", "", said, "", table(rows), "",
    ])  # fmt: skip


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


def main(words: list[str]) -> int:
    """The exit code."""
    path = FOLDER / "results.json"
    rows: dict[str, Any] = {row["run"]: row for row in (json.loads(path.read_text()) if path.exists() else [])}
    for root in words:
        store = Store(Path(root))
        folders = [store.run(result["run_id"]) for result in store.results()]
        archived = [folder for folder in folders if (folder.path / "model.dsd").exists()]
        if not archived:
            print(
                f"no finished run with a model.dsd in {root}: give the folder that run.py wrote (runs=)",
                file=sys.stderr,
            )
            return 2
        for folder in archived:
            rows[folder.run_id] = row = measured(folder)
            ends = {form: one["metrics"] for form, one in row["forms"].items()}
            print(f"{row['name']} {row['method']} seed {row['seed']}: {'same' if same(row) else ends}", flush=True)
            atomic_write(path, json.dumps(sorted(rows.values(), key=_order), indent=1) + "\n")
    if not rows:
        print("no finished run with a model.dsd in these folders: give those that run.py wrote", file=sys.stderr)
        return 2
    atomic_write(FOLDER / "report.md", report(sorted(rows.values(), key=_order)))
    print(f"report: {FOLDER / 'report.md'}")
    return 0


def _order(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["name"], row["method"], row["seed"], row["run"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
