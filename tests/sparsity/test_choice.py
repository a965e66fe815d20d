"""Criteria, granularities, allocations, and which parameters are pruned at all."""

from dataclasses import replace
from functools import partial

import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dsd.sparsity import Gradual, Mask, Sparse, density, prunable
from dsd.sparsity.allocation import across_layers, erk, per_layer, uniform
from dsd.sparsity.criteria import Movement, Taylor, magnitude, random
from dsd.sparsity.granularity import block, element, filter, kernel, n_of_m, vector
from dsd.sparsity.select import derived

WEIGHT = torch.randn(8, 12, 3, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("granularity", "piece"),
    [
        (element, (1, 1, 1, 1)),
        (vector, (1, 1, 1, 3)),
        (kernel, (1, 1, 3, 3)),
        (filter, (1, 12, 3, 3)),
    ],
)
def test_pieces_are_whole_and_counted_exactly(granularity, piece):
    keep = granularity(WEIGHT.abs(), 0.25)
    assert keep.shape == WEIGHT.shape
    assert int(keep.sum()) == WEIGHT.numel() // 4
    tiles = keep.reshape(
        8 // piece[0], piece[0], 12 // piece[1], piece[1], 3 // piece[2], piece[2], 3 // piece[3], piece[3]
    )
    inside = tiles.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)
    assert torch.equal(inside.all(-1), inside.any(-1))


@pytest.mark.parametrize("granularity", [vector, kernel])
def test_a_matrix_counts_as_1x1_kernels(granularity):
    score = WEIGHT[..., 0, 0].abs()
    assert torch.equal(granularity(score, 0.5), element(score, 0.5))


@pytest.mark.parametrize("shape", [(8, 12), (9, 13), (8, 3, 3, 3)])
def test_blocks(shape):
    keep = block(torch.rand(shape), 0.5, rows=4, columns=4).flatten(1)
    rows, columns = keep.shape
    tiles = [keep[r : r + 4, c : c + 4] for r in range(0, rows, 4) for c in range(0, columns, 4)]
    kept = [bool(t.all()) for t in tiles]
    assert kept == [bool(t.any()) for t in tiles]
    assert sum(kept) == int(len(tiles) * 0.5 + 0.5)


@pytest.mark.parametrize("weight", [WEIGHT, WEIGHT[..., 0, 0]])
def test_n_of_m_along_the_inputs(weight):
    keep = n_of_m(weight.abs(), 0.5, n=2, m=4)
    groups = keep.movedim(1, -1).reshape(-1, 4)
    assert bool((groups.sum(1) == 2).all())
    assert float((weight.abs() * keep).sum()) == pytest.approx(
        float(weight.abs().movedim(1, -1).reshape(-1, 4).topk(2).values.sum()), rel=1e-5
    )


def test_n_of_m_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match=r"sparsity=0\.5"):
        n_of_m(WEIGHT, 0.3, n=2, m=4)
    with pytest.raises(ValueError, match="multiple of 4"):
        n_of_m(torch.rand(3, 10), 0.5, n=2, m=4)


def test_uniform_and_table():
    scores = {"conv.weight": WEIGHT, "fc.weight": WEIGHT[:2]}
    assert uniform(scores, 0.3) == {"conv.weight": 0.7, "fc.weight": 0.7}
    assert per_layer(scores, 0.5, table={"fc*": 0.75}) == {"conv.weight": 0.5, "fc.weight": 0.25}
    with pytest.raises(ValueError, match="'fd\\*' matches no parameter"):
        per_layer(scores, 0.5, table={"fd*": 0.75})
    with pytest.raises(ValueError, match="both"):
        per_layer(scores, 0.5, table={"fc*": 0.75, "*.weight": 0.5})


@given(st.floats(0, 0.99), st.integers(0, 99))
def test_across_layers_is_one_top_k(sparsity, seed):
    g = torch.Generator().manual_seed(seed)
    scores = {n: torch.randint(0, 9, (s,), generator=g).float() for n, s in (("a", 50), ("b", 7), ("c", 120))}
    densities = across_layers(scores, sparsity)
    together = element(torch.cat(list(scores.values())), 1 - sparsity)
    apart = torch.cat([element(s, densities[n]) for n, s in scores.items()])
    assert torch.equal(apart, together)


@given(st.floats(0.0, 0.98))
def test_erk_meets_its_budget(sparsity):
    scores = {"a": torch.zeros(16, 3, 3, 3), "b": torch.zeros(64, 16, 3, 3), "c": torch.zeros(10, 64)}
    densities = erk(scores, sparsity)
    kept = sum(densities[n] * s.numel() for n, s in scores.items())
    assert kept == pytest.approx((1 - sparsity) * sum(s.numel() for s in scores.values()), rel=1e-6)
    assert all(0 < d <= 1 + 1e-9 for d in densities.values())
    assert densities["b"] <= min(densities["a"], densities["c"]) + 1e-9


def test_random_masks_differ_by_seed_and_layer_but_not_by_weights():
    weights = {"a": torch.randn(40, 40), "b": torch.randn(40, 40)}
    choose = Sparse(0.5, criterion=random).choose
    first = choose(weights, evidence={}, seed=1)
    assert first == choose({n: torch.zeros_like(w) for n, w in weights.items()}, evidence={}, seed=1)
    assert first != choose(weights, evidence={}, seed=2)
    assert not torch.equal(first["a"], first["b"])


def test_gradient_criteria_need_gradients():
    with pytest.raises(ValueError, match="dense phase of at least one update"):
        Sparse(0.5, criterion=Taylor()).choose({"a": torch.randn(4, 4)}, evidence={}, seed=0)
    evidence = {"a": torch.tensor([[1.0, -3.0], [2.0, 0.0]])}
    assert Sparse(0.5, criterion=Taylor()).choose(evidence, evidence=evidence, seed=0)["a"].tolist() == [
        [False, True],
        [True, False],
    ]
    assert Sparse(0.5, criterion=Movement()).choose(evidence, evidence=evidence, seed=0)["a"].tolist() == [
        [True, False],
        [True, False],
    ]


def test_adding_a_criterion_takes_a_function():
    def closest_to_one(weight, **_):
        return -(weight - 1).abs()

    mask = Sparse(0.5, criterion=closest_to_one, granularity=partial(block, rows=1, columns=1))
    assert mask.choose({"a": torch.tensor([[0.9, 5.0]])}, evidence={}, seed=0)["a"].tolist() == [[True, False]]


def test_first_conv_biases_and_norms_are_spared():
    net = torchvision.models.resnet18(num_classes=10)
    chosen = prunable(net)
    assert "conv1.weight" not in chosen
    assert len(chosen) == 20  # 19 convolutions and the last fully connected layer
    assert all(name.endswith("weight") and p.dim() in (2, 4) for name, p in chosen.items())
    assert "conv1.weight" in prunable(net, spare_first_conv=False)


def test_embeddings_are_spared_also_when_tied():
    class Language(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(20, 8)
            self.lstm = nn.LSTM(8, 8)
            self.attend = nn.MultiheadAttention(8, 2)
            self.norm = nn.LayerNorm(8)
            self.out = nn.Linear(8, 20)
            self.out.weight = self.embed.weight

    assert list(prunable(Language())) == [
        "lstm.weight_ih_l0", "lstm.weight_hh_l0", "attend.in_proj_weight", "attend.out_proj.weight",
    ]  # fmt: skip


def test_include_and_exclude_raise_when_nothing_matches():
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    assert list(prunable(net, include=["1.*"])) == ["1.weight", "1.bias"]
    assert list(prunable(net, exclude=["0.*"])) == ["1.weight"]
    with pytest.raises(ValueError, match=r"'2\.\*' matches no parameter"):
        prunable(net, include=["2.*"])
    with pytest.raises(ValueError, match="matches no parameter"):
        prunable(net, exclude=["decoder*"])
    with pytest.raises(ValueError, match="left to prune"):
        prunable(nn.BatchNorm1d(3))


def test_names_do_not_depend_on_wrapping():
    net = nn.Sequential(nn.Linear(4, 4))
    assert list(prunable(torch.compile(net))) == list(prunable(net)) == ["0.weight"]


def test_mask_packs_and_knows_its_polarity():
    mask = Sparse(0.3).choose({"a": torch.randn(5, 7), "b": torch.randn(3)}, evidence={}, seed=0)
    assert Mask.unpack(mask.pack()) == mask
    assert mask.densities() == {"a": 25 / 35, "b": 2 / 3}
    assert mask.density == 27 / 38
    with pytest.raises(TypeError, match="True = kept"):
        Mask({"a": torch.ones(3)})


def test_density_is_counted_from_the_weights():
    assert density({"a": torch.tensor([0.0, 1.0]), "b": torch.tensor([0.0, -0.0])}) == (0.25, {"a": 0.5, "b": 0.0})


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 30])
def test_sparsity_is_a_fraction(sparsity):
    with pytest.raises(ValueError, match="removed fraction"):
        Sparse(sparsity)


def test_diverged_weights_name_the_layer():
    with pytest.raises(ValueError, match=r"fc\.weight: score has NaN"):
        Sparse(0.5).choose({"fc.weight": torch.tensor([1.0, float("nan")])}, evidence={}, seed=0)


def test_magnitude_is_the_default():
    assert Sparse(0.5).criterion is magnitude


def test_a_layer_of_which_nothing_is_left_is_named():
    net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    with pytest.warns(UserWarning, match=r"nothing is left of 1\.weight: no signal passes"):
        Sparse(0.8, granularity=filter).enter(net, evidence={}, seed=0)


def test_a_layer_whose_weight_is_made_from_others_is_named():
    net = nn.Sequential(
        nn.Linear(4, 8),
        nn.utils.spectral_norm(nn.Linear(8, 8)),
        nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)),
        nn.LSTM(8, 8),
    )
    with pytest.warns(UserWarning, match="not pruned: 1, 2, whose weight is made from other parameters"):
        Sparse(0.5).check(net)
    assert derived(nn.Sequential(nn.Linear(4, 8), nn.MultiheadAttention(8, 2, kdim=4), nn.GRUCell(4, 4))) == []


def test_across_layers_is_exact_in_float64():
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        scores = {
            name: torch.rand(n, dtype=torch.float64, generator=generator) for name, n in (("a", 3001), ("b", 889))
        }
        found = across_layers(scores, 0.5)
        assert round(3001 * found["a"]) + round(889 * found["b"]) == 1945


def test_neighbouring_inputs_need_inputs():
    with pytest.raises(
        ValueError, match=r"1: 2:4 sparsity is along the inputs, which a tensor of shape \(8,\) has not"
    ):
        Sparse(0.5, granularity=partial(n_of_m, n=2, m=4))._cut("1", torch.rand(8), 0.5)


def test_gradual_pruning_goes_all_the_way():
    with pytest.raises(ValueError, match="share=1"):
        Gradual(0.8, every=1, ramp=0.5, share=0.5)


@pytest.mark.parametrize("granularity", [filter, partial(block, rows=2, columns=2), partial(n_of_m, n=2, m=4)])
def test_outputs_are_not_taken_for_inputs_in_transposed_convolutions(granularity):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.ConvTranspose2d(4, 8, 3))
    sparse = Sparse(0.5, granularity=granularity)
    with pytest.raises(ValueError, match=r"^2\.weight: a transposed convolution's weight is \(in, out, \*kernel\)"):
        sparse.check(net)
    replace(sparse, exclude=["2.weight"]).check(net)
    replace(sparse, granularity=element).check(net)
