"""eSpeak NG as a function: text in, a WAV file out. The library and its voices come with the package espeakng-loader."""

from __future__ import annotations

import ctypes
import functools
import io
import wave

import espeakng_loader

VOICES = ("en-us", "en", "en-us+f2", "en-us+m3", "en-gb-scotland", "en+f4")
SYNCHRONOUS, CHARACTERS_UTF8, RATE, PITCH = 2, 1, 1, 3  # of speak_lib.h
_heard: list[bytes] = []


def _hear(samples: int | None, count: int, _: int | None) -> int:
    if samples and count > 0:
        _heard.append(ctypes.string_at(samples, 2 * count))
    return 0


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)(_hear)  # kept: C calls it


@functools.cache
def _library() -> tuple[ctypes.CDLL, int]:
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    rate = library.espeak_Initialize(SYNCHRONOUS, 0, str(espeakng_loader.get_data_path()).encode(), 0)
    if rate <= 0:
        raise OSError("eSpeak NG finds no voices: reinstall espeakng-loader")
    library.espeak_SetSynthCallback(_CALLBACK)
    return library, rate


def speak(text: str, *, voice: str, speed: int, pitch: int) -> bytes:
    """A mono 16-bit WAV file of the text. speed: words a minute; pitch: 0 to 99. ValueError for an unknown voice."""
    library, rate = _library()
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise ValueError(f"eSpeak NG has no voice {voice!r}")
    library.espeak_SetParameter(RATE, speed, 0)
    library.espeak_SetParameter(PITCH, pitch, 0)
    _heard.clear()
    spoken = text.encode() + b"\0"
    library.espeak_Synth(spoken, len(spoken), 0, 0, 0, CHARACTERS_UTF8, None, None)
    library.espeak_Synchronize()
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes(b"".join(_heard))
    return file.getvalue()
