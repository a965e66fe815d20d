"""Archives for other programs: ONNX with shared weights as codebooks, compressed sparse rows, plain tensors.

Each file appears whole or not at all. What the numbers are is never changed; only ONNX needs the network itself.
"""

from dsd.export.network import network
from dsd.export.onnx import save_onnx
from dsd.export.tensors import csr, save_csr, save_tensors

__all__ = ["csr", "network", "save_csr", "save_onnx", "save_tensors"]
