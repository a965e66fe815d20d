"""Two more words of the `dsd` command: `import`, for checkpoints of other libraries, and `bench`, for where sparsity pays."""

from __future__ import annotations

import argparse
import math
import os
import time
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from pathlib import Path
from typing import Any

PARTS = ("layers", "networks", "crossover")
PATIENCE = 12.0  # seconds that a network at a batch may be expected to take, if it wasn't asked for by name
MINUTES = 4.0  # of `dsd bench` before no more networks are begun


def names(text: str) -> list[str]:
    """The words between commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def numbers(text: str) -> list[int]:
    """The whole numbers between commas; ValueError for others."""
    return [int(word) for word in names(text)]


def target(text: str) -> Path:
    """A file to write. ArgumentTypeError for a folder or a device, in whose place a file would be put."""
    path = Path(text)
    if path.exists() and not path.is_file():
        raise argparse.ArgumentTypeError(f"{path} is no file, but a folder or a device: give the name of a file")
    return path


def more_verbs(verbs: Any, kind: Any) -> None:
    """`import` and `bench` are words of the parser too."""
    text = "take over a pruned checkpoint of another library: torch.nn.utils.prune, Lightning's ModelPruning, Distiller, bare masks"
    one = verbs.add_parser("import", help=text, description=text, formatter_class=kind)
    one.add_argument("file", metavar="CHECKPOINT", type=Path, help="the weights, with or without their masks")
    one.add_argument(
        "-o",
        dest="out",
        metavar="OUT",
        type=target,
        required=True,
        help="OUT.safetensors, OUT.pt, or an archive OUT.dsd",
    )
    one.add_argument("--masks", metavar="FILE", type=Path, help="masks of 0 and 1 in a file of their own")
    one.add_argument("--ones", choices=("kept", "pruned"), help="what 1 means in bare masks; never guessed")
    one.set_defaults(verb=do_import)

    text = (
        "time EIE's nine layers, whole networks, and density x batch, beside torch, torch.compile, SciPy and GraphBLAS"
    )
    one = verbs.add_parser("bench", help=text, description=text, formatter_class=kind)
    one.add_argument(
        "-o", dest="out", metavar="FILE.json", type=target, help="keep it as JSON; parts not asked for stay in the file"
    )
    one.add_argument("--only", choices=PARTS, action="append", help="a part; may be repeated (default: all)")
    one.add_argument(
        "--layers", type=names, metavar="NAME", nargs="+", default=[], help="these layers only, such as 'AlexNet fc6'"
    )
    one.add_argument(
        "--networks", type=names, metavar="NAME", nargs="+", default=[],
        help="these networks only, such as AlexNet,VGG-16, however long they take",
    )  # fmt: skip
    one.add_argument(
        "--batch", type=numbers, nargs="+", default=[[1, 8, 64]], metavar="N", help="inputs at a time (default: 1,8,64)"
    )
    one.add_argument("--rounds", type=int, default=9, metavar="N", help="undisturbed turns of each arm (default: 9)")
    one.add_argument(
        "--budget",
        type=float,
        default=4,
        metavar="S",
        help="seconds for a network at a batch, two rounds at least (default: 4)",
    )
    one.add_argument(
        "--minutes", type=float, default=MINUTES, metavar="M",
        help="after which no network is begun that would end later, unless it is named (default: %(default)g)",
    )  # fmt: skip
    one.add_argument(
        "--track",
        choices=("none", "wandb"),
        default="none",
        help="record it in Weights & Biases too: tables and numbers",
    )
    one.add_argument("--threads", type=int, metavar="N", help="of every arm (default: torch's)")
    one.add_argument(
        "--no-compile", action="store_true", help="whole networks without the arm torch.compile, which takes a minute"
    )
    one.add_argument(
        "--write-crossover",
        metavar="FILE.json",
        type=target,
        help="the table by which the runtime decides, as measured here",
    )
    one.set_defaults(verb=do_bench)


def do_import(asked: argparse.Namespace, console: Any) -> int:
    """Write the weights with zeros where they are pruned."""
    from dsd.compression import compress
    from dsd.export import save_tensors
    from dsd.migration import imported
    from dsd.source import keep_apart, make_place

    keep_apart(asked.out, asked.file, asked.masks)
    if asked.out.suffix == ".dsd":
        make_place(asked.out, asked.file)
    found = imported(asked.file, masks=asked.masks, ones=asked.ones)
    if asked.out.suffix == ".dsd":
        archive = compress(found.weights, meta={"from": found.layout})
        archive.save(asked.out)
        print(f"{asked.out}: {archive.ledger.size:,} bytes, {archive.ledger.smaller} than float32")
    else:
        save_tensors(found.weights, asked.out)
        print(f"{asked.out}: {len(found.weights)} tensors")
    print(f"layout: {found.layout}; kept: {', '.join(f'{name} {100 * d:.1f} %' for name, d in found.density.items())}")
    return 0


def do_bench(asked: argparse.Namespace, console: Any) -> int:
    """Measure, print, keep."""
    # before NumPy is imported: its threads spin for 2^16 cycles after a call, not for 0.1 s, in which they would take others' cores
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "16")
    from dsd.inference.networks import NETWORKS
    from dsd.inference.published import LAYERS
    from dsd.inference.report import sentences, tables
    from dsd.inference.session import measure, scalars, write_crossover

    layers, nets, batches = (list(chain(*found)) for found in (asked.layers, asked.networks, asked.batch))
    for part, given, some in (("layers", asked.layers, layers), ("networks", asked.networks, nets)):
        if given and not some:
            raise ValueError(f"--{part} names none: leave it out for all of them")
    named = [part for part, some in (("layers", layers), ("networks", nets)) if some]
    parts = asked.only or named or list(PARTS)
    if asked.write_crossover is not None:
        if "crossover" not in parts:
            raise ValueError("--write-crossover needs the part crossover: leave --only out, or add --only crossover")
        asked.write_crossover.parent.mkdir(parents=True, exist_ok=True)  # fails now, not after minutes
    for part, some in (("layers", layers), ("networks", nets)):
        if some and part not in parts:
            raise ValueError(
                f"--{part} names some, and --only leaves all {part} out: leave --only out, or add --only {part}"
            )
    if min(batches, default=0) < 1 or asked.rounds < 1 or (asked.threads is not None and asked.threads < 1):
        raise ValueError("batches, rounds and threads are 1 or more")
    with tracked(asked) as logger:
        result = measure(
            parts, path=asked.out, threads=asked.threads, rounds=asked.rounds, batches=batches, layers=layers or list(LAYERS),
            nets=nets or list(NETWORKS), compiles=not asked.no_compile, budget=asked.budget, patience=math.inf if nets else PATIENCE,
            minutes=math.inf if nets else asked.minutes,
            say=lambda text: print(f"... {text}", flush=True),
        )  # fmt: skip
        console.width = max(console.width, 190)
        for table in tables(result):
            console.print(table.rich())
        print("\n".join(sentences(result)))
        if asked.write_crossover is not None:
            write_crossover(result, asked.write_crossover)
        if logger is not None:
            logger.log_metrics(scalars(result))
            for table in tables(result):
                logger.log_table(
                    table.title.partition(":")[0], columns=list(table.head), data=[list(row) for row in table.rows]
                )
    return 0


def tracked(asked: argparse.Namespace) -> AbstractContextManager[Any]:
    """W&B's logger, offline without an account, in `wandb` beside the result (or in runs/); or None."""
    if asked.track == "none":
        return nullcontext()
    from dsd.results.tracking import wandb

    told = {key: str(value) for key, value in vars(asked).items() if key != "verb"}
    folder = Path("runs") if asked.out is None else asked.out.parent
    return wandb(
        folder, f"bench-{time.strftime('%Y%m%d-%H%M%S')}", "bench", "bench", ["bench"], told, project="dsd", entity=None, mode="auto",
        artifact=False, init_timeout=30, finish_timeout=600,
    )  # fmt: skip
