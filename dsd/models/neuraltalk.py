"""NeuralTalk's caption generator (Karpathy & Fei-Fei, CVPR 2015; Vinyals et al., CVPR 2015), as its code has it.

The image, encoded by `encoder` (We), is the first word; START, which is word 0, is the second. One LSTM layer; `decoder`
(Wd) scores the next word, 0 now meaning END. The matrix of the LSTM is one, over [input, hidden], gates in the order
input, forget, output, candidate; there is no tanh on the cell (`tanhC_version` 0) unless `tanh_cell` (PROTOCOLS 1.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

END = 0
"""The word that starts a sentence on the input side and ends it on the output side."""


class State(NamedTuple):
    """What the LSTM remembers: both (B, hidden)."""

    hidden_BH: Tensor
    cell_BH: Tensor


class NeuralTalk(nn.Module):
    """Image features (B, features) and words (B, T) -> scores of the next word (B, T + 1, vocabulary).

    features: of the frozen CNN. vocabulary: words, END included. encoding: of images and words alike. dropout: on what
    enters the LSTM and on what enters the decoder. `words` (`Ws`) is an embedding, so it is never pruned by default.
    """

    def __init__(
        self, *, features: int, vocabulary: int, encoding: int, hidden: int, dropout: float, tanh_cell: bool
    ) -> None:
        super().__init__()
        self.encoder = nn.Linear(features, encoding)
        self.words = nn.Embedding(vocabulary, encoding)
        self.lstm = nn.Linear(encoding + hidden, 4 * hidden)
        self.decoder = nn.Linear(hidden, vocabulary)
        self.dropout = nn.Dropout(dropout)
        self.tanh_cell = tanh_cell
        for p in self.parameters():
            nn.init.uniform_(p, -0.1, 0.1) if p.dim() > 1 else nn.init.zeros_(p)

    def forward(self, features_BF: Tensor, words_BT: Tensor) -> Tensor:
        """Scores (B, T + 1, V): at t, of word t given the image and the words before it; at T, of what follows the last.

        Words below 0 (padding) are read as END; what is scored there and after means nothing.
        ValueError unless features are (B, features) and words (B, T) of the same B.
        """
        if features_BF.shape != (len(words_BT), self.encoder.in_features) or words_BT.dim() != 2:
            found = f"{tuple(features_BF.shape)} and {tuple(words_BT.shape)}"
            raise ValueError(f"expected features (B, {self.encoder.in_features}) and words (B, T), found {found}")
        start_B1 = words_BT.new_full((len(words_BT), 1), END)
        words_BTE = self.words(torch.cat([start_B1, words_BT.clamp(min=END)], 1))
        inputs_BTE = self.dropout(torch.cat([self.encoder(features_BF)[:, None], words_BTE], 1))
        weight_input, weight_hidden = self._split()
        projected_TBG = F.linear(inputs_BTE, weight_input, self.lstm.bias).transpose(0, 1)
        state, hidden = self._empty(features_BF), []
        for projected_BG in projected_TBG:
            state = self._cell(projected_BG + F.linear(state.hidden_BH, weight_hidden), state)
            hidden.append(state.hidden_BH)
        return self.decoder(self.dropout(torch.stack(hidden[1:], 1)))  # type: ignore[no-any-return]

    def look(self, features_BF: Tensor) -> State:
        """The state after the image (B, features), before START; for `next`."""
        return self._step(self.encoder(features_BF), self._empty(features_BF))

    def next(self, words_B: Tensor, state: State) -> tuple[Tensor, State]:
        """(scores (B, vocabulary) of the word after `words_B` (B,), the state); the first word to give is END."""
        state = self._step(self.words(words_B), state)
        return self.decoder(state.hidden_BH), state

    @torch.no_grad()
    def begin_with_(self, counts: Sequence[int]) -> None:
        """The decoder's bias is the logarithm of each word's share, its largest 0, as NeuralTalk starts.

        counts: (vocabulary,) how often each word (END first) is in the training sentences, all at least 1.
        """
        if len(counts) != self.decoder.out_features or min(counts) < 1:
            raise ValueError(f"need {self.decoder.out_features} counts of at least 1, found {len(counts)}")
        logs = torch.tensor(counts, dtype=torch.float64).log()
        self.decoder.bias.copy_(logs - logs.max())

    def _step(self, inputs_BE: Tensor, state: State) -> State:
        inputs_BE = self.dropout(inputs_BE)
        return self._cell(self.lstm(torch.cat([inputs_BE, state.hidden_BH], 1)), state)

    def _cell(self, gates_BG: Tensor, state: State) -> State:
        width = self.decoder.in_features
        input_BH, forget_BH, output_BH = gates_BG[:, : 3 * width].sigmoid().chunk(3, 1)
        cell_BH = forget_BH * state.cell_BH + input_BH * gates_BG[:, 3 * width :].tanh()
        return State(output_BH * (cell_BH.tanh() if self.tanh_cell else cell_BH), cell_BH)

    def _split(self) -> tuple[Tensor, Tensor]:
        width = self.words.embedding_dim
        return self.lstm.weight[:, :width], self.lstm.weight[:, width:]

    def _empty(self, like: Tensor) -> State:
        zeros = torch.zeros(len(like), self.decoder.in_features, device=like.device, dtype=self.words.weight.dtype)
        return State(zeros, zeros)
