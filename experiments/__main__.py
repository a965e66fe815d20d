"""Report of a study, from the runs that are there: `python -m experiments table7`. It never trains.

Reads the folder of runs (if there is one) and the committed records, prints what is missing as commands, and writes
`experiments/<name>/`: records.jsonl, weights.json, samples.json, report.html, report.md and the figures. From the records alone it
writes the same report again. Another folder (`--to`) gets the report of the committed records, and records of its own once runs
add to them.
"""

from __future__ import annotations

import argparse
import importlib
import json
import operator
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dsd.results import diverged, records, samples
from dsd.results.analysis import analyse
from dsd.results.origins import digest
from dsd.results.report import Section, section, write
from dsd.results.schema import read_json
from dsd.results.store import Store, atomic_write
from dsd.results.study import Study
from experiments.declared import as_declared, in_other_words

HERE = Path(__file__).parent
NAMES = sorted(
    path.stem for path in HERE.glob("*.py") if "STUDIES" in path.read_text() and not path.stem.startswith("_")
)
LABELS = {"end of dense": "before pruning", "start of sparse": "after pruning", "end of sparse": "after sparse training",
          "start of redense": "at release", "end of redense": "final"}  # fmt: skip
BESIDE: dict[str, Any] = {"weights.json": {}, "samples.json": {}, "diverged.json": []}  # what each holds at first


def report(name: str, runs: Path, folder: Path, only: Sequence[str] = ()) -> list[Section]:
    """The records are brought up to date with the runs, and the report is written. Raises ValueError for a bad record.

    `only` these studies take runs, the others keep their records: runs of another machine differ in their last bits, and a
    study's pairs should come from one.
    """
    title, studies = declaration(name)
    source = folder if (folder / "records.jsonl").exists() else HERE / name
    before = {file: _read(source / file) for file in BESIDE}
    store, old = Store(runs), records.read(source / "records.jsonl")
    if old and source != HERE / name and not {one["study"] for one in old} & {study.name for study in studies}:
        held = ", ".join(sorted({one["study"] for one in old}))
        raise ValueError(
            f"{source / 'records.jsonl'} holds records of {held}, no study of {name}: give --to another folder"
        )
    results = list(store.results())
    if unknown := set(only) - {study.name for study in studies}:
        raise ValueError(f"--only names {', '.join(sorted(unknown))}; there are {', '.join(s.name for s in studies)}")
    new = [one for study in studies if not only or study.name in only for one in records.collect(study, results)]
    for study in (study for study in studies if not only or study.name in only):
        new += in_other_words(study, records.merge(old, new), results, store)
    configs = {result["run_id"]: result["config"] for result in results}
    known = {one["run_id"] for one in old}
    for study in studies:
        for one in (one for one in new if one["study"] == study.name and one["run_id"] not in known):
            words, who = (
                study.words_of(study.arm(one["arm"])),
                f"run {one['run_id']} ({one['arm']}, seed {one['seed']})",
            )
            as_declared(configs[one["run_id"]], words, one["seed"], who)
    for one in new:
        if counts := records.utterances(samples.of_run(store, one["run_id"])):
            one["utterances"] = counts
        if (final := store.run(one["run_id"]).final).is_file():
            one["final_sha256"] = digest(final)
    everything = records.merge(old, new)
    no_other_start(old, everything)
    unfinished = list(store.diverged())
    new_lost = [one for s in studies if not only or s.name in only for one in diverged.collect(s, unfinished)]
    weights = kept_weights(before["weights.json"], studies, everything, store)
    shown = kept_samples(before["samples.json"], studies, everything, store)
    lost = diverged.kept(before["diverged.json"], new_lost, everything)
    after = {"weights.json": weights, "samples.json": shown, "diverged.json": lost}
    if (everything, after) != (old, before):
        for file, found in after.items():
            if found != before[file] or (found and source != folder):
                indent = None if file == "weights.json" else 1
                atomic_write(folder / file, json.dumps(found, ensure_ascii=False, indent=indent) + "\n")
        if everything != old or source != folder:
            records.write(folder / "records.jsonl", everything)  # last: a folder that has it has the others
    sections = [
        section(analyse(s, everything, lost), everything, weights.get(s.name), shown.get(s.name)) for s in studies
    ]
    write(folder, title, sections, f"python -m experiments {name}")
    return sections


def declaration(name: str) -> tuple[str, tuple[Study, ...]]:
    """The title and the studies of `experiments/<name>.py`. Raises ValueError if they are not declared there."""
    module = importlib.import_module(f"experiments.{name}")
    title, studies = getattr(module, "TITLE", None), getattr(module, "STUDIES", None)
    if not isinstance(title, str) or not isinstance(studies, tuple) or not all(isinstance(s, Study) for s in studies):
        raise ValueError(
            f"experiments/{name}.py needs TITLE, a text, and STUDIES, a tuple of Study, as (one,) is with its comma"
        )
    if len({study.name for study in studies}) < len(studies):
        raise ValueError(f"experiments/{name}.py: two studies have one name: {', '.join(s.name for s in studies)}")
    return title, studies


def no_other_start(old: Sequence[records.Record], everything: Sequence[records.Record]) -> None:
    """Nothing, or ValueError if a run has other numbers than it had, and records are kept of runs that start from it as it was."""
    key = operator.itemgetter("study", "arm", "seed", "run_id")
    before, now = ({key(one): one for one in some} for some in (old, everything))
    again = {of: one for of, one in now.items() if of in before and before[of]["phases"] != one["phases"]}
    there = {(study, run_id) for study, _, _, run_id in now}
    for of, one in now.items():
        start = one["config"].get("init_from")  # its id takes in the weights it started from
        inside = (
            of[0] if (of[0], start) in there else None
        )  # each study has its own record of a baseline that they share
        for base in again:
            if before.get(of) == one and base[3] == start and inside in (None, base[0]):
                raise ValueError(
                    f"run {start} ({base[1]}, seed {base[2]}) was trained again and has other numbers than its record, as another "
                    f"machine's has, but {one['arm']}, seed {one['seed']} is kept from what started there before: take all that "
                    "start from it anew, or leave it out with --only"
                )


def kept_samples(
    old: Mapping[str, Any], studies: Sequence[Study], everything: Sequence[records.Record], store: Store
) -> dict[str, Any]:
    """Pictures or utterances with what the arms said of them, of each study that shows some: see dsd/results/samples.py."""
    data = Path(os.environ["DSD_DATA"]) if "DSD_DATA" in os.environ else None
    found = {s.name: samples.kept(old.get(s.name, {}), s, everything, store, data) for s in studies}
    return {**old, **{name: one for name, one in found.items() if one}}


def kept_weights(
    old: Mapping[str, Any], studies: Sequence[Study], everything: Sequence[records.Record], store: Store
) -> dict[str, Any]:
    """One layer's histograms of one run of each study: from its runs, where they are, else as they were kept."""
    kept = dict(old)
    for study in studies:
        own = [r for r in everything if r["study"] == study.name and r["arm"] == study.figure_arm]
        if not own or kept.get(study.name, {}).get("run_id") == own[0]["run_id"]:
            continue
        first = own[0]["config"].get("init_from")
        moments = [*_moments(store, first), *_moments(store, own[0]["run_id"])]
        if moments:
            layers = moments[0]["layers"]
            layer = max(layers, key=lambda name: sum(layers[name]["counts"]) + layers[name]["zeros"])
            shown = [m["layers"][layer] | {"label": LABELS[m["where"]]} for m in moments if m["where"] in LABELS]
            kept[study.name] = {"run_id": own[0]["run_id"], "layer": layer, "moments": shown}
    return kept


def _read(path: Path) -> Any:
    """What the file beside the records holds; nothing if it does not exist."""
    return read_json(path, remedy="restore the file from git") if path.exists() else BESIDE[path.name]


def _moments(store: Store, run_id: str | None) -> list[dict[str, Any]]:
    path = store.root / (run_id or "-") / "distributions.json"
    found: list[dict[str, Any]] = read_json(path, remedy="force=true makes the run anew") if path.exists() else []
    return found


def main(words: Sequence[str]) -> int:
    """The exit code: 0 when nothing is missing, 1 when runs are."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="the folder of runs (default: runs)")
    parser.add_argument(
        "--to",
        type=Path,
        default=None,
        help="where the report goes, and the records once runs add to them (default: experiments/NAME)",
    )
    parser.add_argument("--only", nargs="+", metavar="STUDY", default=(), help="take runs into these studies only")
    asked = parser.parse_args(words)
    folder = asked.to or HERE / asked.name
    if not asked.runs.is_dir():
        print(f"there is no folder {asked.runs}: the report is of the committed records alone", file=sys.stderr)
    try:
        sections = report(asked.name, asked.runs, folder, asked.only)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    for part in sections:
        print(f"\n{part.findings.study.title}")
        for judged in part.findings.judged:
            print(
                f"  {judged.verdict.sentence if judged.verdict else f'{judged.claim.text}: not tested, {judged.why_not}.'}"
            )
        for arm, seeds in part.findings.diverged.items():
            print(f"  diverged: {arm}, seed {', '.join(map(str, seeds))}")
        for one in part.findings.mixed:
            print(f"  beware: {one.sentence}")
        if part.commands:
            print(f"  missing, {sum(map(len, part.findings.missing.values()))} runs:")
            there = "" if asked.runs == Path("runs") else f" runs={shlex.quote(str(asked.runs))}"
            print("\n".join(f"    {command}{there}" for command in part.commands))
    print(f"\nreport: {folder / 'report.html'}")
    return 1 if any(part.commands for part in sections) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
