"""Products of a sparse matrix whose weights are bytes into a table of values: 3 bytes a weight, 2 of them its column.

With a vector: 16 gathers at a time, which LLVM does not write by itself where it takes gathers for slow (three times faster
than plain loops on AMD EPYC, family 26). With a matrix: four weights at a time into a strip of the result that stays in
the first cache. Plain values in compressed rows are MKL's business (dsd/inference/matrices.py): nothing here is faster.

Rows are split over threads so that each has as many weights, not as many rows. numba compiles each kernel when it is first
used (seconds); with one thread there is a kernel without a pool, whose waiting would take time from others.
"""

from __future__ import annotations

import functools
from contextlib import nullcontext
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

LANES = 16
STRIP = 64  # columns of a result at a time: 256 bytes of each row of the input, four cache lines
Array = npt.NDArray[Any]
_pool = (
    Lock()
)  # numba's own pool, which it takes where there is neither OpenMP nor TBB, ends a process that enters it twice


def bounds(start_M: Array, parts: int) -> Array:
    """Rows at which each of `parts` threads begins, and the end, (parts + 1,): as many weights for each as can be."""
    total = int(start_M[-1])
    cut = np.searchsorted(start_M, [total * part // parts for part in range(1, parts)])
    return np.array([0, *cut, len(start_M) - 1], np.int64)


def threads() -> int:
    """As many as torch uses, and numba was started with."""
    import numba

    wanted, most = torch.get_num_threads(), most_threads()
    count = min(wanted, most)
    if count > 1:
        numba.set_num_threads(count)
        if torch.get_num_threads() != wanted:  # numba's OpenMP is torch's where there is one: its pool has set that too
            torch.set_num_threads(wanted)
    return count


def most_threads() -> int:
    """As many as numba was started with: the machine's processors, unless NUMBA_NUM_THREADS says otherwise."""
    import numba

    settings: Any = numba.config
    return int(settings.NUMBA_NUM_THREADS)


def coded_vector(start_M: Array, column_N: Array, index_N: Array, book_K: Array, x_K: Array) -> Array:
    """y (M,) of the matrix whose row i has book[index[k]] at column[k], k from start[i] to start[i + 1], and x."""
    y_M = np.empty(len(start_M) - 1, np.float32)
    parts = threads()
    with _pool if parts > 1 else nullcontext():
        _vector(parts > 1)(start_M, column_N, index_N, book_K, x_K, y_M, bounds(start_M, parts))
    return y_M


def coded_matrix(start_M: Array, column_N: Array, index_N: Array, book_K: Array, x_KN: Array) -> Array:
    """y (M, N) of the same matrix and x (K, N), C-contiguous."""
    width = x_KN.shape[1]
    y_MN = np.empty((len(start_M) - 1, width), np.float32)
    parts, strips = threads(), max(1, -(-width // STRIP))
    cut = bounds(start_M, parts if strips % parts else 1)  # whole strips for each thread, or rows
    with _pool if parts > 1 else nullcontext():
        _matrix(parts > 1)(start_M, column_N, index_N, book_K, x_KN, y_MN, cut, -(-width // strips))
    return y_MN


@functools.cache
def _vector(parallel: bool) -> Any:
    from numba import njit, prange

    dot = _dot()

    @njit(parallel=parallel, fastmath=True)
    def vector(start, column, index, book, x, y, cut):  # type: ignore[no-untyped-def]  # pragma: no cover
        columns, indices, books, xs = column.ctypes.data, index.ctypes.data, book.ctypes.data, x.ctypes.data
        for part in prange(len(cut) - 1):
            for row in range(cut[part], cut[part + 1]):
                begin, end = start[row], start[row + 1]
                total = dot(columns, indices, books, xs, begin, end)
                for k in range(begin + (end - begin) // LANES * LANES, end):
                    total += book[index[k]] * x[column[k]]
                y[row] = total

    return vector


@functools.cache
def _matrix(parallel: bool) -> Any:
    from numba import njit, prange

    @njit(parallel=parallel, fastmath=True, cache=True)
    def matrix(start, column, index, book, x, y, cut, strip):  # type: ignore[no-untyped-def]  # pragma: no cover
        parts, width = len(cut) - 1, x.shape[1]
        for task in prange(parts * ((width + strip - 1) // strip)):
            low = task // parts * strip
            high = min(low + strip, width)
            for row in range(cut[task % parts], cut[task % parts + 1]):
                out = y[row, low:high]
                out[:] = 0
                k, end = start[row], start[row + 1]
                while k + 4 <= end:
                    v0, v1, v2, v3 = book[index[k]], book[index[k + 1]], book[index[k + 2]], book[index[k + 3]]
                    x0, x1 = x[column[k], low:high], x[column[k + 1], low:high]
                    x2, x3 = x[column[k + 2], low:high], x[column[k + 3], low:high]
                    for j in range(high - low):
                        out[j] += v0 * x0[j] + v1 * x1[j] + v2 * x2[j] + v3 * x3[j]
                    k += 4
                while k < end:
                    v0, x0 = book[index[k]], x[column[k], low:high]
                    for j in range(high - low):
                        out[j] += v0 * x0[j]
                    k += 1

    return matrix


def _dot() -> Any:
    """Sum of book[index[k]] * x[column[k]] over all whole vectors of 16 from begin to end; arguments are addresses."""
    from llvmlite import ir  # type: ignore[import-untyped]
    from numba import types
    from numba.core import cgutils
    from numba.extending import intrinsic

    real, byte, half, word, long = ir.FloatType(), ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64)
    reals, longs, bits = (ir.VectorType(kind, LANES) for kind in (real, long, ir.IntType(1)))

    def generate(context: Any, to: Any, signature: Any, arguments: Any) -> Any:
        columns, indices, book, x, begin, end = arguments
        insert: Any = cgutils.get_or_insert_function
        zero, lanes, module = ir.Constant(reals, [0.0] * LANES), ir.Constant(long, LANES), to.module

        def known(name: str, result: Any, *takes: Any) -> Any:
            return insert(module, ir.FunctionType(result, takes), name)

        def numbers(base: Any, kind: Any, k: Any) -> Any:
            place = to.add(base, to.mul(k, ir.Constant(long, kind.width // 8)))
            return to.zext(to.load(to.inttoptr(place, ir.VectorType(kind, LANES).as_pointer()), align=1), longs)

        def gathered(base: Any, number: Any) -> Any:
            one = to.insert_element(ir.Constant(longs, ir.Undefined), base, word(0))
            every = to.shuffle_vector(one, one, ir.Constant(ir.VectorType(word, LANES), [0] * LANES))
            places = to.add(every, to.shl(number, ir.Constant(longs, [2] * LANES)))
            pointers = to.inttoptr(places, ir.VectorType(real.as_pointer(), LANES))
            name = f"llvm.masked.gather.v{LANES}f32.v{LANES}p0"
            gather = known(name, reals, pointers.type, word, bits, reals)
            return to.call(gather, [pointers, word(4), ir.Constant(bits, [1] * LANES), zero])

        entry, loop, done = to.block, to.append_basic_block("loop"), to.append_basic_block("done")
        last = to.sub(end, lanes)
        to.cbranch(to.icmp_signed("<=", begin, last), loop, done)
        to.position_at_end(loop)
        k, total = to.phi(long), to.phi(reals)
        values, inputs = gathered(book, numbers(indices, byte, k)), gathered(x, numbers(columns, half, k))
        more = to.call(known(f"llvm.fma.v{LANES}f32", reals, reals, reals, reals), [values, inputs, total])
        further = to.add(k, lanes)
        for phi, first, next_ in ((k, begin, further), (total, zero, more)):
            phi.add_incoming(first, entry)
            phi.add_incoming(next_, to.block)
        to.cbranch(to.icmp_signed("<=", further, last), loop, done)
        to.position_at_end(done)
        whole = to.phi(reals)
        whole.add_incoming(zero, entry)
        whole.add_incoming(more, loop)
        reduce = known(f"llvm.vector.reduce.fadd.v{LANES}f32", real, real, reals)
        return to.call(reduce, [ir.Constant(real, 0.0), whole], fastmath=("fast",))

    @intrinsic
    def dot(typing, columns, indices, book, x, begin, end):  # type: ignore[no-untyped-def]
        return types.float32(*[types.intp] * 6), generate

    return dot
