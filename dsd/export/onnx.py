"""A network as an ONNX file whose shared weights are a codebook and one byte a weight.

Each float initializer of at most 256 distinct values becomes Gather(codebook, Cast(index)), or with the 0 besides 256 others, which
is a full codebook of 8 bits, the same with two bytes a weight; the runtime unfolds it when it loads the file. Needs the extra `onnx`.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from dsd.results.store import atomic_write

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

BYTE, MOST = 256, 257  # values that a byte can number, and those of a codebook of 8 bits with the 0


@dataclass(frozen=True)
class Exported:
    """What the file holds: bytes in all, weights as codebook and byte, weights as floats."""

    size: int
    shared: int
    plain: int


def save_onnx(model: nn.Module, path: Path, *, shape: Sequence[int]) -> Exported:
    """`path` holds `model` for inputs "images" (any number, *shape) float32, with outputs "logits".

    Written whole or not at all. ValueError without the extra, for another suffix, or a shape the network refuses.
    """
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"ONNX export needs {' and '.join(missing)}: pip install 'dsd[onnx]'")
    if path.suffix != ".onnx":
        raise ValueError(f"ONNX is written to an .onnx file, not to {path}")
    import onnx

    try:
        example = torch.zeros(2, *shape)  # two, since an exporter takes one for a constant
        with torch.no_grad():
            model.eval()(example)
    except (RuntimeError, ValueError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"the network does not take images of shape {tuple(shape)}: {reason}; see --input") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, about itself
        program: Any = torch.onnx.export(
            model, (example,), dynamo=True, input_names=["images"], output_names=["logits"], verbose=False,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            optimize=False,  # it would fold BatchNorm into the weights, which then share no values
        )  # fmt: skip
    proto = program.model_proto
    shared, plain = share_(proto.graph)
    bare_(proto)
    onnx.checker.check_model(proto)
    data = proto.SerializeToString()
    atomic_write(path, data)
    return Exported(len(data), shared, plain)


def bare_(proto: ModelProto) -> None:
    """The exporter's notes are gone: stack traces with this machine's paths, hundreds of bytes a node."""
    for part in (
        proto,
        proto.graph,
        *proto.graph.node,
        *proto.graph.value_info,
        *proto.graph.input,
        *proto.graph.output,
    ):
        del part.metadata_props[:]
        part.doc_string = ""
    for tensor in proto.graph.initializer:
        del tensor.metadata_props[:]


def share_(graph: GraphProto) -> tuple[int, int]:
    """Each float initializer that gets smaller by it is a codebook and bytes; returns weights shared and not shared."""
    shared = plain = 0
    nodes: list[NodeProto] = []
    kept: list[TensorProto] = []
    for tensor in graph.initializer:
        made = _codebook(tensor)
        if made is None:
            kept.append(tensor)
            plain += int(np.prod(tensor.dims, dtype=np.int64))
        else:
            kept += made[0]
            nodes += made[1]
            shared += int(np.prod(tensor.dims, dtype=np.int64))
    nodes += graph.node  # what makes a weight comes before what takes it
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)
    return shared, plain


def _codebook(tensor: TensorProto) -> tuple[list[TensorProto], list[NodeProto]] | None:
    from onnx import TensorProto as Types
    from onnx import helper, numpy_helper

    if tensor.data_type != Types.FLOAT:
        return None
    weight = numpy_helper.to_array(tensor)
    bits = np.ascontiguousarray(weight).view(np.int32)  # by bits: -0.0 is not 0.0
    values, index = np.unique(bits, return_inverse=True)
    if len(values) > MOST or weight.size <= 4 * len(values):
        return None
    names = [f"{tensor.name}.codebook", f"{tensor.name}.index", f"{tensor.name}.index32"]
    codebook = numpy_helper.from_array(values.view(np.float32), names[0])
    bytes_ = numpy_helper.from_array(
        index.astype(np.uint8 if len(values) <= BYTE else np.uint16).reshape(weight.shape), names[1]
    )
    cast = helper.make_node("Cast", [names[1]], [names[2]], name=f"{tensor.name}.cast", to=Types.INT32)
    gather = helper.make_node("Gather", [names[0], names[2]], [tensor.name], name=f"{tensor.name}.gather", axis=0)
    return [codebook, bytes_], [cast, gather]
