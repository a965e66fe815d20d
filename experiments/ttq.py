"""Trained ternary quantization of ResNet-20 on CIFAR-10, one short run: `python -m experiments.ttq RUN` reads it, never trains.

The run: `python run.py experiment=ttq_resnet20_cifar10 profile=cpu task.compile=true`, 16 epochs dense and 16 ternary in place of 164 and 400. RUN
is its folder; without one the report is written again from experiments/ttq/result.json and ledger.txt. One seed: it says that
the method works, and what the file has in it, not how it compares with the published 8.87 %.
"""

import json
import sys
from pathlib import Path

from dsd.compression import read_ledger
from dsd.results.records import flat
from dsd.results.store import RunFolder, atomic_write
from dsd.results.table import as_text
from experiments.declared import as_declared

HERE = Path(__file__).parent / "ttq"
WORDS = ("experiment=ttq_resnet20_cifar10", "profile=cpu", "task.compile=true")


def taken(folder: RunFolder) -> None:
    """The run's result and its archive's ledger are in experiments/ttq. ValueError for another run, or an unfinished one."""
    result = folder.read_result()
    as_declared(result["config"], WORDS, result["seed"], f"run {folder.run_id}")
    kept = result | {"config": flat(result["config"])}  # without the folders of a machine
    atomic_write(HERE / "result.json", json.dumps(kept, indent=1) + "\n")
    atomic_write(HERE / "ledger.txt", read_ledger(folder.path / "model.dsd").as_text() + "\n")


def report() -> str:
    """The run's table, the layers, and what is published, as Markdown."""
    result = json.loads((HERE / "result.json").read_text())
    dense, ternary = result["metrics"]["phases"]
    off = ternary["metrics"]["val/error1"] - dense["metrics"]["val/error1"]
    return "\n".join([
        "# Trained ternary quantization: ResNet-20 on CIFAR-10", "", *(__doc__ or "").strip().splitlines()[2:], "",
        f"After {ternary['epochs']:g} ternary epochs the error on 5,000 images held out is {off:+.2f} points beside the dense network's after "
        f"{dense['epochs']:g}; published {8.87 - 8.23:+.2f}, with 400 more epochs and a restart of the rate at 0.1.", "",
        "```", as_text(result), "```", "", "The file, `model.dsd`:", "", "```", (HERE / "ledger.txt").read_text().rstrip(), "```", "",
        f"Run {result['run_id']}, seed {result['seed']}, {result['config']['trainer.precision']}, {result['restarts']} restarts, "
        f"{result['seconds'] / 60:.0f} min; torch {result['versions']['torch']}, {result['hardware']['cpu']}.", "",
    ])  # fmt: skip


def main(words: list[str]) -> None:
    try:
        if words:
            taken(RunFolder(Path(words[0])))
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from None
    atomic_write(HERE / "report.md", report())
    print(report())


if __name__ == "__main__":
    main(sys.argv[1:])
