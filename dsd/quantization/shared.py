"""The constraint of a phase with shared weights: every surviving weight is one of its layer's few centroids.

Trained quantization (Han et al., "Deep Compression", ICLR 2016, section 3.3, equation 3): the gradient of a centroid is
the sum over its members. Each member is given that sum as its own gradient, and what the optimizer remembers of it from
before the phase is replaced by the mean over the cluster, so that all of them take the step of the centroid, whatever the
optimizer and its momentum. Pruned weights stay 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer

from dsd.quantization.budget import choices, for_bytes, for_loss
from dsd.quantization.codebook import Codebook
from dsd.quantization.kmeans import Initial, assign, linear

Select = Callable[[nn.Module], dict[str, Parameter]]


@dataclass(frozen=True)
class Shared:
    """Codebooks of 2**bits values for the weights that `select` names.

    `bits` holds where no pattern of `table` fits ({"conv*": 8, "fc*": 5} is the paper's rule); the first that fits counts.
    `relabel_every` > 0 is the paper's other strategy: weights learn out of sight by their own gradients, and every so many
    updates each goes to its nearest centroid; `Held.changed` has the share that went to another one.
    `train=False` keeps the values found at the start. `bytes` or `loss`, if not None, choose the bits when the phase begins
    (dsd/quantization/budget.py): as little loss as fits into so many bytes, or as few bytes as lose no more than that mean
    share of the layers' energy; then `bits` and `table` don't count.
    """

    bits: int
    select: Select
    table: Mapping[str, int] = field(default_factory=dict)
    init: Initial = linear
    iterations: int = 50
    relabel_every: int = 0
    train: bool = True
    bytes: float | None = None
    loss: float | None = None

    def __post_init__(self) -> None:
        for bits in (self.bits, *self.table.values()):
            if not 1 <= bits <= 16:
                raise ValueError(f"a codebook has 1 to 16 bits, found {bits}")
        if self.relabel_every < 0:
            raise ValueError(f"relabel_every is a number of updates, or 0 for never; found {self.relabel_every}")
        if self.relabel_every and not self.train:
            raise ValueError("train=False keeps the values found at the start: it needs relabel_every=0")
        if self.bytes is not None and self.loss is not None:
            raise ValueError("bits are chosen by bytes or by loss, not by both: set one of them to null")
        if any(budget is not None and budget <= 0 for budget in (self.bytes, self.loss)):
            raise ValueError(f"a budget must be above 0, found bytes={self.bytes}, loss={self.loss}")

    def weights(self, module: nn.Module) -> dict[str, Parameter]:
        """The parameters that this constraint is about."""
        return self.select(module)

    def alone(self, layer: str, value: float) -> Shared:
        """The same for that layer alone, with so many bits."""

        def only(module: nn.Module) -> dict[str, Parameter]:
            return {layer: self.select(module)[layer]}

        return replace(self, bits=int(value), table={}, bytes=None, loss=None, select=only)

    def check(self, module: nn.Module) -> None:
        """Raises ValueError if no weight is selected, or a pattern of the table matches none."""
        self.bits_of(self.weights(module))

    def bits_of(self, names: Iterable[str]) -> dict[str, int]:
        """Bits of each tensor. Raises ValueError for a pattern that matches none."""
        names = list(names)
        for pattern in self.table:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ValueError(f"{pattern!r} of the table of bits matches no weight; they are {names[:8]}")
        return {n: next((b for p, b in self.table.items() if fnmatchcase(n, p)), self.bits) for n in names}

    def chosen(self, weights: Mapping[str, Tensor], seed: int) -> dict[str, int]:
        """Bits of each tensor, by the table or by the budget. Raises ValueError for a budget that can't be kept."""
        if self.bytes is None and self.loss is None:
            return self.bits_of(weights)
        layers = {n: choices(w, init=self.init, iterations=self.iterations, seed=seed) for n, w in weights.items()}
        return for_bytes(layers, self.bytes) if self.bytes is not None else for_loss(layers, self.loss or 0.0)

    def enter(self, module: nn.Module, *, evidence: Mapping[str, Tensor], seed: int) -> Held:
        """Cluster the weights as they are. All ranks use rank 0's codebooks."""
        weights, books = self.weights(module), {}
        for name, bits in self.chosen(weights, seed).items():
            try:
                book = Codebook.of(weights[name], bits, init=self.init, iterations=self.iterations, seed=seed)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
            books[name] = of_rank_zero(book)
        return Held(self, weights, books)

    def resume(self, module: nn.Module, state: Mapping[str, Any]) -> Held:
        """Hold the codebooks that a checkpoint brought back."""
        weights = self.weights(module)
        if set(weights) != set(state["books"]):
            raise ValueError("the checkpoint's codebooks are of other layers: resume with the configuration it had")
        shapes = {name: tuple(weights[name].shape) for name in weights}
        books = {
            n: Codebook(b["centroid"], b["index"].long(), b["position"], shapes[n]) for n, b in state["books"].items()
        }
        held = Held(self, weights, books)
        held.steps = state["steps"]
        held.changed = dict(state["changed"])
        for name, latent in state["latent"].items():
            held.latent[name].copy_(latent)
        return held


class Held:
    """Codebooks in force on live parameters."""

    def __init__(self, constraint: Shared, weights: Mapping[str, Parameter], books: Mapping[str, Codebook]) -> None:
        self.constraint = constraint
        self.books = dict(books)
        self.steps = 0
        self.changed: dict[str, float] = {}
        self._weights = dict(weights)
        self._place = {n: b.position_N.to(weights[n].device) for n, b in self.books.items()}
        self._index = {n: b.index_N.to(weights[n].device) for n, b in self.books.items()}
        self._first = {n: _first_members(b) for n, b in self.books.items()}
        self._pending = False
        self.latent: dict[str, Tensor] = {}
        if constraint.relabel_every:
            self.latent = {n: self._members(n, w.detach()).float() for n, w in self._weights.items()}
        self._write()

    @torch.no_grad()
    def before_step_(self, optimizer: Optimizer) -> None:
        """Give each weight the gradient of its centroid; nothing to pruned ones."""
        self._pending = True
        if not self.steps and not self.latent:
            self._agree_(optimizer)
        for name, weight in self._weights.items():
            if self.latent:
                weight.copy_(_scattered(weight, self._place[name], self.latent[name]))
            if weight.grad is None:
                continue
            given = self._members(name, weight.grad)
            if not self.latent:
                given = self._summed(name, given) if self.constraint.train else torch.zeros_like(given)
            weight.grad = _scattered(weight.grad, self._place[name], given)

    @torch.no_grad()
    def project_(self) -> None:
        """Make the members of a cluster exactly equal again, and the pruned weights exactly 0."""
        if self._pending:
            self._pending = False
            self.steps += 1
            for name, book in self.books.items():
                moved = self._members(name, self._weights[name].detach()).float()
                if self.latent:
                    self._learn_latent(name, book, moved)
                elif self.constraint.train:
                    book.centroid_K.copy_(_never_zero(moved[self._first[name].to(moved.device)].cpu()))
        self._write()

    def labels(self) -> dict[str, Tensor]:
        """The number of each surviving weight's centroid, by the ascending centroids of its layer."""
        return {name: index.cpu().clone() for name, index in self._index.items()}

    def leave_(self, optimizers: Iterable[Optimizer]) -> None:
        """Let the weights differ again; they keep their values."""

    def state_dict(self) -> dict[str, Any]:
        small = torch.uint8 if all(len(b.centroid_K) <= 256 for b in self.books.values()) else torch.int32
        books = {
            n: {"centroid": b.centroid_K.clone(), "index": self._index[n].cpu().to(small), "position": b.position_N}
            for n, b in self.books.items()
        }
        return {"books": books, "steps": self.steps, "changed": self.changed, "latent": self.latent}

    def _members(self, name: str, tensor: Tensor) -> Tensor:
        return tensor.reshape(-1).index_select(0, self._place[name])  # 5 times faster than [...]

    def _summed(self, name: str, gradient: Tensor) -> Tensor:
        wide = torch.promote_types(gradient.dtype, torch.float32)  # in bfloat16 a sum of ones ends at 256
        index, total = self._index[name], gradient.new_zeros(len(self.books[name].centroid_K), dtype=wide)
        return total.index_add_(0, index, gradient.to(wide)).index_select(0, index)

    def _agree_(self, optimizer: Optimizer) -> None:
        """What the optimizer remembers from before the phase, such as momentum, is the mean over the cluster."""
        for name, weight in self._weights.items():
            for key, value in optimizer.state.get(weight, {}).items():
                if isinstance(value, Tensor) and value.shape == weight.shape:
                    given = self._members(name, value)
                    mean = self._summed(name, given) / self._summed(name, torch.ones_like(given, dtype=torch.float32))
                    optimizer.state[weight][key] = _scattered(value, self._place[name], mean)

    def _learn_latent(self, name: str, book: Codebook, moved: Tensor) -> None:
        self.latent[name].copy_(moved)
        if self.steps % self.constraint.relabel_every == 0:
            before = self._index[name]
            order = torch.from_numpy(assign(moved.cpu().numpy(), book.centroid_K.numpy())).to(before.device)
            self.changed[name] = float((order != before).float().mean()) if len(order) else 0.0
            self._index[name] = order
        count = torch.bincount(self._index[name], minlength=len(book.centroid_K)).cpu()
        total = torch.zeros(len(book.centroid_K), dtype=torch.float64).index_add_(
            0, self._index[name].cpu(), moved.double().cpu()
        )
        means = torch.where(count > 0, total / count.clamp_min(1), book.centroid_K.double()).float()
        ordered, place = _never_zero(means).sort()
        book.centroid_K.copy_(ordered)
        self._index[name] = place.argsort().to(self._index[name].device)[self._index[name]]

    @torch.no_grad()
    def _write(self) -> None:
        for name, weight in self._weights.items():
            values = self.books[name].centroid_K.to(weight.device, weight.dtype).index_select(0, self._index[name])
            weight.copy_(_scattered(weight, self._place[name], values))


def _scattered(like: Tensor, place: Tensor, values: Tensor) -> Tensor:
    """A tensor like `like` (its memory layout too) with `values` at `place` of the flattened, and 0 elsewhere."""
    flat = torch.zeros(like.numel(), dtype=like.dtype, device=like.device).scatter_(0, place, values.to(like.dtype))
    shaped = flat.reshape(like.shape)
    return shaped if like.is_contiguous() else torch.empty_like(like).copy_(shaped)


def _never_zero(centroid: Tensor) -> Tensor:
    """The same with the smallest normal number in place of 0: a survivor must not look pruned."""
    return torch.where(centroid.abs() < torch.finfo(torch.float32).tiny, torch.finfo(torch.float32).tiny, centroid)


def _first_members(book: Codebook) -> Tensor:
    """For each centroid the place, among the members, of the first that has it."""
    first = torch.zeros(len(book.centroid_K), dtype=torch.int64)
    order = torch.arange(len(book.index_N) - 1, -1, -1)
    return first.index_put_((book.index_N[order],), order) if len(order) else first


def of_rank_zero(book: Codebook) -> Codebook:
    """The codebook that rank 0 found, on every rank."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return book
    everyone = [book]
    torch.distributed.broadcast_object_list(everyone, src=0)
    return everyone[0]
