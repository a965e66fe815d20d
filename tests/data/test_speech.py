"""Speech data: the public layouts, what is missing, spectrograms, buckets, SortaGrad, masks of SpecAugment, held-out speakers."""

import io
import json
import time
import wave

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dsd.data import Kaldi, LibriSpeech, Manifest, SpeechData, Synthesised
from dsd.data.spectrogram import sound, spectrogram
from dsd.data.speech import Buckets, held_speakers, hide_, steps_needed
from dsd.data.synthesiser import Line, spoken
from dsd.data.utterances import Utterance, spelled

LISTS = {"train": "train", "test": "test"}


def wav(path, seconds=0.5, rate=16000, format="WAV", pitch=440):
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(int(seconds * rate)) / rate
    soundfile.write(path, np.sin(2 * np.pi * pitch * time).astype(np.float32), rate, format=format)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "set"
    rows = {"train": [f"t{n}" for n in range(8)], "test": ["e0", "e1"]}
    for part, names in rows.items():
        lines = ["path\ttranscript\tspeaker"]
        for n, name in enumerate(names):
            wav(folder / f"{name}.wav", 0.4 + 0.1 * n)
            lines.append(f"{name}.wav\tYES {'NO ' * (n % 2)}IT'S\ts{n // 2}")
        (folder / f"{part}.tsv").write_text("\n".join(lines) + "\n")
    return tmp_path


def data(root, tmp_path, **change):
    how = {"source": Manifest("set", LISTS), "batch_size": 3, "seed": 1, "validation": 0.2, "stride": 1, "spread": 0.2,
           "augment": None, "root": root, "cache": tmp_path / "cache"}  # fmt: skip
    return SpeechData(**how | change)


def test_a_manifest(root, tmp_path):
    module = data(root, tmp_path)
    module.setup()
    assert (module.train_size, module.val_size, module.test_size) == (6, 2, 2)
    x, frames, symbols, counts, numbers = next(iter(module.train_dataloader()))
    assert (x.dtype, x.shape[2], len(frames)) == (torch.float32, 161, 3)
    assert x.shape[1] == frames.max()
    assert all((x[row, end:] == 0).all() for row, end in enumerate(frames))
    texts = [
        "".join(" 'abcdefghijklmnopqrstuvwxyz"[n - 1] for n in row[:c]) for row, c in zip(symbols, counts, strict=True)
    ]
    assert texts == [module.transcripts[n] for n in numbers]
    assert set(texts) <= {"yes it's", "yes no it's"}


def test_json_lines_kaldi_and_librispeech_say_the_same(root, tmp_path):
    expected = [(u.transcript.strip(), u.speaker) for u in Manifest("set", LISTS)(root)]
    folder = root / "set"
    for part in LISTS:
        rows = [line.split("\t") for line in (folder / f"{part}.tsv").read_text().splitlines()[1:]]
        (folder / f"{part}.tsv").unlink()
        (folder / f"{part}.jsonl").write_text(
            "".join(json.dumps({"audio_filepath": p, "text": t, "speaker": s}) + "\n" for p, t, s in rows)
        )
        kaldi = root / "kaldi" / part
        kaldi.mkdir(parents=True)
        (kaldi / "wav.scp").write_text("".join(f"{p[:2]} {folder / p}\n" for p, _, _ in rows))
        (kaldi / "text").write_text("".join(f"{p[:2]} {t}\n" for p, t, _ in rows))
        (kaldi / "utt2spk").write_text("".join(f"{p[:2]} {s}\n" for p, _, s in rows))
        for p, t, s in rows:
            wav(root / "LibriSpeech" / part / s / "1" / f"{p[:2]}.flac", format="FLAC")
            with (root / "LibriSpeech" / part / s / "1" / f"{s}-1.trans.txt").open("a") as file:
                file.write(f"{p[:2]} {t}\n")
    said = [Manifest("set", LISTS), Kaldi("kaldi", LISTS), LibriSpeech({part: [part] for part in LISTS})]
    for source in said:
        assert [(u.transcript.strip(), u.speaker) for u in source(root)] == expected


def test_what_is_missing_or_damaged_is_named(root, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"DSD_DATA=DIR .*data=embedded_speech"):
        Manifest("set", LISTS)(None)
    with pytest.raises(FileNotFoundError, match=r"no dev\.tsv and no dev\.jsonl"):
        Manifest("set", {"val": "dev"})(root)
    (root / "set" / "dev.tsv").write_text("file\ttext\n")
    with pytest.raises(ValueError, match="must name the columns path and transcript"):
        Manifest("set", {"val": "dev"})(root)
    (root / "k").mkdir()
    (root / "k" / "wav.scp").write_text("a sph2pipe -f wav a.wv1 |\n")
    (root / "k" / "text").write_text("a HELLO\n")
    with pytest.raises(ValueError, match=r"a is a command .* sph2pipe -f wav"):
        Kaldi(".", {"train": "k"})(root)
    (root / "set" / "t3.wav").write_bytes(b"NIST_1A\n   1024\n")
    with pytest.raises(ValueError, match=r"t3\.wav is no sound"):
        data(root, tmp_path).setup()
    (root / "set" / "t3.wav").unlink()
    with pytest.raises(FileNotFoundError, match=r"t3\.wav is listed and not there"):
        Manifest("set", LISTS)(root)


def test_an_empty_sound_is_named():
    file = io.BytesIO()
    with wave.open(file, "wb") as empty:
        empty.setparams((1, 2, 16000, 0, "NONE", ""))
    with pytest.raises(ValueError, match=r"nothing\.wav is 0\.000 s long"):
        sound(Utterance("nothing.wav", "train", "a", "", file.getvalue))


def test_a_sound_of_no_finite_numbers_is_named(tmp_path):
    soundfile.write(tmp_path / "nan.wav", np.full(8000, np.nan, np.float32), 16000, subtype="FLOAT")
    with pytest.raises(ValueError, match=r"nan\.wav has samples that are no finite numbers"):
        sound(Utterance("nan.wav", "train", "a", "", (tmp_path / "nan.wav").read_bytes))


def test_a_part_that_cannot_be_spelled_is_named(root, tmp_path):
    listed = root / "set" / "test.tsv"
    listed.write_text(listed.read_text().replace("YES", "12").replace("NO", "34").replace("IT'S", "56"))
    with pytest.raises(ValueError, match=r"no transcript of the test part has a letter .*e0\.wav: '12 *56'"):
        data(root, tmp_path).setup()


def test_a_set_without_utterances_is_named(root, tmp_path):
    for folder in ("train-clean-100", "dev-clean", "test-clean"):
        (root / "LibriSpeech" / folder).mkdir(parents=True)
    with pytest.raises(ValueError, match="has no utterances: LibriSpeech"):
        data(
            root,
            tmp_path,
            source=LibriSpeech({"train": ["train-clean-100"], "val": ["dev-clean"], "test": ["test-clean"]}),
        ).setup()


def test_a_spectrogram_shows_the_tone():
    """Bins are 50 Hz apart: 1 kHz is bin 20. Mean 0 and standard deviation 1 over the utterance."""
    time = torch.arange(16000) / 16000
    x = spectrogram(torch.sin(2 * torch.pi * 1000 * time))
    assert x.shape == (101, 161)
    assert (x[5:-5].argmax(1) == 20).all()
    assert abs(float(x.mean())) < 1e-5
    assert float(x.std()) == pytest.approx(1, abs=1e-3)


def test_other_rates_are_resampled(tmp_path):
    wav(tmp_path / "low.wav", 1.0, rate=8000, pitch=1000)
    samples = sound(Utterance("low", "train", "", "", (tmp_path / "low.wav").read_bytes))
    assert len(samples) == 16000
    assert (spectrogram(samples)[5:-5].argmax(1) == 20).all()


def test_a_rate_that_shares_no_factor_is_resampled_quickly(tmp_path):
    wav(tmp_path / "odd.wav", 1.0, rate=15999, pitch=1000)
    begun = time.process_time()
    samples = sound(Utterance("odd", "train", "", "", (tmp_path / "odd.wav").read_bytes))
    assert time.process_time() - begun < 3  # torchaudio's takes ten, and 5 GB
    assert (len(samples), samples.dtype) == (16000, torch.float32)
    assert (spectrogram(samples)[5:-5].argmax(1) == 20).all()


def test_spectrograms_are_computed_once(root, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr("dsd.data.spectrogram.spectrogram", lambda samples: calls.append(1) or spectrogram(samples))
    data(root, tmp_path).setup()
    data(root, tmp_path).setup()
    assert len(calls) == 10
    for kept in (tmp_path / "cache").iterdir():
        kept.write_bytes(kept.read_bytes()[:40])
    data(root, tmp_path).setup()
    assert len(calls) == 20, "a damaged file is made again"


def test_what_ctc_cannot_spell_is_left_out(root, tmp_path, caplog):
    assert [steps_needed(text) for text in ("", "a", "aa", "aba", "abba")] == [1, 1, 3, 3, 5]
    module = data(
        root,
        tmp_path,
        stride=6,
        validation=0.0,
        source=Manifest("set", {"train": "train", "val": "test", "test": "test"}),
    )
    with caplog.at_level("INFO", "dsd"):
        module.setup()
    assert module.train_size < 8
    assert "too short for their transcript" in caplog.text


def test_transcripts_are_spelled():
    assert spelled("Well-known: It's  9 o'Clock!") == "well known it's o'clock"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 900), min_size=1, max_size=60), st.integers(1, 7), st.integers(1, 3), st.integers(0, 3))
def test_every_utterance_comes_once_an_epoch(lengths, batch_size, world, epoch):
    ranks = []
    for rank in range(world):
        order = Buckets(np.array(lengths), batch_size, spread=0.2, seed=4, rank=rank, world=world, first=0)
        order.set_epoch(epoch)
        batches = list(order)
        assert len(batches) == len(order)
        assert [len(b) for b in batches[:-1]] == [batch_size] * (len(batches) - 1)
        ranks.append(np.concatenate(batches))
    assert len({len(r) for r in ranks}) == 1
    assert set(np.concatenate(ranks)) == set(range(len(lengths)))


def test_the_first_epoch_is_sorted_and_later_ones_are_of_similar_lengths():
    lengths = np.random.default_rng(0).integers(50, 500, 300)
    order = Buckets(lengths, 10, spread=0.1, seed=0, rank=0, world=1, first=0)
    assert (np.diff(lengths[np.concatenate(list(order))]) >= 0).all()
    order.set_epoch(1)
    second = list(order)
    assert np.mean([np.ptp(lengths[batch]) for batch in second]) < 150
    assert not np.array_equal(np.concatenate(second), np.sort(lengths))
    order.set_epoch(1)
    assert all(np.array_equal(a, b) for a, b in zip(second, order, strict=True))


def test_it_goes_on_in_mid_epoch(root, tmp_path):
    order = {n: Buckets(np.arange(1, 20), 3, spread=0.2, seed=2, rank=0, world=1, first=n) for n in (0, 4)}
    for one in order.values():
        one.set_epoch(2)
    whole, rest = list(order[0].numbered()), list(order[4].numbered())
    assert [(n, b.tolist()) for n, b in whole[4:]] == [(n, b.tolist()) for n, b in rest]


def test_whole_speakers_are_held_out():
    speakers = [f"s{n // 5}" for n in range(50)]
    held = held_speakers(speakers, 0.15, seed=3)
    assert held.sum() == 10
    assert {s for s, h in zip(speakers, held, strict=True) if h}.isdisjoint(
        s for s, h in zip(speakers, held, strict=True) if not h
    )
    assert held_speakers([""] * 40, 0.1, seed=0).sum() == 4


def test_spec_augment_hides_stretches():
    x = torch.ones(2, 50, 161)
    hide_(x, np.random.default_rng(1), freq=20, freqs=2, time=10, times=1)
    assert 0 < (x == 0).float().mean() < 0.6
    assert not torch.equal(x[0], x[1])


def test_synthesised_speech_is_the_same_every_time():
    first = Synthesised(3, 1, 1)(None)
    spoken.cache_clear()
    second = Synthesised(3, 1, 1)(None)
    assert [u.transcript for u in first] == [u.transcript for u in second]
    sounds = [u.content() for u in first]
    spoken.cache_clear()
    assert sounds == [u.content() for u in second]
    assert len(set(sounds)) == 5
    assert len({u.key for u in first}) == 5
    samples = sound(first[0])
    assert 0.5 < len(samples) / 16000 < 6
    assert samples.abs().max() > 0.05


def test_an_unknown_voice_is_named():
    with pytest.raises(ValueError, match="no voice 'esperanto-2'"):
        spoken((Line("yes", "esperanto-2", 150, 50),))
