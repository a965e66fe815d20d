"""Sound as log spectrograms, computed once and kept on disk: 20 ms Hamming windows every 10 ms, 161 bins (PROTOCOLS 1.6)."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from rich.progress import track
from scipy.signal import resample_poly
from torchaudio.functional import resample
from torchaudio.transforms import Spectrogram

from dsd.data.utterances import Utterance

log = logging.getLogger("dsd")
RATE = 16000
MOST = 1000  # phases of a kernel that changes the rate
WINDOW, HOP = RATE // 50, RATE // 100
BINS = WINDOW // 2 + 1
VERSION = 1  # of what this file computes: kept features of another version are not used
Frames = npt.NDArray[np.float16]


def sound(utterance: Utterance) -> torch.Tensor:
    """(samples,) float32 at 16 kHz, the mean of the channels. ValueError naming what cannot be read, or is empty."""
    content = utterance.content()
    if content.startswith(b"NIST_1A") and (
        packed := re.search(rb"sample_coding -s\d+ \S*(shorten|wavpack|shortpack)", content[:1024])
    ):
        raise ValueError(
            f"{utterance.name} is a SPHERE file compressed by {packed[1].decode()}, which libsndfile doesn't read: "
            "sph2pipe -p -f wav IN OUT writes one that it does, for every file; the names may stay as they are"
        )
    try:
        samples, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        raise ValueError(f"{utterance.name} is no sound that libsndfile reads, or is damaged ({error})") from error
    mono = torch.from_numpy(samples.mean(1))
    if len(mono) < WINDOW * rate // RATE:
        raise ValueError(
            f"{utterance.name} is {len(mono) / rate:.3f} s long, less than a window of 20 ms: take it off the list"
        )
    if not mono.isfinite().all():
        raise ValueError(f"{utterance.name} has samples that are no finite numbers: write it anew")
    if rate == RATE:
        return mono
    if (up := RATE // math.gcd(rate, RATE)) > MOST:  # torchaudio's kernel has all phases: seconds and gigabytes
        changed: torch.Tensor = torch.from_numpy(resample_poly(mono.numpy(), up, rate // math.gcd(rate, RATE)))
        return changed
    return cast(torch.Tensor, resample(mono, rate, RATE))


def spectrogram(samples: torch.Tensor) -> torch.Tensor:
    """(frames, 161) float32 of samples at 16 kHz: log(1 + magnitude), of mean 0 and standard deviation 1."""
    with torch.inference_mode():
        magnitude_FT = _transform()(samples)
        x_TF = magnitude_FT.log1p().t()
        return cast(torch.Tensor, (x_TF - x_TF.mean()) / x_TF.std().clamp(min=1e-5))


def _transform() -> Any:
    return Spectrogram(n_fft=WINDOW, win_length=WINDOW, hop_length=HOP, window_fn=torch.hamming_window, power=1.0)


def spectrograms(utterances: Sequence[Utterance], *, cache: Path) -> tuple[Frames, npt.NDArray[np.int64]]:
    """(frames of all, 161) float16, mapped from a file in `cache`, and where each begins and the last ends, (n + 1,)."""
    digest = hashlib.sha256(json.dumps([VERSION, RATE, WINDOW, HOP]).encode())
    for utterance in utterances:
        digest.update(hashlib.sha256(utterance.key.encode() or utterance.content()).digest())
    path = cache / f"spectrograms-{digest.hexdigest()[:16]}.npy"
    borders = path.with_suffix(".borders.npy")
    kept = _kept(path, borders, len(utterances))
    if kept is not None:
        return kept
    parts = [
        spectrogram(sound(utterance)).half().numpy()
        for utterance in track(utterances, description=f"spectrograms of {len(utterances):,} utterances")
    ]
    frames, begins = np.concatenate(parts), np.cumsum([0, *map(len, parts)])
    try:
        cache.mkdir(parents=True, exist_ok=True)
        for target, array in ((path, frames), (borders, begins)):
            beside = target.with_name(f"{target.stem}.{os.getpid()}.tmp.npy")
            try:
                np.save(beside, array)
                os.replace(beside, target)
            finally:
                beside.unlink(missing_ok=True)
    except OSError as error:
        log.warning("spectrograms are not kept for the next run: %s (DSD_CACHE=DIR names another folder)", error)
    return frames, begins


def _kept(path: Path, borders: Path, count: int) -> tuple[Frames, npt.NDArray[np.int64]] | None:
    try:
        begins = np.load(borders, allow_pickle=False)
        frames = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    right = begins.shape == (count + 1,) and frames.shape == (begins[-1], BINS) and frames.dtype == np.float16
    return (frames, begins) if right else None
