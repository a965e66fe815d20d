"""Trained ternary quantization and low rank."""

from functools import partial

import pytest
import torch
from torch import nn

from dsd import Phase, Phases
from dsd.plan import Constant
from dsd.quantization import LowRank, Ternary
from dsd.quantization.lowrank import low_rank_bytes, rank_for
from dsd.sparsity import prunable

SELECT = partial(prunable, exclude=["4.weight"])


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 20), nn.Tanh(), nn.Linear(20, 12), nn.Tanh(), nn.Linear(12, 3))


def batch(update: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(update)
    x = torch.randn(32, 6, generator=g)
    return x, (x[:, :3] + x[:, 3:]).argmax(1)


def train(model, optimizer, at_work, updates):
    for _ in range(updates):
        at_work.start_update()
        x, y = batch(at_work.update)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()


class Direct(torch.autograd.Function):
    """The published gradients, written down once more."""

    @staticmethod
    def forward(ctx, latent, scales, threshold):
        delta = threshold * latent.abs().max()
        up, down = latent > delta, latent < -delta
        ctx.save_for_backward(up, down, scales)
        return up * scales[0] - down * scales[1]

    @staticmethod
    def backward(ctx, g):
        up, down, scales = ctx.saved_tensors
        latent = torch.where(up, g * scales[0], torch.where(down, g * scales[1], g))
        return latent, torch.stack([(g * up).sum(), -(g * down).sum()]), None


@pytest.mark.parametrize("decay", [False, True])
@pytest.mark.parametrize("kind", ["momentum", "adam"])
def test_updates_are_the_published_ones(kind, decay):
    def optimizer_of(groups):
        if kind == "adam":
            return torch.optim.Adam(groups, lr=0.02, weight_decay=1e-3)
        return torch.optim.SGD(groups, lr=0.02, momentum=0.9, weight_decay=1e-3)

    model, reference = net(), net()
    optimizer = optimizer_of(model.parameters())
    at_work = Phases(model, optimizer, [Phase("t", 1, Constant(0.02), Ternary(SELECT, decay_scales=decay))], 30)
    scales = {n: nn.Parameter(torch.ones(2)) for n in ("0.weight", "2.weight")}
    no_decay = {} if decay else {"weight_decay": 0.0}
    theirs = optimizer_of([{"params": list(reference.parameters())}, {"params": list(scales.values()), **no_decay}])
    for update in range(25):
        train(model, optimizer, at_work, 1)
        x, y = batch(update)
        weights = dict(reference.named_parameters())
        used = weights | {n: Direct.apply(weights[n], s, 0.05) for n, s in scales.items()}
        theirs.zero_grad()
        nn.functional.cross_entropy(torch.func.functional_call(reference, used, (x,)), y).backward()
        theirs.step()
    for name, scale in scales.items():
        assert torch.allclose(at_work.held.scales[name], scale, atol=1e-5)
        assert torch.allclose(at_work.held.latent[name], reference.get_parameter(name), atol=1e-5)


def test_weights_are_ternary_after_every_update_and_learn():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    at_work = Phases(model, optimizer, [Phase("t", 1, Constant(0.05), Ternary(SELECT, initial=0.5))], 60)
    losses = []
    for _ in range(60):
        train(model, optimizer, at_work, 1)
        x, y = batch(10_000)
        losses.append(nn.functional.cross_entropy(model(x), y).item())
        for i in (0, 2):
            assert len(model[i].weight.unique()) <= 3
    assert len(model[4].weight.unique()) == 36
    assert losses[-1] < 0.6 * losses[0]
    up, down = at_work.held.scales["0.weight"].tolist()
    assert up != down


def test_a_layer_without_a_gradient_keeps_its_latent_weights_and_scales():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    at_work = Phases(model, optimizer, [Phase("t", 1, Constant(0.05), Ternary(SELECT, initial=0.5))], 20)
    train(model, optimizer, at_work, 2)
    held = at_work.held
    latent, scales = held.latent["0.weight"].clone(), held.scales["0.weight"].detach().clone()
    model[0].weight.requires_grad_(False)
    train(model, optimizer, at_work, 1)
    assert model[0].weight.grad is None
    assert torch.equal(held.latent["0.weight"], latent)
    assert torch.equal(held.scales["0.weight"], scales)
    assert len(model[0].weight.unique()) <= 3


def test_a_constant_sparsity_instead_of_the_threshold():
    model = net()
    held = Ternary(SELECT, sparsity=0.5).enter(model, evidence={}, seed=0)
    assert int((model[0].weight == 0).sum()) == 60
    assert held.scales["0.weight"].tolist() == [1, 1]


def test_it_goes_on_bit_for_bit_from_a_checkpoint():
    plan = [Phase("t", 1, Constant(0.05), Ternary(SELECT))]
    whole, model, other = net(), net(), net()
    first = torch.optim.SGD(whole.parameters(), lr=0.1, momentum=0.9)
    train(whole, first, Phases(whole, first, plan, 20), 20)
    second = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    at_work = Phases(model, second, plan, 20)
    train(model, second, at_work, 9)
    other.load_state_dict(model.state_dict())
    third = torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.9)
    third.load_state_dict(second.state_dict())
    resumed = Phases(other, third, plan, 20)
    resumed.load_state_dict(at_work.state_dict())
    train(other, third, resumed, 11)
    assert all(torch.equal(a, b) for a, b in zip(other.parameters(), whole.parameters(), strict=True))


def test_low_rank_stays_low_rank_while_it_learns():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    at_work = Phases(model, optimizer, [Phase("svd", 1, Constant(0.1), LowRank(0.4, prunable))], 20)
    before = model[2].weight.detach().clone()
    train(model, optimizer, at_work, 20)
    assert rank_for((12, 20), 0.4) == 3
    assert int(torch.linalg.matrix_rank(model[2].weight, tol=1e-5)) == 3
    assert not torch.allclose(model[2].weight, before)
    assert low_rank_bytes((12, 20), 3) == 4 * 96
    assert low_rank_bytes((4, 4), 4) == 64


def test_numbers_that_make_no_sense():
    with pytest.raises(ValueError, match="0 < threshold < 1"):
        Ternary(SELECT, threshold=1.5)
    with pytest.raises(ValueError, match="0 < share <= 1"):
        LowRank(0, SELECT)


@pytest.mark.parametrize(
    ("latent", "sparsity", "expected"),
    [
        ([-0.5, 0.5, -0.1, 0.0], 0.0, [-1, 1, -1, 0]),
        ([1.0, -1.0, 1.0, -1.0], 0.5, [1, -1, 0, 0]),
        ([0.1, -0.4, 0.2, 0.3], 0.5, [0, -1, 0, 1]),
        ([0.0, 0.0, 0.0, 2.0], 0.5, [0, 0, 0, 1]),
    ],
)
def test_a_constant_sparsity_prunes_exactly_that_many_and_keeps_the_signs(latent, sparsity, expected):
    layer = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([latent]))
    Ternary(prunable, sparsity=sparsity).enter(layer, evidence={}, seed=0)
    assert layer.weight.tolist() == [expected]


def test_a_step_that_a_scaler_skips_changes_no_scales():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    at_work = Phases(model, optimizer, [Phase("t", 1, Constant(0.1), Ternary(SELECT))], 10, closures=True)
    at_work.start_update()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for weight in model.parameters():
        weight.grad = torch.full_like(weight, torch.inf)
    at_work.before_step(optimizer)
    at_work.settle()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(scale.tolist() == [1, 1] for scale in at_work.held.scales.values())


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW", "NAdam", "RMSprop", "Rprop", "Adagrad"])
def test_the_scales_learn_by_any_optimizer_at_the_rate_of_the_weights(kind):
    model = net()
    groups = [
        {"params": [p for p in model.parameters() if p.dim() == 1], "lr_scale": 2.0},
        {"params": [p for p in model.parameters() if p.dim() == 2]},
    ]
    optimizer = getattr(torch.optim, kind)(groups, lr=0.01)
    at_work = Phases(model, optimizer, [Phase("t", 1, Constant(0.1), Ternary(SELECT, initial=1))], 10)
    train(model, optimizer, at_work, 1)
    (group,) = at_work.held._sibling.param_groups
    assert group["lr"] == 0.1
    assert not group.get("weight_decay")
    assert all(scale.tolist() != [1, 1] for scale in at_work.held.scales.values())


def test_low_rank_leaves_alone_what_its_factors_are_larger_than():
    layer = nn.Linear(1, 8, bias=False)
    before = layer.weight.detach().clone()
    held = LowRank(0.5, prunable).enter(layer, evidence={}, seed=0)
    with torch.no_grad():
        layer.weight.add_(torch.randn(8, 1))
    moved = layer.weight.detach().clone()
    held.project_()
    assert torch.equal(layer.weight, moved)
    assert not torch.equal(moved, before)
