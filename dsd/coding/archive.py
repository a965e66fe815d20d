"""The file: tensors by name in as few bytes as can be, every byte accounted for, nothing in it that could run.

All numbers are little-endian; `varint` is LEB128 (7 bits a byte, lowest first), text is a varint length and UTF-8.

    offset 0   4 bytes   magic "DSDA"
           4   1 byte    version: 1, or 2 if a tensor has the paper's fillers
           5   varint    number of texts, then for each: name, text (what the file says of itself)
               varint    number of tensors, then for each a record
        -4     4 bytes   CRC-32 of everything before: it catches every change of up to 32 bits in a row

A record:
    text      name
    byte      dtype: place in DTYPES
    varint    number of dimensions, and each dimension as a varint
    byte      form: RAW, HALF, DEFLATE, SPARSE or TIED
    RAW       the values' bytes
    HALF      (float32 only) the values as float16, which holds them exactly
    DEFLATE   varint length, the values' bytes deflated (RFC 1950)
    TIED      varint: the number of the earlier record that this tensor shares its memory with
    SPARSE    the values that are not 0, and where they are, in this order:
      positions   byte layout: 0 row-major, 1 column-major (of dimension 0 x all others), + 2 for a bitmap (bitmap.py)
                  bitmap: varint length, bytes; gaps (gaps.py): byte bits, then a stream
                  4 row-major gaps with the paper's fillers (version 2): byte bits, then a stream with an entry for each filler too
      values      varint number of shared values K, or 0 if each is written for itself;
                  byte: 1 if values are float16, 0 if they are of the tensor's dtype; K (or all) values, ascending by bits;
                  if K > 0, the stream of indices, one for each position; with layout 4 one for each entry, where K is a
                  filler's; if K = 0, with layout 4, a filler is a value of 0
A stream:
    varint    number of symbols n; byte: coder (NONE, FIXED, HUFFMAN, ANS) in the lower 3 bits
    NONE      varint: the one symbol that there is
    FIXED     byte: bits each; the symbols, lowest bit first
    HUFFMAN   varint: alphabet size; code lengths, 5 bits each; varint length; codewords (huffman.py)
    ANS       varint: alphabet size; a byte for each symbol (ans.py); varint length; words
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path

MAGIC = b"DSDA"
VERSION = 2
LIMIT = 1 << 33  # bytes of all tensors together that any file may unpack to, unless told otherwise,
MOST = 256  # and a larger file to so many times its own
TEXT = 1 << 20  # bytes of a name or a note
DTYPES = (
    "float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool",
    "uint16", "uint32", "uint64", "complex64", "complex128",
)  # fmt: skip
WIDTH = (4, 2, 2, 8, 8, 4, 2, 1, 1, 1, 2, 4, 8, 8, 16)
RAW, HALF, DEFLATE, SPARSE, TIED = range(5)
FORMS = ("raw", "half", "deflate", "sparse", "tied")


class ArchiveError(ValueError):
    """Something is wrong with a file; the message says where."""


class NewerError(ArchiveError):
    """The file is whole, and of a version that this dsd doesn't know."""


class Writer:
    """Bytes, and how many of them are of which kind."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.kinds: dict[str, int] = {}

    def bytes(self, kind: str, data: bytes) -> None:
        self.data += data
        self.kinds[kind] = self.kinds.get(kind, 0) + len(data)

    def byte(self, kind: str, value: int) -> None:
        self.bytes(kind, bytes([value]))

    def varint(self, kind: str, value: int) -> None:
        out = bytearray()
        while value > 127:
            out.append(value & 127 | 128)
            value >>= 7
        out.append(value)
        self.bytes(kind, bytes(out))

    def text(self, kind: str, value: str) -> None:
        try:
            encoded = value.encode()
        except (AttributeError, UnicodeEncodeError) as error:
            raise ValueError(f"names and notes are texts in UTF-8; found {value!r} ({error})") from None
        if len(encoded) > TEXT:
            raise ValueError(f"a text of {len(encoded):,} bytes, at most {TEXT:,} are possible: {value[:40]!r}...")
        self.varint(kind, len(encoded))
        self.bytes(kind, encoded)


class Reader:
    """The same backwards. Every way to run past the end is an ArchiveError that says where."""

    def __init__(self, data: bytes, *, end: int, where: str = "the header") -> None:
        self.data, self.end, self.place, self.where = data, end, 0, where
        self.kinds: dict[str, int] = {}
        self.room = 1 << 62  # bytes that what is read next may take at work

    def error(self, what: str) -> ArchiveError:
        return ArchiveError(f"{self.where}, byte {self.place:,}: {what}")

    def bytes(self, kind: str, n: int) -> bytes:
        if n > self.end - self.place:
            raise self.error(f"{n:,} bytes are announced and {self.end - self.place:,} are left")
        found = self.data[self.place : self.place + n]
        self.place += n
        self.kinds[kind] = self.kinds.get(kind, 0) + n
        return found

    def byte(self, kind: str) -> int:
        return self.bytes(kind, 1)[0]

    def varint(self, kind: str, most: int) -> int:
        value = shift = 0
        while True:
            byte = self.byte(kind)
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
            if shift > 63:
                raise self.error("a number of more than nine bytes")
        if value > most:
            raise self.error(f"{value:,} where at most {most:,} is possible")
        return value

    def text(self, kind: str, most: int = TEXT) -> str:
        try:
            return self.bytes(kind, self.varint(kind, most)).decode()
        except UnicodeDecodeError:
            raise self.error("a text that is not UTF-8") from None


def seal(writer: Writer) -> bytes:
    """The file: what was written, and its checksum."""
    writer.bytes("checksum", zlib.crc32(bytes(writer.data)).to_bytes(4, "little"))
    return bytes(writer.data)


def opened(source: bytes | str | Path) -> Reader:
    """A reader behind magic and version of a file whose checksum is right. Raises ArchiveError if it is none."""
    where = "the archive" if isinstance(source, bytes) else str(source)
    data = source if isinstance(source, bytes) else _read(Path(source))
    if data[:4] != MAGIC:
        raise ArchiveError(f"{where}: not an archive of dsd, it begins with {data[:4]!r} instead of {MAGIC!r}")
    if len(data) < 11:
        raise ArchiveError(f"{where}: {len(data)} bytes are too few for an archive; copy it again")
    if zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise ArchiveError(
            f"{where}: damaged or cut short, the checksum of its {len(data):,} bytes is wrong; copy it again"
        )
    if data[4] > VERSION:
        raise NewerError(f"{where}: version {data[4]} is newer than {VERSION}, the newest this dsd reads; upgrade dsd")
    if data[4] < 1:
        raise ArchiveError(f"{where}: version {data[4]} is unknown")
    reader = Reader(data, end=len(data) - 4)
    reader.bytes("header", 5)
    return reader


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise ArchiveError(f"there is no file {path}")
    return path.read_bytes()


def write(path: Path, data: bytes) -> None:
    """`path` holds `data`, or what it held before: a full disk or a crash leaves no half of a file."""
    half = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with half.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(half, path)
    except OSError as error:
        raise OSError(
            error.errno, f"could not write {path}: {error.strerror}; what it held before is intact"
        ) from error
    finally:
        half.unlink(missing_ok=True)
