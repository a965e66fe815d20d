"""Captions: BLEU against other libraries and by hand, beam search against all sentences, the loss by hand, a whole run."""

import itertools
import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.text import BLEUScore

from dsd.models import NeuralTalk
from dsd.tasks import Captioning
from dsd.tasks.beam import decode
from dsd.tasks.bleu import Bleu
from tests.warm import call

ROOT = Path(__file__).parents[2]
WORDS = st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=1, max_size=7)


def bleu(sentences, references):
    metric = Bleu()
    metric.update(sentences, references)
    return {name: float(value) for name, value in metric.compute().items()}


def test_bleu_by_hand():
    """'the the the' against 'the cat': 1 of 3 unigrams after clipping; of references of 2 and 4 words the shorter counts."""
    assert bleu([["the"] * 3], [[["the", "cat"]]])["bleu1"] == pytest.approx(100 / 3)
    ours = ["a", "b", "c"]
    assert bleu([ours], [[["a", "b"], ["x", "y", "z", "w"]]])["bleu1"] == pytest.approx(200 / 3)
    assert bleu([["a"]], [[["a", "b", "c"]]])["bleu1"] == pytest.approx(100 * math.exp(1 - 3))
    assert bleu([["a", "b"]], [[["a", "b"]]])["bleu2"] == pytest.approx(100)
    assert bleu([["a", "b"]], [[["b", "a"]]])["bleu2"] == 0
    assert bleu([[]], [[["a"]]])["bleu1"] == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(WORDS, WORDS, WORDS), min_size=1, max_size=4))
def test_bleu_is_torchmetrics(triples):
    """With references of one length each, where the two count the same reference."""
    sentences = [ours for ours, _, _ in triples]
    references = [[one, (two * 7)[: len(one)]] for _, one, two in triples]
    found = bleu(sentences, references)
    for n in (1, 2, 3, 4):
        peer = BLEUScore(n)([" ".join(s) for s in sentences], [[" ".join(r) for r in rs] for rs in references])
        assert found[f"bleu{n}"] == pytest.approx(100 * float(peer), abs=1e-3)


def test_bleu_of_parts_is_bleu_of_all():
    whole, parts = Bleu(), Bleu()
    ours, references = [["a", "b", "c"], ["c", "d"]], [[["a", "b", "d"]], [["c", "d", "e"]]]
    whole.update(ours, references)
    for one, several in zip(ours, references, strict=True):
        parts.update([one], [several])
    assert {k: float(v) for k, v in whole.compute().items()} == {k: float(v) for k, v in parts.compute().items()}


def network(vocabulary=5):
    torch.manual_seed(1)
    net = NeuralTalk(features=3, vocabulary=vocabulary, encoding=4, hidden=4, dropout=0.0, tanh_cell=False).eval()
    for p in net.parameters():
        torch.nn.init.normal_(p)
    return net


@torch.no_grad()
def score(net, features, sentence, longest):
    words = torch.tensor([sentence], dtype=torch.long).view(1, -1)
    logs = net(features[None], words)[0].log_softmax(1)
    spoken = [*sentence, 0][:longest]
    return float(sum(logs[t, word] for t, word in enumerate(spoken)))


def test_a_wide_beam_finds_the_best_of_all_sentences():
    net, longest = network(), 3
    features = torch.randn(4, 3)
    every = [s for n in range(longest + 1) for s in itertools.product(range(1, 5), repeat=n)]
    for image, found in zip(features, decode(net, features, beam=200, longest=longest), strict=True):
        best = max(every, key=lambda s: score(net, image, s, longest))
        assert found == list(best)


def test_one_beam_is_greedy():
    net, features = network(), torch.randn(5, 3)
    for image, found in zip(features, decode(net, features, beam=1, longest=6), strict=True):
        state, word, said = net.look(image[None]), torch.zeros(1, dtype=torch.long), []
        for _ in range(6):
            scores, state = net.next(word, state)
            word = scores.argmax(1)
            if word == 0:
                break
            said.append(int(word))
        assert found == said


def test_images_of_a_batch_do_not_disturb_each_other():
    net, features = network(), torch.randn(6, 3)
    together = decode(net, features, beam=3, longest=5)
    assert together == [decode(net, one[None], beam=3, longest=5)[0] for one in features]


def test_beams_and_lengths_below_one_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        decode(network(), torch.randn(1, 3), beam=0, longest=3)


def test_the_loss_is_the_sum_over_words_and_the_end():
    net = network()
    task = Captioning(net, lambda groups: torch.optim.SGD(groups, 0.1), beam=2, val_beam=1, longest=5, shown_images=1)
    features, words = torch.randn(2, 3), torch.tensor([[3, -1], [1, 2]])
    expected = -(score(net, features[0], [3], 9) + score(net, features[1], [1, 2], 9))
    total, count = task._loss(features, words)
    assert float(total.detach()) == pytest.approx(expected, rel=1e-5)
    assert int(count) == 5
    assert float(task.training_step((features, words, torch.arange(2)), 0).detach()) == pytest.approx(
        expected / 2, rel=1e-5
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small run on rendered scenes, by the command a user gives."""
    runs = tmp_path_factory.mktemp("runs")
    words = [
        "experiment=dsd_neuraltalk_flickr8k", "track=none", "threads=1",
        "profiles.quick.dense=2", "profiles.quick.sparse=1.5", "profiles.quick.redense=1", "data.source.train=60",
        "data.source.val=10", "data.source.test=12", "model.hidden=32", "model.encoding=32", "data.batch_size=25",
        f"data.cache={runs / 'cache'}", f"runs={runs / 'r'}",
    ]  # fmt: skip
    code, said = call(*words, cwd=runs)
    assert code == 0, said
    (folder,) = (runs / "r").iterdir()
    return folder, json.loads((folder / "result.json").read_text()), said


def test_a_run_ends_with_bleu_and_perplexity(finished):
    _, result, told = finished
    assert [p["name"] for p in result["metrics"]["phases"]] == ["dense", "sparse", "redense"]
    assert result["metrics"]["phases"][1]["sparsity"] == pytest.approx(0.8, abs=0.01)
    assert set(result["metrics"]["test"]) == {
        f"test/{n}" for n in ("bleu1", "bleu2", "bleu3", "bleu4", "loss", "perplexity", "n")
    }
    assert result["metrics"]["phases"][2]["metrics"]["val/perplexity"] < 30, "the grammar has about 30 words"
    assert "validation BLEU-4" in told
    assert "n = 12 images" in told


def test_samples_say_what_each_phase_saw(finished):
    folder, result, _ = finished
    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    ends = {str(phase["end"]) for phase in result["metrics"]["phases"]}
    shown = [one for one in samples if one["part"] == "val"]
    assert len(shown) == 8
    assert all(ends <= set(one["captions"]) for one in shown)
    assert sum(one["part"] == "test" for one in samples) == 12
    assert all(len(one["references"]) == 5 for one in samples)
