"""Beam search on scores made by hand, with a model of two words: what is likely to be said wins over what is heard."""

import gzip
import itertools

import pytest
import torch

from dsd.tasks import BeamSearch, beam_search
from dsd.tasks.speech import greedy
from tests.tasks.test_speech import ALPHABET, batch, task

ARPA = """\\data\\
ngram 1=5
ngram 2=4

\\1-grams:
-1.0\t<unk>
0\t<s>\t-0.5
-1.0\t</s>
-0.7\tab\t-0.5
-0.7\tba\t-0.5

\\2-grams:
-0.1\t<s> ab
-0.1\tab ab
-3.0\tab ba
-0.1\tab </s>

\\end\\
"""
HOW = {"lm": None, "lexicon": None, "beam": 2000, "lm_weight": 1.0, "word_score": 0.0, "beam_threshold": 1000.0}


@pytest.fixture
def arpa(tmp_path):
    (tmp_path / "words.arpa").write_text(ARPA)
    return str(tmp_path / "words.arpa")


def heard(text, other, sure=0.6):
    """Scores of a path, `sure` of `text` and less so of `other`, of the same length; `_` is the blank."""
    scores = torch.full((1, len(text), 5), 1e-3)
    for step, (a, b) in enumerate(zip(text, other, strict=True)):
        for letter, share in ((b, 1 - sure), (a, sure)):
            scores[0, step, 0 if letter == "_" else 1 + ALPHABET.index(letter)] = share
    return scores.log()


def test_without_a_model_it_is_the_most_likely_text_of_all_its_alignments():
    draw = torch.Generator().manual_seed(0)
    decode = BeamSearch(ALPHABET, **HOW)
    for _ in range(10):
        scores = 2 * torch.randn(1, 4, 5, generator=draw)
        scores[..., 1] = -30  # Flashlight begins behind a space, which makes no difference to one word
        log = scores.log_softmax(2)[0]
        total = {}
        for path in itertools.product(range(5), repeat=4):
            text = "".join(ALPHABET[n - 1] for n, _ in itertools.groupby((*path, 1)) if n)  # a space at the end
            total[text] = total.get(text, 0.0) + float(sum(log[t, n] for t, n in enumerate(path)).exp())
        likely = {" ".join(text.split()) for text, p in total.items() if p > 0.999 * max(total.values())}
        assert set(decode(scores, torch.tensor([4]))) == likely


def test_the_model_corrects_what_was_heard(arpa):
    scores = heard("ab ba", "ab ab")
    steps = torch.tensor([5])
    assert greedy(scores, steps, ALPHABET) == ["ab ba"]
    assert BeamSearch(ALPHABET, **HOW)(scores, steps) == ["ab ba"]
    assert BeamSearch(ALPHABET, **HOW | {"lm": arpa})(scores, steps) == ["ab ab"]
    assert BeamSearch(ALPHABET, **HOW | {"lm": arpa, "lm_weight": 0.01})(scores, steps) == ["ab ba"]


def test_words_are_those_of_the_model_or_of_the_lexicon(arpa, tmp_path):
    steps = torch.tensor([2])
    assert BeamSearch(ALPHABET, **HOW | {"lm": arpa})(heard("aa", "ab"), steps) == ["ab"]
    (tmp_path / "words").write_text("BA\nnot-spelled\n")
    assert BeamSearch(ALPHABET, **HOW | {"lm": arpa, "lexicon": str(tmp_path / "words")})(heard("ab", "ba"), steps) == [
        "ba"
    ]
    with gzip.open(tmp_path / "words.arpa.gz", "wt") as file:
        file.write(ARPA)
    assert beam_search.vocabulary(tmp_path / "words.arpa.gz", None, ALPHABET) == ["ab", "ba"]


def test_steps_behind_the_end_do_not_count(arpa):
    decode = BeamSearch(ALPHABET, **HOW | {"lm": arpa})
    scores = torch.cat([heard("ab ab", "ab ab"), heard("ba ba", "ba ba")])
    assert decode(scores, torch.tensor([5, 2])) == ["ab ab", "ba"]
    assert decode(scores, torch.tensor([2, 0])) == ["ab", ""]


def test_the_task_tests_with_it_and_validates_greedily(arpa):
    scores = heard("ab ba", "ab ab")
    speech = task(scores)
    speech._decoder = BeamSearch(ALPHABET, **HOW | {"lm": arpa})
    heard_batch = batch(["ab ab"], [5])
    assert speech._measure("test", heard_batch) == [("ab ab", "ab ab")]
    assert speech._measure("val", heard_batch) == [("ab ab", "ab ba")]
    assert speech(heard_batch[0], heard_batch[1]) == ["ab ab"]


def test_what_is_missing_is_named_with_the_remedy(arpa, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"none\.arpa is not there"):
        BeamSearch(ALPHABET, **HOW | {"lm": str(tmp_path / "none.arpa")})
    with pytest.raises(ValueError, match="a lexicon without a language model"):
        BeamSearch(ALPHABET, **HOW | {"lexicon": arpa})
    with pytest.raises(ValueError, match="beam must be at least 1"):
        BeamSearch(ALPHABET, **HOW | {"beam": 0})
    (tmp_path / "model.bin").write_bytes(b"mmap lm http://kheafield.com/code format version 5\n\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"no ARPA file.* task\.decoder\.lexicon=FILE"):
        BeamSearch(ALPHABET, **HOW | {"lm": str(tmp_path / "model.bin")})
    with pytest.raises(ValueError, match="no word that can be spelled"):
        BeamSearch(" xyz", **HOW | {"lm": arpa})
    monkeypatch.setattr(beam_search.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'dsd\[speech\]'"):
        BeamSearch(ALPHABET, **HOW)
