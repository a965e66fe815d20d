"""Speech: greedy decoding, the loss against all alignments, WER by hand, a whole run by the user's command."""

import itertools
import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dsd.run.training import gathered
from dsd.tasks import Speech
from dsd.tasks.speech import greedy
from tests.warm import call

ROOT = Path(__file__).parents[2]
ALPHABET = " 'ab"


def steps(text):
    """Scores whose best symbols are those of `text`, `_` being the blank."""
    best = [0 if letter == "_" else 1 + ALPHABET.index(letter) for letter in text]
    return torch.nn.functional.one_hot(torch.tensor([best]), 5).float()


@pytest.mark.parametrize(
    ("path", "text"), [("aa_ab", "aab"), ("____", ""), ("a_ _b", "a b"), ("_ a _  ", "a"), ("abab", "abab")]
)
def test_greedy_decoding(path, text):
    assert greedy(steps(path), torch.tensor([len(path)]), ALPHABET) == [text]
    assert greedy(steps(path + "bb"), torch.tensor([len(path)]), ALPHABET) == [text], "steps behind the end don't count"


class Says(nn.Module):
    """Gives what it is told, whatever it hears."""

    def __init__(self, scores):
        super().__init__()
        self.scores = nn.Parameter(scores)

    def forward(self, x, frames):
        return self.scores, frames


def task(scores):
    return Speech(Says(scores), lambda groups: torch.optim.SGD(groups, 0.1), alphabet=ALPHABET, flush_denormal=True)


def batch(texts, frames):
    numbers = [[1 + ALPHABET.index(c) for c in text] for text in texts]
    longest = max(map(len, numbers))
    symbols = torch.tensor([[*n, *[0] * (longest - len(n))] for n in numbers])
    return (
        torch.zeros(len(texts), max(frames), 3),
        torch.tensor(frames),
        symbols,
        torch.tensor([len(n) for n in numbers]),
        torch.arange(len(texts)),
    )


def test_the_loss_is_the_sum_over_all_alignments():
    torch.manual_seed(0)
    scores = torch.randn(2, 4, 5)
    texts, frames = ["ab", "aa"], [4, 3]
    expected = 0.0
    for row, text, length in zip(scores.softmax(2), texts, frames, strict=True):
        found = 0.0
        for path in itertools.product("_ 'ab", repeat=length):
            collapsed = "".join(c for c, _ in itertools.groupby(path) if c != "_")
            if collapsed == text:
                found += math.prod(float(row[t, 0 if c == "_" else 1 + ALPHABET.index(c)]) for t, c in enumerate(path))
        expected -= math.log(found) / 2
    assert float(task(scores).training_step(batch(texts, frames), 0).detach()) == pytest.approx(expected, rel=1e-5)


def test_wer_and_cer_by_hand():
    """One word of four is wrong, and one of six letters and spaces."""
    measured = task(torch.cat([steps("a b a"), steps("b____")]))
    measured._measure("val", batch(["a b b", "b"], [5, 1]))
    values = measured._metrics["val"].compute()
    assert float(values["wer"]) == pytest.approx(1 / 4)
    assert float(values["cer"]) == pytest.approx(1 / 6)


@pytest.mark.parametrize("network", ["1", "2"])
def test_a_run_from_sound_to_transcripts(network, tmp_path):
    size = ["model.width=24"] + (["model.stride=2"] if network == "1" else ["model.channels=2", "model.depth=1"])
    words = [
        f"experiment=dsd_deepspeech{network}", "track=none", "threads=1", *size,
        "profiles.quick.dense=1", "profiles.quick.sparse=0.5", "profiles.quick.redense=0.5", "data.source.train=24",
        "data.source.val=4", "data.source.test=5", "data.batch_size=8", f"data.cache={tmp_path / 'cache'}", f"runs={tmp_path / 'r'}",
    ]  # fmt: skip
    code, said = call(*words, cwd=tmp_path)
    assert code == 0, said
    (folder,) = (tmp_path / "r").iterdir()
    result = json.loads((folder / "result.json").read_text())
    assert set(result["metrics"]["test"]) == {"test/wer", "test/cer", "test/loss", "test/n"}
    assert result["metrics"]["phases"][1]["sparsity"] == pytest.approx(0.5, abs=0.01)
    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert len(samples) == 5
    wer = 100 * sum(one["errors"] for one in samples) / sum(one["words"] for one in samples)
    assert wer == pytest.approx(result["metrics"]["test"]["test/wer"], abs=1e-3)
    assert "n = 5 utterances" in said


def test_an_utterance_of_no_words_counts_what_was_heard():
    heard = task(torch.cat([steps("a_b"), steps("a b"), steps("___")]))
    heard.trainer = SimpleNamespace(datamodule=SimpleNamespace(name_of=str))
    heard.test_step(batch(["", "a b", ""], [3, 3, 3]), 0)
    assert [(one["words"], one["errors"]) for one in heard.samples] == [(0, 1), (2, 0), (0, 0)]


def test_samples_of_all_processes_are_kept_once_and_in_order(monkeypatch):
    shares = [[{"utterance": "0"}, {"utterance": "2"}], [{"utterance": "1"}, {"utterance": "0"}]]  # the last fills up
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_gather_object", lambda out, mine: out.__setitem__(slice(None), shares))
    assert [one["utterance"] for one in gathered(shares[0])] == ["0", "1", "2"]
