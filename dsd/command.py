"""The `dsd` command: any checkpoint into an archive and back, what is in it, whether it is intact, and other formats.

file -> tensors by name -> (pruned, shared: only if asked) -> archive -> the same tensors, bit for bit
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from dsd.verbs import more_verbs, target

HELP = """\
dsd packs the weights of a network into one small file, and says where every byte of it goes.

  dsd compress final.safetensors -o lenet.dsd              as they are: pruned and shared weights come back bit for bit
  dsd compress resnet.pth -o small.dsd --sparsity 0.9 --bits 5     pruned and shared first, without any training
  dsd inspect lenet.dsd --html lenet.html                  the ledger, and a histogram of each weight
  dsd verify lenet.dsd --against final.safetensors         0: intact and equal; 1: damaged or different; 2: cannot tell
  dsd decompress lenet.dsd -o lenet.safetensors            tensors again, for load_state_dict
  dsd export lenet.dsd --to onnx -o lenet.onnx             ONNX whose weights are a codebook and one byte each
  dsd import old.pth -o lenet.safetensors --ones kept      a checkpoint of another pruning library, its masks multiplied in
  dsd bench -o bench.json                                  where sparsity pays on this machine: layers, networks, density x batch
"""
TAIL = """\
A CHECKPOINT is a .safetensors file, or a torch file (.pt, .pth, .ckpt, .bin) of tensors: a state_dict, Lightning's
checkpoint, pairs weight_orig and weight_mask of torch.nn.utils.prune; or a run: its folder, or its id in ./runs.
No file is read in a way that could run code. Every file is written whole or not at all.
"""
WIDTH = 120
DENSE = 1.5  # a ratio below which packing did next to nothing


def main(words: Sequence[str] | None = None) -> int:
    """Do what the words say; the exit code: 0 done, 1 damaged or different (verify), 2 not possible, with the reason."""
    asked = parser().parse_args(words)
    from rich.console import Console  # torch takes seconds to import: --help answers at once

    console = Console(highlight=False, markup=False)
    console.width = max(console.width, WIDTH)  # the ledger in less would be ellipses
    try:
        return int(asked.verb(asked, console))
    except (ValueError, OSError) as error:
        print(f"dsd {asked.command}: {error}", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    """The words that the command takes."""
    kind = argparse.RawDescriptionHelpFormatter
    made = argparse.ArgumentParser("dsd", description=HELP, epilog=TAIL, formatter_class=kind)
    made.add_argument("--version", action="version", version=f"dsd {version('dsd')}")
    verbs = made.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def verb(name: str, function: Any, text: str, file: str, says: str) -> argparse.ArgumentParser:
        one = verbs.add_parser(name, help=text, description=text, epilog=TAIL, formatter_class=kind)
        one.add_argument("file", metavar=file, help=says)
        one.set_defaults(verb=function)
        return one

    one = verb("compress", do_compress, "pack a checkpoint", "CHECKPOINT", "the weights")
    one.add_argument("-o", dest="out", metavar="FILE", type=target, required=True, help="the archive to write")
    one.add_argument("--coder", choices=("best", "ans", "huffman", "fixed"), default="best",
                     help="entropy coder; huffman is the paper's, fixed has none (default: best, the smallest for each tensor)")  # fmt: skip
    one.add_argument(
        "--index-bits", type=int, metavar="N", help="bits of a gap, as in the paper (default: the smallest)"
    )
    one.add_argument("--fillers", choices=("escape", "paper"), default="escape",
                     help="what stands in a gap too long for its bits: a symbol, or a stored weight of 0 as in the paper (default: escape)")  # fmt: skip
    one.add_argument(
        "--sparsity", type=float, metavar="S", help="first set this fraction of each weight to 0, the smallest"
    )
    one.add_argument("--bits", type=int, metavar="N", help="first share 2^N values in each weight, by k-means")
    one.add_argument("--conv-bits", type=int, metavar="N", help="the same for convolutions only, or other than --bits")
    one.add_argument("--fc-bits", type=int, metavar="N", help="the same for matrices only, or other than --bits")
    one.add_argument(
        "--budget",
        type=int,
        metavar="BYTES",
        help="share as few values as make the file so small, in each weight its own number",
    )
    one.add_argument("--meta", action="append", default=[], metavar="KEY=VALUE", help="a note kept in the archive; may be repeated")  # fmt: skip

    one = verb("decompress", do_decompress, "unpack an archive", "FILE", "the archive")
    one.add_argument(
        "-o", dest="out", metavar="OUT", type=target, required=True, help="OUT.safetensors, OUT.pt or OUT.pth"
    )

    one = verb("inspect", do_inspect, "say where the bytes go", "FILE", "an archive, or a checkpoint as if packed")
    one.add_argument("--html", metavar="OUT.html", type=target, help="write it as a page too, with histograms")

    one = verb("verify", do_verify, "check an archive", "FILE", "the archive")
    one.add_argument("--against", metavar="CHECKPOINT", help="it must hold exactly these weights, bit for bit")

    one = verb("export", do_export, "write another format", "FILE", "an archive or a checkpoint")
    one.add_argument("--to", choices=("onnx", "safetensors", "csr"), required=True, help="csr: matrices as torch's sparse_csr, in a .pt")  # fmt: skip
    one.add_argument("-o", dest="out", metavar="OUT", type=target, required=True, help="the file to write")
    one.add_argument("--model", metavar="NAME", help="onnx: the network, such as torchvision.models.squeezenet1_0 (default: the archive's own)")  # fmt: skip
    one.add_argument(
        "--model-args", metavar="JSON", help="onnx: its keyword arguments, such as '{\"num_classes\": 10}'"
    )
    one.add_argument("--input", metavar="C,H,W", help="onnx: the shape of an image (default: the archive's or the network's own)")  # fmt: skip
    more_verbs(verbs, kind)
    return made


def do_compress(asked: argparse.Namespace, console: Any) -> int:
    """Pack a checkpoint, and print the ledger."""
    from dsd.compression import compress
    from dsd.inspection import published
    from dsd.oneshot import check_finite, made_small
    from dsd.source import found, make_place, notes
    from dsd.weights import load_weights

    path = found(asked.file)
    make_place(asked.out, path)
    state = load_weights(path, whole=True)
    check_finite(state, path.name)
    said = notes(path) | pairs(asked.meta)
    how = {"coder": asked.coder, "index_bits": asked.index_bits, "fillers": asked.fillers, "meta": said}
    small, changed = made_small(state, asked, lambda tensors: len(compress(tensors, **how).data))
    archive = compress(small, **how)
    archive.save(asked.out)
    ledger = archive.ledger
    console.print(ledger.table(published(said.get("experiment", "")) or None))
    print(
        f"\n{asked.out}: {ledger.size:,} bytes, {ledger.smaller} than {ledger.fp32_bytes:,} bytes of float32"
        + (f"; {changed}" if changed else "; every weight is kept bit for bit (-0.0 as 0.0)")
    )
    if ledger.ratio < DENSE:
        print(
            "The weights are dense: hardly any are 0 or share a value, so there is little to pack. Train them to it "
            "(python run.py), or try --sparsity 0.5 --bits 6, which costs accuracy."
        )
    return 0


def do_decompress(asked: argparse.Namespace, console: Any) -> int:
    """Unpack an archive."""
    from dsd.compression import decompress, read_meta
    from dsd.export import save_tensors
    from dsd.source import keep_apart, present

    keep_apart(asked.out, path := present(asked.file))
    state = decompress(path)
    save_tensors(state, asked.out, read_meta(path))
    print(f"{asked.out}: {len(state)} tensors, {sum(v.numel() for v in state.values()):,} values")
    return 0


def do_inspect(asked: argparse.Namespace, console: Any) -> int:
    """Print the ledger, and write the page."""
    from dsd.inspection import html, inspect, table
    from dsd.results.store import atomic_write
    from dsd.source import found, keep_apart

    keep_apart(asked.html, path := found(asked.file))
    seen = inspect(path, beside=asked.html is not None)
    console.print(seen.ledger.table(seen.published or None))
    console.print(table(seen))
    would = "" if seen.packed else " would be"
    print(f"\n{seen.name}{would} {seen.ledger.smaller} than float32.", *seen.ledger.sentences())
    if asked.html is not None:
        atomic_write(asked.html, html(seen))
        print(f"page: {asked.html}")
    return 0


def do_verify(asked: argparse.Namespace, console: Any) -> int:
    """Check checksums, decode, and compare bit for bit."""
    from dsd.coding.archive import ArchiveError, NewerError
    from dsd.compression import decompress, read_ledger
    from dsd.oneshot import differences
    from dsd.source import found, present, tensors

    path = present(asked.file)
    other = None if asked.against is None else tensors(found(asked.against))
    try:
        state, ledger = decompress(path), read_ledger(path)
    except NewerError:
        raise  # it may well be intact
    except ArchiveError as error:
        print(f"{path}: damaged: {error}")
        return 1
    if ledger.size != path.stat().st_size:
        print(f"{path}: damaged: its ledger counts {ledger.size:,} bytes, the file has {path.stat().st_size:,}")
        return 1
    print(f"{path}: intact, {len(state)} tensors")
    if other is None:
        return 0
    unlike = differences(state, other)
    print("\n".join(unlike) if unlike else f"equal to {asked.against}, bit for bit")
    return 1 if unlike else 0


def do_export(asked: argparse.Namespace, console: Any) -> int:
    """Write another format of the same weights."""
    from dsd.export import network, save_csr, save_onnx, save_tensors
    from dsd.source import found, keep_apart, notes, tensors

    keep_apart(asked.out, path := found(asked.file))
    state, meta = tensors(path, whole=asked.to != "onnx"), notes(path)
    if asked.to == "safetensors":
        save_tensors(state, asked.out, meta)
        print(f"{asked.out}: {len(state)} tensors")
    elif asked.to == "csr":
        rows = save_csr(state, asked.out)
        print(f"{asked.out}: {sum(v.layout is not state[n].layout for n, v in rows.items())} matrices as rows")
    else:
        config = as_object(meta.get("model", "{}"), "the archive's model")
        target = asked.model or config.pop("_target_", None)
        arguments = as_object(asked.model_args, "--model-args") if asked.model_args else {} if asked.model else config
        if target is None:
            raise ValueError(f"{path} does not say which network it is: name it, such as --model dsd.models.LeNet300")
        model = network(target, arguments, state)
        made = save_onnx(model, asked.out, shape=image(asked.input or meta.get("input"), model))
        print(f"{asked.out}: {made.size:,} bytes; weights in one byte {made.shared:,}, in four {made.plain:,}")
    return 0


def pairs(texts: Sequence[str]) -> dict[str, str]:
    """KEY=VALUE as a mapping; ValueError for one without `=`."""
    if wrong := [text for text in texts if "=" not in text]:
        raise ValueError(f"--meta takes KEY=VALUE, found {wrong[0]!r}")
    return {key: value for key, _, value in (text.partition("=") for text in texts)}


def as_object(text: str, what: str) -> dict[str, Any]:
    """A JSON object, or ValueError."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{what} must be a JSON object, found {text!r}: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{what} must be a JSON object, found {text!r}")
    return value


def image(text: str | None, model: Any) -> tuple[int, ...]:
    """The shape of an input: as said, or as the network says it (`channels`, `side`)."""
    if text is None and hasattr(model, "channels") and hasattr(model, "side"):
        return (model.channels, model.side, model.side)
    try:
        return tuple(int(part) for part in (text or "").strip("[]").split(","))
    except ValueError:
        raise ValueError(f"give the shape of one image as --input 3,224,224, found {text or 'nothing'}") from None
