"""The authors' SqueezeNet: bit for bit what others decoded, and damaged files are refused where they are damaged."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.models import squeezenet1_0

from dsd.published import PUBLISHED_BYTES, SHA256, Shape, decode, read_squeezenet, squeezenet, state
from experiments import squeezenet as squeezenet_study

TWO = (Shape("one", "1", (2, 3, 2, 2)), Shape("two", "2", (3, 25)))


def encoded(weights, codebooks, biases):
    """A file in the authors' layout, written the plain way: entry by entry, a filler for every 16 empty places."""
    counts, bodies = [], b""
    for index_N, codebook, bias in zip(weights, codebooks, biases, strict=True):
        entries, empty = [], 0
        for index in index_N:
            if index or empty == 15:
                entries.append((int(index), empty))
                empty = 0
            else:
                empty += 1
        gaps = [gap for _, gap in entries] + [0]
        packed = bytes(gaps[i] | gaps[i + 1] << 4 for i in range(0, len(entries), 2))
        counts.append(len(entries))
        bodies += codebook.astype("<f4").tobytes() + bias.astype("<f4").tobytes()
        bodies += bytes(index for index, _ in entries) + packed
    return np.array(counts, "<u4").tobytes() + bodies


def example(seed=0, density=0.3):
    random = np.random.default_rng(seed)
    codebooks = [np.concatenate([[0], random.normal(size=255)]).astype(np.float32) for _ in TWO]
    sizes = [int(np.prod(shape.shape)) for shape in TWO]
    indices = [random.integers(1, 256, n) * (random.random(n) < density) for n in sizes]
    biases = [random.normal(size=shape.shape[0]).astype(np.float32) for shape in TWO]
    return indices, codebooks, biases


@given(st.integers(0, 999), st.floats(0, 1))
def test_decoding_undoes_encoding(seed, density):
    indices, codebooks, biases = example(seed, density)
    layers = decode(encoded(indices, codebooks, biases), TWO)
    expected = [codebook[index] for index, codebook in zip(indices, codebooks, strict=True)]
    found = [layer.weight.numpy().reshape(-1) for layer in layers]
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    assert all(np.array_equal(layer.bias.numpy(), bias) for layer, bias in zip(layers, biases, strict=True))
    assert [layer.kept for layer in layers] == [int((e != 0).sum()) for e in expected]


def test_every_cut_is_told_with_its_place():
    data = encoded(*example())
    for size in range(len(data)):
        with pytest.raises(ValueError, match=r"cut short: .* begins at byte"):
            decode(data[:size], TWO)


def test_bytes_to_spare_are_told():
    data = encoded(*example())
    with pytest.raises(ValueError, match=rf"has 3 bytes behind its last layer, from byte {len(data):,}"):
        decode(data + b"abc", TWO)


def test_more_entries_than_weights_are_told():
    data = bytearray(encoded(*example()))
    data[0:4] = (25).to_bytes(4, "little")
    with pytest.raises(ValueError, match="one has 25 entries for 24 weights"):
        decode(bytes(data), TWO)


@pytest.mark.parametrize(("at", "value"), [(0, 1.0), (1, np.nan), (200, np.inf)])
def test_a_codebook_that_no_writer_makes_is_told(at, value):
    indices, codebooks, biases = example()
    codebooks[1][at] = value
    with pytest.raises(ValueError, match=r"two's codebook or bias, from byte .* is damaged"):
        decode(encoded(indices, codebooks, biases), TWO)


def test_gaps_beyond_the_last_weight_are_told():
    indices, codebooks, biases = example(density=1.0)
    data = bytearray(encoded(indices, codebooks, biases))
    data[-2] = 0xFF  # among the gaps of "two", which were all 0
    with pytest.raises(ValueError, match=r"two's gaps, from byte .* lead to weight \d+ of 75"):
        decode(bytes(data), TWO)


def test_a_gap_behind_the_last_entry_is_told():
    data = bytearray(encoded(*example(density=1.0)))
    data[-1] |= 0xF0  # 75 entries: the last half byte is empty
    with pytest.raises(ValueError, match="there is one behind the last entry"):
        decode(bytes(data), TWO)


def test_shapes_are_torchvisions():
    own = {name: tuple(value.shape) for name, value in squeezenet1_0().state_dict().items() if name.endswith("weight")}
    assert {f"{shape.torchvision}.weight": shape.shape for shape in squeezenet()} == own


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(ValueError, match="there is no file"):
        read_squeezenet(tmp_path / "no.net")


@pytest.fixture(scope="session")
def net(data_root):
    path = data_root / "pretrained" / "squeezenet_v1.0_deep_compression.net"
    if not path.is_file():
        pytest.skip("the authors' SqueezeNet is not in DSD_DATA/pretrained")
    return path


def test_the_published_file_is_what_others_decoded(net):
    layers = read_squeezenet(net)
    with np.load(net.with_name("squeezenet_v1.0_decoded.npz")) as others:
        unlike = [
            f"{layer.name}.{part}"
            for layer in layers
            for part, value in (("weight", layer.weight), ("bias", layer.bias))
            if value.numpy().tobytes() != others[f"{layer.name}.{part}"].tobytes()
        ]
        assert len(others.files) == 52
    assert not unlike
    assert sum(layer.kept for layer in layers) == 415_921
    assert net.stat().st_size == PUBLISHED_BYTES


def test_the_published_weights_fit_torchvisions_network(net):
    weights = state(read_squeezenet(net))
    squeezenet1_0().load_state_dict(weights)
    assert torch.equal(weights["classifier.1.bias"], read_squeezenet(net)[-1].bias)


def test_one_changed_byte_of_the_published_file_is_told(net, tmp_path):
    data = bytearray(net.read_bytes())
    data[104 + 1024 + 4 * 96 + 100] ^= 1  # an index of conv1, behind the file's head, its codebook and its bias
    (tmp_path / "changed.net").write_bytes(data)
    with pytest.raises(ValueError, match=f"SHA-256 .*, not {SHA256[:12]}"):
        read_squeezenet(tmp_path / "changed.net")


def test_the_committed_report_is_made_of_the_committed_results():
    results = json.loads((squeezenet_study.FOLDER / "results.json").read_text())
    assert (squeezenet_study.FOLDER / "report.md").read_text() == squeezenet_study.report(results)
    assert {row["sha256"] for row in results["rows"].values()} == set(results["evaluations"])
    assert sum(results["authors"].values()) == PUBLISHED_BYTES


def test_the_committed_sizes_are_those_of_today(net):
    results = json.loads((squeezenet_study.FOLDER / "results.json").read_text())
    weights = state(read_squeezenet(net))
    assert squeezenet_study.digest(weights) == results["rows"]["as published"]["sha256"]
    committed = results["rows"]["as published"]["bytes"]
    assert squeezenet_study.bytes_of(weights) == pytest.approx(committed, rel=0.01)  # zlib differs between machines


def test_without_data_the_study_says_what_is_missing(monkeypatch, capsys, tmp_path):
    monkeypatch.delenv("DSD_DATA", raising=False)
    assert squeezenet_study.main([]) == 2
    assert "DSD_DATA names no folder" in capsys.readouterr().err
    monkeypatch.setenv("DSD_DATA", str(tmp_path))
    assert squeezenet_study.main([]) == 2
    assert "there is no file" in capsys.readouterr().err
