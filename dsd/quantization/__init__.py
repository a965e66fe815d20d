"""What the weights may be: shared values (codebooks), three values (ternary), or of low rank for comparison."""

from dsd.quantization.codebook import Codebook
from dsd.quantization.kmeans import assign
from dsd.quantization.lowrank import LowRank
from dsd.quantization.shared import Shared
from dsd.quantization.ternary import Ternary

__all__ = ["Codebook", "LowRank", "Shared", "Ternary", "assign"]
