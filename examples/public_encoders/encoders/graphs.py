"""Encoders that are ONNX graphs: their inner tensors are read out as taps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lightning_mi.examples.data.extras import import_extra
from lightning_mi.examples.public_encoders.encoders.mel import MelSpectrum
from lightning_mi.examples.public_encoders.encoders.packages import package_file

_WIDTH = 512  # to which the frequencies of a convolutional map are averaged: channels times bands


class Graph:
    """An ONNX graph from one of its tensors to others.

    Args:
        path: The graph.
        feed: Name of the tensor that is given; what would compute it is left out.
        rank: Number of its dimensions, of any size.
        taps: Name of each tap by the name of its tensor.
        constants: Other inputs, float32.
    """

    def __init__(
        self, path: Path, feed: str, rank: int, taps: Mapping[str, str], constants: Mapping[str, Any] | None = None
    ) -> None:
        onnx, onnxruntime = import_extra("onnx"), import_extra("onnxruntime")
        model = onnx.load(str(path))
        graph = model.graph
        nodes: list[Any] = []
        needed = set(taps)
        for node in reversed(graph.node):
            if needed & set(node.output) and feed not in node.output:
                nodes.insert(0, node)
                needed |= set(node.input)
        others = [each for each in graph.input if each.name in (constants or {})]
        for field in (graph.node, graph.value_info, graph.output, graph.input):
            del field[:]
        graph.node.extend(nodes)
        sizes = [f"size {number}" for number in range(rank)]
        graph.input.append(onnx.helper.make_tensor_value_info(feed, onnx.TensorProto.FLOAT, sizes))
        graph.input.extend(others)
        graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in taps)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        self._feed, self._taps = feed, dict(taps)
        self._constants = {name: np.asarray(value, np.float32) for name, value in (constants or {}).items()}

    def __call__(self, inputs: Tensor) -> dict[str, Tensor]:
        """Taps ``(B, T', D)``; of ``(B, C, T', F)`` maps neighbouring frequencies are averaged."""
        values = self._session.run(list(self._taps), {self._feed: inputs.numpy(), **self._constants})
        return {
            name: _frames(torch.from_numpy(value)) for name, value in zip(self._taps.values(), values, strict=True)
        }


def _frames(z: Tensor) -> Tensor:
    if z.ndim == 3:
        return z
    bands = max(1, min(z.shape[3], _WIDTH // z.shape[1]))
    z = nn.functional.adaptive_avg_pool2d(z, (z.shape[2], bands))
    return z.transpose(1, 2).flatten(2)


class DNSMOS(nn.Module):
    """Microsoft's DNSMOS (P.808): convolutions on mel decibels below the loudest; taps 20, 40 and 80 ms apart.

    Source:
        Reddy et al., "DNSMOS: a non-intrusive perceptual objective speech quality metric to evaluate noise
        suppressors", ICASSP 2021, arXiv:2010.15258.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mel = MelSpectrum(120, 320, 160)
        at = "mos_estimator_small_1"
        taps = {
            f"{at}/conv2d_5/Relu:0_pooling0": "convolution 1",
            f"{at}/max_pooling2d_1/MaxPool_1_conv0": "convolution 2",
            f"{at}/max_pooling2d_1/MaxPool_2_conv0": "convolution 4",
        }
        path = package_file("speechmos", "dnsmos_models", "model_v8.onnx")
        self.graph = Graph(path, "input_1", 3, taps)

    def forward(self, waveforms: Tensor) -> dict[str, Tensor]:
        """``(B, T)`` waveforms -> ``(B, T', D)`` for each tap."""
        decibels = 10 * self.mel(waveforms).clamp(min=1e-10).log10()
        return self.graph((decibels - decibels.amax(dim=(1, 2), keepdim=True)).clamp(min=-80) / 40 + 1)


class WordResNet(nn.Module):
    """EfficientWord-Net: a ResNet-50 that tells words apart; taps 20, 40, 80 and 160 ms apart.

    Source:
        Chidhambararajan et al., "EfficientWord-Net: an open source hotword detection engine based on few-shot
        learning", 2022, arXiv:2111.00379.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mel = MelSpectrum(64, 512, 160, window=400, slaney=False)
        self.mel.window = torch.ones(400)
        last = {1: 2, 2: 3, 3: 5, 4: 2}
        taps = {
            f"/feature_network/layer{stage}/layer{stage}.{block}/relu_2/Relu_output_0": f"stage {stage}"
            for stage, block in last.items()
        }
        folder = ("models", "resnet_50_arc")
        path = package_file("eff_word_net", *folder, "slim_93%_accuracy_72.7390%.onnx")
        self.graph = Graph(path, "/Reshape_3_output_0", 4, taps)

    def forward(self, waveforms: Tensor) -> dict[str, Tensor]:
        """``(B, T)`` waveforms -> ``(B, T', D)`` for each tap."""
        mel = (self.mel(waveforms) / 512).clamp(min=1e-10).log()
        low, high = mel.amin(dim=(1, 2), keepdim=True), mel.amax(dim=(1, 2), keepdim=True)
        return self.graph((2 * (mel - low) / (high - low).clamp(min=1e-5) - 1)[:, None])


class SwiftF0(nn.Module):
    """Swift-F0: residual convolutions for pitch on three spectra, 16 ms apart.

    Source:
        Nieradzik, "SwiftF0: fast and accurate monophonic pitch detection", 2025, arXiv:2508.18440.
    """

    def __init__(self) -> None:
        super().__init__()
        taps = {"v356": "convolution", "v374": "block 2", "v392": "block 4", "v410": "block 6"}
        path = package_file("swift_f0", "model.onnx")
        self.graph = Graph(path, "audio", 2, taps, {"fmin": 46.875, "fmax": 2093.75})

    def forward(self, waveforms: Tensor) -> dict[str, Tensor]:
        """``(B, T)`` waveforms -> ``(B, T', D)`` for each tap."""
        one_by_one = [self.graph(waveform[None]) for waveform in waveforms]
        return {name: torch.cat([taps[name] for taps in one_by_one]) for name in one_by_one[0]}
