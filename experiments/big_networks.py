"""Big networks, whole pipeline: `python -m experiments.big_networks [NAME ...]`.

prune -> codebook -> archive -> runtime, with what a run has: the network, the two constraints and their densities and bits
are those of conf/experiment/dc_NAME.yaml at profile=paper, the archive is written by run.py's own function, and `dsd.load`
makes the network from its bytes alone. Nothing is trained: the weights are each network's own initialisation, so sizes say
what the coder does with such numbers, and nothing of accuracy. What is lost between the pieces would show: decoding has to be
exact in every bit, the ledger has to add up to the file, and the three forms have to give the same outputs. One network
at a time; each is kept in experiments/big_networks/results.json when it is done. Without names: all.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from dsd.compression import Archive, decompress
from dsd.inference import Coded, Looked, Rows, load, resident
from dsd.inference.layers import FORMS, ConvolutionOf, LinearOf, convertible
from dsd.ledger import Row
from dsd.oneshot import differences
from dsd.results.store import atomic_write
from dsd.run.config import composed
from dsd.run.training import archived
from experiments import big_networks_report
from experiments.big_networks_report import TOLERANCE

FOLDER = Path(__file__).parent / "big_networks"
TITLES = {
    "alexnet": "AlexNet", "vgg16": "VGG-16", "inception_v3": "Inception-V3", "resnet50": "ResNet-50", "googlenet": "GoogLeNet",
}  # fmt: skip
KINDS = {Rows: "compressed rows", Looked: "a byte a weight", Coded: "3 bytes a kept weight"}


def config(name: str, *words: str) -> DictConfig:
    """What a run of conf/experiment/dc_`name` with the published data would do."""
    return composed(f"experiment=dc_{name}", "profile=paper", *words)


def made(cfg: DictConfig) -> nn.Module:
    """The network drawn by its own initialisation, then pruned and shared by the constraints of the config."""
    torch.manual_seed(cfg.seed)
    net: nn.Module = instantiate(cfg.model)
    for constraint in (cfg.pruning, cfg.quantization):
        instantiate(constraint).enter(net, evidence={}, seed=cfg.seed)
    return net.eval()


def layers(name: str) -> list[tuple[tuple[int, ...], float, int]]:
    """(shape, density, bits) of each weight that is pruned, as the config has them; no network is drawn."""
    cfg = config(name)
    with torch.device("meta"):
        net = instantiate(cfg.model)
    sparse, shared = instantiate(cfg.pruning), instantiate(cfg.quantization)
    weights, bits = sparse.weights(net), shared.bits_of(shared.weights(net))
    kept = sparse.allocation(weights, sparse.sparsity)
    return [(tuple(weight.shape), kept[key], bits[key]) for key, weight in weights.items()]


def through(cfg: DictConfig) -> dict[str, Any]:
    """All that there is to say of one network. ValueError if a piece does not fit the next."""
    net = made(cfg)
    archive = archived(cfg, net, {})
    ledger = archive.ledger
    if wrong := differences(net.state_dict(), decompress(archive.data)):
        raise ValueError(f"{cfg.name} comes back from its archive changed: {'; '.join(wrong[:3])}")
    if ledger.size != len(archive.data):
        raise ValueError(f"{cfg.name}: the ledger has {ledger.size:,} bytes, the file {len(archive.data):,}")
    sparse, shared = instantiate(cfg.pruning), instantiate(cfg.quantization)
    published: Any = OmegaConf.to_container(cfg.published, resolve=True)
    return {
        "experiment": cfg.name, "bits": shared.bits_of(shared.weights(net)), "pruned": list(sparse.weights(net)),
        "fp32_bytes": ledger.fp32_bytes, "bytes": len(archive.data), "around": dict(ledger.around),
        "tensors": [_row(row) for row in ledger.rows], "published": published, "runs": running(cfg, net, archive),
    }  # fmt: skip


def running(cfg: DictConfig, net: nn.Module, archive: Archive) -> dict[str, Any]:
    """The archive's network in each form beside the one that it was made from: outputs on one input, bytes, layers."""
    torch.manual_seed(cfg.seed)
    shape = (1, cfg.data.channels, cfg.data.size, cfg.data.size)
    x, forms = torch.randn(shape), {}
    with torch.inference_mode():
        expected = net(x)
        if not (torch.isfinite(expected).all() and expected.abs().max() > 0):
            raise ValueError(f"{cfg.name} has no finite output on noise, so there is nothing to compare")
        for form in FORMS:
            other = load(archive.data, form=form)
            found = other(x)
            error = float((found - expected).abs().max() / expected.abs().max())
            if error > TOLERANCE or (form == "dense" and error):
                raise ValueError(f"{cfg.name}: {form} differs from the network by {error:.1e} of the largest score")
            forms[form] = {"error": error, "resident": resident(other), "layers": _ways(other)}
            del other
            gc.collect()
    return {"input": list(shape), "largest": float(expected.abs().max()), "forms": forms}


def _ways(net: nn.Module) -> dict[str, int]:
    """How many layers are in each form."""
    found = Counter(KINDS[type(m.matrix)] for m in net.modules() if isinstance(m, LinearOf | ConvolutionOf))
    return {"dense": len(convertible(net)), **found}


def _row(row: Row) -> dict[str, Any]:
    """A tensor's line of the ledger, without what is 0."""
    kept = {
        "name": row.name, "shape": list(row.shape), "form": row.form, "n": row.n, "kept": row.kept, "distinct": row.distinct,
        "weight_bits": row.weight_bits, "weight_bits_coded": round(row.weight_bits_coded, 4), "index_bits": row.index_bits,
        "index_bits_coded": round(row.index_bits_coded, 4), "shannon_bits": round(row.shannon_bits, 1), "bytes": dict(row.bytes),
    }  # fmt: skip
    return {key: value for key, value in kept.items() if value}


def main(words: list[str]) -> int:
    """The exit code."""
    asked = argparse.ArgumentParser("python -m experiments.big_networks", description=(__doc__ or "").splitlines()[0])
    asked.add_argument("networks", nargs="*", help=f"of {', '.join(TITLES)}; default: all")
    asked.add_argument("--report", action="store_true", help="only the report and the figure, from the results")
    given = asked.parse_args(words)
    if unknown := [name for name in given.networks if name not in TITLES]:
        print(f"there is no network {unknown[0]} here: they are {', '.join(TITLES)}", file=sys.stderr)
        return 2
    path = FOLDER / "results.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for name in [] if given.report else given.networks or list(TITLES):
        results[name] = {"title": TITLES[name]} | through(config(name))
        results = {key: results[key] for key in TITLES if key in results}
        one = results[name]
        print(f"{one['title']}: {one['bytes']:,} bytes, {one['fp32_bytes'] / one['bytes']:.1f}x", flush=True)
        atomic_write(path, big_networks_report.as_json(results))
        gc.collect()
    big_networks_report.write(results, FOLDER)
    print(f"report: {FOLDER / 'report.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
