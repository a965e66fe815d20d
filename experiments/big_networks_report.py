"""The report and the figure of `python -m experiments.big_networks`, from its results alone."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas

from dsd.results.figures import COLOURS, INK, Figure, style, to_svg
from dsd.results.store import atomic_write

Network = Mapping[str, Any]
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")  # heads that only training uses
KINDS = {
    "values": ("values",), "positions": ("index", "fillers"), "codebooks, tables": ("codebook", "tables"),
    "biases, norms": ("other",), "names, checksum": ("header", "checksum"),
}  # fmt: skip
CODED = {  # bits of a weight and of an index after Huffman coding (Deep Compression, Tables 4 and 5; thesis: PROTOCOLS 3)
    "alexnet": (4.0, 3.2), "vgg16": (4.1, 3.1), "inception_v3": (3.8, 3.1), "resnet50": (3.5, 2.8),
}  # fmt: skip
DRAWN = {
    "alexnet": "uniform", "vgg16": "Gaussian, matrices' of deviation 0.01", "inception_v3": "Gaussian of deviation 0.1",
    "resnet50": "Gaussian, its last matrix uniform", "googlenet": "Gaussian of deviation 0.01",
}  # fmt: skip
TOLERANCE = 1e-4  # of the largest score, for a whole network; a single product differs by at most 1e-5 of |W| |x|
FEW = 20  # pruned layers: up to so many, the ledger has a line for each


def as_json(results: Mapping[str, Network]) -> str:
    """JSON with a line a tensor."""

    def one(network: Network) -> str:
        head = json.dumps({key: value for key, value in network.items() if key != "tensors"}, indent=1)
        lines = ",\n".join(f"  {json.dumps(row)}" for row in network["tensors"])
        return f'{head[:-2]},\n "tensors": [\n{lines}\n ]\n}}'

    return "{\n" + ",\n".join(f'"{name}": {one(network)}' for name, network in results.items()) + "\n}\n"


def spent(rows: Iterable[Mapping[str, Any]], *kinds: str) -> int:
    """Bytes of these kinds (none: of all) in the lines of a ledger."""
    return sum(
        count for row in rows for kind, count in row.get("bytes", {}).items() if not kinds or kind in kinds
    )  # a tied tensor may take none


def pruned(network: Network) -> list[Mapping[str, Any]]:
    """The lines of the pruned weights."""
    names = set(network["pruned"])
    return [row for row in network["tensors"] if row["name"] in names]


def streams(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Bits a kept weight: values and positions, as coded and by the order-0 bounds, over the lines that have positions."""
    rows = [row for row in rows if row.get("form") == "sparse"]
    kept = sum(row["kept"] for row in rows)
    place = sum(_positions(row["n"], row["kept"]) for row in rows)
    both = sum(row.get("shannon_bits", 0) for row in rows)
    return {
        "fixed": sum(row["kept"] * row["weight_bits"] for row in rows) / kept, "values": 8 * spent(rows, "values") / kept,
        "values bound": (both - place) / kept, "positions": 8 * spent(rows, "index", "fillers") / kept, "positions bound": place / kept,
    }  # fmt: skip


def _positions(n: int, kept: int) -> float:
    """Bits to say which `kept` of `n` independent ones are kept: n H(kept / n)."""
    share = kept / n
    return 0.0 if share in (0, 1) else -n * (share * math.log2(share) + (1 - share) * math.log2(1 - share))


def groups(network: Network) -> dict[str, list[Mapping[str, Any]]]:
    """The tensors by layer, or by the network's outer modules where there are too many layers; each in one group."""
    few = len(network["pruned"]) <= FEW
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in network["tensors"]:
        name = row["name"]
        found.setdefault(name.rpartition(".")[0] if few else name.partition(".")[0], []).append(row)
    return found


def ledger(network: Network) -> str:
    """Where every byte of the file is, adding up to it."""
    beside = network["published"].get("ledger", {})
    heads = ["layers", "weights", "kept %", "bits a value", "a position", *KINDS, "bytes", "% of float32", *(["paper %"] if beside else [])]  # fmt: skip
    names, lines = set(network["pruned"]), []
    for group, rows in groups(network).items():
        own = [row for row in rows if row["name"] in names]
        n, kept = sum(row["n"] for row in own), sum(row.get("kept", 0) for row in own)
        coded = [row for row in own if row.get("form") == "sparse"]
        bits = streams(coded) if coded else {}
        all_n = sum(row["n"] for row in rows if row.get("form") != "tied")
        cells = [
            group, f"{n:,}", f"{100 * kept / n:.1f}" if n else "–", *(f"{bits[key]:.2f}" if bits else "–" for key in ("values", "positions")),
            *(f"{spent(rows, *kinds):,}" for kinds in KINDS.values()), f"{spent(rows):,}", f"{25 * spent(rows) / all_n:.2f}" if all_n else "–",
        ]  # fmt: skip
        percent = [beside[row["name"]]["percent"] for row in own if row["name"] in beside]
        lines.append(cells + ([f"{percent[0]:.2f}" if percent else "–"] if beside else []))
    around = network["around"]
    lines.append(["around them", *["–"] * 4, *(f"{sum(around.get(k, 0) for k in kinds):,}" for kinds in KINDS.values()), f"{sum(around.values()):,}", "–", *(["–"] if beside else [])])  # fmt: skip
    rows = pruned(network)
    n, kept, bits = sum(row["n"] for row in rows), sum(row["kept"] for row in rows), streams(rows)
    everything = [*network["tensors"], {"bytes": around}]
    total = [
        "**file**", f"{n:,}", f"{100 * kept / n:.1f}", f"{bits['values']:.2f}", f"{bits['positions']:.2f}",
        *(f"{spent(everything, *kinds):,}" for kinds in KINDS.values()), f"**{spent(everything):,}**", f"{100 * network['bytes'] / network['fp32_bytes']:.2f}",
    ]  # fmt: skip
    return table(heads, [*lines, total + ([f"{beside['total']['percent']:.2f}"] if beside else [])])


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown: words to the left, numbers to the right."""
    lines = [f"| {' | '.join(heads)} |", "|---|" + "---:|" * (len(heads) - 1)]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def published(network: Network) -> tuple[int, int] | None:
    """Bytes before and after, where a size is published."""
    sizes = [row["bytes"] for row in network["published"]["rows"] if "bytes" in row]
    return (sizes[0], sizes[-1]) if len(sizes) > 1 else None


def sizes(results: Mapping[str, Network]) -> str:
    """The first table."""
    heads = ["network", "weights", "kept %", "bits", "float32 bytes", "file bytes", "ratio", "published bytes", "published ratio", "without auxiliary heads"]  # fmt: skip
    lines = []
    for one in results.values():
        rows, beside = pruned(one), published(one)
        n, kept = sum(row["n"] for row in rows), sum(row["kept"] for row in rows)
        heads_ = [row for row in one["tensors"] if row["name"].startswith(AUXILIARY)]
        fp32, size = one["fp32_bytes"] - 4 * sum(row["n"] for row in heads_), one["bytes"] - spent(heads_)
        bits = sorted(set(one["bits"].values()), reverse=True)
        lines.append([
            one["title"], f"{n:,}", f"{100 * kept / n:.1f}", ", ".join(map(str, bits)), f"{one['fp32_bytes']:,}", f"{one['bytes']:,}",
            f"**{one['fp32_bytes'] / one['bytes']:.1f}x**", *([f"{beside[0] / 1e6:.0f} → {beside[1] / 1e6:.1f} MB", f"{beside[0] / beside[1]:.0f}x"] if beside else ["none", "none"]),
            f"{fp32:,} → {size:,}, {fp32 / size:.1f}x" if heads_ else "has none",
        ])  # fmt: skip
    return table(heads, lines)


def coding(results: Mapping[str, Network]) -> str:
    """The second table: bits a kept weight."""
    heads = ["bits a kept weight", "value, fixed", "coded", "bound", "published", "position, coded", "bound", "published", "both beside the bound"]  # fmt: skip
    lines = []
    for name, one in results.items():
        bits, paper = streams(pruned(one)), CODED.get(name)
        over = (bits["values"] + bits["positions"]) / (bits["values bound"] + bits["positions bound"]) - 1
        said = [f"{value:.1f}" for value in paper] if paper else ["none", "none"]
        lines.append([
            one["title"], f"{bits['fixed']:.2f}", f"{bits['values']:.3f}", f"{bits['values bound']:.3f}", said[0],
            f"{bits['positions']:.3f}", f"{bits['positions bound']:.3f}", said[1], f"{100 * over:+.2f} %",
        ])  # fmt: skip
    return table(heads, lines)


def running(results: Mapping[str, Network]) -> str:
    """The third table: the archive at work."""
    heads = ["network", "form", "layers", "resident bytes", "of dense", "largest difference of a score"]
    lines = []
    for one in results.values():
        forms = one["runs"]["forms"]
        for form, found in forms.items():
            ways = ", ".join(f"{n} {way if way == 'dense' else f'in {way}'}" for way, n in found["layers"].items() if n)
            error = f"{found['error']:.1e} of the largest" if found["error"] else "0, equal in every bit"
            share = f"{100 * found['resident'] / forms['dense']['resident']:.0f} %"
            lines.append([one["title"], form, ways, f"{found['resident']:,}", share, error])
    return table(heads, lines)


def figure(results: Mapping[str, Network]) -> Figure:
    """Bytes by kind in % of float32, the published sizes beside."""
    with mpl.rc_context(style("big-networks")):
        canvas = Canvas(figsize=(8.4, 1.2 + 0.55 * len(results)), layout="constrained")
        axes = canvas.subplots()
        left = [0.0] * len(results)
        for (kind, keys), colour in zip(KINDS.items(), COLOURS, strict=False):
            wide = [
                100 * spent([*one["tensors"], {"bytes": one["around"]}], *keys) / one["fp32_bytes"]
                for one in results.values()
            ]
            axes.barh(range(len(results)), wide, left=left, height=0.6, color=colour, label=kind)
            left = [a + b for a, b in zip(left, wide, strict=True)]
        for place, (one, end) in enumerate(zip(results.values(), left, strict=True)):
            axes.text(end + 0.1, place, f"{one['fp32_bytes'] / one['bytes']:.1f}x", va="center")
        beside = [
            (100 * p[1] / p[0], place)
            for place, one in enumerate(results.values())
            if (p := published(one)) is not None
        ]
        axes.plot(*zip(*beside, strict=True), "D", mfc="none", mec=INK, label="published, trained")
        axes.set_yticks(range(len(results)), [one["title"] for one in results.values()])
        axes.invert_yaxis()
        axes.set(xlabel="bytes of the file, % of float32", xlim=(0, 1.12 * max(left)))
        axes.legend(fontsize=8, loc="upper right")
        svg = to_svg(canvas)
    words = "; ".join(f"{one['title']} {100 * one['bytes'] / one['fp32_bytes']:.2f} %" for one in results.values())
    return Figure("sizes", "Where the bytes are", svg, f"Size of the file in % of float32, by kind: {words}")


def report(results: Mapping[str, Network]) -> str:
    """All of it in Markdown."""
    drawn = "; ".join(f"{one['title']}'s {DRAWN[name]}" for name, one in results.items() if name in DRAWN)
    said = ", ".join(f"{one['title']} {p[0] / p[1]:.0f}x" for one in results.values() if (p := published(one)))
    lines = [
        "# Big networks, the whole pipeline, untrained", "",
        "`python -m experiments.big_networks`: prune → codebook → archive → runtime, at the densities and bits of `conf/experiment/dc_*.yaml`. "
        "**No network here is trained.** Weights are as the networks draw them "
        f"({drawn}), so a ratio says what the coder does with such numbers at these densities and bits, and nothing of accuracy: "
        "trained weights lie less evenly among their shared values (published for AlexNet: 4.0 bits a value after coding). "
        f"Published for trained weights: {said}; of GoogLeNet only the kept weights are (7 M → 2.0 M), no size in Deep Compression. "
        "Densities and bits are the published ones but for GoogLeNet's bits and Inception-V3's densities layer by layer, which are not published: those are "
        "chosen so that 21 % are kept, which follows from the published 22x, so that its ratio here is no independent one.", "",
        "![" + figure(results).words + "](sizes.svg)", "",
        "## Sizes", "",
        sizes(results), "",
        "The file is all of the `state_dict`: biases, normalisation with its statistics, names, checksum, and the auxiliary heads of GoogLeNet and Inception-V3, "
        "which only training uses and the published sizes leave out (last column: the file less their lines). Published sizes count weights, indices and codebooks.", "",
        "## Coding", "",
        coding(results), "",
        "The bound is of order 0 for each tensor: n H(kept share) for positions, kept x H(values) for values, without tables and codebooks. Positions here are "
        "close to independent, since the weights are. Published bits are of a stored entry, filler zeros among them, after Huffman coding.", "",
        "## At work", "",
        running(results), "",
        f"One image of noise at a time. Each network was made by `dsd.load` from the archive's bytes alone; a form whose scores differ by more than {TOLERANCE:g} "
        "of the largest would have ended the command, and so would an archive that does not come back equal in every bit. Resident: all parameters and buffers. "
        "Which layers are sparse is the stored crossover table's choice for one image. A pruned layer of 8 bits has 257 values with 0, one more than a byte "
        "numbers: as a byte a weight it has a bit for every weight beside it, which says where the 0s are.", "",
        "## Ledgers", "",
        "Every byte is in one cell. `bits`: of a kept weight, after coding. All tensors one by one are in results.json.", "",
    ]  # fmt: skip
    for one in results.values():
        lines += [f"### {one['title']}", "", ledger(one), ""]
    return "\n".join(lines)


def write(results: Mapping[str, Network], folder: Path) -> None:
    """report.md and the figure."""
    atomic_write(folder / "report.md", report(results))
    atomic_write(folder / "sizes.svg", figure(results).file)
