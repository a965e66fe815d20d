"""Other formats hold the same numbers, and ONNX as few bytes as its codebooks allow."""

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn
from torchvision.models import squeezenet1_0

from dsd.export import csr, network, save_csr, save_onnx, save_tensors
from dsd.models import LeNet5, LeNet300, ResNetCifar

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

LENET300 = {"num_classes": 10, "channels": 1, "side": 28, "hidden": [300, 100]}
LENET5 = {"num_classes": 10, "channels": 1, "side": 28, "widths": [20, 50, 500]}
RESNET = {"depth": 8, "width": 16, "num_classes": 10, "channels": 3}


def shared_(model, *, values=32, kept=0.1, seed=0):
    """Each weight takes few values, most of them 0."""
    random = torch.Generator().manual_seed(seed)
    for weight in (p.data for p in model.parameters() if p.ndim > 1):
        book = torch.cat([torch.zeros(1), 0.3 * torch.randn(values, generator=random) / weight[0].numel() ** 0.5])
        index = torch.randint(1, values + 1, weight.shape, generator=random)
        weight.copy_(book[index * (torch.rand(weight.shape, generator=random) < kept)])
    return model


def outputs(path, images):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])


@pytest.mark.parametrize(
    ("make", "target", "arguments", "shape"),
    [
        (LeNet300, "dsd.models.LeNet300", LENET300, (1, 28, 28)),
        (LeNet5, "dsd.models.LeNet5", LENET5, (1, 28, 28)),
        (squeezenet1_0, "torchvision.models.squeezenet1_0", {"num_classes": 10}, (3, 67, 67)),
        (ResNetCifar, "dsd.models.ResNetCifar", RESNET, (3, 32, 32)),
    ],
)
def test_onnx_gives_the_same_logits_at_a_byte_a_weight(make, target, arguments, shape, tmp_path):
    model = network(target, arguments, shared_(make(**arguments)).state_dict())
    made = save_onnx(model, tmp_path / "net.onnx", shape=shape)
    images = torch.randn(3, *shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(outputs(tmp_path / "net.onnx", images), model(images), atol=1e-4, rtol=1e-4)
    matrices = sum(p.numel() for p in model.parameters() if p.ndim > 1)
    assert made.shared >= 0.98 * matrices  # all but what is smaller than its own codebook
    assert made.size == (tmp_path / "net.onnx").stat().st_size
    assert made.size < made.shared + 4 * made.plain + 60_000
    assert b".py" not in (tmp_path / "net.onnx").read_bytes()  # no paths of whoever exported it


def test_onnx_keeps_a_dense_network_dense(tmp_path):
    model = LeNet300(**LENET300)
    made = save_onnx(model, tmp_path / "net.onnx", shape=(1, 28, 28))
    images = torch.randn(3, 1, 28, 28)
    with torch.no_grad():
        torch.testing.assert_close(outputs(tmp_path / "net.onnx", images), model(images), atol=1e-4, rtol=1e-4)
    assert made.plain >= 266_200


@given(st.integers(1, 300), st.booleans())
@example(257, False)  # a full codebook of 8 bits, and the 0
def test_a_codebook_of_onnx_is_its_tensor_bit_for_bit(distinct, negative_zero):
    from onnx import helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    from dsd.export.onnx import share_

    values = np.linspace(-1, 1, distinct, dtype=np.float32)
    values[0] = -0.0 if negative_zero else values[0]
    weight = np.resize(values, (40, 50))
    graph = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["y"])], "g", [], [helper.make_tensor_value_info("y", 1, [40, 50])],
        [numpy_helper.from_array(weight, "w")],
    )  # fmt: skip
    counts = share_(graph)
    assert counts == ((2000, 0) if distinct <= 257 else (0, 2000))
    found = ReferenceEvaluator(helper.make_model(graph)).run(None, {})[0]
    assert found.tobytes() == weight.tobytes()


def test_onnx_without_its_extra_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"onnx and onnxscript: pip install 'dsd\[onnx\]'"):
        save_onnx(LeNet300(**LENET300), tmp_path / "net.onnx", shape=(1, 28, 28))


def test_onnx_of_images_that_the_network_refuses_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"does not take images of shape \(3, 28, 28\).*--input"):
        save_onnx(LeNet300(**LENET300), tmp_path / "net.onnx", shape=(3, 28, 28))
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta", "ignore:Validating sparse tensor invariants")
def test_rows_are_equal_and_torch_reads_them_as_data(tmp_path):
    state = shared_(LeNet5(**LENET5)).state_dict()
    save_csr(state, tmp_path / "rows.pt")
    rows = torch.load(tmp_path / "rows.pt", weights_only=True)
    assert list(rows) == list(state)
    layouts = {name: value.layout for name, value in rows.items() if value.ndim == 2}
    assert layouts == {"fc1.weight": torch.sparse_csr, "fc2.weight": torch.sparse_csr}
    assert rows["fc1.weight"].crow_indices().dtype == torch.int32
    assert all(torch.equal(rows[name].to_dense(), value) for name, value in state.items())
    x = torch.randn(800, 2)
    torch.testing.assert_close(rows["fc1.weight"] @ x, state["fc1.weight"] @ x)


def test_rows_of_dense_weights_are_an_error():
    with pytest.raises(ValueError, match=r"no matrix is sparse enough.*'fc1.weight': '100%'"):
        csr(LeNet300(**LENET300).state_dict())


def test_tensors_come_back_with_their_notes(tmp_path):
    state = {**LeNet300(**LENET300).state_dict(), "half": torch.ones(3).bfloat16(), "count": torch.tensor(7)}
    state["tied"] = state["fc1.weight"]
    save_tensors(state, tmp_path / "a.safetensors", {"model": "{}"})
    save_tensors(state, tmp_path / "a.pt")
    for found in (load_file(tmp_path / "a.safetensors"), torch.load(tmp_path / "a.pt", weights_only=True)):
        assert set(found) == set(state)
        assert all(
            torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in state.items()
        )
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert file.metadata() == {"model": "{}"}


@pytest.mark.parametrize("name", ["a.bin", "a", "a.onnx"])
def test_another_suffix_is_an_error(name, tmp_path):
    with pytest.raises(ValueError, match=r"written to \.safetensors, \.pt or \.pth"):
        save_tensors({"w": torch.ones(2)}, tmp_path / name)


@pytest.mark.parametrize(
    "target",
    [
        "os.system", "torch.load", "dsd.models.lenet.torch.load", "torchvision.models.os.system", "dsd.modelsx.LeNet300",
        "torchvision.models._api.os", "dsd.models.torchvision_zoo.cast", "dsd.models.NoNet", "LeNet300", "",
    ],
)  # fmt: skip
def test_a_name_from_a_file_calls_nothing_but_networks(target):
    with pytest.raises(ValueError, match="network"):
        network(target, {}, {})


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"weights": "DEFAULT"}, "would download weights"),
        ({"num_classes": 10, "width": 3}, "cannot be made with"),
        ({"norm_layer": {"_target_": "os.system"}}, "only plain values"),
    ],
)
def test_arguments_that_no_network_takes_are_errors(arguments, reason):
    with pytest.raises(ValueError, match=reason):
        network("torchvision.models.resnet18", arguments, {})


def test_what_makes_no_network_is_an_error():
    with pytest.raises(ValueError, match="makes a list, not a network"):
        network("torchvision.models.list_models", {}, {})


def test_weights_of_another_network_are_an_error():
    with pytest.raises(ValueError, match="the weights do not fit"):
        network("dsd.models.LeNet300", LENET300, nn.Linear(3, 4).state_dict())
