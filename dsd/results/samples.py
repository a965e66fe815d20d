"""Single pictures with their captions, and utterances with their transcripts, as the phases of a study's runs gave them.

Runs leave `samples.jsonl` in their folder. What the report shows is kept beside the records, so that it needs no runs:

    experiments/<study>/samples.json    {study: {"runs": {arm: run id}, "items": [{"name", "picture", "references",
                                        "said": [[label, text], ...]}, ...]}}

`picture` is a small JPEG as a data URI, or null where the pictures weren't there when it was written.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from dsd.results.records import Record
from dsd.results.schema import read_json
from dsd.results.store import Store
from dsd.results.study import Samples, Study

SIDE, LARGEST = 200, 7500  # pixels, and bytes: 10 KB as a data URI
Item = dict[str, Any]


def of_run(store: Store, run_id: str | None) -> list[dict[str, Any]]:
    """What a run left, in its own order; nothing if it left nothing."""
    path = store.root / (run_id or "-") / "samples.jsonl"
    found: list[dict[str, Any]] = (
        read_json(path, remedy="force=true makes the run anew", lines=True) if path.exists() else []
    )
    return found


def kept(
    old: Mapping[str, Any], study: Study, records: Sequence[Record], store: Store, data: Path | None
) -> dict[str, Any] | None:
    """The study's samples: from its runs where they are, else `old`, as they were kept; None if there are none.

    Pictures that were not there the last time are put in if they are there now, below `data`.
    """
    asked = study.samples
    if asked is None:
        return None
    own = {r["arm"]: r for r in records if r["study"] == study.name and r["seed"] == asked.seed}
    chosen = {arm: own[arm] for arm in asked.arms if arm in own}
    runs = {arm: r["run_id"] for arm, r in chosen.items()}
    found: dict[str, Any] | None = dict(old) if old else None
    there = all(of_run(store, run_id) for run_id in runs.values())
    if runs and there and (found is None or found["runs"] != runs):
        found = {"runs": runs, "items": _items(study, asked, chosen, store)}
    if found and asked.pictures and data:
        found["items"] = [item | {"picture": _picture(item, data / asked.pictures)} for item in found["items"]]
    return found


def _picture(item: Item, folder: Path) -> str | None:
    path = folder / item["name"]
    kept: str | None = item["picture"]
    return thumbnail(path.read_bytes()) if kept is None and path.exists() else kept


def thumbnail(image: bytes) -> str:
    """A data URI of a JPEG of at most 200 pixels a side and 7,500 bytes."""
    small = Image.open(io.BytesIO(image)).convert("RGB")
    small.thumbnail((SIDE, SIDE))
    for quality in range(80, 0, -10):
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() <= LARGEST:
            break
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _items(study: Study, asked: Samples, chosen: Mapping[str, Record], store: Store) -> list[Item]:
    items: dict[str, Item] = {}
    for arm, record in chosen.items():
        for name, references, label, text in _said(study.arm(arm).title, record, store):
            new = {"name": name, "picture": None, "references": references, "said": []}
            said = items.setdefault(name, new)["said"]
            if [label, text] not in said:  # arms that start from one baseline share its phases
                said.append([label, text])
    listed = list(items.values())
    count = min(asked.count, len(listed))
    return [listed[k * len(listed) // count] for k in range(count)]  # over all of them


def _said(title: str, record: Record, store: Store) -> list[tuple[str, list[str], str, str]]:
    """(name, references, label, text), of transcripts with the final weights or captions at the end of every phase."""
    start, run_id = record["config"].get("init_from"), record["run_id"]
    found = []
    for sample in of_run(store, start):  # the first phase, if it was a run of its own
        if sample.get("part") == "val":
            text = sample["captions"][max(sample["captions"], key=int)]
            found.append((sample["image"], sample["references"], "dense, where all start", text))
    for sample in of_run(store, run_id):
        if "hypothesis" in sample:
            found.append((sample["utterance"], [sample["reference"]], title, sample["hypothesis"]))
        elif sample["part"] == "val":
            end = 0
            for phase in record["phases"]:
                end += phase["updates"]
                if str(end) not in sample["captions"]:
                    raise ValueError(
                        f"run {run_id}: samples.jsonl has no caption of {sample['image']} at update {end}, where "
                        f"phase {phase['name']} ends; run it again with force=true"
                    )
                found.append((sample["image"], sample["references"], f"{title}: {phase['name']}", sample["captions"][str(end)]))  # fmt: skip
    return found
