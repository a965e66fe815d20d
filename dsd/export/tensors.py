"""Weights for other programs: safetensors, torch files, and torch's compressed sparse rows."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from dsd.results.store import atomic_write


def save_tensors(state: Mapping[str, Tensor], path: Path, meta: Mapping[str, str] | None = None) -> None:
    """`path` holds the tensors bit for bit: .safetensors (with `meta` in its head), or .pt, which has no place for it.

    Written whole or not at all; torch reads .pt with `weights_only`. ValueError for another suffix.
    """
    if path.suffix == ".safetensors":
        whole = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}  # tied ones too
        try:
            data = save(whole, metadata=dict(meta) if meta else None)
        except KeyError as error:
            raise ValueError(f"safetensors has no {error.args[0]}: write to .pt") from None
        atomic_write(path, data)
    elif path.suffix in (".pt", ".pth"):
        atomic_write(path, _pickled(dict(state)))
    else:
        raise ValueError(f"weights are written to .safetensors, .pt or .pth, not to {path}")


def csr(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, those of two dimensions as sparse_csr where that takes fewer bytes; indices are int32.

    int32 because MKL's fast kernels take nothing else. ValueError if no tensor of two dimensions is sparse enough
    (half of a float32 matrix must be zero).
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*CSR tensor support is in beta.*")
        rows = {name: _rows(value) if _smaller(value) else value for name, value in state.items()}
    if not any(value.layout == torch.sparse_csr for value in rows.values()):
        kept = {n: f"{torch.count_nonzero(v) / max(1, v.numel()):.0%}" for n, v in state.items() if v.ndim == 2}
        raise ValueError(
            f"no matrix is sparse enough to gain by compressed rows; kept are {kept or 'none: there is no matrix'}; prune "
            "first, or export to safetensors"
        )
    return rows


def save_csr(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """`path` holds what `csr` makes of the tensors, as a dict that torch.load reads with `weights_only`; returns it."""
    if path.suffix not in (".pt", ".pth"):
        raise ValueError(f"compressed rows are written by torch.save to .pt or .pth, not to {path}")
    rows = csr(state)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*CSR tensor support is in beta.*")
        atomic_write(path, _pickled(rows))
    return rows


def _pickled(tensors: dict[str, Tensor]) -> bytes:
    out = io.BytesIO()
    torch.save(tensors, out)
    return out.getvalue()


def _rows(value: Tensor) -> Tensor:
    made = value.to_sparse_csr()
    rows, columns = made.crow_indices().int(), made.col_indices().int()
    return torch.sparse_csr_tensor(rows, columns, made.values(), made.shape, check_invariants=True)


def _smaller(value: Tensor) -> bool:
    if value.ndim != 2 or not value.is_floating_point():
        return False
    kept, bytes_each = int(torch.count_nonzero(value)), value.element_size()
    return kept * (bytes_each + 4) + 4 * (value.shape[0] + 1) < value.numel() * bytes_each
