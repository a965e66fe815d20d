"""A weight matrix in other forms than dense that multiply alike: compressed rows, or a codebook and small indices.

Each is a module: `matrix(x_BK)` is x_BK @ W.T as `nn.Linear` without its bias has it, `matrix.columns(x_KN)` is W @ x_KN. All
sum the same products in another order: results differ by rounding, at most n 2^-23 of |W| @ |x| where a row has n weights
that are not 0; less than 1e-5 of it where signs are mixed, as in trained networks (both tested).
For inference only: no gradient passes.
"""

from __future__ import annotations

import warnings
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsd.inference.kernels import coded_matrix, coded_vector
from dsd.inference.opaque import Opaque

BLOCK = 4608  # columns whose inputs, 18 KB, stay in the first cache beside the weights that stream through it
BYTE, COLUMNS = 1 << 8, 1 << 16  # values that a byte, columns that two bytes can number
FEW = 2  # vectors that are faster one at a time
NOT_FLOAT32 = (
    "a network in this form multiplies float32 only: leave .double(), .half() or .to(dtype) out, or convert it anew"
)


class Matrix(Opaque):
    """W (rows, width) in some form; made by `of`, which loses nothing: `dense()` gives the same values back."""

    form = ""

    def __init__(self, shape: tuple[int, int]) -> None:
        super().__init__()
        self.rows, self.width = shape

    def forward(self, x_BK: Tensor) -> Tensor:
        """x_BK @ W.T, (B, rows)."""
        return self.columns(x_BK.t()).t()

    def columns(self, x_KN: Tensor) -> Tensor:
        """W @ x_KN, (rows, N). ValueError unless x_KN is float32 and has as many rows as W columns."""
        if x_KN.shape[0] != self.width or x_KN.dtype != torch.float32:
            found = f"{tuple(x_KN.shape)} {str(x_KN.dtype).removeprefix('torch.')}"
            raise ValueError(f"a matrix of {self.rows} x {self.width} takes float32 ({self.width}, N), found {found}")
        return self.whole(x_KN, (self.rows, x_KN.shape[1]))

    def dense(self) -> Tensor:
        """W as a tensor, for those who must see it whole."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"{self.rows} x {self.width}"


class Rows(Matrix):
    """Compressed sparse rows with int32 indices, which MKL's fast kernels need; 8 bytes a weight.

    Where W is wide, rows are cut into blocks of columns: with one vector, a block's part of it stays in the first cache
    (AlexNet's fc6: 1.8 times faster, VGG-16's 2.3 times). Each block is compressed rows of its own.
    """

    form = "sparse"

    @classmethod
    def of(cls, weight_MK: Tensor) -> Rows:
        rows, width = weight_MK.shape
        made = cls((rows, width))
        edges = np.linspace(0, width, max(1, round(width / BLOCK)) + 1).astype(int).tolist()
        made.edges = list(pairwise(edges))
        for number, (left, right) in enumerate(made.edges):
            part = weight_MK.detach()[:, left:right].float()
            keep = part != 0
            start = torch.zeros(rows + 1, dtype=torch.int32)
            start[1:] = keep.sum(1).cumsum(0)
            made.register_buffer(f"start{number}", start)
            made.register_buffer(f"column{number}", keep.nonzero()[:, 1].int())
            made.register_parameter(f"value{number}", _fixed(part[keep]))
        return made

    def __init__(self, shape: tuple[int, int]) -> None:
        super().__init__(shape)
        self.edges: list[tuple[int, int]] = []
        self._parts: tuple[list[int], list[Tensor]] = ([], [])

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_parts": ([], [])}  # torch copies no sparse tensor

    def parts(self) -> list[Tensor]:
        """The blocks as torch's sparse tensors, which share the memory of indices and values."""
        at = [t.data_ptr() for held in (self._parameters, self._buffers) for t in held.values() if t is not None]
        known, made = self._parts
        if known != at:  # of the first call, or others were put in
            if any(value.dtype != torch.float32 for value in self.parameters()):
                raise ValueError(NOT_FLOAT32)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", ".*CSR tensor support is in beta.*")
                made = []
                for number, (left, right) in enumerate(self.edges):
                    start, column = self.get_buffer(f"start{number}"), self.get_buffer(f"column{number}")
                    value: Tensor = getattr(self, f"value{number}").detach()  # functional_call puts tensors there
                    size = (self.rows, right - left)
                    made.append(torch.sparse_csr_tensor(start, column, value, size, check_invariants=False))
            self._parts = at, made  # whole at once: other threads may be here too
        return made

    @torch.no_grad()
    def outside(self, x_KN: Tensor) -> Tensor:
        alone = x_KN.shape[1] == 1
        x = x_KN[:, 0] if alone else x_KN  # torch is faster with a vector than with a matrix of one column
        first, *others = self.parts()
        out = first @ x[: self.edges[0][1]]
        for part, (left, right) in zip(others, self.edges[1:], strict=True):
            out += part @ x[left:right]
        return out[:, None] if alone else out

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def dense(self) -> Tensor:
        return torch.cat([part.to_dense() for part in self.parts()], 1)


class Coded(Matrix):
    """A codebook of at most 256 values; for each weight that is not 0, a byte that numbers its value and 2 for its column.

    Weights are looked up when they are used: 3 bytes a weight, and 4 a row.
    """

    form = "codebook"
    start: Tensor
    column: Tensor
    index: Tensor
    book: nn.Parameter

    @classmethod
    def of(cls, weight_MK: Tensor) -> Coded:
        """ValueError if there are more than 256 values besides 0, or more than 65,536 columns."""
        weight_MK = weight_MK.detach().float()
        made = cls((weight_MK.shape[0], weight_MK.shape[1]))
        if made.width > COLUMNS:
            raise ValueError(f"a matrix of {made.width:,} columns; two bytes number {COLUMNS:,}")
        keep = weight_MK != 0
        book, index = lookup(weight_MK[keep])
        start = torch.zeros(made.rows + 1, dtype=torch.int32)
        start[1:] = keep.sum(1).cumsum(0)
        made.register_buffer("start", start)
        column = keep.nonzero()[:, 1].numpy().astype(np.uint16).view(np.int16)  # pickle knows no torch.uint16
        made.register_buffer("column", torch.from_numpy(column))
        made.register_buffer("index", index)
        made.book = _fixed(book)
        return made

    @torch.no_grad()
    def outside(self, x_KN: Tensor) -> Tensor:
        if self.book.dtype != torch.float32:
            raise ValueError(NOT_FLOAT32)
        column, book = self.column.numpy().view(np.uint16), self.book.detach().numpy()
        weight = (self.start.numpy(), column, self.index.numpy(), book)
        if not len(weight[1]):
            return x_KN.new_zeros(self.rows, x_KN.shape[1])
        if x_KN.shape[1] > FEW:
            return torch.from_numpy(coded_matrix(*weight, x_KN.contiguous().numpy()))
        out_NM = [torch.from_numpy(coded_vector(*weight, x.contiguous().numpy())) for x in x_KN.t()]
        return torch.stack(out_NM, 1) if out_NM else x_KN.new_zeros(self.rows, 0)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def dense(self) -> Tensor:
        out_MK = torch.zeros(self.rows, self.width)
        row = torch.repeat_interleave(torch.arange(self.rows), self.start.diff())
        out_MK[row, self.column.long() & 0xFFFF] = self.book[self.index.int()]
        return out_MK


class Looked(Matrix):
    """A codebook of at most 256 values besides 0 and a byte for every weight; W is made anew for each product.

    For matrices too dense for `Coded`: 1 byte a weight, whatever its density. A full 8-bit codebook has a value more than a
    byte can number once there is the 0: then a bit for every weight says which are not 0.
    """

    form = "codebook"
    index: Tensor
    book: nn.Parameter
    kept: Tensor | None

    @classmethod
    def of(cls, weight_MK: Tensor) -> Looked:
        """ValueError if there are more than 256 values besides 0."""
        made = cls((weight_MK.shape[0], weight_MK.shape[1]))
        value_N, kept = weight_MK.detach().float().reshape(-1), None
        try:
            book, index = lookup(value_N)
        except ValueError:
            keep = value_N != 0
            book, found = lookup(value_N[keep])
            index = torch.zeros(len(value_N), dtype=torch.uint8)
            index[keep] = found
            kept = torch.from_numpy(np.packbits(keep.numpy(), bitorder="little"))
        made.register_buffer("index", index.reshape(weight_MK.shape))
        made.book = _fixed(book)
        made.register_buffer("kept", kept)
        return made

    @torch.no_grad()
    def forward(self, x_BK: Tensor) -> Tensor:
        return F.linear(x_BK, self.dense())

    @torch.no_grad()
    def outside(self, x_KN: Tensor) -> Tensor:
        return self.dense() @ x_KN

    def dense(self) -> Tensor:
        value_N = torch.index_select(self.book, 0, self.index.reshape(-1).int())
        if self.kept is not None:
            bit_8 = torch.arange(8, dtype=torch.uint8, device=self.kept.device)
            keep_N = ((self.kept[:, None] >> bit_8) & 1).reshape(-1)[: len(value_N)]
            value_N = value_N * keep_N
        return value_N.reshape(self.rows, self.width)


def _fixed(values: Tensor) -> nn.Parameter:
    """Weights are parameters in any form: networks ask their parameters for device and dtype."""
    return nn.Parameter(values, requires_grad=False)


def lookup(value_N: Tensor) -> tuple[Tensor, Tensor]:
    """(values ascending, bytes that number them). ValueError if there are more than 256, or NaN, which is equal to none."""
    some = torch.unique(value_N[: 1 << 16])
    if len(value_N) > 1 << 16 and len(some) <= BYTE:
        found = torch.searchsorted(some, value_N).clamp_(max=len(some) - 1)
        some = some if torch.equal(some[found], value_N) else torch.unique(value_N)
    if len(some) > BYTE or some.isnan().any():
        raise ValueError(f"more than {BYTE} different values, or NaN, which a byte cannot number")
    return some, torch.searchsorted(some, value_N).to(torch.uint8)


def resident(net: nn.Module) -> int:
    """Bytes of all parameters and buffers of a network, those that share memory once."""
    tensors = [*net.parameters(), *net.buffers()]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())
