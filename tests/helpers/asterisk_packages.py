"""Folders that look like Debian's packages of Asterisk prompts, spoken by eSpeak NG."""

import gzip

import numpy as np
import soundfile
import torch

from lightning_mi.examples.data.asterisk import PROMPT_SETS
from lightning_mi.examples.data.audio_files import resample
from lightning_mi.examples.data.espeak_process import Request, speak

RATE = 16000
WORDS = (
    "please enter your password followed by the pound key",
    "that is not a valid extension, try again",
    "the number you have dialed is not in service",
    "you have no new messages in this mailbox",
    "to hear these options again press nine now",
    "your call is important to us, stay on the line",
    "the conference is now locked for everybody",
    "thank you for calling and have a nice day",
    "all of our operators are busy at the moment",
    "leave your name and your number after the tone",
    "the person at extension seven is away",
    "goodbye and good luck with the weather",
    "we have forwarded your message to the manager",
    "somebody has joined the meeting this morning",
    "nobody can take your question until tomorrow",
    "choose another folder for these old recordings",
)


def spoken(texts, voice, rate=160, pitch=50):
    return list(speak([Request(text, voice, rate, pitch) for text in texts]))


def telephone(speech, rate=8000):
    waveform = torch.from_numpy(speech.samples / 32768).float()
    return resample(waveform, speech.sample_rate, rate)


def lay_out(root, texts):
    """Sets as the packages lay them out, spoken by eSpeak NG: some with texts, some without, two of raw GSM files."""
    sounds, docs = root / "usr/share/asterisk/sounds", root / "usr/share/doc"
    for prompts, voice in zip(PROMPT_SETS, ("m3", "m3", "f2", "m1", "f4", "f5", "m7", "linda"), strict=True):
        folder = sounds / prompts.folder
        folder.mkdir(parents=True)
        for name, speech in zip(texts, spoken(texts.values(), f"en-us+{voice}", 150), strict=True):
            options = {"format": "RAW", "subtype": "GSM610"} if prompts.ending == ".gsm" else {}
            waveform = torch.cat([torch.zeros(4000), telephone(speech), torch.zeros(4000)]).numpy()
            soundfile.write(folder / f"{name}{prompts.ending}", waveform, 8000, **options)
        soundfile.write(folder / "silent.wav", np.zeros(16000), 8000)
        soundfile.write(folder / "beep.wav", np.sin(np.arange(16000)), 8000)
        if prompts.transcript is not None:
            lines = [f"{name}: {text}" for name, text in texts.items()] + ["beep: [a tone]", "silent: nothing"]
            file = docs / prompts.transcript / f"{prompts.transcript.removeprefix('asterisk-')}.txt.gz"
            file.parent.mkdir(parents=True)
            file.write_bytes(gzip.compress("\n".join(lines).encode()))
    return root
