"""A network from its archive gives the outputs of the network that was packed, in every form."""

import copy
import json

import pytest
import torch
from torch import nn

import dsd
from dsd.coding.archive import ArchiveError
from dsd.compression import compress
from dsd.inference import bench, convert_, loading, resident
from dsd.inference.crossover import KINDS, faster, kind_of, stored
from dsd.inference.layers import ConvolutionOf, LinearOf
from dsd.inference.matrices import Coded, Looked, Rows
from dsd.inference.peers import has_compiler
from dsd.inference.recurrent import SequenceOf
from dsd.inference.timing import Timing
from dsd.models import LeNet300
from tests.inference.networks import NETWORKS, example, packed, shared_

FORMS = ["dense", "sparse", "codebook"]


def scores(net, name, batch=3):
    with torch.no_grad():
        out = net(*example(name, batch))
    return out[0] if isinstance(out, tuple) else out


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("measured", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_within_rounding(name, form, measured, tmp_path):
    net, data = packed(name)
    (tmp_path / "model.dsd").write_bytes(data)
    found = dsd.load(tmp_path / "model.dsd", form=form, example=example(name) if measured else None)
    assert not found.training
    expected, got = scores(net, name), scores(found, name)
    assert (expected.argmax(-1) == got.argmax(-1)).all()
    assert float((got - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


@pytest.mark.skipif(not has_compiler(), reason="torch.compile writes C++: install g++ or clang++")
@pytest.mark.parametrize("form", FORMS)
def test_a_compiled_network_gives_the_same(form):
    net, data = packed("LeNet5")
    found = torch.compile(dsd.load(data, form=form))
    assert torch.allclose(scores(found, "LeNet5"), scores(net, "LeNet5"), atol=1e-5)


@pytest.mark.skipif(not has_compiler(), reason="torch.compile writes C++: install g++ or clang++")
@pytest.mark.parametrize("form", ["sparse", "codebook"])
def test_more_layers_than_the_compiler_takes_variants_are_one_graph(form):
    """And the graph takes another batch, and belongs to its network, not to a copy of it."""
    torch.manual_seed(0)
    layers = [layer for n in range(10) for layer in (nn.Linear(20 + n, 21 + n), nn.ReLU())]
    net = shared_(nn.Sequential(nn.Conv1d(3, 5, 3), nn.Conv1d(5, 2, 1), nn.Flatten(), *layers)).eval()
    expected = copy.deepcopy(net)
    convert_(net, form=form, batch=1)
    assert sum(isinstance(layer, LinearOf | ConvolutionOf) for layer in net) > 8
    one, other = torch.compile(net, fullgraph=True), torch.compile(copy.deepcopy(net), fullgraph=True)
    for batch in (1, 2, 5, 7):
        x = torch.randn(batch, 3, 12)
        torch.testing.assert_close(one(x), expected(x), atol=1e-5, rtol=1e-5)
    for weight in net[21].matrix.parameters():  # of the last layer: what an early one does may vanish on the way
        weight.zero_()
    x = torch.randn(5, 3, 12)
    torch.testing.assert_close(other(x), expected(x), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(one(x), expected(x), atol=1e-5)


@pytest.mark.skipif(not has_compiler(), reason="torch.compile writes C++: install g++ or clang++")
def test_many_networks_of_one_class_share_a_graph():
    torch.compiler.reset()
    for seed in range(10):
        net = shared_(nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 5)), seed=seed)
        expected = copy.deepcopy(net)
        convert_(net, form="sparse")
        x = torch.randn(3, 40)
        torch.testing.assert_close(torch.compile(net, fullgraph=True)(x), expected(x), atol=1e-5, rtol=1e-5)


def test_a_sparse_network_is_not_exported_without_its_weights():
    net = shared_(nn.Sequential(nn.Linear(40, 30), nn.ReLU()))
    convert_(net, form="sparse")
    with pytest.raises(Exception, match="cannot be exported or traced by torch: load it with form='dense'"):
        torch.export.export(net, (torch.randn(2, 40),))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.torch.jit.trace")
@pytest.mark.parametrize("form", FORMS[1:])
def test_no_trace_keeps_one_product_for_ever(form):
    net = shared_(nn.Sequential(nn.Linear(40, 30), nn.ReLU()))
    convert_(net, form=form)
    with pytest.raises(ValueError, match="cannot be exported or traced by torch"):
        torch.jit.trace(net, torch.randn(2, 40))


@pytest.mark.parametrize("form", [Rows, Coded, Looked])
def test_no_gradient_is_silently_wrong(form):
    linear, conv = nn.Linear(18, 6), nn.Conv2d(2, 6, 3)
    weight = bench.drawn(6, 18, 0.5)
    made = {(2, 18): LinearOf(form.of(weight), linear.bias), (2, 2, 5, 5): ConvolutionOf(conv, form.of(weight))}
    for shape, layer in (made | {(4, 2, 18): SequenceOf(nn.LSTM(18, 6))}).items():
        x = torch.randn(shape, requires_grad=True)
        with pytest.raises(ValueError, match=r"passes no gradient to its input: call it within torch.no_grad\(\)"):
            layer(x)
        with torch.no_grad():
            layer(x)
        layer(x.detach())
    state = torch.zeros(1, 2, 6, requires_grad=True)
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([4, 3]))
    for inputs, named in ((packed,), {}), ((x.detach(), (state, state)), {}), ((), {"input": x}):
        with pytest.raises(ValueError, match="passes no gradient"):
            layer(*inputs, **named)


@pytest.mark.parametrize("form", FORMS)
def test_a_network_without_a_bias_has_parameters_in_every_form(form):
    net = shared_(nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.Flatten(), nn.Linear(16, 8, bias=False)))
    convert_(net, form=form)
    assert next(net.parameters()).dtype == torch.float32
    assert not any(weight.requires_grad for weight in net.parameters())


def test_a_layer_that_the_example_does_not_call_stays_dense():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4000, 3000), nn.Linear(3000, 700)  # the first surely faster

        def forward(self, x):
            return torch.nn.functional.linear(self.first(x), self.second.weight)

    parts = convert_(shared_(Own()), form="sparse", example=(torch.randn(1, 4000),))
    assert [part.form for part in parts] == ["sparse", "dense"]
    parts = convert_(shared_(Own()), form="codebook", example=(torch.randn(1, 4000),))
    assert parts[1].form in ("looked", "coded")  # for memory


def test_a_network_that_does_not_fit_the_archive():
    net, data = packed("LeNet300")
    with pytest.raises(ValueError, match="give the network that the archive was made of") as told:
        dsd.load(data, net=nn.Sequential(nn.Linear(3, 2)))
    assert "skip=" not in str(told.value)
    with pytest.raises(ValueError, match=r"_orig_mod\.: give the network inside it, and wrap or compile the result"):
        dsd.load(data, net=torch.compile(net))


def test_the_dense_form_is_the_network_bit_for_bit():
    net, data = packed("LeNet5")
    found = dsd.load(data, form="dense")
    assert torch.equal(scores(found, "LeNet5"), scores(net, "LeNet5"))
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in found.state_dict().items())


def test_sparse_forms_take_less_memory_and_the_parts_say_so():
    net, data = packed("LeNet300")
    size = {form: resident(dsd.load(data, form=form)) for form in FORMS}
    assert size["codebook"] < size["sparse"] < size["dense"] / 4
    parts = convert_(net, form="sparse")
    assert [part.name for part in parts] == ["fc1", "fc2", "fc3"]
    assert {part.form for part in parts} == {"sparse"}
    assert parts[0].dense_bytes == 4 * 784 * 300
    assert parts[0].bytes == pytest.approx(8 * parts[0].density * 784 * 300 + 4 * 301)
    assert resident(net) == sum(part.bytes for part in parts) + 4 * 410  # the biases


def test_dense_weights_stay_dense():
    parts = convert_(NETWORKS["LeNet300"][0](**NETWORKS["LeNet300"][1]), form="sparse")
    assert {part.form for part in parts} == {"dense"}


def test_captions_are_the_same_word_by_word():
    net, data = packed("NeuralTalk")
    features, _ = example("NeuralTalk")
    sparse = dsd.load(data, form="codebook")
    assert isinstance(sparse.lstm, LinearOf)
    states = [one.look(features) for one in (net, sparse)]
    words = torch.zeros(3, dtype=torch.int64)
    with torch.no_grad():
        for _ in range(6):
            steps = [one.next(words, state) for one, state in zip((net, sparse), states, strict=True)]
            torch.testing.assert_close(steps[1][0], steps[0][0], atol=1e-5, rtol=1e-5)
            words, states = steps[0][0].argmax(1), [state for _, state in steps]


def test_what_is_behind_the_end_of_an_utterance_changes_nothing():
    _, data = packed("DeepSpeech1")
    net = dsd.load(data, form="sparse")
    x, lengths = example("DeepSpeech1")
    other = x.clone()
    other[1, 17:] = 9
    assert torch.equal(net(x, lengths)[0][1, :9], net(other, lengths)[0][1, :9])


def test_an_archive_that_names_no_network():
    net = shared_(nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 4)))
    data = compress(net.state_dict()).data
    with pytest.raises(ValueError, match=r"does not say which network it is.*net="):
        dsd.load(data)
    found = dsd.load(data, form="sparse", net=nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 4)))
    x = torch.randn(5, 20)
    torch.testing.assert_close(found(x), net(x), atol=1e-5, rtol=1e-5)


def test_errors(tmp_path):
    _, data = packed("LeNet300")
    with pytest.raises(ValueError, match="form must be one of dense, sparse, codebook, found 'csr'"):
        dsd.load(data, form="csr")
    with pytest.raises(ArchiveError, match="damaged"):
        dsd.load(data[:-9] + bytes(9))
    with pytest.raises(ArchiveError, match="there is no file"):
        dsd.load(tmp_path / "none.dsd")
    with pytest.raises(ValueError, match=r"none\.json is no table of dsd bench --write-crossover"):
        dsd.load(data, form="sparse", crossover=tmp_path / "none.json")


TABLE = {"linear": {"sparse": {"1": 0.4, "8": 0.2, "64": 0.3}}}


@pytest.mark.parametrize(
    ("batch", "highest"), [(1, 0.4), (2, 0.2), (8, 0.2), (9, 0.2), (64, 0.3), (1000, 0.3)]
)  # fmt: skip
def test_the_crossover_table_errs_on_the_dense_side(batch, highest):
    assert faster("linear", "sparse", density=highest, batch=batch, table=TABLE)
    assert not faster("linear", "sparse", density=highest + 0.01, batch=batch, table=TABLE)


def test_a_table_of_ones_own_decides(tmp_path):
    _, data = packed("LeNet300")
    table = {kind: {form: {"1": 0.0} for form in ("sparse", "coded")} for kind in KINDS}
    (tmp_path / "mine.json").write_text(json.dumps(table))
    found = dsd.load(data, form="sparse", crossover=tmp_path / "mine.json")
    assert all(type(layer) is nn.Linear for layer in (found.fc1, found.fc2, found.fc3))
    assert isinstance(dsd.load(data, form="sparse").fc1, LinearOf)
    (tmp_path / "mine.json").write_text("{}")
    with pytest.raises(ValueError, match=r"mine\.json is no table of dsd bench --write-crossover"):
        dsd.load(data, form="sparse", crossover=tmp_path / "mine.json")


def test_no_batch_is_an_error():
    with pytest.raises(ValueError, match="a batch is 1 or more, found 0"):
        faster("linear", "sparse", density=0.1, batch=0, table=TABLE)


def test_the_stored_table_says_where_it_was_measured():
    table = stored()
    assert all(set(table[kind]) == {"sparse", "coded"} for kind in KINDS)
    assert {"cpu", "cores_physical"} <= set(table["machine"])
    assert "torch" in table["versions"]


def test_a_form_that_no_layer_can_have_is_refused():
    with pytest.raises(
        ValueError, match="ReLU has no linear layer, convolution or recurrent layer of float32 that could be sparse"
    ):
        convert_(nn.ReLU(), form="sparse")


def test_kinds_of_layers():
    layers = [nn.Linear(3, 3), nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 1), nn.Conv1d(3, 3, 1, padding="same")]
    assert [kind_of(layer) for layer in layers] == ["linear", "convolution", "pointwise", "pointwise"]
    assert kind_of(nn.Conv2d(3, 3, 1, padding=1)) == "convolution"


@pytest.mark.parametrize("form", ["sparse", "codebook"])
def test_a_layer_alone_must_be_wrapped(form):
    with pytest.raises(ValueError, match=r"wrap it, nn\.Sequential"):
        convert_(shared_(nn.Linear(300, 100), kept=0.1), form=form)


def test_an_encoder_of_torch_calls_its_layers():
    torch.manual_seed(0)
    net = nn.TransformerEncoderLayer(32, 2, 64, batch_first=True).eval()
    for layer in (net.linear1, net.linear2):
        shared_(layer, kept=0.05)
    x, called = torch.randn(2, 5, 32), []
    with torch.inference_mode():
        expected = net(x)
        convert_(net, form="sparse")
        net.linear1.matrix.register_forward_hook(lambda *_: called.append(1))
        torch.testing.assert_close(net(x), expected, atol=1e-5, rtol=1e-5)
    assert called


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")  # torch's own, in its dense fast path
@pytest.mark.parametrize("form", ["sparse", "codebook"])
def test_an_encoder_takes_padded_batches(form):
    layer = nn.TransformerEncoderLayer(64, 2, 128, batch_first=True)
    net = shared_(nn.TransformerEncoder(layer, 2), kept=0.05).requires_grad_(False)
    x, padded = torch.randn(3, 4, 64), torch.zeros(3, 4, dtype=torch.bool)
    padded[0, 2:] = True
    expected = net(x, src_key_padding_mask=padded)
    assert any(part.form != "dense" for part in convert_(net, form=form))
    found = net(x, src_key_padding_mask=padded)
    torch.testing.assert_close(found[~padded], expected[~padded], atol=1e-5, rtol=1e-5)


def test_an_example_may_be_the_tensor_itself():
    net = nn.Sequential(shared_(nn.Linear(300, 100), kept=0.05))
    assert [part.name for part in convert_(net, form="sparse", example=torch.randn(1, 300))] == ["0"]


def test_an_input_may_be_given_by_name():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = shared_(nn.Linear(300, 100), kept=0.05)

        def forward(self, x):
            return self.fc(input=x)

    x = torch.randn(2, 300)
    for arguments in (None, (x,)):
        net = Named()
        expected = net(x).detach()
        convert_(net, form="sparse", example=arguments)
        torch.testing.assert_close(net(x), expected, atol=1e-5, rtol=1e-5)


def test_a_network_of_narrower_numbers_is_not_filled():
    net = nn.Sequential(nn.Linear(3, 3))
    data = compress(net.state_dict()).data
    with pytest.raises(ValueError, match=r"0\.weight is torch\.bfloat16 in the network, which would round"):
        dsd.load(data, net=nn.Sequential(nn.Linear(3, 3)).bfloat16())
    assert dsd.load(data, net=nn.Sequential(nn.Linear(3, 3)).double())[0].weight.dtype == torch.float64


def test_wider_numbers_are_not_rounded_into_the_archives_own_network():
    made = {"num_classes": 10, "channels": 1, "side": 8, "hidden": [20]}
    net = LeNet300(**made).double()
    data = compress(net.state_dict(), meta={"model": json.dumps({"_target_": "dsd.models.LeNet300", **made})}).data
    with pytest.raises(
        ValueError, match=r"is torch\.float32 in the network, which would round the archive's torch\.float64"
    ):
        dsd.load(data)
    torch.testing.assert_close(
        dsd.load(data, net=LeNet300(**made).double()).state_dict(), net.state_dict(), rtol=0, atol=0
    )


@pytest.mark.parametrize("text", ["foo", "[1]", "null", '{"_target_": 3}'])
def test_an_archive_with_another_word_for_its_network_asks_for_one(text):
    data = compress({"w": torch.ones(2)}, meta={"model": text}).data
    with pytest.raises(ValueError, match="does not say which network it is"):
        dsd.load(data)


@pytest.mark.parametrize(
    ("seconds", "turned", "best"),
    [
        ({"first": 1.0, "close": 0.96, "slow": 2.5}, {"first", "close"}, "first"),  # 4 % are no gain
        ({"first": 1.0, "close": 0.90, "slow": 2.5}, {"first", "close"}, "close"),
        ({"first": 2.5, "close": 1.0}, None, "close"),
    ],
)
def test_a_form_far_behind_has_no_more_turns_and_the_first_stays_unless_another_gains(
    monkeypatch, seconds, turned, best
):
    rounds = []

    def interleaved(ways, *, rounds_of=rounds, rounds, budget=None):
        rounds_of.append(set(ways))
        return {way: Timing(seconds[way], seconds[way], seconds[way], rounds, rounds) for way in ways}

    monkeypatch.setattr(loading, "interleaved", interleaved)
    assert loading.fastest(dict.fromkeys(seconds, lambda: None)) == best
    assert rounds == [set(seconds)] + [turned] * (turned is not None)
    assert loading.fastest({"first": print}) == "first", "one way needs no clock"
    assert len(rounds) == 1 + (turned is not None)
