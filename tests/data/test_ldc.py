"""The LDC's discs of the Wall Street Journal, laid out small: lists, SPHERE files, transcripts; and what is missing or compressed."""

import numpy as np
import pytest
import soundfile
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from dsd.data import Ldc, SpeechData
from dsd.data.ldc import words
from dsd.data.spectrogram import sound
from tests.data.test_conf import CONF

TRAIN, TEST = "11-13.1/wsj0/doc/indices/train/tr_s_wv1.ndx", "11-13.1/wsj0/doc/indices/test/nvp/si_et_20.ndx"
PARTS = {"train": [TRAIN, "13-34.1/wsj1/doc/indices/si_tr_s.ndx"], "test": [TEST]}


def written(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def sphere(path, seconds=0.3):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(
        path,
        np.sin(np.arange(int(16000 * seconds)) / 10).astype(np.float32) / 2,
        16000,
        format="NIST",
        subtype="PCM_16",
    )


@pytest.fixture
def wsj(tmp_path):
    folder = tmp_path / "wsj"
    train = [
        "11_1_1:wsj0/si_tr_s/011/011c0201.wv1",
        "11_1_1:wsj0/si_tr_s/011/011c0202.wv1",
        "11_2_1:wsj0/si_tr_s/401/401c0201.wv1",
    ]
    written(folder / TRAIN, "; the list of training sounds\n;;\n" + "\n".join(train) + "\n")
    written(folder / PARTS["train"][1], "13_1_1: wsj1/si_tr_s/4a0/4a0c0201.wv1\n")
    written(folder / TEST, "11_14_1:wsj0/si_et_20/440/440c0401\n")
    for name in (
        "11-1.1/wsj0/si_tr_s/011/011c0201",
        "11-1.1/wsj0/si_tr_s/011/011c0202",
        "13-1.1/wsj1/si_tr_s/4a0/4a0c0201",
        "11-14.1/wsj0/si_et_20/440/440c0401",
    ):
        sphere(folder / f"{name}.wv1")
    said = "The *sale* of Coca\\-Cola's \"QUOTE hotels ,COMMA [loud_breath] . is ~ part . (011c0201)\nTwenty [/door_slam] %PERCENT mo:re (011C0202)\nGone (401c0201)\n"
    written(folder / "11-4.1/wsj0/transcrp/dots/si_tr_s/011/011c0200.dot", said)
    written(folder / "13-34.1/wsj1/trans/wsj1/si_tr_s/4a0/4a0c0200.dot", "Hello (4a0c0201)\n")
    written(folder / "13-34.1/wsj1/trans/wsj1/si_tr_s/4a0/4a0c0200.lsn", "NOT THIS ONE (4A0C0201)\n")
    written(folder / "11-14.1/wsj0/si_et_20/440/440c0400.lsn", "AS EVALUATED (440C0401)\n")
    return tmp_path


def source(**change):
    return Ldc(**{"folder": "wsj", "parts": PARTS, "absent": ["wsj0/si_tr_s/401"]} | change)


def test_the_discs_are_read(wsj):
    found = [(u.name, u.part, u.transcript, u.speaker) for u in source()(wsj)]
    assert found == [
        ("011c0201.wv1", "train", "The sale of Coca-Cola's QUOTE hotels COMMA is part", "011"),
        ("011c0202.wv1", "train", "Twenty PERCENT more", "011"),
        ("4a0c0201.wv1", "train", "Hello", "4a0"),
        ("440c0401.wv1", "test", "AS EVALUATED", "440"),
    ]


def test_sphere_files_become_spectrograms(wsj, tmp_path):
    data = SpeechData(
        source=source(),
        batch_size=2,
        seed=0,
        validation=0.3,
        stride=2,
        spread=0.2,
        augment=None,
        root=wsj,
        cache=tmp_path / "cache",
    )
    data.setup()
    assert (data.train_size, data.val_size, data.test_size) == (1, 2, 1), "whole speakers are held out"
    assert "the sale of coca cola's quote hotels comma is part" in data.transcripts
    assert len(sound(source()(wsj)[0])) == 4800


def test_discs_in_one_folder_are_read_too(wsj):
    for disc in ("11-1.1", "11-14.1", "13-1.1"):
        for path in list((wsj / "wsj" / disc).rglob("*.wv1")):
            target = wsj / "wsj" / path.relative_to(wsj / "wsj" / disc)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
    assert len(source()(wsj)) == 4


def test_what_is_missing_is_named(wsj):
    with pytest.raises(FileNotFoundError, match=r"401c0201\.wv1 is listed and not there"):
        source(absent=())(wsj)
    with pytest.raises(FileNotFoundError, match=r"none\.ndx is not there: copy the disc with the lists"):
        source(parts={"train": ["none.ndx"]})(wsj)
    (wsj / "wsj/11-14.1/wsj0/si_et_20/440/440c0400.lsn").unlink()
    with pytest.raises(ValueError, match=r"no \.dot and no \.lsn file with \(440c0401\)"):
        source()(wsj)
    written(wsj / "wsj" / TEST, "si_et_20/440/440c0401\n")
    with pytest.raises(ValueError, match=r"si_et_20\.ndx, line 1: expected DISC:PATH"):
        source()(wsj)


def test_compressed_sphere_files_are_refused_with_the_remedy(wsj):
    path = wsj / "wsj/11-1.1/wsj0/si_tr_s/011/011c0201.wv1"
    header = b"NIST_1A\n   1024\nsample_count -i 4800\nsample_rate -i 16000\nsample_coding -s26 pcm,embedded-shorten-v2.00\nend_head\n"
    path.write_bytes(header.ljust(1024) + b"ajkg\x02" + bytes(200))
    with pytest.raises(
        ValueError, match=r"011c0201\.wv1 is a SPHERE file compressed by shorten, .* sph2pipe -p -f wav"
    ):
        sound(source()(wsj)[0])


@pytest.mark.parametrize(
    ("detailed", "plain"),
    [("\\.POINT five --DASH", "POINT five DASH"), ("<the> (wor)d wor- [<misc_noise]", "the word wor-"), ("\"DOUBLE\\-QUOTE it's [uh laugh] 'tis", "DOUBLE-QUOTE it's 'tis"), (". [noise]", "")],
)  # fmt: skip
def test_marks_go_and_words_stay(detailed, plain):
    assert words(detailed) == plain


def test_the_config_reads_the_discs_lists():
    with initialize_config_dir(str(CONF.parent), version_base="1.3"):
        data = compose("config", ["experiment=dsd_deepspeech1", "profile=paper", "data=wsj_ldc"]).data
    made = instantiate(data.source)
    assert isinstance(made, Ldc)
    assert made.parts["test"] == [TEST]
    assert data.validation == 0
