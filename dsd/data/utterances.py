"""Transcribed speech: each source is a small object that reads a public layout, or says what is missing and what to do.

Manifest       ROOT/<folder>/{train,dev,test}.tsv (a header with path, transcript[, speaker]) or .jsonl (audio_filepath, text)
Kaldi          ROOT/<folder>/{train,dev,test}/{wav.scp,text[,utt2spk]}: what Kaldi's recipes make of WSJ and others
LibriSpeech    ROOT/LibriSpeech/{train-clean-100,...}/<speaker>/<chapter>/*.flac and *.trans.txt
Synthesised    spoken here by eSpeak NG, which a dependency ships: nothing to download
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from dsd.data.synthesiser import VOICES, Line, espeak, spoken

PARTS = ("train", "val", "test")
ALPHABET = " 'abcdefghijklmnopqrstuvwxyz"
"""Symbols 1 to 28 of the networks; 0 is CTC's blank. PROTOCOLS 1.6: 26 letters, space, apostrophe, blank."""
SMALL = "or run without files: data=embedded_speech"


@dataclass(frozen=True)
class Utterance:
    """Somebody says `transcript` (as in its source); `content` gives the bytes of the sound file.

    `key` tells contents apart where making them takes long; "" if they must be looked at.
    """

    name: str
    part: str
    transcript: str
    speaker: str
    content: Callable[[], bytes]
    key: str = ""


class SpeechSource(Protocol):
    """Called with the folder of all data sets (or None), gives every utterance."""

    def __call__(self, root: Path | None) -> list[Utterance]: ...


def spelled(transcript: str) -> str:
    """The transcript in ALPHABET: lower case, hyphens as spaces, everything else left out."""
    kept = re.sub(r"[^a-z' ]", "", re.sub(r"[-\s]+", " ", transcript.lower()))
    return re.sub(r" +", " ", kept).strip()


def of_file(path: Path, part: str, transcript: str, speaker: str) -> Utterance:
    """The utterance in a sound file. FileNotFoundError naming it if it isn't there."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is listed and not there: fetch the set again, or take it off the list")
    return Utterance(str(path.name), part, transcript, speaker, partial(Path.read_bytes, path))


def below(root: Path | None, folder: str) -> Path:
    """ROOT/folder. FileNotFoundError if it isn't there, with what to do."""
    if root is None or not (root / folder).is_dir():
        where = "no data folder is named" if root is None else f"{root / folder} is not there"
        raise FileNotFoundError(
            f"{where}: set DSD_DATA=DIR or data.root=DIR to the folder that holds {folder}, {SMALL}"
        )
    return root / folder


@dataclass(frozen=True)
class Manifest:
    """The lists of a folder: `parts` says which list (train, dev, test; .tsv or .jsonl) is which part; paths are below it."""

    folder: str
    parts: Mapping[str, str]

    def __call__(self, root: Path | None) -> list[Utterance]:
        """All utterances. FileNotFoundError for a missing list or sound, ValueError for a list that is none."""
        folder = below(root, self.folder)
        utterances: list[Utterance] = []
        for part, name in self.parts.items():
            paths = [path for path in (folder / f"{name}.tsv", folder / f"{name}.jsonl") if path.exists()]
            if not paths:
                raise FileNotFoundError(
                    f"{folder} has no {name}.tsv and no {name}.jsonl: see data.source.parts, {SMALL}"
                )
            rows = _tsv(paths[0]) if paths[0].suffix == ".tsv" else _json_lines(paths[0])
            utterances += [of_file(folder / path, part, text, speaker) for path, text, speaker in rows]
        return utterances


@dataclass(frozen=True)
class Kaldi:
    """Kaldi's data folders: wav.scp (id, path), text (id, words), utt2spk (id, speaker; optional)."""

    folder: str
    parts: Mapping[str, str]

    def __call__(self, root: Path | None) -> list[Utterance]:
        """All utterances. ValueError for a wav.scp with commands (`... |`) or an id without a transcript."""
        utterances: list[Utterance] = []
        for part, name in self.parts.items():
            folder = below(root, f"{self.folder}/{name}")
            texts, sounds = (dict(_two(line) for line in _lines(folder / file)) for file in ("text", "wav.scp"))
            speakers = dict(map(_two, _lines(folder / "utt2spk"))) if (folder / "utt2spk").exists() else {}
            for key, path in sounds.items():
                if path.endswith("|"):
                    raise ValueError(
                        f"{folder / 'wav.scp'}: {key} is a command ({path[:40]}...), not a file; write the sounds first "
                        "(wav-copy, or sph2pipe -f wav for WSJ's SPHERE files) and list those"
                    )
                if key not in texts:
                    raise ValueError(f"{folder / 'text'} has no transcript of {key}, which wav.scp lists")
                utterances.append(of_file((folder / path).absolute(), part, texts[key], speakers.get(key, "")))
        return utterances


@dataclass(frozen=True)
class LibriSpeech:
    """LibriSpeech (Panayotov et al., ICASSP 2015): `parts` names the folders of each part, such as train-clean-100."""

    parts: Mapping[str, Sequence[str]]
    folder: str = "LibriSpeech"

    def __call__(self, root: Path | None) -> list[Utterance]:
        """All utterances of those folders."""
        utterances: list[Utterance] = []
        for part, names in self.parts.items():
            for name in names:
                for listed in sorted(below(root, f"{self.folder}/{name}").glob("*/*/*.trans.txt")):
                    for key, text in map(_two, _lines(listed)):
                        utterances.append(of_file(listed.parent / f"{key}.flac", part, text, listed.parents[1].name))
        return utterances


@dataclass(frozen=True)
class Synthesised:
    """Names spelled and numbers said by eSpeak NG, in the manner of AN4; the same every time.

    A result on it is a result on nothing else: it is for trying things out.
    """

    train: int
    val: int
    test: int

    def __call__(self, root: Path | None) -> list[Utterance]:
        """The utterances; `root` isn't looked at."""
        counts = zip(PARTS, (self.train, self.val, self.test), strict=True)
        parts = [part for part, count in counts for _ in range(count)]
        lines = tuple(map(_line, range(len(parts))))
        return [
            Utterance(f"{n:04}.wav", part, lines[n].text, "", partial(_said, lines, n), repr((espeak(), len(lines), n)))
            for n, part in enumerate(parts)
        ]


WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "yes", "no", "go", "stop",
         "enter", "erase", "help", "repeat")  # fmt: skip


def _line(number: int) -> Line:
    draw = np.random.default_rng(number)
    words = " ".join(draw.choice(WORDS, int(draw.integers(2, 5))))
    return Line(words, str(draw.choice(VOICES)), int(draw.integers(140, 190)), int(draw.integers(35, 65)))


def _said(lines: tuple[Line, ...], number: int) -> bytes:
    return spoken(lines)[number]


def _tsv(path: Path) -> Iterator[tuple[str, str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        table = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        if not {"path", "transcript"} <= set(table.fieldnames or ()):
            raise ValueError(
                f"{path}: the first line must name the columns path and transcript, found {table.fieldnames}"
            )
        for row in table:
            if not row["path"] or row["transcript"] is None:
                raise ValueError(f"{path}, line {table.line_num}: no path or no transcript; fetch the file again")
            yield row["path"], row["transcript"], row.get("speaker") or ""


def _json_lines(path: Path) -> Iterator[tuple[str, str, str]]:
    for number, line in enumerate(_lines(path), 1):
        try:
            row = json.loads(line)
            yield row["audio_filepath"], row["text"], str(row.get("speaker", ""))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: expected audio_filepath and text ({error!r})") from None


def _lines(path: Path) -> list[str]:
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there: fetch the set again, {SMALL}")
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _two(line: str) -> tuple[str, str]:
    first, _, rest = line.strip().partition(" ")
    return first, rest.strip()
