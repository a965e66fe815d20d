"""A layer held alone, as `scan=true` holds it for its curves."""

from functools import partial

from torch import nn

from dsd.sparsity import Sparse
from dsd.sparsity.allocation import per_layer
from dsd.sparsity.sensitivity import scan


def test_a_layer_alone_has_the_sparsity_asked_for_whatever_a_table_says():
    net = nn.Sequential(nn.Linear(10, 10), nn.Linear(10, 10))
    table = partial(per_layer, table={"0.*": 0.9, "1.*": 0.8})
    alone = Sparse(sparsity=0.9, allocation=table).alone("1.weight", 0.3)
    alone.enter(net, evidence={}, seed=0)
    assert [int(net[k].weight.count_nonzero()) for k in (0, 1)] == [100, 70]


def test_a_layer_alone_changes_nothing_but_its_mask():
    net = nn.Sequential(nn.Linear(10, 10), nn.Dropout(0.5), nn.Linear(10, 10))
    whole = Sparse(sparsity=0.9, l1=0.1, frozen=("0.bias",), rescale_dropout=True)
    curves = scan(net, whole, [0.5, 0.9], lambda *_: net[1].p)
    assert curves == {"0.weight": [0.5, 0.5], "2.weight": [0.5, 0.5]}
