"""Captions and transcripts in the report: of every phase, from two run folders where need be, and without any run later."""

import base64
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from dsd.results import records, samples
from dsd.results.analysis import analyse
from dsd.results.report import html, markdown, section
from dsd.results.store import Store
from dsd.results.study import Metric, Samples, Study
from tests.results.test_study import STUDY, result

CAPTIONS = replace(STUDY, samples=Samples(("finetune", "dsd"), count=2, pictures="set/pictures"))
SPEECH = replace(
    STUDY, metrics=(Metric("test/wer", "WER", "%", "lower"),), samples=Samples(("baseline", "dsd"), count=3)
)


def folder(store, run_id, rows):
    path = store.root / run_id / "samples.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def captioned(name, part, **said):
    captions = {key.removeprefix("at"): text for key, text in said.items()}
    return {"image": name, "part": part, "references": ["a dog", "the dog <runs>"], "captions": captions}


@pytest.fixture
def captions(tmp_path):
    """A store in which the runs b (where both start), finetune-0 and dsd-0 have captions of two pictures and a test one."""
    store = Store(tmp_path / "runs")
    for run_id, said in (
        ("b", {"at9": "early", "at20": "dense says"}),
        ("finetune-0", {"at20": "first", "at40": "second", "at30": "between"}),
        ("dsd-0", {"at20": "sparse says", "at40": "redense says"}),
    ):
        rows = [captioned(name, "val", **said) for name in ("one.jpg", "two.jpg")]
        folder(store, run_id, [*rows, captioned("three.jpg", "test", at40="final")])
    return store


@pytest.fixture
def kept():
    found = [result(arm, 0, 20.0) for arm in ("baseline", "finetune", "dsd")]
    return [r for r in records.collect(STUDY, found) if r["seed"] == 0]


def test_every_phase_is_there_and_the_common_start_once(captions, kept):
    found = samples.kept({}, CAPTIONS, kept, captions, None)
    assert found["runs"] == {"finetune": "finetune-0", "dsd": "dsd-0"}
    assert [item["name"] for item in found["items"]] == ["one.jpg", "two.jpg"]
    assert found["items"][0]["said"] == [
        ["dense, where all start", "dense says"],
        ["finetune: sparse", "first"],
        ["finetune: redense", "second"],
        ["DSD: sparse", "sparse says"],
        ["DSD: redense", "redense says"],
    ]


def test_pictures_are_small_and_put_in_when_they_are_there(captions, kept, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (300, 500, 3), np.uint8)
    without = samples.kept({}, CAPTIONS, kept, captions, tmp_path)
    assert [item["picture"] for item in without["items"]] == [None, None]
    (tmp_path / "set" / "pictures").mkdir(parents=True)
    Image.fromarray(noise).save(tmp_path / "set" / "pictures" / "one.jpg")
    found = samples.kept(without, CAPTIONS, kept, Store(tmp_path / "nothing"), tmp_path)
    kind, _, data = found["items"][0]["picture"].partition(",")
    assert kind == "data:image/jpeg;base64"
    assert len(data) <= 10_000
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (200, 120)
    assert found["items"][1]["picture"] is None
    assert [item["picture"] for item in without["items"]] == [None, None], (
        "what was read is not changed: it is compared"
    )


def test_without_runs_what_was_kept_stays(captions, kept, tmp_path):
    found = samples.kept({}, CAPTIONS, kept, captions, None)
    assert samples.kept(found, CAPTIONS, kept, Store(tmp_path / "nothing"), None) == found
    assert samples.kept({}, CAPTIONS, kept, Store(tmp_path / "nothing"), None) is None
    assert samples.kept({}, STUDY, kept, captions, None) is None, "a study that asks for none"


def test_other_runs_replace_what_was_kept(captions, kept):
    found = samples.kept({}, CAPTIONS, kept, captions, None)
    folder(captions, "dsd-new", [captioned("one.jpg", "val", at20="now", at40="then")])
    newer = [r | {"run_id": "dsd-new"} if r["arm"] == "dsd" else r for r in kept]
    assert samples.kept(found, CAPTIONS, newer, captions, None)["items"][0]["said"][-1] == ["DSD: redense", "then"]


def test_a_phase_without_captions_is_an_error_that_names_it(captions, kept):
    folder(captions, "dsd-old", [captioned("one.jpg", "val", at20="sparse says")])
    old = [r | {"run_id": "dsd-old"} if r["arm"] == "dsd" else r for r in kept]
    with pytest.raises(
        ValueError, match=r"run dsd-old: .* no caption of one.jpg at update 40, where phase redense ends"
    ):
        samples.kept({}, CAPTIONS, old, captions, None)


def test_the_report_shows_them(captions, kept, tmp_path):
    found = samples.kept({}, CAPTIONS, kept, captions, None)
    found["items"][0]["picture"] = "data:image/jpeg;base64,AAAA"
    sections = [section(analyse(CAPTIONS, kept), kept, None, found)]
    page, text = html("t", sections, "c"), markdown("t", sections, "c")
    assert '<img alt="a dog" src="data:image/jpeg;base64,AAAA">' in page
    assert "the dog &lt;runs&gt;" in page
    assert "  - DSD: sparse: sparse says\n" in text
    assert "base64" not in text


def transcripts(errors):
    return [
        {"utterance": f"u{n}", "reference": "one two", "hypothesis": "one two"[: 7 - e], "words": 2, "errors": e}
        for n, e in reversed(list(enumerate(errors)))
    ]


@pytest.fixture
def spoken(tmp_path):
    """A store and records of a baseline and DSD, three seeds, with their utterances."""
    store, kept = Store(tmp_path / "runs"), []
    for seed in range(3):
        for arm, errors in (("baseline", [2, 1, 2, 0, 1, 2]), ("dsd", [1, 0, 2, 0, 0, seed % 2])):
            one = result(arm, seed, 20.0)
            one["metrics"]["test"] |= {"test/wer": 100 * sum(errors) / 12 + seed / 10, "test/n": 6}
            folder(store, one["run_id"], transcripts(errors))
            kept.append(one)
    found = records.collect(SPEECH, kept)
    return store, [r | {"utterances": records.utterances(samples.of_run(store, r["run_id"]))} for r in found]


def test_counts_of_utterances_are_in_order_of_their_names(spoken):
    assert spoken[1][0]["utterances"] == {"words": [2] * 6, "errors": [2, 1, 2, 0, 1, 2]}
    assert records.utterances([captioned("one.jpg", "val")]) == {}


def test_intervals_over_utterances_pool_the_seeds(spoken):
    findings = analyse(SPEECH, spoken[1])
    lines = {line.row.label: line.spoken for line in findings.lines}
    assert lines["base"].value == pytest.approx(100 * 8 / 12)
    assert lines["base"].interval.low < lines["base"].value < lines["base"].interval.high
    assert lines["end"].value == pytest.approx(100 * 10 / 36)
    assert lines["half"] is None, "the test set sees the final weights only"
    assert lines["tune"] is None, "nothing has run"
    checks = findings.judged[0].checks
    assert checks[-1].startswith(
        "treated - control, these 3 pairs of networks. Over the 6 utterances: -38.89 %, 95 % BCa"
    )
    assert analyse(STUDY, spoken[1]).lines[0].spoken is None, "not a rate of words"


def test_runs_tested_on_other_utterances_are_refused(spoken):
    kept = spoken[1]
    kept[1]["utterances"] = {"words": [2], "errors": [0]}
    with pytest.raises(ValueError, match="baseline-0 and baseline-1 were tested on different utterances"):
        analyse(SPEECH, kept)


def test_the_report_of_speech_shows_intervals_and_transcripts(spoken):
    store, kept = spoken
    found = samples.kept({}, SPEECH, kept, store, None)
    sections = [section(analyse(SPEECH, kept), kept, None, found)]
    page, text = html("t", sections, "c"), markdown("t", sections, "c")
    assert [item["name"] for item in found["items"]] == ["u5", "u3", "u1"]
    assert "  - DSD: one two\n" in text
    assert "WER, interval over utterances" in page
    assert text.count("over utterances") == 1
    assert "over utterances" not in markdown("t", [section(analyse(STUDY, []), [], None)], "c")


def test_a_study_cannot_show_samples_of_an_arm_it_has_not():
    with pytest.raises(ValueError, match="nobody"):
        Study("x", "x", "x", (), (), (0,), STUDY.metrics, (), (), (), 0.1, samples=Samples(("nobody",)))
