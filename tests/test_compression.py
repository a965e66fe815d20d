"""Archives: bit for bit, every byte in the ledger, every fault refused."""

import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dsd.coding import archive, gaps
from dsd.coding.archive import ArchiveError
from dsd.compression import compress, decompress, read_ledger, read_meta, sizes_beside
from dsd.inspection import histogram
from dsd.oneshot import differences
from dsd.quantization import Codebook

G = torch.Generator().manual_seed(0)


def pruned(*shape: int, keep: float = 0.1, bits: int = 4) -> torch.Tensor:
    weight = torch.randn(shape, generator=G) * (torch.rand(shape, generator=G) < keep)
    return Codebook.of(weight, bits).values() if bits else weight


def small() -> dict[str, torch.Tensor]:
    return {
        "fc1.weight": pruned(60, 50), "fc1.bias": torch.randn(60, generator=G), "conv.weight": pruned(6, 4, 3, 3, keep=0.5),
        "bn.num_batches_tracked": torch.tensor(7), "fc2.weight": torch.randn(8, 9, generator=G),
    }  # fmt: skip


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    def bits(t: torch.Tensor) -> bytes:
        return (
            (t.contiguous().reshape(-1) + 0 if t.dtype != torch.bool else t.reshape(-1))
            .view(torch.uint8)
            .numpy()
            .tobytes()
            if t.numel()
            else b""
        )

    alike = [a[n].dtype == b[n].dtype and a[n].shape == b[n].shape and bits(a[n]) == bits(b[n]) for n in a]
    return list(a) == list(b) and all(alike)


CORNERS = {
    "empty": torch.empty(0, 5), "scalar": torch.tensor(3.5), "zero": torch.tensor(0.0), "all zero": torch.zeros(40, 40),
    "all equal": torch.full((40, 40), 0.3), "one weight": torch.zeros(1000).index_fill_(0, torch.tensor(999), 2.0),
    "first weight": torch.zeros(50, 20).index_fill_(0, torch.tensor(0), 1.0), "dense shared": pruned(50, 50, keep=2.0, bits=2),
    "unshared": pruned(70, 70, bits=0), "fp16": pruned(50, 40).half(), "bf16": pruned(50, 40).bfloat16(),
    "fp64": pruned(50, 40).double(), "ints": torch.arange(100), "bools": torch.rand(99, generator=G) > 0.5,
    "non-contiguous": pruned(40, 60).t(), "channels last": pruned(8, 4, 5, 5).to(memory_format=torch.channels_last),
    "16 bits": torch.arange(1, 40001).float().repeat(3), "complex": torch.randn(5, dtype=torch.complex64),
}  # fmt: skip


@pytest.mark.parametrize("coder", ["best", "ans", "huffman", "fixed"])
@pytest.mark.parametrize("name", CORNERS)
def test_corner_cases_come_back_bit_for_bit(name, coder):
    state = {"w": CORNERS[name]}
    made = compress(state, coder=coder)
    assert same(state, decompress(made.data))
    assert made.ledger.size == len(made.data)


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 8, 16])
@pytest.mark.parametrize("coder", ["ans", "huffman", "fixed"])
def test_gaps_of_exactly_the_largest_symbol_and_its_multiples(bits, coder):
    top, weight = (1 << bits) - 1, torch.zeros(8 * (1 << bits) + 100)
    places = np.cumsum([top, top + 1, top + 2, 2 * top + 1, 1, 1, top - 1])
    weight[places[places < len(weight)]] = 1.5
    assert same({"w": weight}, decompress(compress({"w": weight}, coder=coder, index_bits=bits).data))


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 40), st.integers(1, 40), st.floats(0, 1), st.integers(0, 5), st.integers(0, 1 << 30),
    st.sampled_from(["best", "ans", "huffman", "fixed"]), st.sampled_from([None, 2, 5, 16]),
)  # fmt: skip
def test_any_tensor_comes_back(rows, columns, keep, bits, seed, coder, index_bits):
    g = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=g) * (torch.rand(rows, columns, generator=g) < keep)
    weight = Codebook.of(weight, bits).values() if bits else weight
    made = compress({"w": weight, "b": torch.randn(rows, generator=g)}, coder=coder, index_bits=index_bits)
    assert torch.equal(decompress(made.data)["w"], weight)
    assert made.ledger.size == len(made.data)


def test_all_of_a_state_dict_comes_back_and_its_texts():
    state = small()
    made = compress(state, meta={"model": "lenet", "ü": "ß"})
    assert same(state, decompress(made.data))
    assert read_meta(made.data) == {"model": "lenet", "ü": "ß"}
    assert read_ledger(made.data) == made.ledger


def test_tied_tensors_are_stored_once_and_tied_again():
    weight = pruned(100, 100)
    made = compress({"a": weight, "b": torch.ones(3), "c": weight})
    back = decompress(made.data)
    assert back["c"].data_ptr() == back["a"].data_ptr()
    assert len(made.data) < len(compress({"a": weight, "b": torch.ones(3)}).data) + 20
    assert made.ledger.fp32_bytes == 4 * 10003


def test_negative_zeros_are_zeros():
    weight = pruned(50, 50)
    signed = torch.where(weight == 0, torch.tensor(-0.0), weight)
    assert compress({"w": signed}).data == compress({"w": weight}).data


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_diverged_networks_are_refused(value):
    with pytest.raises(ValueError, match=r"fc\.weight has NaN or infinity"):
        compress({"fc.weight": torch.tensor([1.0, value])})


def test_what_can_not_be_stored_is_named():
    with pytest.raises(ValueError, match="epoch is a int"):
        compress({"epoch": 3})
    with pytest.raises(ValueError, match="w: float32 tensors of layout"):
        compress({"w": torch.eye(3).to_sparse()})
    with pytest.raises(ValueError, match="w is on the meta device"):
        compress({"w": torch.empty(3, device="meta")})
    with pytest.raises(ValueError, match="coder must be one of best, ans, huffman, fixed, found 'huffmann'"):
        compress(small(), coder="huffmann")
    with pytest.raises(ValueError, match="index_bits must be from 2 to 16"):
        compress(small(), index_bits=1)


def test_what_is_no_text_is_named():
    for state, meta in (({"w": torch.ones(2)}, {"a": 1}), ({1: torch.ones(2)}, {}), ({"w\ud800": torch.ones(2)}, {})):
        with pytest.raises(ValueError, match="texts in UTF-8; found"):
            compress(state, meta=meta)


@pytest.mark.parametrize("state", [{}, {"e": torch.empty(0)}, {"e.weight": torch.empty(0, 3)}], ids=len)
def test_a_file_of_no_entries_has_a_ledger(state):
    ledger = compress(state).ledger
    assert "–" in ledger.as_text()
    assert ledger.ratio == 0


def test_the_ledger_adds_up_and_knows_the_bound():
    state = {"w": pruned(400, 300, keep=0.09, bits=5), "b": torch.randn(300, generator=G)}
    made = compress(state, coder="ans")
    row, bias = made.ledger.rows
    kept = int((state["w"] != 0).sum())
    assert (row.n, row.kept, row.distinct, row.weight_bits) == (120_000, kept, 32, 5)
    assert sum(made.ledger.kinds().values()) == len(made.data)
    assert 1000 < bias.bytes["other"] <= 1200
    share = kept / 120_000
    bound = -120_000 * (share * np.log2(share) + (1 - share) * np.log2(1 - share))
    counts = np.unique(state["w"][state["w"] != 0].numpy(), return_counts=True)[1]
    bound += -(counts * np.log2(counts / kept)).sum()
    assert made.ledger.shannon_bytes == pytest.approx(bound / 8)
    assert made.ledger.stream_bytes < 1.01 * bound / 8
    assert compress(state, coder="huffman").ledger.stream_bytes < 1.03 * bound / 8
    assert row.bytes["fillers"] > 0
    assert "order-0 bound" in made.ledger.as_text()


def test_the_papers_uncoded_size_by_hand():
    weight = pruned(20_000, keep=0.04, bits=3)
    row = compress({"w": weight}, coder="fixed", index_bits=4).ledger.rows[0]
    place, fillers = -1, 0
    for position in np.flatnonzero(weight.numpy().reshape(-1)):
        while position - place > 16:
            place, fillers = place + 16, fillers + 1
        place = position
    kept = int((weight != 0).sum())
    assert (row.kept, row.fillers, row.index_bits, row.weight_bits) == (kept, fillers, 4, 3)
    assert row.uncoded_bytes == ((kept + fillers) * (3 + 4) + 32 * 8) / 8


def test_structured_masks_cost_less_than_the_bound():
    weight = pruned(300, 784, keep=0.3, bits=4)
    weight[:, ::2] = 0
    made = compress({"w": weight})
    assert made.ledger.stream_bytes < 0.9 * made.ledger.shannon_bytes


def test_neighbours_that_go_together_make_a_bitmap():
    rows, columns = torch.rand(200, 1, generator=G), torch.rand(1, 300, generator=G)
    weight = torch.where(torch.rand(200, 300, generator=G) < (rows * columns) ** 3, 0.5, 0.0)
    (row,) = compress({"w": weight}).ledger.rows
    assert row.index_bits == 0
    assert row.stream_bytes < 0.8 * row.shannon_bits / 8


def test_other_ways_to_store_the_same():
    state = {"w": pruned(300, 300)}
    beside = sizes_beside(state)
    assert beside["fp32"] == 360_000
    assert len(compress(state).data) < min(beside.values())


def test_every_changed_byte_is_noticed():
    data = compress(small()).data
    for place in range(len(data)):
        broken = bytearray(data)
        broken[place] ^= 1 << place % 8
        with pytest.raises(ArchiveError):
            decompress(bytes(broken))


def test_every_cut_is_noticed(tmp_path):
    data = compress(small()).data
    for size in range(len(data)):
        with pytest.raises(ArchiveError):
            decompress(data[:size])
    with pytest.raises(ArchiveError, match="no file"):
        decompress(tmp_path / "none.dsd")


@pytest.mark.parametrize("coder", ["best", "ans", "huffman", "fixed"])
@pytest.mark.parametrize("name", CORNERS)
def test_the_papers_fillers_come_back_bit_for_bit(name, coder):
    for bits in (None, 2, 3, 16):
        made = compress({"w": CORNERS[name]}, coder=coder, index_bits=bits, fillers="paper")
        assert same({"w": CORNERS[name]}, decompress(made.data))
        assert made.ledger.size == len(made.data)
        assert made.data[4] == 2


@pytest.mark.parametrize("gap", [0, 3, 4, 5, 8, 12, 13])
def test_a_filler_is_a_stored_weight_of_value_0(gap):
    """Deep Compression, Figure 2: gaps of 2 bits reach 3; a filler stands on the 4th pruned weight."""
    symbols, filler = gaps.with_fillers(np.array([gap, 1]), 2)
    assert symbols.tolist() == [3] * (gap // 4) + [gap % 4, 1]
    assert filler.tolist() == [True] * (gap // 4) + [False, False]
    counts = gaps.filler_counts(np.bincount([gap, 1]), 2)
    assert counts.tolist() == np.bincount(symbols, minlength=4).tolist()


def test_unshared_survivors_have_fillers_too():
    weight = pruned(70, 70, bits=0)
    made = compress({"w": weight}, coder="huffman", index_bits=4, fillers="paper")
    row = made.ledger.rows[0]
    assert row.form == "sparse"
    assert row.bytes["fillers"] > 4 * row.fillers > 0
    assert same({"w": weight}, decompress(made.data))


def test_mutated_files_with_fillers_are_read_or_refused():
    rng, refused = np.random.default_rng(0), 0
    seeds = [compress(small(), coder=coder, index_bits=2, fillers="paper").data for coder in ("best", "fixed")]
    for number in range(1000):
        body = bytearray(seeds[number % 2][:-4])
        body[int(rng.integers(4, len(body)))] ^= 1 << rng.integers(8)
        try:
            found = decompress(sealed(bytes(body)), limit=1 << 20)
        except ArchiveError:
            refused += 1
        else:
            assert sum(t.numel() * t.element_size() for t in found.values()) <= 3 << 20
    assert refused > 200


def test_unknown_fillers_are_refused():
    with pytest.raises(ValueError, match="fillers must be one of escape, paper"):
        compress(small(), fillers="none")  # type: ignore[arg-type]


def sealed(body: bytes) -> bytes:
    return body + zlib.crc32(body).to_bytes(4, "little")


def test_a_newer_version_and_a_foreign_file_are_told_apart():
    data = compress(small()).data
    with pytest.raises(ArchiveError, match="version 9 is newer"):
        decompress(sealed(data[:4] + b"\x09" + data[5:-4]))
    with pytest.raises(ArchiveError, match="not an archive"):
        decompress(b"PK\x03\x04" + data[4:])


def test_sizes_beyond_the_limit_are_refused_before_memory_is_taken():
    data = compress({"w": torch.zeros(1000, 1000)}).data
    assert len(data) < 60
    with pytest.raises(ArchiveError, match="left of the limit"):
        decompress(data, limit=3_999_999)
    assert decompress(data, limit=4_000_000)["w"].shape == (1000, 1000)


def test_a_large_file_may_unpack_to_more_than_a_small_one(monkeypatch):
    """A network of more than 8 GiB can be read as well as written; here the same with 1 MB."""
    monkeypatch.setattr("dsd.coding.archive.LIMIT", 1_000_000)
    whole = compress({"w": torch.arange(400_000.0)}).data
    assert len(decompress(whole)["w"]) == 400_000
    with pytest.raises(ArchiveError, match="left of the limit"):
        decompress(compress({"w": torch.zeros(400_000)}).data)


def test_ten_thousand_mutated_files_with_a_right_checksum_are_read_or_refused():
    """Changed, cut and lengthened behind the checksum's back: an ArchiveError or tensors, within the limit, nothing else."""
    rng = np.random.default_rng(0)
    seeds = [compress(small(), coder=coder).data for coder in ("best", "ans", "huffman", "fixed")]
    seeds += [compress({"w": CORNERS[n]}).data for n in ("all zero", "unshared", "bf16", "one weight")]
    refused = 0
    for number in range(10_000):
        body = bytearray(seeds[number % len(seeds)][:-4])
        for _ in range(rng.integers(1, 4)):
            place = int(rng.integers(4, len(body)))
            kind = rng.integers(4)
            if kind == 0:
                body[place] = rng.integers(256)
            elif kind == 1:
                body[place] ^= 1 << rng.integers(8)
            elif kind == 2:
                del body[place : place + int(rng.integers(1, 9))]
            else:
                body[place:place] = rng.bytes(int(rng.integers(1, 9)))
        try:
            found = decompress(sealed(bytes(body)), limit=1 << 20)
        except ArchiveError:
            refused += 1
        else:
            assert sum(t.numel() * t.element_size() for t in found.values()) <= 3 << 20
    assert refused > 3000


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.dsd"
    compress(small()).save(path)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        compress({"w": torch.ones(9)}).save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.dsd"]


def test_denormals_come_back_though_arithmetic_flushes_them():
    state = {"w": torch.tensor([1e-42, 0.0, 1.0, -3e-45] * 50), "half": torch.full((40,), 6e-8)}
    torch.set_flush_denormal(True)
    try:
        data = compress(state).data
        back = decompress(data)
    finally:
        torch.set_flush_denormal(False)
    assert same(state, back)


def test_a_conjugate_view_is_stored_as_what_it_stands_for():
    weight = torch.complex(torch.randn(6, generator=G), torch.randn(6, generator=G))
    assert torch.equal(decompress(compress({"w": weight.conj()}).data)["w"], weight.conj().resolve_conj())


def test_golden_files_of_every_coder():
    """The same bytes on every machine and with every version of the libraries; else files of today would not be read."""
    mixed = np.arange(6000, dtype=np.uint64) * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
    mixed = (mixed ^ mixed >> np.uint64(33)) * np.uint64(0xFF51AFD7ED558CCD) >> np.uint64(40)  # wraps around on purpose
    kept, value = (
        torch.from_numpy(mixed % np.uint64(97) < 20),
        torch.from_numpy((mixed // np.uint64(97) % np.uint64(5)).astype(np.float32)),
    )
    weight = torch.where(kept, value.square() - 2.5, 0.0)
    found = {}
    for coder in ("ans", "huffman", "fixed"):
        made = compress({"w": weight, "b": torch.tensor([1.0, 0.1])}, coder=coder, index_bits=4)
        assert made.ledger.rows[0].form == "sparse"
        found[coder] = (len(made.data), zlib.crc32(made.data[:-4]))
    assert found == {"ans": (979, 3845445105), "huffman": (979, 3349097309), "fixed": (1128, 3263155438)}


def test_the_bound_is_beside_the_streams_that_it_is_of():
    shared_one, alone = torch.zeros(50, 500), torch.randn(500, 500)
    shared_one[:, ::10] = torch.randint(1, 5, (50, 50)).float()
    alone[:, ::2] = 0
    made = compress({"a": shared_one, "b": alone}).ledger
    assert [row.form for row in made.rows] == ["sparse", "sparse"]
    assert made.stream_bytes == made.rows[0].stream_bytes


def test_the_width_of_gaps_is_looked_for_in_either_order():
    whole = torch.zeros(512, 1024)
    columns = torch.randperm(1024, generator=torch.Generator().manual_seed(0))[:30]
    whole[:, columns] = torch.randn(512, 30).sign()
    best = len(compress({"w": whole}, coder="huffman").data)
    assert best <= min(len(compress({"w": whole}, coder="huffman", index_bits=bits).data) for bits in range(2, 12))


def test_a_few_bytes_cannot_ask_for_more_memory_than_the_limit():
    """All entries equal: a file of some fifty bytes, whatever is announced; at work each entry takes many bytes."""
    data = compress({"w": torch.ones(1 << 23, dtype=torch.bfloat16)}).data
    assert len(data) < 100
    with pytest.raises(
        ArchiveError, match="8,388,608 symbols need 335,544,320 bytes at work, and the limit leaves 268,435,456"
    ):
        decompress(data, limit=1 << 24)
    assert int(decompress(data)["w"].sum(dtype=torch.float64)) == 1 << 23


ODD = {
    "an integer of a column": torch.arange(12).reshape(3, 4)[1:2, 1],
    "a half of a column": torch.ones(12).reshape(3, 4)[1:2, 1],
    "float64 of a column": torch.randn(5, 4, dtype=torch.float64)[1:2, 1],
    "complex of a column": torch.ones(3, 4, dtype=torch.complex64)[1:2, 1],
    "uint16 of a column": torch.arange(12).to(torch.uint16).reshape(3, 4)[1:2, 1],
    "a transposed row": torch.randn(1, 300).t(),
}


@pytest.mark.parametrize("tensor", ODD.values(), ids=ODD)
def test_a_stride_that_counts_for_nothing_is_no_obstacle(tensor):
    """torch calls a tensor contiguous whatever the stride of a dimension of 1."""
    back = decompress(compress({"k": tensor}).data)
    assert torch.equal(back["k"], tensor)
    assert differences(back, {"k": tensor}) == []


def test_a_histogram_of_denormals():
    assert sum(histogram(torch.full((20, 20), 1e-44), 0).counts) == 400
