"""eSpeak NG as a function: texts in, WAV files out. The library and its voices come with the package espeakng-loader.

Its sound depends on random numbers that it never resets, so a set is spoken from its first line on by a process of its
own, `python -m dsd.data.synthesiser`: the same set gives the same bytes every time.
"""

from __future__ import annotations

import base64
import ctypes
import functools
import io
import json
import subprocess
import sys
import wave
from importlib.metadata import version
from typing import NamedTuple

import espeakng_loader

VOICES = ("en-us", "en", "en-us+f2", "en-us+m3", "en-gb-scotland", "en+f4")
SYNCHRONOUS, CHARACTERS_UTF8, RATE, PITCH = 2, 1, 1, 3  # of speak_lib.h


class Line(NamedTuple):
    """What to say and how: voice of VOICES, words a minute, pitch 0 to 99."""

    text: str
    voice: str
    speed: int
    pitch: int


def espeak() -> str:
    """The version of the package: another one may sound different."""
    return version("espeakng-loader")


@functools.lru_cache(maxsize=2)
def spoken(lines: tuple[Line, ...]) -> tuple[bytes, ...]:
    """A mono 16-bit WAV file of each line. ValueError for an unknown voice, OSError if eSpeak NG cannot be used."""
    child = subprocess.run(
        [sys.executable, "-m", "dsd.data.synthesiser"], input=json.dumps(lines), capture_output=True, text=True
    )
    if child.returncode:
        reason = child.stderr.strip().rpartition("\n")[2]
        kind = ValueError if reason.startswith("ValueError") else OSError
        raise kind(f"eSpeak NG failed: {reason}; reinstall espeakng-loader, or use recorded speech (data=speech)")
    return tuple(base64.b64decode(line) for line in child.stdout.split())


def speak(library: ctypes.CDLL, rate: int, heard: list[bytes], line: Line) -> bytes:
    """One line as a WAV file of `rate` samples a second; what the library's callback got is in `heard`."""
    if library.espeak_SetVoiceByName(line.voice.encode()) != 0:
        raise ValueError(f"eSpeak NG has no voice {line.voice!r}")
    library.espeak_SetParameter(RATE, line.speed, 0)
    library.espeak_SetParameter(PITCH, line.pitch, 0)
    heard.clear()
    text = line.text.encode() + b"\0"
    library.espeak_Synth(text, len(text), 0, 0, 0, CHARACTERS_UTF8, None, None)
    library.espeak_Synchronize()
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes(b"".join(heard))
    return file.getvalue()


def main() -> None:
    """Speak the lines of standard input, a JSON list, in order; a line of base64 each."""
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    rate = library.espeak_Initialize(SYNCHRONOUS, 0, str(espeakng_loader.get_data_path()).encode(), 0)
    if rate <= 0:
        raise OSError("eSpeak NG finds no voices")
    heard: list[bytes] = []

    def hear(samples: int | None, count: int, _: int | None) -> int:
        if samples and count > 0:
            heard.append(ctypes.string_at(samples, 2 * count))
        return 0

    callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)(hear)
    library.espeak_SetSynthCallback(callback)
    for row in json.load(sys.stdin):
        print(base64.b64encode(speak(library, rate, heard, Line(*row))).decode())


if __name__ == "__main__":
    main()
