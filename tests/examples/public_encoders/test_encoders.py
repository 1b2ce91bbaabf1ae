"""Readers of packaged weights, on weights that the test writes; and what every encoder promises."""

import struct

import numpy as np
import pytest
import torch

pytest.importorskip("torchaudio")
pytest.importorskip("sklearn")

from lightning_mi.examples.public_encoders.encoders.convolutional import Crepe, PitchConformer, SileroVAD
from lightning_mi.examples.public_encoders.encoders.handmade import HandMade
from lightning_mi.examples.public_encoders.encoders.mel import MelSpectrum
from lightning_mi.examples.public_encoders.encoders.packages import package_file
from lightning_mi.examples.public_encoders.encoders.recurrent import KerasGRU, PhoneGRU, SincLSTM, SpeakerLSTM
from lightning_mi.examples.public_encoders.encoders.whisper import (
    WhisperEncoder,
    from_ctranslate2,
    read_ctranslate2,
)

WIDTH, LAYERS, HEADS, POSITIONS = 8, 2, 2, 60


def variables(seed=0):
    rng = np.random.default_rng(seed)
    shapes = {
        "conv1/weight": (WIDTH, 80, 3),
        "conv1/bias": (WIDTH,),
        "conv2/weight": (WIDTH, WIDTH, 3),
        "conv2/bias": (WIDTH,),
        "layer_norm/gamma": (WIDTH,),
        "layer_norm/beta": (WIDTH,),
        "position_encodings/encodings": (POSITIONS, WIDTH),
    }
    for layer in range(LAYERS):
        for norm in ("self_attention/layer_norm", "ffn/layer_norm"):
            shapes |= {f"layer_{layer}/{norm}/{part}": (WIDTH,) for part in ("gamma", "beta")}
        sizes = {
            "self_attention/linear_0": (3 * WIDTH, WIDTH),
            "self_attention/linear_1": (WIDTH, WIDTH),
            "ffn/linear_0": (4 * WIDTH, WIDTH),
            "ffn/linear_1": (WIDTH, 4 * WIDTH),
        }
        for name, size in sizes.items():
            shapes |= {f"layer_{layer}/{name}/weight": size, f"layer_{layer}/{name}/bias": size[:1]}
    found = {f"encoder/{name}": rng.normal(size=shape).astype(np.float16) for name, shape in shapes.items()}
    return found | {"encoder/num_heads": np.array(HEADS, dtype=np.int16)}


def written(arrays, version=6):
    def text(name):
        return struct.pack("<H", len(name) + 1) + name.encode() + b"\0"

    types = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}
    parts = [struct.pack("<I", version), text("WhisperSpec"), struct.pack("<I", 3), struct.pack("<I", len(arrays))]
    for name, array in arrays.items():
        data = array.tobytes()
        parts += [text(name), struct.pack("<B", array.ndim), struct.pack(f"<{array.ndim}I", *array.shape)]
        parts += [struct.pack("<B", types[str(array.dtype)]), struct.pack("<I", len(data)), data]
    return b"".join([*parts, struct.pack("<I", 0)])


def test_ctranslate2s_file_is_read_as_it_was_written():
    arrays = variables()
    found = dict(read_ctranslate2(written(arrays)))
    assert found.keys() == arrays.keys()
    assert all(np.array_equal(found[name], array) for name, array in arrays.items())


def test_another_version_of_the_file_is_refused():
    with pytest.raises(ValueError, match="version 5"):
        list(read_ctranslate2(written({}, version=5)))


def test_the_encoder_is_that_of_transformers_with_the_same_weights():
    transformers = pytest.importorskip("transformers")
    arrays = {
        name.removeprefix("encoder/"): torch.from_numpy(a.astype(np.float32)) for name, a in variables().items()
    }
    config = transformers.WhisperConfig(
        d_model=WIDTH,
        encoder_layers=LAYERS,
        encoder_attention_heads=HEADS,
        encoder_ffn_dim=4 * WIDTH,
        max_source_positions=POSITIONS,
    )
    reference = transformers.models.whisper.modeling_whisper.WhisperEncoder(config).eval()
    names = {"layer_norm": "layer_norm", "conv1": "conv1", "conv2": "conv2"}
    state = {"embed_positions.weight": arrays["position_encodings/encodings"]}
    for theirs, ours in names.items():
        gain = "gamma" if "norm" in ours else "weight"
        state |= {f"{theirs}.weight": arrays[f"{ours}/{gain}"]}
        state |= {f"{theirs}.bias": arrays[f"{ours}/{'beta' if 'norm' in ours else 'bias'}"]}
    for layer in range(LAYERS):
        at, to = f"layer_{layer}", f"layers.{layer}"
        weights = arrays[f"{at}/self_attention/linear_0/weight"].chunk(3)
        biases = arrays[f"{at}/self_attention/linear_0/bias"].chunk(3)
        for part, weight, bias in zip("qkv", weights, biases, strict=True):
            state[f"{to}.self_attn.{part}_proj.weight"] = weight
            if part != "k":
                state[f"{to}.self_attn.{part}_proj.bias"] = bias
        for theirs, ours in (
            ("self_attn.out_proj", "self_attention/linear_1"),
            ("fc1", "ffn/linear_0"),
            ("fc2", "ffn/linear_1"),
        ):
            state |= {f"{to}.{theirs}.{kind}": arrays[f"{at}/{ours}/{kind}"] for kind in ("weight", "bias")}
        for theirs, ours in (
            ("self_attn_layer_norm", "self_attention/layer_norm"),
            ("final_layer_norm", "ffn/layer_norm"),
        ):
            state |= {
                f"{to}.{theirs}.weight": arrays[f"{at}/{ours}/gamma"],
                f"{to}.{theirs}.bias": arrays[f"{at}/{ours}/beta"],
            }
    reference.load_state_dict(state)
    # Keys without a bias are as good as keys with one: softmax does not see it.
    model = from_ctranslate2(variables()).eval()
    waveforms = 0.1 * torch.randn(2, 2 * 160 * POSITIONS, generator=torch.Generator().manual_seed(0))
    extractor = transformers.WhisperFeatureExtractor(chunk_length=waveforms.shape[1] / 16000)
    features = extractor(list(waveforms.numpy()), sampling_rate=16000, return_tensors="pt").input_features
    with torch.inference_mode():
        expected = reference(features).last_hidden_state
        found = model(waveforms)[f"layer {LAYERS}"]
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=1e-3)


def test_a_keras_gru_is_that_of_its_equations():
    torch.manual_seed(0)
    cell = KerasGRU(3, 5)
    x = torch.randn(2, 7, 3)
    sigmoid = lambda v: 1 / (1 + np.exp(-v))  # noqa: E731
    kernel, recurrent, bias = (part.detach().numpy() for part in (cell.kernel, cell.recurrent, cell.bias))
    state = np.zeros((2, 5))
    for now in x.numpy().transpose(1, 0, 2):
        given = now @ kernel + bias
        z = sigmoid(given[:, :5] + state @ recurrent[:, :5])
        r = sigmoid(given[:, 5:10] + state @ recurrent[:, 5:10])
        new = np.tanh(given[:, 10:] + (r * state) @ recurrent[:, 10:])
        state = z * state + (1 - z) * new
    torch.testing.assert_close(cell(x)[:, -1], torch.from_numpy(state).float())


def test_mel_spectra_are_torchaudios():
    import torchaudio

    expected = torchaudio.transforms.MelSpectrogram(
        16000, n_fft=512, win_length=400, hop_length=160, n_mels=40, mel_scale="slaney", norm="slaney"
    )
    waveforms = torch.randn(2, 4000, generator=torch.Generator().manual_seed(0))
    found = MelSpectrum(40, 512, 160, window=400)(waveforms)
    torch.testing.assert_close(found, expected(waveforms).mT, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "build",
    [
        HandMade,
        lambda: WhisperEncoder(16, 2, 2, 100),
        lambda: WhisperEncoder(16, 2, 2, 100, right=True, normalize=True),
        SpeakerLSTM,
        PhoneGRU,
        SincLSTM,
        SileroVAD,
        Crepe,
        lambda: PitchConformer(16, 2),
    ],
)
def test_an_encoder_gives_finite_frames_for_every_tap(build):
    torch.manual_seed(0)
    model = build().eval()
    with torch.inference_mode():
        taps = model(0.1 * torch.randn(3, 16000))
        alone = model(torch.zeros(1, 8000))
    assert taps
    for tap, frames in taps.items():
        assert frames.ndim == 3, tap
        assert len(frames) == 3, tap
        assert frames.isfinite().all(), tap
        assert alone[tap].isfinite().all(), tap
        # Frames cover the waveform evenly: half of it has half of them.
        assert abs(2 * alone[tap].shape[1] - frames.shape[1]) <= 4, tap


def test_a_package_that_is_not_there_is_named():
    with pytest.raises(FileNotFoundError, match="no_such_package"):
        package_file("no_such_package", "weights.bin")
