"""DSD inside `Trainer.fit`, with everything people put beside it."""

from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    Callback,
    EMAWeightAveraging,
    GradientAccumulationScheduler,
    StochasticWeightAveraging,
)
from pytorch_lightning.strategies import FSDPStrategy
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from dsd import DSD, Phase, PlanCallback, Sparse
from dsd.callbacks import History, Swa
from dsd.phases import Phases, dsd_phases
from dsd.plan import Constant, Times


class Net(pl.LightningModule):
    """Somebody's own module: an MLP on 320 points, 10 batches of 32 an epoch."""

    def __init__(self, make, scheduler=False, compile=False):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))
        self.make, self.scheduler = make, scheduler
        self.run = torch.compile(self.net, backend="eager") if compile else None

    def training_step(self, batch, batch_idx):
        x, y = batch
        return nn.functional.cross_entropy((self.run or self.net)(x), y)

    def validation_step(self, batch, batch_idx):
        self.log("zeros", float(sum(zeros(self))))

    def train_dataloader(self):
        return DataLoader(data(), batch_size=32)

    def val_dataloader(self):
        return DataLoader(data(), batch_size=320)

    def configure_optimizers(self):
        optimizer = self.make(self.parameters())
        if self.scheduler:
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]
        return optimizer


def data():
    x = torch.randn(320, 6, generator=torch.Generator().manual_seed(1))
    return TensorDataset(x, (x[:, :3] + x[:, 3:]).argmax(1))


def zeros(module):
    return [int((module.net[i].weight == 0).sum()) for i in (0, 2)]


class Look(Callback):
    """Zeros and rate after every update, and what each validation saw."""

    def __init__(self):
        self.zeros, self.rates, self.seen = {}, {}, []

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.zeros.setdefault(trainer.global_step - 1, zeros(pl_module))
        self.rates[trainer.global_step - 1] = trainer.optimizers[0].param_groups[0]["lr"]

    def on_validation_end(self, trainer, pl_module):
        self.seen.append((trainer.global_step, float(trainer.callback_metrics["zeros"])))


def fit(module, callback, *more, epochs=3, **options):
    look = Look()
    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, log_every_n_steps=1, callbacks=[callback, look, *more], enable_checkpointing=False, **options,
    )  # fmt: skip
    trainer.fit(module)
    return look


def sgd(p):
    return torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01)


MAKERS = {
    "momentum": sgd,
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9),
}
pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers.*")


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"precision": "bf16-mixed"},
        {"precision": "bf16-true"},
        {"gradient_clip_val": 0.1},
        {"gradient_clip_val": 0.1, "gradient_clip_algorithm": "value", "precision": "bf16-mixed"},
    ],
    ids=["plain", "bf16-mixed", "bf16-true", "clip", "clip-value-bf16"],
)
def test_zeros_exactly_in_the_sparse_phase(maker, options):
    look = fit(Net(MAKERS[maker]), DSD(0.5, (1, 1, 1)), **options)
    assert [look.zeros[u] for u in range(10, 20)] == [[48, 24]] * 10
    assert look.zeros[9] == [0, 0]
    assert sum(look.zeros[29]) < 10
    assert look.seen == [(10, 0), (20, 72), (30, pytest.approx(0, abs=9))]


def test_fp16_with_a_gradient_scaler():
    """Lightning's fp16 plugin refuses CPUs, so the scaler is used by hand, with one step it must skip."""
    from dsd import Phases, dsd_phases

    module = Net(sgd)
    optimizer = module.configure_optimizers()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    phases = Phases(module, optimizer, dsd_phases(0.5, (1, 1, 1)), 10)
    x, y = data()[:32]
    seen = []
    for update in range(30):
        phases.start_update(update)
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.float16):
            loss = nn.functional.cross_entropy(module.net(x).float(), y)
        scaler.scale(loss * (float("inf") if update == 14 else 1.0)).backward()
        before = module.net[0].weight.clone()
        scaler.step(optimizer)
        scaler.update()
        seen.append((zeros(module), torch.equal(before, module.net[0].weight)))
    assert [z for z, _ in seen[10:20]] == [[48, 24]] * 10
    assert [u for u, (_, same) in enumerate(seen) if same] == [14]


@pytest.mark.parametrize("accumulate", [2, 3])
def test_gradient_accumulation_counts_updates_not_batches(accumulate):
    look = fit(Net(sgd), DSD(0.5, (1, 1, 1)), accumulate_grad_batches=accumulate)
    per_epoch = -(-10 // accumulate)
    sparse = range(per_epoch, 2 * per_epoch)
    assert set(look.zeros) - {-1} == set(range(3 * per_epoch))  # -1: batches before the first update
    assert [u for u, _ in look.seen] == [per_epoch, 2 * per_epoch, 3 * per_epoch]
    assert [look.zeros[u] for u in sparse] == [[48, 24]] * per_epoch
    assert look.zeros[per_epoch - 1] == [0, 0]


def test_torch_compile():
    look = fit(Net(sgd, compile=True), DSD(0.5, (1, 1, 1)))
    assert [look.zeros[u] for u in range(10, 20)] == [[48, 24]] * 10


def test_a_compiled_lightning_module():
    look = fit(torch.compile(Net(sgd), backend="eager"), DSD(0.5, (1, 1, 1)))
    assert [look.zeros[u] for u in range(10, 20)] == [[48, 24]] * 10


@pytest.mark.parametrize("first", [True, False])
def test_averages_are_pruned_too_where_they_are_validated_and_kept(first):
    """EMA remembers dense weights far into the sparse phase; order in the callback list must not matter."""
    ema, plan = (
        EMAWeightAveraging(decay=0.9),
        [Phase("dense", 1, Times(1.0)), Phase("sparse", 1, Times(1.0), Sparse(0.5))],
    )
    module, callback = Net(sgd), PlanCallback(plan)
    look = fit(module, *((ema, callback) if first else (callback, ema)), epochs=2)
    assert [z for u, z in look.seen] == [0, 72]
    assert zeros(module) == [48, 24]
    assert torch.equal(module.net[0].weight == 0, ~callback.active.held.mask["net.0.weight"])


@pytest.mark.parametrize("first", [True, False])
def test_checkpoints_of_averages_are_pruned_too(first, tmp_path):
    """Lightning writes the averages as the checkpoint's weights; what goes on from there is as it was."""

    class Saves(Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            if trainer.global_step in (10, 14):
                own = pl_module.net[0].weight.detach().clone()
                trainer.save_checkpoint(tmp_path / f"{trainer.global_step}.ckpt")
                assert torch.equal(pl_module.net[0].weight, own)

    plan = [Phase("dense", 1, Times(1.0)), Phase("sparse", 1, Times(1.0), Sparse(0.5))]
    ema, callback = EMAWeightAveraging(decay=0.9), PlanCallback(plan)
    fit(Net(sgd), *((ema, callback) if first else (callback, ema)), Saves(), epochs=2)
    dense, sparse = (torch.load(tmp_path / f"{u}.ckpt", weights_only=True)["state_dict"] for u in (10, 14))
    kept = callback.active.held.mask["net.0.weight"]
    assert dense["net.0.weight"].all()
    assert torch.equal(sparse["net.0.weight"] != 0, kept)
    assert sparse["net.0.bias"].all()
    current = torch.load(tmp_path / "14.ckpt", weights_only=True)["current_model_state"]["net.0.weight"]
    assert not torch.equal(current, sparse["net.0.weight"]), "averages are not the weights"


@pytest.mark.filterwarnings("ignore:.*this fit will run with no optimizer")
def test_a_module_without_an_optimizer_is_told_so():
    with pytest.raises(
        ValueError, match=r"trains none of the weights that phase .sparse. is about: .*configure_optimizers"
    ):
        fit(Net(lambda weights: None), DSD(0.5, (1, 1, 1)))


def test_swa_keeps_the_mean_of_the_last_epochs():
    class Ends(Callback):
        weights = []  # noqa: RUF012

        def on_train_batch_end(self, trainer, pl_module, *_):
            self.weights += [pl_module.net[0].weight.detach().clone()] * (
                trainer.is_last_batch and trainer.current_epoch >= 1
            )

    module, ends = Net(sgd), Ends()
    fit(module, PlanCallback([Phase("dense", 3, Constant(0.1))]), Swa(start=1), ends)
    assert len(ends.weights) == 2
    assert torch.allclose(module.net[0].weight, sum(ends.weights) / 2, atol=1e-7)


def test_swa_that_never_begins_is_an_error():
    with pytest.raises(ValueError, match="lower `start`"):
        fit(Net(sgd), PlanCallback([Phase("dense", 3, Constant(0.1))]), Swa(start=5))


def test_a_phase_that_ends_in_mid_epoch_is_validated_there():
    plan = [
        Phase("dense", 1.25, Times(1.0)),
        Phase("sparse", 0.5, Times(1.0), Sparse(0.5)),
        Phase("redense", 1.25, Times(1.0)),
    ]
    look = fit(Net(sgd), PlanCallback(plan), epochs=3)
    assert [(u, z) for u, z in look.seen if u < 30] == [(10, 0), (13, 0), (18, 72), (20, pytest.approx(0, abs=20))]
    assert max(look.zeros) == 29


@pytest.mark.parametrize("every", [2, 5])
def test_a_phase_is_validated_where_it_ends_however_seldom_the_trainer_validates(every):
    look = fit(Net(sgd), DSD(0.5, (1, 1.5, 1.5)), epochs=4, check_val_every_n_epoch=every)
    assert [update for update, _ in look.seen] == [10, *([20] if every == 2 else []), 25, 40]


def test_a_callback_that_is_used_twice_leaves_the_trainers_intervals_alone():
    dsd = DSD(0.5, (1, 1, 0.5))
    fit(Net(sgd), dsd)
    look = fit(Net(sgd), dsd, val_check_interval=5)
    assert [update for update, _ in look.seen] == [5, 10, 15, 20, 25]


def test_rates_of_plan_and_scheduler():
    assert list(
        fit(Net(sgd), PlanCallback([Phase("a", 1, Constant(0.3)), Phase("b", 2, Constant(0.03))])).rates.values()
    ) == ([0.3] * 10 + [0.03] * 20)
    used = []
    make = lambda p: sgd(p)  # noqa: E731

    class Spy(Callback):
        def on_train_start(self, trainer, pl_module):
            trainer.optimizers[0].register_step_pre_hook(lambda o, *_: used.append(o.param_groups[0]["lr"]))

    fit(Net(make, scheduler=True), DSD(0.5, (1, 1, 1)), Spy())
    assert used == pytest.approx([0.1] * 10 + [0.005] * 10 + [0.00025] * 10)


def test_the_trainer_stops_where_the_plan_ends_and_may_not_stop_before():
    look = fit(Net(sgd), DSD(0.5, (1, 0.5, 1)), epochs=99)
    assert max(look.zeros) == 24
    with pytest.raises(ValueError, match="set max_epochs=3"):
        fit(Net(sgd), DSD(0.5, (1, 1, 1)), epochs=2)
    with pytest.raises(ValueError, match="set max_steps=30"):
        fit(Net(sgd), DSD(0.5, (1, 1, 1)), epochs=-1, max_steps=29)


def test_a_plan_that_is_not_made_whole_is_told():
    class Fourth(Net):
        automatic_optimization = False

        def training_step(self, batch, batch_idx):
            self.manual_backward(super().training_step(batch, batch_idx))
            if batch_idx % 4 == 3 or self.current_epoch == 0:  # fewer from the second epoch on
                self.optimizers().step()
                self.optimizers().zero_grad()

    class Enough(Callback):
        def on_train_batch_end(self, trainer, *_):
            trainer.should_stop = trainer.global_step == 12

    with pytest.raises(ValueError, match="ended at update 14 of the plan's 30, in phase 'sparse'"):
        fit(Fourth(sgd), DSD(0.5, (1, 1, 1)))
    with pytest.warns(UserWarning, match="ended at update 12 of the plan's 30, in phase 'sparse'"):
        fit(Net(sgd), DSD(0.5, (1, 1, 1)), Enough())


def test_company_that_a_plan_cannot_keep_is_refused_at_the_start():
    for callback in (GradientAccumulationScheduler({1: 4}), StochasticWeightAveraging(0.01)):
        with pytest.raises(ValueError, match=type(callback).__name__):
            fit(Net(sgd), DSD(0.5, (1, 1, 1)), callback)
    fake = SimpleNamespace(optimizers=[0], strategy=FSDPStrategy(), callbacks=[])
    with pytest.raises(ValueError, match="FSDPStrategy shards them: use strategy='ddp'"):
        DSD(0.5, (1, 1, 1)).on_train_start(fake, Net(sgd))


def test_a_step_that_raises_leaves_the_optimizers_own_rate():
    class Breaks(Net):
        def training_step(self, batch, batch_idx):
            if self.trainer.global_step == 15:
                raise RuntimeError("a bad batch")
            return super().training_step(batch, batch_idx)

    class Left(Callback):
        def on_exception(self, trainer, pl_module, exception):
            self.rate = trainer.optimizers[0].param_groups[0]["lr"]  # what a checkpoint of the exception would keep

    left = Left()
    with pytest.raises(RuntimeError, match="a bad batch"):
        fit(Breaks(sgd), DSD(0.5, (1, 1, 1)), left)
    assert left.rate == 0.1

    net = Net(sgd).net
    optimizer = sgd(net.parameters())
    phases = Phases(net, optimizer, dsd_phases(0.5, (1, 1, 1), rates=(0.1, 0.1, 0.1)), 10)

    def fails():
        raise RuntimeError("out of memory")

    for _ in range(3):
        phases.start_update()
        with pytest.raises(RuntimeError, match="out of memory"):
            optimizer.step(fails)
    phases.close()
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_resume_from_a_checkpoint_in_the_sparse_phase(tmp_path):
    """A masks-lost-on-resume bug of every peer: here the second half must be bit-equal to an undisturbed run."""

    class Save(Callback):
        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step == 20:
                trainer.save_checkpoint(tmp_path / "mid.ckpt")

    def run(ckpt=None):
        module = Net(MAKERS["adam"])
        trainer = pl.Trainer(
            max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, num_sanity_val_steps=0, callbacks=[DSD(0.5, (1, 2, 1)), Save(), (look := Look())],
        )  # fmt: skip
        trainer.fit(module, ckpt_path=ckpt, weights_only=True)
        return module, look

    whole, _ = run()
    resumed, look = run(tmp_path / "mid.ckpt")
    assert min(look.zeros) == 20
    assert look.zeros[20] == [48, 24]
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_doing_nothing_is_an_error():
    with pytest.raises(ValueError, match="matches no parameter"):
        fit(Net(sgd), DSD(0.5, (1, 1, 1), include=["decoder.*"]))


def test_manual_optimization_with_two_optimizers():
    class Two(Net):
        automatic_optimization = False

        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            for optimizer in self.optimizers():
                optimizer.zero_grad()
            self.manual_backward(loss)
            for optimizer in self.optimizers():
                optimizer.step()

        def configure_optimizers(self):
            return [sgd(self.net[0].parameters()), sgd(self.net[2].parameters())]

    with pytest.raises(ValueError, match="one optimizer"):
        fit(Two(sgd), DSD(0.5, (1, 1, 1)))


def test_a_fast_dev_run_makes_one_batch_of_any_plan():
    look = fit(Net(sgd), DSD(0.5, (2, 1, 1)), fast_dev_run=True)
    assert list(look.zeros) == [0]


def test_a_checkpoint_without_a_plan_does_not_begin_one_in_silence(tmp_path):
    module = Net(sgd)
    trainer = pl.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(module)
    trainer.save_checkpoint(tmp_path / "dense.ckpt")
    trainer = pl.Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
                         callbacks=[DSD(0.5, (1, 2, 1))])  # fmt: skip
    with pytest.warns(UserWarning, match="knows of no plan: this one goes on at update 20, in phase 'sparse'"):
        trainer.fit(Net(sgd), ckpt_path=tmp_path / "dense.ckpt", weights_only=True)


@pytest.mark.parametrize("accumulate", [1, 4])
def test_the_loss_that_is_kept_is_the_modules_own(accumulate):
    """Lightning hands on a loss divided by how many batches an update gathers."""
    phases = [Phase("dense", 1, Constant(0.0))]
    history = History(phases)
    fit(Net(sgd), PlanCallback(phases), history, epochs=1, accumulate_grad_batches=accumulate)
    assert history.rows[-1]["train/loss"] == pytest.approx(float(whole_loss(Net(sgd))), rel=1e-5)


@torch.no_grad()
def whole_loss(module):
    x, y = data().tensors
    return nn.functional.cross_entropy(module.net(x), y)


class ByHand(Net):
    """Two updates a batch, or one."""

    def __init__(self, steps):
        super().__init__(sgd)
        self.automatic_optimization, self.steps = False, steps

    def training_step(self, batch, batch_idx):
        for _ in range(self.steps):
            self.optimizers().zero_grad()
            self.manual_backward(super().training_step(batch, batch_idx))
            self.optimizers().step()


def test_manual_optimization_makes_as_many_updates_as_the_plan_counts_or_it_is_told_after_an_epoch():
    assert fit(ByHand(1), DSD(0.5, (1, 1, 1))).zeros[15] == [48, 24]
    with pytest.raises(
        ValueError, match=r"made 20 updates in the first epoch, and the plan counts 10.*updates_per_epoch=20"
    ):
        fit(ByHand(2), DSD(0.5, (2, 1, 1)), epochs=4)
