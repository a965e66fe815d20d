"""Sentences from a caption generator: greedy (one beam) or beam search, a batch of images at a time.

As NeuralTalk decodes: beams are ranked by the sum of log-probabilities, without a correction for length.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dsd.models.neuraltalk import END, NeuralTalk, State


@torch.no_grad()
def decode(net: NeuralTalk, features_BF: Tensor, *, beam: int, longest: int) -> list[list[int]]:
    """The best sentence found for each image, as word numbers without END, of at most `longest` words.

    features_BF: (B, features); beam: 1 is greedy. A beam that has ended keeps its score. ValueError if either is < 1.
    """
    if beam < 1 or longest < 1:
        raise ValueError(f"beam and longest must be at least 1, found {beam} and {longest}")
    images, vocabulary = len(features_BF), net.decoder.out_features
    beam = min(beam, vocabulary)
    state = net.look(features_BF)
    state = State(*(part.repeat_interleave(beam, 0) for part in state))
    device = features_BF.device
    first = torch.arange(images, device=device)[:, None] * beam
    score_IB = torch.full((images, beam), -torch.inf, device=device)
    score_IB[:, 0] = 0  # all beams begin alike: only one may be continued
    word = torch.full((images * beam,), END, device=device)
    ended_IB = torch.zeros(images, beam, dtype=torch.bool, device=device)
    said = torch.full((images * beam, longest), END, device=device)
    for position in range(longest):
        scores, state = net.next(word, state)
        log_IBV = scores.float().log_softmax(1).view(images, beam, vocabulary)
        log_IBV = torch.where(ended_IB[..., None], -torch.inf, log_IBV)
        log_IBV[..., END] = torch.where(ended_IB, 0.0, log_IBV[..., END])
        score_IB, best_IB = (score_IB[..., None] + log_IBV).flatten(1).topk(beam, 1)
        parent = (first + best_IB // vocabulary).flatten()
        word = (best_IB % vocabulary).flatten()
        said = said[parent]
        said[:, position] = word
        state = State(*(part[parent] for part in state))
        ended_IB = (word == END).view(images, beam)
        if ended_IB[:, 0].all():  # what comes later can only be worse
            break
    best = said[(first[:, 0] + score_IB.argmax(1)).flatten()]
    return [row[: row.index(END)] if END in row else row for row in best.tolist()]
