"""What the surviving weights may be: shared values (codebooks), found by k-means and trained with their sum of gradients."""

from dsd.quantization.codebook import Codebook
from dsd.quantization.kmeans import assign, kmeans
from dsd.quantization.shared import Shared

__all__ = ["Codebook", "Shared", "assign", "kmeans"]
