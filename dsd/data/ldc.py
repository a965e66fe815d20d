"""The Wall Street Journal as the LDC gives it out (LDC93S6, LDC94S13): discs with SPHERE files, lists, and transcripts.

    ROOT/<folder>/11-13.1/wsj0/doc/indices/train/tr_s_wv1.ndx     a list: `11_1_1:wsj0/si_tr_s/011/011c0201.wv1` is disc 11-1.1's
    ROOT/<folder>/11-1.1/wsj0/si_tr_s/011/011c0201.wv1            SPHERE, as libsndfile reads it if it isn't compressed
    ROOT/<folder>/11-4.1/wsj0/transcrp/.../011c0200.dot           a line an utterance, its name last: `... (011c0201)`; or .lsn

Lists of the evaluation sets leave `.wv1` out. Where discs have been put together in one folder, that is read too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dsd.data.utterances import Utterance, below, of_file

LISTED = re.compile(r"(\d+)_(\d+)_(\d+)\s*:\s*/?(\S+)")
NAMED = re.compile(r"(.*)\((\w+)\)\s*")


@dataclass(frozen=True)
class Ldc:
    """`parts`: lists of each part, below `folder`; what begins with one of `absent` is on a list and on no disc."""

    folder: str
    parts: Mapping[str, Sequence[str]]
    absent: Sequence[str] = ()

    def __call__(self, root: Path | None) -> list[Utterance]:
        """All utterances. FileNotFoundError for a list or sound that isn't there, ValueError for one without a transcript."""
        folder = below(root, self.folder)
        texts = transcripts(folder)
        utterances: list[Utterance] = []
        for part, lists in self.parts.items():
            for listed in lists:
                for path in self._sounds(folder, folder / listed):
                    key = path.stem.lower()
                    if key not in texts:
                        raise ValueError(
                            f"{folder} has no .dot and no .lsn file with ({key}), which {listed} lists: copy the discs of "
                            "transcripts too (of wsj0: 11-4.1, 11-5.1, 11-6.1, 11-13.1 and others)"
                        )
                    utterances.append(of_file(path, part, texts[key], path.parent.name))
        return utterances

    def _sounds(self, folder: Path, listed: Path) -> Iterator[Path]:
        if not listed.exists():
            raise FileNotFoundError(f"{listed} is not there: copy the disc with the lists, or see data.source.parts")
        for number, line in enumerate(listed.read_text(encoding="latin-1").splitlines(), 1):
            if not line.strip() or line.startswith(";"):
                continue
            found = LISTED.fullmatch(line.strip())
            if found is None:
                raise ValueError(
                    f"{listed}, line {number}: expected DISC:PATH such as 11_1_1:wsj0/..., found {line[:60]!r}"
                )
            *disc, name = found.groups()
            if any(name.startswith(prefix) for prefix in self.absent):
                continue
            name = name if Path(name).suffix else f"{name}.wv1"
            own, together = folder / "{}-{}.{}".format(*disc) / name, folder / name
            yield own if own.exists() or not together.exists() else together


def transcripts(folder: Path) -> dict[str, str]:
    """What is said in each utterance, by its name in lower case; .dot files, and .lsn files for what has none."""
    found: dict[str, str] = {}
    for suffix in ("lsn", "dot"):
        for path in sorted(folder.rglob(f"*.{suffix}")):
            for line in path.read_text(encoding="latin-1").splitlines():
                if (named := NAMED.fullmatch(line)) is not None:
                    found[named[2].lower()] = words(named[1])
    return found


def words(detailed: str) -> str:
    """The words of a detailed transcript: without noises in [brackets], pauses, and marks of how a word is said.

    Punctuation that was read aloud (,COMMA) stays as its word, as in Kaldi's recipe.
    """
    plain = re.sub(r"\[[^]]*\]", " ", detailed.replace("\\", ""))
    kept = (re.sub(r"^[^\w']+|[*:!()<>~`]", "", word) for word in plain.split())
    return " ".join(word for word in kept if re.search(r"\w", word))
