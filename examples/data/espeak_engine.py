"""eSpeak NG through ctypes, as a small program of its own (standard library only).

eSpeak NG keeps its state in globals: it can be initialised once a process, is not thread-safe, calls
``exit`` on some errors, and a voice's flutter goes on from one utterance to the next. A fresh process for
each corpus keeps all that away from the training process, and makes the same requests give the same bytes.

The program reads one JSON object from standard input::

    {"library": path, "data": path, "requests": [{"text", "voice", "rate", "pitch"}, ...]}

and answers each request with a line of JSON, ``{"sample_rate", "samples", "phones"}``, followed by
``samples`` 16-bit integers in the machine's byte order; or with ``{"error": message}``, and stops.
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any, BinaryIO

# Constants of espeak-ng/speak_lib.h.
_SYNCHRONOUS = 2
_PHONEME_EVENTS, _PHONEME_IPA, _DONT_EXIT = 0x0001, 0x0002, 0x8000
_RATE, _PITCH = 1, 3
_POSITION_CHARACTER = 1
_CHARS_UTF8 = 1
_EVENT_LIST_END, _EVENT_END, _EVENT_PHONEME = 0, 5, 7


class _EventId(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_void_p), ("string", ctypes.c_ubyte * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # milliseconds
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class Engine:
    """The loaded library; make one a process.

    Args:
        library: Path of the shared library.
        data: Path of the folder ``espeak-ng-data``.

    Attributes:
        sample_rate: Sample rate of the speech in Hz.

    Raises:
        RuntimeError: The library refuses to start.
    """

    def __init__(self, library: str, data: str) -> None:
        self._lib = ctypes.CDLL(library)
        self._lib.espeak_Synth.argtypes = (
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.c_uint,
            ctypes.c_int,
            ctypes.c_uint,
            ctypes.c_uint,
            ctypes.POINTER(ctypes.c_uint),
            ctypes.c_void_p,
        )
        options = _PHONEME_EVENTS | _PHONEME_IPA | _DONT_EXIT
        self.sample_rate: int = self._lib.espeak_Initialize(_SYNCHRONOUS, 0, data.encode(), options)
        if self.sample_rate <= 0:
            raise RuntimeError(f"eSpeak NG did not start with its data in {data}")
        # It seeds its noise from the clock otherwise.
        self._lib.espeak_ng_SetRandSeed(ctypes.c_long(1))
        self._audio = bytearray()
        self._marks: list[tuple[int, str]] = []
        self._callback = _Callback(self._receive)  # the attribute keeps it alive
        self._lib.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            self._audio += ctypes.string_at(samples, 2 * count)
        index = 0
        while events[index].type != _EVENT_LIST_END:
            event = events[index]
            if event.type == _EVENT_PHONEME:
                # Eight bytes may end in the middle of a character.
                name = bytes(event.id.string).split(b"\0")[0].decode("utf-8", "ignore")
                self._marks.append((event.audio_position, name))
            elif event.type == _EVENT_END:
                self._marks.append((event.audio_position, ""))
            index += 1
        return 0

    def speak(self, text: str, voice: str, rate: int, pitch: int) -> tuple[bytes, list[tuple[str, int, int]]]:
        """Speak ``text``.

        Args:
            text: The text.
            voice: A language, or a language and a variant: ``"de"``, ``"en-us+f3"``. An unknown variant
                is ignored by the library.
            rate: Words a minute, 80 to 450.
            pitch: 0 to 99.

        Returns:
            The int16 samples as bytes, and the phones as (IPA symbol, start, end) with the times in
            milliseconds.

        Raises:
            ValueError: The library does not know the voice.
            RuntimeError: The library reports an error.
        """
        if self._lib.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"eSpeak NG has no voice {voice!r}")
        self._lib.espeak_SetParameter(_RATE, rate, 0)
        self._lib.espeak_SetParameter(_PITCH, pitch, 0)
        self._audio.clear()
        self._marks.clear()
        data = text.encode() + b"\0"
        if self._lib.espeak_Synth(data, len(data), 0, _POSITION_CHARACTER, 0, _CHARS_UTF8, None, None) != 0:
            raise RuntimeError(f"eSpeak NG could not speak {text!r}")
        self._lib.espeak_Synchronize()
        return bytes(self._audio), self._phones()

    def _phones(self) -> list[tuple[str, int, int]]:
        # A mark is the start of a phone; it lasts until the next mark, and a nameless one is a pause.
        last = len(self._audio) * 1000 // (2 * self.sample_rate)
        ends = [start for start, _ in self._marks[1:]] + [last]
        phones = []
        for (start, name), end in zip(self._marks, ends, strict=True):
            symbol = name.strip("ˈˌ-")  # stress belongs to the syllable; "-" marks a reduced vowel
            if symbol and not symbol.startswith("(") and end > start:  # "(en)" announces another language
                phones.append((symbol, start, end))
        return phones


def main(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer the requests read from ``source`` on ``sink``, as the module's docstring describes."""
    job = json.load(source)
    try:
        engine = Engine(job["library"], job["data"])
        for request in job["requests"]:
            audio, phones = engine.speak(**request)
            head = {"sample_rate": engine.sample_rate, "samples": len(audio) // 2, "phones": phones}
            sink.write(json.dumps(head).encode() + b"\n" + audio)
    except (OSError, RuntimeError, ValueError) as error:
        sink.write(json.dumps({"error": str(error)}).encode() + b"\n")
    sink.flush()


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
