"""Transcripts by beam search over CTC's scores, with an n-gram language model: torchaudio's decoder (Flashlight and KenLM).

The tables are decoded greedily, without one. Needs the extra `speech`: pip install 'dsd[speech]'.
"""

from __future__ import annotations

import gzip
import importlib.util
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SPACE = "|"  # stands for the space in lists of symbols, as usual
IMPOSSIBLE = -1e4  # log-probability
MARKS = {"<s>", "</s>", "<unk>"}


class BeamSearch:
    """Finds the text with the largest log P(text | sound) + lm_weight log P_lm(text) + word_score x words among `beam`.

    alphabet: symbols 1, 2, ...; 0 is the blank. lm: an n-gram model of words, ARPA (also .gz) or KenLM's binary, or None:
    then any text is possible. With it, texts are made of the words of `lexicon` (a word a line), or of the ARPA file.
    beam_threshold: beams that much worse than the best are given up. ModuleNotFoundError, FileNotFoundError and
    ValueError say what is missing and what to do.
    """

    def __init__(
        self,
        alphabet: str,
        *,
        lm: str | None,
        lexicon: str | None,
        beam: int,
        lm_weight: float,
        word_score: float,
        beam_threshold: float,
    ) -> None:
        if importlib.util.find_spec("flashlight") is None:
            raise ModuleNotFoundError(
                "beam search needs Flashlight's decoder: pip install 'dsd[speech]' (or task=speech: greedy decoding)"
            )
        if beam < 1 or beam_threshold <= 0:
            raise ValueError(f"beam must be at least 1 and beam_threshold above 0, found {beam} and {beam_threshold}")
        if " " not in alphabet:
            raise ValueError(f"the alphabet {alphabet!r} has no space, and words end with one")
        if lexicon is not None and lm is None:
            raise ValueError("a lexicon without a language model: name the model with task.decoder.lm=FILE")
        from torchaudio.models.decoder import ctc_decoder

        self._alphabet = alphabet
        tokens = ["-", *(SPACE if letter == " " else letter for letter in alphabet)]
        how: dict[str, Any] = {"nbest": 1, "beam_size": beam, "beam_threshold": beam_threshold, "lm_weight": lm_weight,
                               "word_score": word_score, "log_add": True, "blank_token": "-", "sil_token": SPACE}  # fmt: skip
        if lm is None:
            self._decoder: Any = ctc_decoder(lexicon=None, tokens=tokens, lm=None, **how)
            return
        words = vocabulary(_there(lm), None if lexicon is None else _there(lexicon), alphabet)
        with tempfile.NamedTemporaryFile("w", suffix=".lexicon", encoding="utf-8") as file:
            file.writelines(f"{word} {' '.join(word)} {SPACE}\n" for word in words)
            file.flush()
            self._decoder = ctc_decoder(lexicon=file.name, tokens=tokens, lm=lm, **how)

    def __call__(self, scores_BTS: Tensor, steps_B: Tensor) -> list[str]:
        """The best text of each utterance, of its first `steps` steps. scores: (B, T, symbols), not normalised."""
        log_BTS = scores_BTS.detach().float().log_softmax(2).cpu()
        end_1S = log_BTS.new_full((1, log_BTS.shape[2]), IMPOSSIBLE)
        end_1S[0, 1 + self._alphabet.index(" ")] = (
            0.0  # where the utterance ends, its last word does: a space, for sure
        )
        texts = []
        for log_TS, count in zip(log_BTS, steps_B.tolist(), strict=True):
            ended_TS = torch.cat([log_TS[:count], end_1S])
            found = self._decoder(ended_TS[None], torch.tensor([count + 1]))[0]
            texts.append(self._text(found[0]) if found else "")
        return texts

    def _text(self, found: Any) -> str:
        if found.words:
            return " ".join(found.words)
        letters = (self._alphabet[number - 1] for number in found.tokens.tolist() if number > 0)
        return " ".join("".join(letters).split())


def vocabulary(lm: Path, lexicon: Path | None, alphabet: str) -> list[str]:
    """The words that may be said: of `lexicon`, else of the ARPA file `lm`. ValueError if none can be spelled, or read."""
    if lexicon is not None:
        words: Sequence[str] = [line.split()[0].lower() for line in _lines(lexicon) if line.strip()]
    else:
        words = [word.lower() for word in _unigrams(lm) if word not in MARKS]
    kept = sorted({word for word in words if set(word) <= set(alphabet.replace(" ", ""))})
    if not kept:
        raise ValueError(f"{lexicon or lm} has no word that can be spelled with {alphabet.strip()!r}")
    return kept


def _unigrams(path: Path) -> Iterator[str]:
    inside = False
    try:
        for line in _lines(path):
            if line.startswith("\\"):
                if inside:
                    return
                inside = line.strip() == "\\1-grams:"
            elif inside and len(parts := line.split()) >= 2:
                yield parts[1]
    except UnicodeDecodeError:
        raise ValueError(
            f"{path} is no ARPA file, so it doesn't list its words: name them, a word a line, with task.decoder.lexicon=FILE"
        ) from None


def _lines(path: Path) -> Iterator[str]:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        yield from file


def _there(name: str) -> Path:
    path = Path(name)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: task.decoder.lm and task.decoder.lexicon name files")
    return path
