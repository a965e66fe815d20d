"""Pruning with retraining: rounds, gradual masks, surgery, L1, dropout, resting layers, dead units, balance, sensitivity."""

from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import nn

from dsd import Phase, Phases, Sparse
from dsd.plan import Constant, iterated
from dsd.sparsity import Gradual, density
from dsd.sparsity.allocation import across_layers, by_deviation, per_layer
from dsd.sparsity.balance import balance, loads, speedup
from dsd.sparsity.dead import remove_dead_
from dsd.sparsity.granularity import balanced, element, n_of_m
from dsd.sparsity.retraining import rescaled
from dsd.sparsity.sensitivity import scan, table_of


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 40), nn.ReLU(), nn.Dropout(0.5), nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 5))


def train(model, phases, updates, look=lambda: None, momentum=0.9):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=momentum, weight_decay=1e-3)
    at_work = Phases(model, optimizer, phases, 20)
    go_on(model, optimizer, at_work, updates, look)
    return at_work, optimizer


def go_on(model, optimizer, at_work, updates, look=lambda: None):
    for _ in range(updates):
        at_work.start_update()
        g = torch.Generator().manual_seed(at_work.update)
        torch.manual_seed(at_work.update)
        x = torch.randn(32, 20, generator=g)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), (x[:, :5] + x[:, 5:10]).argmax(1)).backward()
        optimizer.step()
        look()


def total(model) -> float:
    return density({n: p for n, p in model.named_parameters() if n.endswith("weight")})[0]


def test_rounds_go_to_the_final_density_geometrically_and_share_the_length():
    table = partial(per_layer, table={"0.*": 0.9, "5.*": 0.0})
    rounds = iterated(Phase("sparse", 3, Constant(0.1), Sparse(0.5, allocation=table)), 3)
    assert [p.name for p in rounds] == ["sparse1", "sparse2", "sparse3"]
    assert [p.epochs for p in rounds] == [1, 1, 1]
    model = net()
    masks = [p.constraint.choose(p.constraint.weights(model), evidence={}, seed=0) for p in rounds]
    assert [round(m.densities()["0.weight"], 3) for m in masks] == pytest.approx([0.464, 0.215, 0.1], abs=1e-3)
    assert [m.densities()["5.weight"] for m in masks] == [1, 1, 1]
    assert masks[2] <= masks[1]
    assert masks[1] <= masks[0]


def test_kept_weights_keep_their_values_between_rounds():
    model = net()
    at_work, _ = train(model, iterated(Phase("sparse", 2, Constant(0.1), Sparse(0.8)), 2), 20)
    before = model[0].weight.detach().clone()
    at_work.start_update()
    kept = model[0].weight != 0
    assert torch.equal(model[0].weight[kept], before[kept])
    assert int(kept.sum()) < int((before != 0).sum())


def test_gradual_pruning_follows_the_cubic_law_and_ends_fixed():
    model, seen = net(), []
    constraint = Gradual(0.9, every=5, ramp=0.5)
    train(model, [Phase("sparse", 2, Constant(0.05), constraint)], 40, lambda: seen.append(1 - total(model)))
    for update in (5, 10, 15):
        assert seen[update - 1] == pytest.approx(0.9 * (1 - (1 - update / 20) ** 3), abs=2e-3)
    assert seen[0] == 0
    assert seen[19:] == pytest.approx([0.9] * 21, abs=2e-3)
    assert seen == sorted(seen)


def test_surgery_lets_weights_come_back_and_pruned_ones_learn():
    model, masks = net(), []
    constraint = Gradual(0.7, every=4, ramp=0.8, start=1.0, regrow=True)
    at_work, _ = train(
        model, [Phase("sparse", 2, Constant(0.1), constraint)], 40, lambda: masks.append(model[0].weight != 0)
    )
    assert bool((masks[-1] & ~masks[0]).any())
    assert int(masks[-1].sum()) == int(masks[0].sum()) == 240
    assert torch.equal(masks[-1], masks[31])
    assert int((at_work.held.latent[0] == 0).sum()) == 0


def test_surgery_without_momentum_is_the_straight_through_update_of_the_latent_weights():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4, bias=False))
    weight = model[0].weight
    x, y = torch.randn(16, 6), torch.randn(16, 4)
    latent = weight.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    at_work = Phases(
        model, optimizer, [Phase("s", 1, Constant(0.1), Gradual(0.5, every=1, ramp=1.0, start=1.0, regrow=True))], 6
    )
    for _ in range(6):
        at_work.start_update()
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        latent -= 0.1 * weight.grad
        optimizer.step()
        assert torch.allclose(weight, latent * (weight != 0), atol=1e-6)
        assert int((weight != 0).sum()) == 12


@pytest.mark.parametrize("regrow", [False, True])
def test_gradual_goes_on_bit_for_bit_from_a_checkpoint(regrow):
    phases = [Phase("sparse", 2, Constant(0.1), Gradual(0.9, every=3, ramp=0.7, regrow=regrow))]
    whole = net()
    train(whole, phases, 40)
    model = net()
    at_work, optimizer = train(model, phases, 17)
    saved = {k: (v.clone() if isinstance(v, torch.Tensor) else v) for k, v in at_work.state_dict().items()}
    other = net()
    other.load_state_dict(model.state_dict())
    again = torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    again.load_state_dict(optimizer.state_dict())
    resumed = Phases(other, again, phases, 20)
    resumed.load_state_dict(saved)
    go_on(other, again, resumed, 23)
    for mine, theirs in zip(other.parameters(), whole.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_skipped_step_leaves_the_pruned_network():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    constraint = Gradual(0.9, every=1, ramp=1.0, start=1.0, regrow=True)
    at_work = Phases(model, optimizer, [Phase("s", 1, Constant(0.1), constraint)], 20, closures=True)
    at_work.start_update()
    before = model[0].weight.detach().clone()
    model(torch.randn(4, 20)).sum().backward()
    at_work.before_step(optimizer)
    assert int((model[0].weight != 0).sum()) == 800
    at_work.settle()
    assert torch.equal(model[0].weight, before)


def test_l1_adds_its_gradient_and_resting_layers_do_not_move():
    model = net()
    frozen = [p.detach().clone() for p in model[3].parameters()]
    constraint = Sparse(0.5, include=["0.weight"], l1=1.0, frozen=["3.*"])
    before = model[0].weight.detach().clone()
    train(model, [Phase("sparse", 1, Constant(0.1), constraint)], 1, momentum=0.0)
    kept = model[0].weight != 0
    plain = net()
    train(plain, [Phase("sparse", 1, Constant(0.1), Sparse(0.5, include=["0.weight"]))], 1, momentum=0.0)
    grads = (plain[0].weight - model[0].weight)[kept] / 0.1
    assert torch.allclose(grads, before[kept].sign(), atol=1e-5)
    train(model, [Phase("sparse", 1, Constant(0.1), constraint)], 10)
    assert all(torch.equal(a, b) for a, b in zip(model[3].parameters(), frozen, strict=True))


def test_dropout_is_rescaled_in_the_phase_and_put_back():
    model = net()
    plan = [Phase("sparse", 1, Constant(0.1), Sparse(0.91, rescale_dropout=True)), Phase("dense", 1, Constant(0.1))]
    at_work, optimizer = train(model, plan, 1)
    assert model[2].p == pytest.approx(0.15, abs=1e-3)
    go_on(model, optimizer, at_work, 20)
    assert model[2].p == 0.5
    assert rescaled(0.5, 0.09) == pytest.approx(0.15)


def test_dropout_that_is_not_there_is_an_error():
    model = nn.Sequential(nn.Linear(4, 4))
    with pytest.raises(ValueError, match="no dropout"):
        Sparse(0.5, rescale_dropout=True).enter(model, evidence={}, seed=0)


def test_unknown_resting_layers_are_an_error_before_training():
    model = net()
    with pytest.raises(ValueError, match="matches no parameter"):
        Phases(
            model,
            torch.optim.SGD(model.parameters(), lr=1),
            [Phase("s", 1, Constant(1), Sparse(0.5, frozen=["x*"]))],
            2,
        )


def test_thresholds_by_deviation():
    scores = {"a": torch.randn(100, 100).abs(), "b": 5 * torch.randn(50, 50).abs()}
    kept = by_deviation(scores, 0, quality={"*": 1.0})
    assert kept == pytest.approx({"a": 0.317, "b": 0.317}, abs=0.02)
    assert by_deviation(scores, 0, quality={"a": 2.0, "b": 1.0})["a"] == pytest.approx(0.0455, abs=0.01)
    exact = by_deviation(scores, 0.9, quality={"a": 2.0, "b": 1.0})
    assert sum(exact[n] * scores[n].numel() for n in scores) == pytest.approx(1250, abs=1)
    assert exact["a"] < exact["b"]
    with pytest.raises(ValueError, match="no quality"):
        by_deviation(scores, 0.9, quality={"a": 1.0})


def test_dead_units_go_without_changing_the_function():
    torch.manual_seed(1)
    layers = [nn.Linear(6, 8), nn.Linear(8, 7), nn.Linear(7, 3)]
    with torch.no_grad():
        layers[0].weight[2] = 0  # deaf: gives a constant
        layers[1].weight[:, 5] = 0  # unheard
        layers[1].weight[4] = 0
        layers[1].weight[4, 2] = 1.0  # hears only the deaf one: dies with it
    model = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2]).double()
    x = torch.randn(50, 6, dtype=torch.double)
    before = model(x)
    assert remove_dead_(layers) == 3
    assert torch.allclose(model(x), before, atol=1e-12)
    assert int((layers[0].weight != 0).sum()) == 6 * 6
    assert layers[0].bias[[2, 5]].tolist() == [0, 0]
    assert int((layers[2].weight[:, 4] != 0).sum()) == 0


def test_dead_maps_in_front_of_a_flattened_layer():
    conv, fc = nn.Conv2d(1, 4, 3), nn.Linear(4 * 9, 5)
    with torch.no_grad():
        fc.weight.reshape(5, 4, 9)[:, 1] = 0
        conv.weight[3] = 0
    x = torch.randn(7, 1, 5, 5)
    before = fc(conv(x).flatten(1))
    assert remove_dead_([conv, fc], activation=nn.Identity()) == 2
    assert torch.allclose(fc(conv(x).flatten(1)), before, atol=1e-5)
    with pytest.raises(ValueError, match="can't feed"):
        remove_dead_([conv, nn.Linear(7, 2)])


def test_balanced_pruning_gives_every_element_the_same_load_and_a_higher_speed():
    score = torch.randn(64, 128, generator=torch.Generator().manual_seed(0)).abs() * torch.linspace(0.5, 2, 64)[:, None]
    plain, even = element(score, 0.1), balanced(score, 0.1, parts=8)
    assert int(even.sum()) == 8 * 102
    assert loads(even, 8).tolist() == [102] * 8
    assert balance(even, 8) == 1
    assert balance(plain, 8) < 0.95
    assert speedup(even, 8) == pytest.approx(1024 / 102)
    assert speedup(plain, 8) < speedup(even, 8)
    with pytest.raises(ValueError, match="can't be dealt out"):
        balanced(score, 0.1, parts=65)


def test_the_scan_prunes_one_layer_at_a_time_and_gives_the_weights_back():
    model = net()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    seen = []

    def measure(layer, sparsity):
        _, each = density({n: p for n, p in model.named_parameters() if n.endswith("weight")})
        seen.append((layer, sparsity, each))
        return 100 * (1 - each[layer]) ** 2

    curves = scan(model, Sparse(0.5), [0.2, 0.8, 0.5], measure)
    assert list(curves) == ["0.weight", "3.weight", "5.weight"]
    assert curves["0.weight"] == pytest.approx([4, 64, 25], abs=0.5)
    assert all(v == 1 for layer, _, each in seen for n, v in each.items() if n != layer)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    table = table_of({"a": [1.0, 9.0, 2.0], "b": [5.0, 1.0, 1.0]}, [0.2, 0.8, 0.5], dense=1.5, tolerance=0.5)
    assert table == {"a": 0.5, "b": 0.0}


def test_gradual_pruning_takes_the_options_of_retraining_and_gives_them_back():
    model = net()
    still = model[0].weight.detach().clone()
    constraint = Gradual(0.91, every=2, ramp=0.5, include=["3.weight"], l1=0.01, frozen=["0.*"], rescale_dropout=True)
    plan = [Phase("sparse", 1, Constant(0.1), constraint), Phase("dense", 1, Constant(0.1))]
    at_work, optimizer = train(model, plan, 3)
    assert model[2].p == pytest.approx(0.15, abs=2e-3)
    go_on(model, optimizer, at_work, 16)
    assert torch.equal(model[0].weight, still)
    go_on(model, optimizer, at_work, 2)
    assert model[2].p == 0.5
    assert not torch.equal(model[0].weight, still)


def gradual_across_layers() -> list[Phase]:
    constraint = Gradual(0.5, every=2, ramp=0.9, allocation=across_layers, rescale_dropout=True)
    return [Phase("sparse", 2, Constant(0.5), constraint)]


@pytest.mark.parametrize("fresh", [True, False], ids=["a new network", "the network that is in the phase"])
def test_dropout_goes_on_at_its_rate_from_a_checkpoint(fresh):
    model = net()
    at_work, _ = train(model, gradual_across_layers(), 30)
    rate, saved = model[2].p, at_work.state_dict()
    assert rate not in (0.5, rescaled(0.5, 0.5)), "by the layer's own density"
    other = net() if fresh else model
    other.load_state_dict(model.state_dict())
    again = Phases(other, torch.optim.SGD(other.parameters(), 0.1), gradual_across_layers(), 20) if fresh else at_work
    again.load_state_dict(saved)
    assert other[2].p == rate
    assert float(again.held.retraining.dropouts[0][1]) == 0.5, "what is put back"


def test_dropout_in_front_of_a_layer_that_keeps_all_its_weights_stays():
    model = net()
    with pytest.raises(ValueError, match="no dropout in front of a pruned layer"):
        Sparse(0.9, include=["0.weight", "5.weight"], rescale_dropout=True).enter(model, evidence={}, seed=0)
    assert model[2].p == 0.5


def test_gradual_pruning_says_before_training_what_its_ramp_cannot_do():
    with pytest.raises(ValueError, match=r"2:4 sparsity has density 0\.5"):
        Gradual(0.5, every=5, ramp=0.5, granularity=partial(n_of_m, n=2, m=4)).check(nn.Linear(8, 4))


def test_what_is_pruned_stays_pruned_without_regrowth():
    model, masks = net(), []
    constraint = Gradual(0.9, every=2, ramp=0.9)
    plan = [Phase("sparse", 2, Constant(0.5), constraint)]
    train(
        model,
        plan,
        40,
        lambda: masks.append(torch.cat([model[i].weight.flatten() != 0 for i in (0, 3)])),
        momentum=0.95,
    )
    assert not any(bool((after & ~before).any()) for before, after in pairwise(masks))
