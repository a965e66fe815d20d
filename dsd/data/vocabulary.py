"""The words a caption may have: those that occur often enough in the training sentences. Word 0 is END."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

END = "<end>"


@dataclass(frozen=True)
class Vocabulary:
    """`words[n]` is word n, `counts[n]` how often it occurs in the training sentences; the most frequent come first."""

    words: tuple[str, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, sentences: Iterable[Sequence[str]], *, min_count: int) -> Vocabulary:
        """END (once a sentence) and all words that occur `min_count` times or more. ValueError if there is none."""
        sentences = list(sentences)
        counted = Counter(word for sentence in sentences for word in sentence)
        kept = sorted((word for word, n in counted.items() if n >= min_count), key=lambda word: (-counted[word], word))
        if not kept:
            raise ValueError(f"no word occurs {min_count} times in {len(sentences)} sentences: lower data.min_count")
        return cls((END, *kept), (len(sentences), *(counted[word] for word in kept)))

    def __len__(self) -> int:
        return len(self.words)

    def numbers_of(self, sentence: Iterable[str]) -> list[int]:
        """Word numbers; words that are not in the vocabulary are left out, as NeuralTalk does."""
        known = self._numbers
        return [known[word] for word in sentence if word in known]

    def words_of(self, numbers: Iterable[int]) -> list[str]:
        """The words of a sentence."""
        return [self.words[number] for number in numbers]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words) if number}
