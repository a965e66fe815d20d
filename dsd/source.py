"""What a FILE of the `dsd` command means: the tensors in it, and what it says of the network they are of."""

from __future__ import annotations

import json
from pathlib import Path

from torch import Tensor

from dsd.compression import decompress, read_meta
from dsd.results.store import RunFolder
from dsd.weights import TORCH, load_weights, resolve


def found(text: str) -> Path:
    """The file that is meant, or the final weights of the run in ./runs. ValueError if there is neither."""
    return resolve(text, Path("runs"), said="")


def present(text: str) -> Path:
    """The file. ValueError if there is none."""
    if (path := Path(text)).is_dir():
        raise ValueError(
            f"{path} is a folder: give the name of a file{f', such as {own}' if (own := path / 'model.dsd').exists() else ''}"
        )
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    return path


def is_checkpoint(path: Path) -> bool:
    """Whether its name says that it holds plain tensors; anything else is taken for an archive."""
    return path.suffix in (".safetensors", *TORCH)


def make_place(out: Path, source: Path) -> None:
    """The folder of the archive `out` is there. ValueError if its name is a checkpoint's, which every command would take it for."""
    if is_checkpoint(out):
        raise ValueError(
            f"{out} is the name of a checkpoint: give the archive one of its own, such as {source.stem}.dsd"
        )
    out.parent.mkdir(parents=True, exist_ok=True)


def keep_apart(out: Path | None, *sources: Path | None) -> None:
    """ValueError if the file that will be written is one of those that are read."""
    for source in sources:
        if source is not None and out is not None and out.exists() and source.exists() and out.samefile(source):
            raise ValueError(f"{source} is what is read, and would be lost: give the new file another name")


def tensors(path: Path, *, whole: bool = True) -> dict[str, Tensor]:
    """The tensors of a checkpoint or an archive; of Lightning's only the network's unless `whole`. ValueError if it is neither, or
    damaged."""
    return load_weights(path, whole=whole) if is_checkpoint(path) else decompress(present(str(path)))


def notes(path: Path) -> dict[str, str]:
    """What the file says of itself: an archive's meta, or `experiment` and `model` (JSON) of a run's final weights."""
    if not is_checkpoint(path):
        return read_meta(path)
    folder = RunFolder(path.parent)
    if path != folder.final or not folder.result.exists():
        return {}
    result = folder.read_result()
    return {"experiment": str(result["name"]), "model": json.dumps(result["config"]["model"])}
