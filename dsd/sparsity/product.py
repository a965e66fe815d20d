"""Weights times a mask, as cheaply as may be: it is done after every update.

What it costs is memory traffic. A float mask is as large as the weights, and pushes what the next step needs out of the
caches: a step of LeNet-300-100 takes a millisecond, and would take 2.5 % more. On a CPU a kernel reads the mask of sixteen
float32 weights as one 16-bit word instead, each thread the share of a tensor that PyTorch's own loops give it, which is
still in its cache. Both ways give the bits of `weight * mask`: 0 x -1 is -0, and NaN stays NaN, so that nothing that
diverged is hidden.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

WORD = 16  # weights
GRAIN = 32768  # weights: what PyTorch divides among threads has more (at::internal::GRAIN_SIZE)
HEAD, ROW = 3, 3  # numbers in the kernel's table
PLAIN = (Tensor, nn.Parameter)
Words = npt.NDArray[np.uint16]


class Product:
    """Multiplies live tensors by `keep`, bool tensors of their shapes, in place."""

    def __init__(self, keep: Sequence[Tensor]) -> None:
        self._keep = list(keep)
        self._sizes = [tensor.numel() for tensor in keep]
        self._factors: list[Tensor] = []
        self._words: list[Words] = []
        self._table = (ctypes.c_int64 * (HEAD + ROW * len(self._keep)))()
        self._place = ctypes.addressof(self._table)
        self._large = max(self._sizes, default=0) > GRAIN

    def __call__(self, weights: Sequence[Tensor]) -> None:
        """Multiply `weights`, one for each of `keep`."""
        if not self._keep:
            return
        for weight, n in zip(weights, self._sizes, strict=True):
            if type(weight) not in PLAIN or not (  # wrappers, as of sharded weights, have no address of their own
                weight.dtype is torch.float32 and weight.is_cpu and weight.is_contiguous() and weight.numel() == n
            ):
                self._by_factors(weights)
                return
        self._by_words(weights)

    def __reduce__(self) -> tuple[Any, ...]:
        return Product, (self._keep,)  # a copy has addresses of its own

    def _by_words(self, weights: Sequence[Tensor]) -> None:
        """Float32, on the CPU, contiguous."""
        table = self._table
        if not self._words:
            self._words = [_packed(keep) for keep in self._keep]
            table[0] = len(weights)
            for index, (n, words) in enumerate(zip(self._sizes, self._words, strict=True)):
                table[HEAD + ROW * index + 1], table[HEAD + ROW * index + 2] = n, words.ctypes.data
        place = HEAD
        for weight in weights:  # tensors move: asked for every time
            table[place] = weight.data_ptr()
            place += ROW
        kernel, together, team, number = _functions()
        if self._large and together is not None and (threads := torch.get_num_threads()) > 1:
            table[1], table[2] = team, number
            together(kernel, self._place, threads, 0)
        else:
            table[1], table[2] = 0, 0
            kernel(self._place)
        torch.autograd.graph.increment_version(weights)  # as every operation in place does

    @torch.no_grad()
    def _by_factors(self, weights: Sequence[Tensor]) -> None:
        """Any. The factors are of the weights' own type and layout: another type multiplies six times slower."""
        if not all(f.dtype == w.dtype and f.device == w.device for f, w in zip(self._factors, weights, strict=False)):
            self._factors = []
        if not self._factors:
            self._factors = [
                torch.empty_like(weight.detach()).copy_(keep) for weight, keep in zip(weights, self._keep, strict=True)
            ]
        torch._foreach_mul_(list(weights), self._factors)


def _packed(keep: Tensor) -> Words:
    """Bit j of word i is entry 16 i + j, in the order of a contiguous tensor."""
    bits = np.zeros(-(-keep.numel() // WORD) * WORD, np.uint8)
    bits[: keep.numel()] = keep.cpu().numpy().reshape(-1)
    return np.packbits(bits, bitorder="little").view("<u2").astype(np.uint16)


@cache
def _functions() -> tuple[Any, Any, int, int]:
    """The kernel, GOMP_parallel of PyTorch's own threads or None, addresses of omp_get_num_threads, omp_get_thread_num."""
    kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_kernel().address)
    try:  # the library that PyTorch loads for all to see
        library = ctypes.CDLL(None)
        together = library.GOMP_parallel
        team, number = (
            ctypes.cast(function, ctypes.c_void_p).value or 0
            for function in (library.omp_get_num_threads, library.omp_get_thread_num)
        )
    except (AttributeError, OSError, TypeError):  # another system, another library: one thread
        return kernel, None, 0, 0
    together.argtypes, together.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint], None
    return kernel, together, team, number


@cache
def _kernel() -> Any:
    """The C function `void share(int64_t *table)`. The table: how many tensors, addresses of two functions of OpenMP or 0;
    then, for each tensor, its address, its size and its words' address.

    Compiled when first needed, which takes a second or two. Not kept on the disk: numba knows functions that hold intrinsics by where
    they lie in memory, so no process would find what another one kept, and each would add a file.
    """
    ir, numba = import_module("llvmlite.ir"), import_module("numba")
    carray, intrinsic, types = numba.carray, numba.extending.intrinsic, numba.types

    def multiplier(lanes: int) -> Any:
        """Multiply the `lanes` floats at an address by a word's lowest bits: numba's own code for it is ten times slower."""

        def multiply(typing: Any, address: Any, word: Any) -> Any:
            def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
                floats, bits = ir.VectorType(ir.FloatType(), lanes), ir.VectorType(ir.IntType(1), lanes)
                place = builder.inttoptr(arguments[0], floats.as_pointer())
                weights = builder.load(place, align=4)
                pruned = builder.fmul(weights, ir.Constant(floats, [0.0] * lanes))
                keep = builder.bitcast(builder.trunc(arguments[1], ir.IntType(lanes)), bits)
                builder.store(builder.select(keep, weights, pruned), place, align=4)
                return context.get_dummy_value()

            return types.void(types.int64, types.uint32), generate

        return intrinsic(multiply)

    def said(typing: Any, address: Any) -> Any:
        """What the C function `int f(void)` at an address says."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            function = ir.FunctionType(ir.IntType(32), []).as_pointer()
            return builder.sext(builder.call(builder.inttoptr(arguments[0], function), []), ir.IntType(64))

        return types.int64(types.int64), generate

    def words(typing: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], ir.IntType(16).as_pointer())

        return types.CPointer(types.uint16)(types.int64), generate

    many, one = multiplier(WORD), multiplier(1)
    ask: Any = intrinsic(said)
    words_at: Any = intrinsic(words)

    def stretch(address: Any, words: Any, first: Any, end: Any) -> None:
        """Weights `first` to `end` of the tensor at `address`; `first` begins a word."""
        for i in range(first // WORD, end // WORD):
            many(address + 4 * WORD * i, words[i])
        for i in range(max(first, end // WORD * WORD), end):
            one(address + 4 * i, words[i // WORD] >> (i % WORD))

    multiply = numba.njit(nogil=True)(stretch)

    def share(table: Any) -> None:
        """This thread's share of every tensor."""
        tensors, team, number = carray(table, 3)
        threads = ask(team) if team else 1
        me = ask(number) if number else 0
        rows = carray(table, (HEAD // ROW + tensors, ROW))[HEAD // ROW :]
        for t in range(tensors):
            address, n, words = rows[t]
            parts = max(1, min(threads, (n + GRAIN - 1) // GRAIN))
            size = ((n + parts - 1) // parts + WORD - 1) // WORD * WORD
            if me < parts and me * size < n:
                multiply(address, carray(words_at(words), (n + WORD - 1) // WORD), me * size, min(n, (me + 1) * size))

    return numba.cfunc(types.void(types.CPointer(types.int64)), nopython=True)(share)
