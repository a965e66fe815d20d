"""The plan at work in a hand-written loop: exact zeros, exact updates, whatever the optimizer."""

import pytest
import torch
from torch import nn

from dsd import Phase, Phases, Sparse, dsd_phases
from dsd.plan import Constant, Times
from dsd.sparsity.criteria import Movement, Taylor

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01),
}


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))


def batch(update):
    g = torch.Generator().manual_seed(update)
    x = torch.randn(32, 6, generator=g)
    return x, (x[:, :3] + x[:, 3:]).argmax(1)


def train(model, optimizer, phases, updates, look=lambda: None):
    while phases.update < updates:
        phases.start_update()
        x, y = batch(phases.update)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        look()


def zeros(model):
    return [int((model[i].weight == 0).sum()) for i in (0, 2)]


@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_pruned_weights_are_zero_after_every_update_and_restart_at_zero(name, reset):
    model = net()
    optimizer = OPTIMIZERS[name](model.parameters())
    plan = [
        Phase("dense", 1, Times(1.0)),
        Phase("sparse", 1, Times(1.0), Sparse(0.5), reset_optimizer=reset),
        Phase("redense", 1, Times(1.0), reset_optimizer=reset),
    ]
    phases = Phases(model, optimizer, plan, 10)
    seen = []
    train(model, optimizer, phases, 20, lambda: seen.append(zeros(model)))
    assert seen[:10] == [[0, 0]] * 10
    assert seen[10:] == [[48, 24]] * 10

    mask = phases.held.mask
    phases.start_update()
    assert zeros(model) == [48, 24]  # released, and still exactly where the sparse phase left them
    first_moments = [
        optimizer.state[model[i].weight][key][~mask[f"{i}.weight"]]
        for i in (0, 2)
        for key in ("momentum_buffer", "exp_avg")
        if key in optimizer.state.get(model[i].weight, {})
    ]
    assert all(not bool(moment.any()) for moment in first_moments)
    train(model, optimizer, phases, 30)
    assert zeros(model) == [0, 0]
    assert phases.finished


def test_reset_is_an_option():
    states = {}
    for reset in (True, False):
        model = net()
        optimizer = OPTIMIZERS["momentum"](model.parameters())
        plan = [Phase("a", 1, Times(1.0)), Phase("b", 1, Times(0.1), reset_optimizer=reset)]
        phases = Phases(model, optimizer, plan, 5)
        train(model, optimizer, phases, 5)
        phases.start_update()
        states[reset] = len(optimizer.state)
    assert states == {True: 0, False: 4}


def test_absolute_and_relative_rates_reach_the_optimizer():
    model = net()
    optimizer = torch.optim.SGD(
        [{"params": model[0].parameters()}, {"params": model[2].parameters(), "lr_scale": 2.0}], lr=0.5
    )
    used = []
    optimizer.register_step_pre_hook(lambda *_: used.append([g["lr"] for g in optimizer.param_groups]))
    plan = [Phase("a", 1, Constant(0.1)), Phase("b", 1, Times(0.5))]
    phases = Phases(model, optimizer, plan, 2)
    optimizer.register_step_pre_hook(lambda *_: used.append([g["lr"] for g in optimizer.param_groups]))
    train(model, optimizer, phases, 4)
    assert used[1::2] == [[0.1, 0.2], [0.1, 0.2], [0.05, 0.1], [0.05, 0.1]]
    assert [g["lr"] for g in optimizer.param_groups] == [0.1, 0.2]  # a relative rate is taken back


def test_a_users_scheduler_stays_in_charge():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    phases = Phases(model, optimizer, dsd_phases(0.5, (1, 1, 1)), 2)
    used = []
    optimizer.register_step_pre_hook(lambda *_: used.append(optimizer.param_groups[0]["lr"]))
    train(model, optimizer, phases, 6, scheduler.step)
    assert used == pytest.approx([1, 0.5, 0.025, 0.0125, 0.000625, 0.0003125])


def test_a_tensor_rate_works():
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=torch.tensor(0.01))
    train(model, optimizer, Phases(model, optimizer, [Phase("a", 1, Constant(0.25))], 2), 2)
    assert float(optimizer.param_groups[0]["lr"]) == 0.25


@pytest.mark.parametrize("criterion", [Taylor(), Movement()])
def test_gradient_criteria_see_the_last_updates_before_the_phase(criterion):
    model = net()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    phases = Phases(model, optimizer, dsd_phases(0.5, (1, 1, 1), criterion=criterion), 10, observe=3)
    train(model, optimizer, phases, 7)
    assert phases.evidence == {}
    expected = {}

    def look():
        for i in (0, 2):
            seen = criterion.gather(model[i].weight.detach(), model[i].weight.grad)
            expected[i] = expected.get(i, 0) + seen

    train(model, optimizer, phases, 10, look)
    assert torch.equal(phases.evidence["0.weight"], expected[0])
    phases.start_update()
    assert phases.evidence == {}
    assert zeros(model) == [48, 24]


@pytest.mark.parametrize("stop", range(1, 30))
def test_resumed_at_any_update_ends_the_same(stop):
    def build():
        model = net()
        optimizer = OPTIMIZERS["nesterov"](model.parameters())
        return model, optimizer, Phases(model, optimizer, dsd_phases(0.5, (1, 1, 1), criterion=Taylor()), 10, observe=4)

    model, optimizer, phases = build()
    train(model, optimizer, phases, 30)

    first, first_optimizer, half = build()
    train(first, first_optimizer, half, stop)
    saved = half.state_dict(), first.state_dict(), first_optimizer.state_dict()
    second, second_optimizer, rest = build()
    second.load_state_dict(saved[1])
    second_optimizer.load_state_dict(saved[2])
    rest.load_state_dict(saved[0])
    train(second, second_optimizer, rest, 30)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), second.parameters(), strict=True))


def test_prune_and_restore_prunes_once():
    model = net()
    optimizer = OPTIMIZERS["momentum"](model.parameters())
    plan = [Phase("dense", 1, Times(1.0)), Phase("restored", 1, Times(1.0), Sparse(0.5, hold=False))]
    phases = Phases(model, optimizer, plan, 4)
    train(model, optimizer, phases, 4)
    phases.start_update()
    assert zeros(model) == [48, 24]
    train(model, optimizer, phases, 5)
    assert sum(zeros(model)) < 10  # all but a few that had no gradient
    again = Phases(model, optimizer, plan, 4)
    again.load_state_dict(phases.state_dict())
    assert len(again.held.mask) == 0


def test_forgetting_start_update_is_an_error():
    model = net()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    Phases(model, optimizer, dsd_phases(0.5, (1, 1, 1)), 2)
    with pytest.raises(RuntimeError, match=r"call phases\.start_update"):
        optimizer.step()


def test_a_selector_that_matches_nothing_fails_before_training():
    model = net()
    with pytest.raises(ValueError, match="matches no parameter"):
        Phases(model, OPTIMIZERS["sgd"](model.parameters()), dsd_phases(0.5, (9, 1, 1), include=["decoder.*"]), 10)


def test_a_mask_of_another_model_is_refused():
    model = net()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    phases = Phases(model, optimizer, dsd_phases(0.5, (1, 1, 1)), 2)
    train(model, optimizer, phases, 3)
    other = nn.Sequential(nn.Linear(6, 3))
    there = Phases(other, OPTIMIZERS["sgd"](other.parameters()), dsd_phases(0.5, (1, 1, 1)), 2)
    with pytest.raises(ValueError, match="resume with the configuration"):
        there.load_state_dict(phases.state_dict())


def test_hooks_come_off():
    model = net()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    Phases(model, optimizer, dsd_phases(0.5, (1, 1, 1)), 2).close()
    optimizer.step()
    assert optimizer.param_groups[0]["lr"] == 0.1


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_optimizers_are_in_the_same_update_whichever_steps_first(order):
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    both = [torch.optim.SGD(net[0].parameters(), lr=1.0), torch.optim.SGD(net[2].parameters(), lr=1.0)]
    rates = [[], []]
    for seen, optimizer in zip(rates, both, strict=True):
        optimizer.register_step_post_hook(
            lambda o, *_, seen=seen: seen.append(o.param_groups[0]["lr"])
        )  # before Phases' own
    phases = Phases(net, both, dsd_phases(0.5, (2, 1, 1)), updates_per_epoch=3)
    while not phases.finished:
        phases.start_update()
        net(torch.ones(1, 4)).sum().backward()
        for number in order:
            both[number].step()
    used = [[float(f"{rate:g}") for rate in seen if rate != 1.0] for seen in rates]
    assert used[0] == used[1] == [0.1] * 3 + [0.01] * 3
    assert phases.update == 12


def test_a_checkpoint_of_another_plan_is_refused():
    def begun(sparsity):
        net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
        return Phases(net, torch.optim.SGD(net.parameters(), lr=0.1), dsd_phases(sparsity, (2, 1, 1)), 3)

    first = begun(0.5)
    first.start_update(7)
    begun(0.5).load_state_dict(first.state_dict())
    with pytest.raises(ValueError, match=r"another plan: .* at sparsity 0\.5.* at sparsity 0\.8"):
        begun(0.8).load_state_dict(first.state_dict())

    slower = first.state_dict() | {"rates": [*begun(0.5).plan.rates[:2], "Times(factor=9)"]}
    with pytest.raises(ValueError, match="another plan: its rates are"):
        begun(0.5).load_state_dict(slower)
    begun(0.5).load_state_dict({k: v for k, v in first.state_dict().items() if k != "rates"})  # of an earlier version


def test_an_optimizer_of_other_weights_is_refused():
    with pytest.raises(ValueError, match=r"trains none of the weights that phase 'sparse' is about"):
        Phases(net(), OPTIMIZERS["sgd"](net().parameters()), dsd_phases(0.5, (1, 1, 1)), 10)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"rates": (1, -1, 1)}, "Times: factor is a finite number, 0 or more; found -1"),
        ({"rates": (1, 1)}, r"rates are three numbers, .* found \(1, 1\)"),
        ({"rates": 0.1}, r"rates are three numbers, .* found 0\.1"),
        ({"epochs": (2, 1)}, r"epochs are three numbers, .* found \(2, 1\)"),
        ({"epochs": (2, 1, "b")}, "epochs must be a positive number, found 'b'"),
        ({"sparsity": "0.5"}, r"sparsity is a number, found '0\.5'"),
        ({"criterion": "magnitude"}, "criterion is a function, .* found 'magnitude'"),
    ],
)
def test_wrong_kinds_are_named(how, says):
    with pytest.raises(ValueError, match=says):
        dsd_phases(**({"sparsity": 0.5, "epochs": (1, 1, 1)} | how))


@pytest.mark.parametrize("how", [{"exclude": None}, {"include": "0.weight"}, {"frozen": "0.weight"}])
def test_names_of_weights_are_a_list(how):
    model = net()
    with pytest.raises(ValueError, match="a list of patterns"):
        Phases(model, OPTIMIZERS["sgd"](model.parameters()), dsd_phases(0.5, (1, 1, 1), **how), 10)
