"""What else multiplies a sparse matrix on this machine, each as `x_BK -> y_BM` of the same weight."""

from __future__ import annotations

import importlib.util
import os
import shutil
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from threadpoolctl import threadpool_limits
from torch import Tensor

from dsd.inference.layers import LinearOf
from dsd.inference.matrices import Coded, Rows, resident

Product = Callable[[Tensor], Tensor]
ARMS = ("dense", "compiled", "NumPy", "sparse", "codebook", "CSR int64", "SciPy", "GraphBLAS")
WORDS = {
    "dense": "torch's Linear, which multiplies a single input on one core", "compiled": "the same through torch.compile",
    "NumPy": "the dense product by NumPy's BLAS, on all threads", "sparse": "ours: compressed rows, int32",
    "codebook": "ours: a byte and two for the column", "CSR int64": "torch's to_sparse_csr as it comes", "SciPy": "scipy.sparse.csr_array, one thread",
    "GraphBLAS": "SuiteSparse's kernels, which share no code with MKL",
}  # fmt: skip
SPINNING = ("NumPy",)
WITHOUT = "There is no arm GraphBLAS, a sparse runtime of its own: it was not installed (pip install 'dsd[bench]')."


def has_compiler() -> bool:
    """Whether torch.compile can work on a CPU: it writes C++."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "clang++", "g++"))


def graphblas(entries: Any) -> tuple[Product, int] | None:
    """The product of SciPy's compressed rows by SuiteSparse:GraphBLAS on torch's number of threads, and its bytes; None without it."""
    if importlib.util.find_spec("graphblas") is None:
        return None
    import graphblas as gb

    gb.ss.config["nthreads"] = torch.get_num_threads()
    matrix, times = gb.Matrix.ss.import_csr(
        nrows=entries.shape[0], ncols=entries.shape[1], indptr=entries.indptr.astype("u8"), values=entries.data,
        col_indices=entries.indices.astype("u8"), sorted_cols=True,
    ), gb.semiring.plus_times  # fmt: skip

    def product(x: Tensor) -> Tensor:
        if len(x) == 1:
            y = matrix.mxv(gb.Vector.from_dense(x[0].numpy()), times).new().to_dense(0)[None]
        else:
            y = gb.Matrix.from_dense(x.numpy()).mxm(matrix.T, times).new().to_dense(0)
        return torch.from_numpy(y)

    return product, sum(part.nbytes for part in matrix.ss.export("csr").values() if hasattr(part, "nbytes"))


def products(weight_MK: Tensor, compiled: Callable[..., Any] | None) -> tuple[dict[str, Product], dict[str, int]]:
    """The arms of one matrix, and the bytes of its weights in each; without a compiler there is no arm `compiled`.

    NumPy's BLAS has torch's number of threads from here on.
    """
    import scipy.sparse

    threadpool_limits(torch.get_num_threads(), user_api="blas")
    rows, coded = Rows.of(weight_MK), Coded.of(weight_MK)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*CSR tensor support is in beta.*")
        long = weight_MK.to_sparse_csr()
    entries = scipy.sparse.csr_array(
        (long.values().numpy(), long.col_indices().int().numpy(), long.crow_indices().int().numpy()), shape=long.shape
    )
    kept, size = int(long.values().numel()), len(weight_MK) + 1
    arms: dict[str, Product] = {
        "dense": lambda x: F.linear(x, weight_MK), "sparse": LinearOf(rows, None), "codebook": LinearOf(coded, None),
        "NumPy": lambda x: torch.from_numpy(x.numpy() @ weight_MK.numpy().T),
        "CSR int64": lambda x: (long @ x[0])[None] if len(x) == 1 else (long @ x.t()).t().contiguous(),
        "SciPy": lambda x: torch.from_numpy((entries @ x.t().contiguous().numpy()).T).contiguous(),
    }  # fmt: skip
    if compiled is not None:
        arms["compiled"] = lambda x: compiled(x, weight_MK)
    dense = 4 * weight_MK.numel()
    held = {
        "dense": dense, "compiled": dense, "NumPy": dense, "sparse": resident(rows),
        "codebook": resident(coded), "CSR int64": 12 * kept + 8 * size, "SciPy": 8 * kept + 4 * size,
    }  # fmt: skip
    if other := graphblas(entries):
        arms["GraphBLAS"], held["GraphBLAS"] = other
    return {name: arms[name] for name in ARMS if name in arms}, held
