"""Coders: golden codewords, one-symbol alphabets, fixed tables, bitmaps."""

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsd.coding import ans, bitmap, gaps, huffman, stream
from dsd.coding.archive import ArchiveError, Reader, Writer


def test_golden_codewords():
    lengths = huffman.lengths_of(np.array([5, 9, 12, 13, 16, 45]))
    assert lengths.tolist() == [4, 4, 3, 3, 3, 1]
    assert [f"{c:0{n}b}" for c, n in zip(huffman.codes_of(lengths), lengths, strict=True)] == [
        "1110", "1111", "100", "101", "110", "0",
    ]  # fmt: skip
    assert huffman.encode(np.array([5, 0, 2]), lengths) == bytes([0b01110100])
    assert huffman.decode(bytes([0b01110100]), 3, lengths).tolist() == [5, 0, 2]


def test_ties_go_to_the_node_made_first():
    assert huffman.lengths_of(np.array([1, 1, 1, 1])).tolist() == [2, 2, 2, 2]
    assert huffman.lengths_of(np.array([1, 1, 2])).tolist() == [2, 2, 1]
    assert huffman.lengths_of(np.array([0, 7, 0])).tolist() == [0, 0, 0]


def test_long_codes_are_cut():
    counts = np.array([1, 1, *np.cumprod(np.full(38, 2, dtype=object)).astype(np.int64)])
    lengths = huffman.lengths_of(counts)
    assert lengths.max() <= huffman.LONGEST
    symbols = np.array([0, 39, 1, 20, 5] * 10)
    assert huffman.decode(huffman.encode(symbols, lengths), 50, lengths).tolist() == symbols.tolist()


@pytest.mark.parametrize("lengths", [[1, 1, 1], [2, 2, 2], [1, 0, 0], [0, 0]])
def test_lengths_that_are_no_code_are_refused(lengths):
    with pytest.raises(ValueError, match="code"):
        huffman.decode(b"\0\0", 3, np.array(lengths))


@settings(deadline=None, max_examples=80)
@given(st.lists(st.integers(0, 40), max_size=200), st.sampled_from(["best", "ans", "huffman", "fixed"]))
def test_streams_come_back(symbols, coder):
    out = Writer()
    stream.write(out, "values", np.array(symbols, np.int64), 41, coder)
    source = Reader(bytes(out.data), end=len(out.data))
    assert stream.read(source, "values", most=200, k=41).tolist() == symbols
    assert source.kinds == out.kinds


def test_an_ans_table_is_within_three_percent():
    counts = np.array([1, 2, 3, 1000, 77, 0, 123_456])
    frequencies = ans.frequencies(ans.table_of(counts))
    assert frequencies[5] == 0
    assert np.allclose((frequencies / frequencies.sum())[[3, 4, 6]], (counts / counts.sum())[[3, 4, 6]], rtol=0.04)
    rng = np.random.default_rng(0)
    symbols = rng.geometric(0.3, 100_000).clip(max=30)
    counts = np.bincount(symbols, minlength=31)
    data = ans.encode(symbols, ans.table_of(counts))
    assert 8 * len(data) < 1.002 * stream.entropy(counts) + 64


@given(st.sets(st.integers(0, 3000), max_size=60), st.integers(2, 16))
def test_gaps_come_back(positions, bits):
    position = np.array(sorted(positions), np.int64)
    symbols = gaps.to_symbols(gaps.gaps_of(position), bits)
    assert gaps.from_symbols(symbols, bits).tolist() == position.tolist()
    counts = np.bincount(gaps.gaps_of(position), minlength=1)
    assert gaps.symbol_counts(counts, bits).sum() == len(symbols)


def test_an_escape_at_the_end_is_refused():
    with pytest.raises(ValueError, match="escape"):
        gaps.from_symbols(np.array([1, 15]), 4)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 30), st.integers(1, 30), st.floats(0, 1), st.integers(0, 99))
def test_bitmaps_come_back(rows, columns, share, seed):
    keep = np.random.default_rng(seed).random((rows, columns)) < share
    data = bitmap.encode(keep)
    assert (bitmap.decode(data, rows, columns) == keep).all()


def test_a_bitmap_is_close_to_the_bound_of_random_bits_and_below_it_for_others():
    rng = np.random.default_rng(0)
    plain = rng.random((300, 784)) < 0.08
    bound = stream.entropy(np.array([plain.sum(), (~plain).sum()])) / 8
    assert bound < len(bitmap.encode(plain)) < 1.03 * bound
    columns = rng.random(784) ** 4 * 0.4
    keep = rng.random((300, 784)) < columns
    bound = stream.entropy(np.array([keep.sum(), (~keep).sum()])) / 8
    assert len(bitmap.encode(keep)) < 0.9 * bound


def test_golden_bitmap():
    """The same bytes on every machine: integers only."""
    keep = (np.arange(60).reshape(6, 10) * 7919 % 97) < 20
    assert (bitmap.encode(keep).hex(), bitmap.encode(np.ones((1, 1), bool)).hex()) == ("19643c08fd69", "28")


def test_symbols_that_cannot_be_are_refused():
    out = Writer()
    stream.write(out, "values", np.array([3, 1, 2]), 4, "fixed")
    with pytest.raises(ArchiveError, match="symbol 3"):
        stream.read(Reader(bytes(out.data), end=len(out.data)), "values", most=3, k=3)
    with pytest.raises(ArchiveError, match="at most 2"):
        stream.read(Reader(bytes(out.data), end=len(out.data)), "values", most=2, k=4)


def test_long_codewords_are_read_as_fast_as_short_ones():
    """Not by looking through the alphabet: a hostile file of long codewords would stall the reader."""
    counts = np.concatenate([np.ones(1 << 15, np.int64), [1 << 15]])
    lengths = huffman.lengths_of(counts)
    symbols = np.random.default_rng(0).integers(0, 1 << 15, 200_000)
    data = huffman.encode(symbols, lengths)
    assert (huffman.decode(data[:0] + huffman.encode(symbols[:1], lengths), 1, lengths) == symbols[:1]).all()
    began = time.perf_counter()
    assert (huffman.decode(data, len(symbols), lengths) == symbols).all()
    assert time.perf_counter() - began < 2  # 0.05 s; by a search of the alphabet 10


@pytest.mark.parametrize("bits", [1, 5, 8, 11])
def test_fixed_bits_take_no_more_memory_than_the_numbers(bits):
    symbols = np.random.default_rng(0).integers(0, 1 << bits, 300_001).astype(np.int32)
    tracemalloc.start()
    data = stream.pack(symbols, bits)
    back = stream.unpack(data, len(symbols), bits)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(back, symbols)
    assert len(data) == -(-len(symbols) * bits // 8)
    assert peak < 8 * symbols.nbytes
