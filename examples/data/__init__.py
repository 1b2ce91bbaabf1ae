"""Speech to run the examples on: synthetic, from a folder of audio files, or LibriSpeech.

Importing this package loads neither torchaudio nor soundfile nor espeakng-loader; they are imported when a
data module first needs them (``pip install 'lightning-mi[examples]'``).
"""

from lightning_mi.examples.data.audio_folder import AudioFolderDataModule
from lightning_mi.examples.data.espeak import EspeakDataModule
from lightning_mi.examples.data.librispeech import LibriSpeechDataModule
from lightning_mi.examples.data.speech import SpeechDataModule
from lightning_mi.examples.data.utterances import Utterance

__all__ = [
    "AudioFolderDataModule",
    "EspeakDataModule",
    "LibriSpeechDataModule",
    "SpeechDataModule",
    "Utterance",
]
