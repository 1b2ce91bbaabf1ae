"""Speech to run the examples on: synthetic, from a folder of audio files, or LibriSpeech.

Importing this package loads neither torchaudio nor soundfile nor espeakng-loader; they are imported when a
data module first needs them (``pip install 'lightning-mi[examples]'``).
"""

from .audio_folder import AudioFolderDataModule
from .espeak import EspeakDataModule
from .librispeech import LibriSpeechDataModule
from .speech import SpeechDataModule
from .utterances import Utterance

__all__ = [
    "AudioFolderDataModule",
    "EspeakDataModule",
    "LibriSpeechDataModule",
    "SpeechDataModule",
    "Utterance",
]
