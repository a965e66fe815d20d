"""Corpus BLEU-1 to BLEU-4 as NeuralTalk's multi-bleu.perl counts it: clipped n-gram matches, closest reference length.

The counting is sacrebleu's, without its tokenisation and smoothing. Of two references equally close, the shorter counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from sacrebleu.metrics.bleu import BLEU
from torch import Tensor
from torchmetrics import Metric

ORDERS = (1, 2, 3, 4)


class Bleu(Metric):
    """`compute()` is {"bleu1": ..., ..., "bleu4": ...}, each 0 to 100, over all sentences given since `reset`."""

    full_state_update = False
    matches: Tensor
    totals: Tensor
    lengths: Tensor

    def __init__(self) -> None:
        super().__init__()
        count = torch.zeros(len(ORDERS), dtype=torch.float64)
        self.add_state("matches", count.clone(), dist_reduce_fx="sum")
        self.add_state("totals", count.clone(), dist_reduce_fx="sum")
        self.add_state("lengths", torch.zeros(2, dtype=torch.float64), dist_reduce_fx="sum")  # ours, the references'
        self._count = BLEU(tokenize="none", smooth_method="none", max_ngram_order=len(ORDERS))

    def update(self, sentences: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> None:
        """Count sentences (N of them, as words), each with at least one reference. ValueError for other numbers."""
        if len(sentences) != len(references) or not all(references):
            raise ValueError(f"{len(sentences)} sentences, {len(references)} lists of references, none may be empty")
        for sentence, several in zip(sentences, references, strict=True):
            found = self._count.corpus_score([" ".join(sentence)], [[" ".join(words)] for words in several])
            self.matches += torch.tensor(found.counts, dtype=torch.float64, device=self.matches.device)
            self.totals += torch.tensor(found.totals, dtype=torch.float64, device=self.totals.device)
            self.lengths += torch.tensor(
                [found.sys_len, found.ref_len], dtype=torch.float64, device=self.lengths.device
            )

    def compute(self) -> dict[str, Tensor]:
        """BLEU-n: 100 x brevity penalty x geometric mean of the precisions of 1-grams to n-grams; 0 if one is 0."""
        ours, reference = self.lengths.tolist()
        penalty = 0.0 if ours == 0 else min(1.0, math.exp(1 - reference / ours))
        logs = (self.matches / self.totals.clamp(min=1)).log()
        return {f"bleu{n}": 100 * penalty * logs[:n].mean().exp() for n in ORDERS}
