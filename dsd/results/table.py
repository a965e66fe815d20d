"""The table printed at the end of a run: one row a phase, beside the published numbers when they are comparable.

`published`, in a result, is what the paper reports:

    {source: "Han et al., ICLR 2017, Table 4", data: ImageNet, metric: "top-1 error %",
     rows: [{phase: dense, top1: 30.43, top5: 10.76, sparsity: 0, epochs: 90, rate: 0.1}, ...]}

It stands in the table only when the run used the paper profile, with the published data, sparsity and lengths where these are known
and no control's method; otherwise a sentence says that it is not comparable, and why.
"""

import io
import math
from collections.abc import Iterable, Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from dsd.results.schema import Result

_LABELS = {
    "error1": "top-1 error %", "error5": "top-5 error %", "wer": "WER %", "cer": "CER %",
    "bleu": "BLEU", "bleu1": "BLEU-1", "bleu2": "BLEU-2", "bleu3": "BLEU-3", "bleu4": "BLEU-4", "perplexity": "perplexity",
}  # fmt: skip
_PUBLISHED_KEYS = {"error1": "top1", "error5": "top5"}
CONTROLS = ("random_mask", "prune_restore")  # whose phases have DSD's names
NEAR = 0.01  # of sparsities: those of whole networks are published rounded, or follow from those of their layers
_DASH = "–"


def phase_table(result: Result) -> Table:
    """One row a phase: epochs, learning rate (first → last), sparsity in %, validation metrics or a dash.

    With the paper profile, the published value stands to the right of each metric that has one. Raises ValueError
    naming the key when `published` is incomplete.
    """
    phases = result["metrics"]["phases"]
    measured = metric_names("val/", (phase["metrics"] for phase in phases)) or ["error1", "error5"]
    rows = {row["phase"]: row for row in _published_rows(result)} if _comparable(result) else {}
    published = {name for name in measured if any(_PUBLISHED_KEYS.get(name, name) in row for row in rows.values())}

    table = Table(box=SIMPLE_HEAD)
    table.add_column("phase")
    for heading in ("epochs", "learning rate", "sparsity %"):
        table.add_column(heading, justify="right")
    for name in measured:
        table.add_column(f"val {label_of(name)}", justify="right")
        if name in published:
            table.add_column("published", justify="right")
    for phase in phases:
        rates = _rates(phase["rate_first"], phase["rate_last"])
        cells = [f"{phase['epochs']:g}", rates, f"{100 * phase['sparsity']:.1f}"]
        for name in measured:
            cells.append(_cell(phase["metrics"].get(f"val/{name}")))
            if name in published:
                cells.append(_cell(rows.get(phase["name"], {}).get(_PUBLISHED_KEYS.get(name, name))))
        table.add_row(phase["name"], *cells)
    return table


def sentences(result: Result) -> list[str]:
    """The lines under the table: where the published numbers come from or why they are not shown, and the test."""
    lines = [_published_sentence(result)] if result["published"] else []
    return [*lines, _test_sentence(result["metrics"]["test"])]


def unit(measured: Mapping[str, Any]) -> str:
    """What the examples of a run with these measurements are called."""
    return "utterances" if "test/wer" in measured else "images"


def as_text(result: Result, *, width: int = 120) -> str:
    """The table and the sentences as plain text without colours, the table at most `width` characters wide."""
    buffer = io.StringIO()
    console = Console(file=buffer, width=width, color_system=None, legacy_windows=False)
    console.print(phase_table(result))
    table = "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()).strip("\n")
    return "\n".join([table, "", *sentences(result)])


def _comparable(result: Result) -> bool:
    return bool(result["published"]) and result["profile"] == "paper" and not _unlike(result)


def _unlike(result: Result) -> list[str]:
    """What is other than published: data, method, sparsity, and phases that are shorter or longer than those of their names."""
    config, rows = result["config"], _published_rows(result)
    lengths = {row["phase"]: row["epochs"] for row in rows if row.get("epochs") is not None}
    found = []
    if str(data := config.get("choices", {}).get("data")).startswith("embedded"):
        found.append(f"{data} data in place of {(result['published'] or {})['data']}")
    if subset := config.get("data", {}).get("subset"):
        found.append(f"{subset} training images")
    if (method := result.get("method")) in CONTROLS:
        found.append(f"the control {method}")
    asked = config.get("recipe", {}).get("sparse", {}).get("sparsity")
    for share in (
        row["sparsity"] for row in rows if row["phase"] == "sparse" and row.get("sparsity") and asked is not None
    ):
        if not math.isclose(asked, share, abs_tol=NEAR):
            found.append(f"{100 * asked:g} % sparsity in place of {100 * share:g} %")
    return found + [
        f"{phase['epochs']:g} epochs of {phase['name']} in place of {lengths[phase['name']]:g}"
        for phase in result["metrics"]["phases"]
        if phase["name"] in lengths and not math.isclose(phase["epochs"], lengths[phase["name"]], rel_tol=0.01)
    ]


def _published_rows(result: Result) -> list[Mapping[str, Any]]:
    published = result["published"] or {}
    for key in ("source", "data", "metric", "rows"):
        if key not in published:
            raise ValueError(f"published.{key} is missing in the result of run {result['run_id']}")
    for index, row in enumerate(published["rows"]):
        if "phase" not in row:
            raise ValueError(f"published.rows[{index}].phase is missing in the result of run {result['run_id']}")
    return list(published["rows"])


def _published_sentence(result: Result) -> str:
    made = {phase["name"] for phase in result["metrics"]["phases"]}
    rows = _published_rows(result)
    rows = [row for row in rows if row["phase"] in made] or rows
    published = result["published"] or {}
    if _comparable(result):
        return f"published: {published['source']} ({published['data']})."
    key = next((key for key in ("top1", "wer", "bleu4") if any(key in row for row in rows)), None)
    values = " / ".join(f"{row[key]:.2f}" for row in rows if key in row) if key else ""
    percent = " %" if str(published["metric"]).endswith("%") else ""
    epochs = " + ".join(f"{row['epochs']:g}" for row in rows if "epochs" in row)
    conditions = ", ".join(part for part in (str(published["data"]), f"{epochs} epochs" if epochs else "") if part)
    name = result["config"].get("choices", {}).get("data")
    used = f"the {result['profile']} profile" + (f" ({name} data)" if isinstance(name, str) else "")
    if result["profile"] == "paper":
        used += f", with {', '.join(_unlike(result))}"
    label = str(published["metric"]).removesuffix("%").strip()
    if key is None:
        return f"No {label} is published that we know of ({published['source']}; {conditions}); this run used {used}."
    return (
        f"The published {label} {values}{percent} ({published['source']}; {conditions}) is not comparable: "
        f"this run used {used}."
    )


def _test_sentence(test: Mapping[str, Any]) -> str:
    parts: list[str] = []
    for name in metric_names("test/", [test]):
        label = label_of(name)
        percent = " %" if label.endswith("%") else ""
        label = label.removesuffix("%").strip()
        if name == "error5" and parts:
            label = "top-5"  # "error" has just been said
        parts.append(f"{label} {_short(test[f'test/{name}'])}{percent}")
    if test.get("test/n") is not None:
        parts.append(f"n = {int(test['test/n']):,} {unit(test)}")
    return f"test (final weights): {', '.join(parts) or 'not measured'}"


def metric_names(prefix: str, measurements: Iterable[Mapping[str, Any]]) -> list[str]:
    """The names under `prefix`, the errors first, without the loss and the number of examples."""
    found = {key.removeprefix(prefix) for row in measurements for key in row if key.startswith(prefix)}
    return sorted(found - {"loss", "n"}, key=lambda name: (name not in _LABELS, name))


def label_of(name: str) -> str:
    return _LABELS.get(name, name)


def _cell(value: float | None) -> str:
    return _DASH if value is None else f"{value:.2f}"


def _short(value: float | None) -> str:
    return _DASH if value is None else f"{value:.4g}"


def _rates(first: float, last: float) -> str:
    return f"{first:g}" if first == last else f"{first:g} → {last:g}"
