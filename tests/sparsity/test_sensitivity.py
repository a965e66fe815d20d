"""A layer held alone, as `scan=true` holds it for its curves."""

from functools import partial

from torch import nn

from dsd.sparsity import Sparse
from dsd.sparsity.allocation import per_layer


def test_a_layer_alone_has_the_sparsity_asked_for_whatever_a_table_says():
    net = nn.Sequential(nn.Linear(10, 10), nn.Linear(10, 10))
    table = partial(per_layer, table={"0.*": 0.9, "1.*": 0.8})
    alone = Sparse(sparsity=0.9, allocation=table).alone("1.weight", 0.3)
    alone.enter(net, evidence={}, seed=0)
    assert [int(net[k].weight.count_nonzero()) for k in (0, 1)] == [100, 70]
