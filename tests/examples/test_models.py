"""The models of the examples, on synthetic speech made here."""

import faiss
import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

pytest.importorskip("torchaudio")

from torchaudio.models import hubert_pretrain_base
from torchaudio.models.wav2vec2.components import LogitGenerator

from lightning_mi.examples.models import APCModule, CPCModule, HuBERTModule
from lightning_mi.examples.models.apc import LogMel
from lightning_mi.examples.models.kmeans import KMeansTargets
from lightning_mi.examples.models.masking import ClassLogits, SpanMasks
from lightning_mi.examples.models.optim import warmup_adamw

RATE = 16000
SMALL_HUBERT = {
    "num_classes": 16,
    "embed_dim": 64,
    "ff_dim": 128,
    "final_dim": 32,
    "conv_layers": ((32, 20, 10), (64, 8, 4), (64, 16, 8)),
}
SMALL_APC = {"hidden": 48, "n_mels": 24}
SMALL_CPC = {"hidden": 48, "dim": 32, "n_mels": 24, "horizon": 4}
MODELS = [
    pytest.param(HuBERTModule, SMALL_HUBERT, id="hubert"),
    pytest.param(APCModule, SMALL_APC, id="apc"),
    pytest.param(CPCModule, SMALL_CPC, id="cpc"),
]

# Formants of six phones (Hz); the last two are noises. A phone tends to be followed by the next one.
PHONES = [(300, 2300), (700, 1200), (400, 900), (550, 1800), None, None]


def speak(seconds, generator):
    """A random sequence of phones by one random voice: a (T,) waveform with a peak of about 0.5."""
    pitch = 90 + 130 * torch.rand(1, generator=generator).item()
    parts, phone, samples = [], 0, 0
    while samples < seconds * RATE:
        step = 1 if torch.rand(1, generator=generator) < 0.8 else 2
        phone = (phone + step) % len(PHONES)
        length = int(RATE * (0.06 + 0.06 * torch.rand(1, generator=generator).item()))
        formants = PHONES[phone]
        if formants is None:
            noise = torch.randn(length, generator=generator)
            part = 0.1 * (noise if phone == 4 else torch.diff(noise, append=noise[:1]))
        else:
            harmonics = torch.arange(1, 30) * pitch
            gain = sum(torch.exp(-(((harmonics - f) / 200) ** 2)) for f in formants)
            time = torch.arange(length) / RATE
            part = (gain[:, None] * torch.sin(2 * torch.pi * harmonics[:, None] * time)).sum(0)
            part = 0.4 * part / part.abs().max()
        parts.append(part)
        samples += length
    return torch.cat(parts)[: int(seconds * RATE)] + 1e-3 * torch.randn(int(seconds * RATE), generator=generator)


class Speech(Dataset):
    """Items ``{"waveform", "index"}``; with ``crop``, at a place drawn by the global generator."""

    def __init__(self, count, seconds=1.0, seed=0, crop=0):
        generator = torch.Generator().manual_seed(seed)
        self.waveforms = [speak(seconds, generator) for _ in range(count)]
        self.crop = crop

    def __len__(self):
        return len(self.waveforms)

    def __getitem__(self, index):
        start = int(torch.randint(self.crop + 1, ()))
        waveform = self.waveforms[index]
        return {"waveform": waveform[start : len(waveform) - self.crop + start], "index": index}


def collate(items):
    waveforms = [item["waveform"] for item in items]
    return {
        "waveforms": torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True),
        "lengths": torch.tensor([len(w) for w in waveforms]),
        "index": torch.tensor([item["index"] for item in items]),
    }


class SpeechModule(pl.LightningDataModule):
    def __init__(self, train, val):
        super().__init__()
        self.train_dataset, self.val_dataset = train, val

    def train_dataloader(self):
        return DataLoader(self.train_dataset, 8, shuffle=True, collate_fn=collate)

    def val_dataloader(self):
        return DataLoader(self.val_dataset, 8, collate_fn=collate)


@pytest.fixture(scope="module", autouse=True)
def few_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data():
    return SpeechModule(Speech(64, crop=1600), Speech(16, seed=1))


def make_trainer(*callbacks, **kwargs):
    settings = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return pl.Trainer(callbacks=list(callbacks), **{**settings, **kwargs})


class Watch(pl.Callback):
    """Keeps the training losses, and asks that no validation step moves the global generator."""

    def __init__(self):
        self.losses = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append(outputs["loss"].item())

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self.state = torch.get_rng_state()

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        assert torch.equal(self.state, torch.get_rng_state())


@pytest.fixture(scope="module")
def trained(data):
    """Each model after a short training: (module, watch)."""
    made = {}
    for kind, settings in (model.values for model in MODELS):
        pl.seed_everything(0, verbose=False)
        module, watch = kind(**settings), Watch()
        make_trainer(watch, max_steps=100, limit_val_batches=1, num_sanity_val_steps=1).fit(module, data)
        made[kind] = module, watch
    return made


def loss_of(module, batch):
    """The loss without its logging, which works inside a Trainer's loop alone."""
    return module.loss_and_accuracy(batch)[0] if isinstance(module, HuBERTModule) else module.loss(batch)


@pytest.mark.parametrize(("kind", "factor"), [(HuBERTModule, 0.5), (APCModule, 0.6), (CPCModule, 0.75)])
def test_loss_goes_down(trained, kind, factor):
    losses = trained[kind][1].losses
    assert sum(losses[-10:]) / 10 < factor * losses[0]


def test_hubert_predicts_masked_frames(trained, data):
    module = trained[HuBERTModule][0]
    metrics = make_trainer().validate(module, data, verbose=False)[0]
    batch = next(iter(data.val_dataloader()))
    labels = module.targets(batch["waveforms"], batch["lengths"])
    chance = labels.flatten().bincount().max() / labels.numel()
    assert metrics["val/masked_accuracy"] > 2 * chance
    assert labels.unique().numel() > module.hparams.num_classes / 2


def test_apc_beats_the_last_frame(trained, data):
    module = trained[APCModule][0]
    batch = next(iter(data.val_dataloader()))
    frames = module.features(batch["waveforms"])
    persistence = (frames[:, 3:] - frames[:, :-3]).abs().mean()
    with torch.no_grad():
        assert loss_of(module, batch) < persistence
    assert abs(frames.mean()) < 0.2
    assert 0.8 < frames.std() < 1.2


@pytest.mark.parametrize(("kind", "settings"), MODELS)
def test_validation_before_fit_is_repeatable(data, kind, settings):
    pl.seed_everything(1, verbose=False)
    module = kind(**settings)
    first = make_trainer(Watch()).validate(module, data, verbose=False)[0]
    torch.manual_seed(99)
    assert make_trainer(Watch()).validate(module, data, verbose=False)[0] == first
    assert first["val/loss"] > 0


@pytest.mark.parametrize(("kind", "settings"), MODELS)
def test_fitting_ignores_and_keeps_the_global_generator(data, kind, settings):
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        module = kind(**settings)
        module.trainer = make_trainer()
        module.trainer.datamodule = data
        before = torch.get_rng_state()
        module.setup("fit")
        assert torch.equal(before, torch.get_rng_state())
        part = module.targets if kind is HuBERTModule else module.features
        states.append(part.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("kind", [HuBERTModule, APCModule, CPCModule])
def test_checkpoint_keeps_the_statistics(trained, tmp_path, monkeypatch, kind):
    module = trained[kind][0]
    module.trainer.save_checkpoint(tmp_path / "model.ckpt")
    monkeypatch.setattr(faiss, "Kmeans", None)
    loaded = kind.load_from_checkpoint(tmp_path / "model.ckpt")
    other = SpeechModule(Speech(8, seed=5), Speech(8, seed=6))
    make_trainer().validate(loaded, other, verbose=False)
    state = loaded.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert bool((loaded.targets if kind is HuBERTModule else loaded.features).fitted)


@pytest.mark.parametrize(("kind", "settings"), MODELS)
def test_resuming_takes_the_codebook_of_the_checkpoint(trained, data, tmp_path, kind, settings):
    module = trained[kind][0]
    module.trainer.save_checkpoint(tmp_path / "model.ckpt")
    resumed = kind(**settings)
    other = SpeechModule(Speech(16, seed=5), data.val_dataset)
    make_trainer(max_steps=101, limit_val_batches=0).fit(
        resumed, other, ckpt_path=tmp_path / "model.ckpt", weights_only=False
    )
    buffers = dict(module.named_buffers())
    assert all(torch.equal(value, buffers[name]) for name, value in resumed.named_buffers())


@pytest.mark.parametrize(("kind", "settings"), MODELS)
def test_statistics_from_a_loader_and_a_missing_one(data, kind, settings):
    make_trainer(max_steps=1).fit(kind(**settings), data.train_dataloader())
    with pytest.raises(RuntimeError, match="no training data"):
        make_trainer().validate(kind(**settings), data.val_dataloader(), verbose=False)


@pytest.mark.parametrize("lengths", [[16000, 1600, 5000], [1600, 1700], [1600, 100], [100, 50], [800]])
@pytest.mark.parametrize("kind", [HuBERTModule, APCModule, CPCModule])
def test_short_utterances(trained, kind, lengths):
    module = trained[kind][0]
    module.train()
    waveforms = 0.1 * torch.randn(len(lengths), max(lengths))
    waveforms *= torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    batch = {"waveforms": waveforms, "lengths": torch.tensor(lengths)}
    module.zero_grad()
    loss = loss_of(module, batch)
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())
    module.zero_grad()


@pytest.mark.parametrize(
    ("kind", "settings", "frames", "dim"),
    [
        (HuBERTModule, {}, 48, 128),
        (HuBERTModule, SMALL_HUBERT, 48, 64),
        (APCModule, {}, 98, 128),
        (CPCModule, {}, 49, 128),
    ],
)
def test_forward(kind, settings, frames, dim):
    module = kind(**settings).eval()
    assert module(torch.randn(2, RATE)).shape == (2, frames, dim)
    with pytest.raises(ValueError, match="waveforms: got 100 samples"):
        module(torch.randn(2, 100))


def test_a_bf16_step(trained, data):
    for kind in (HuBERTModule, APCModule, CPCModule):
        module = trained[kind][0]
        with torch.autocast("cpu", torch.bfloat16):
            batch = next(iter(data.val_dataloader()))
            loss = loss_of(module, batch)
        assert loss.isfinite()


def test_hubert_base_is_reachable(monkeypatch):
    module = HuBERTModule(
        conv_layers=None,
        embed_dim=768,
        num_layers=12,
        num_heads=12,
        ff_dim=3072,
        pos_conv_kernel=128,
        pos_conv_groups=16,
        final_dim=256,
        feature_grad_mult=0.1,
    )
    # torchaudio's initial values, which cannot be made on the meta device, do not matter here.
    monkeypatch.setattr("torchaudio.models.wav2vec2.model._init_hubert_pretrain_model", lambda module: None)
    with torch.device("meta"):
        base = hubert_pretrain_base()
    shapes = {name: p.shape for name, p in module.model.state_dict().items()}
    assert shapes == {name: p.shape for name, p in base.state_dict().items()}
    assert (module.receptive_field, module.targets.hop) == (400, 320)


@pytest.mark.parametrize("receptive_field", [400, 425, 850])
def test_labels_do_not_depend_on_the_batch(receptive_field):
    targets = KMeansTargets(10, 320, receptive_field)
    waveforms = [w["waveform"] for w in Speech(6, seconds=0.5)]
    targets.fit(torch.cat([targets.frames(w[None])[0] for w in waveforms]))
    long, short = waveforms[0], waveforms[1][:4321]
    batch = torch.stack([long, torch.nn.functional.pad(short, (0, len(long) - len(short)))])
    together = targets(batch, torch.tensor([len(long), len(short)]))
    alone = targets(short[None], torch.tensor([len(short)]))
    assert alone.shape[1] == targets.num_frames(len(short)) > 0
    assert torch.equal(together[1, : alone.shape[1]], alone[0])


def test_labels_follow_the_receptive_field():
    # A sound turned on at a sample changes the frames whose centres come after it, whatever the field.
    for field in (400, 850):
        targets = KMeansTargets(2, 320, field)
        waveform = torch.zeros(1, RATE)
        waveform[:, 8000:] = torch.randn(8000)
        loud = targets.frames(waveform)[0, :, 0] > -50
        centres = torch.arange(len(loud)) * 320 + field / 2
        assert torch.equal(loud[(centres - 8000).abs() > 200], (centres > 8000)[(centres - 8000).abs() > 200])


def test_errors():
    targets = KMeansTargets(10, 320, 400)
    with pytest.raises(RuntimeError, match="codebook: not fitted"):
        targets(torch.zeros(1, RATE), torch.tensor([RATE]))
    with pytest.raises(ValueError, match="num_classes: got 10 clusters for 5 frames"):
        targets.fit(torch.randn(5, 39))
    with pytest.raises(ValueError, match="frames: got 1"):
        LogMel().fit(torch.zeros(1, 40))
    with pytest.raises(ValueError, match="mask_prob: got 0"):
        HuBERTModule(mask_prob=0)
    with pytest.raises(ValueError, match="shift: got 0"):
        APCModule(shift=0)
    with pytest.raises(ValueError, match="horizon: got 0"):
        CPCModule(horizon=0)
    with pytest.raises(ValueError, match="negatives: got 'far'"):
        CPCModule(negatives="far")
    with pytest.raises(ValueError, match="total_steps: got 5"):
        warmup_adamw([], lr=1.0, weight_decay=0.0, warmup_steps=5, total_steps=5)


def test_log_mel_of_a_segment_alone():
    features = LogMel()
    waveform = torch.randn(1, RATE)
    whole, segment = features(waveform), features(waveform[:, 4000:12000])
    torch.testing.assert_close(segment, whole[:, 25 : 25 + segment.shape[1]], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("kind", "hop"), [(APCModule, 160), (CPCModule, 320)])
def test_recurrent_models_are_causal(trained, kind, hop):
    module = trained[kind][0].eval()
    waveform = torch.randn(1, RATE)
    changed = waveform.clone()
    changed[:, 8000:] = 0
    with torch.no_grad():
        a, b = module(waveform), module(changed)
    sees = module.features.window if kind is APCModule else module.receptive_field
    last = (8000 - sees) // hop
    torch.testing.assert_close(a[:, : last + 1], b[:, : last + 1])
    assert not torch.allclose(a[:, last + 2], b[:, last + 2])


@pytest.mark.parametrize("negatives", ["within", "across"])
def test_info_nce_by_hand(negatives):
    """The loss, frame by frame: which frames are negatives, and that padding is none of them."""
    module = CPCModule(**SMALL_CPC, negatives=negatives, num_negatives=10_000).eval()
    lengths = torch.tensor([8000, 5000, 6500])
    waveforms = torch.randn(3, 8000) * (torch.arange(8000) < lengths[:, None])
    with torch.no_grad():
        loss = module.loss({"waveforms": waveforms, "lengths": lengths}, draw=False)
        z, c = module.encode(waveforms)
    counts = [int(module.features.num_frames(length)) // 2 for length in lengths]
    total = 0.0
    for ahead, predictor in enumerate(module.predictors, start=1):
        surprises = []
        for b, count in enumerate(counts):
            for t in range(ahead, count):
                predicted = predictor(c[b, t - ahead]) / z.shape[-1] ** 0.5
                others = [z[o, s] for o in range(3) for s in range(counts[o]) if o != b]
                if negatives == "within":
                    others = [z[b, s] for s in range(count) if s != t]
                scores = torch.stack([z[b, t], *others]) @ predicted
                surprises.append(-scores.log_softmax(0)[0])
        total += torch.stack(surprises).mean().item()
    assert loss.item() == pytest.approx(total / len(module.predictors), rel=1e-4)


def test_cpc_beats_chance(trained, data):
    batch = next(iter(data.val_dataloader()))
    with torch.no_grad():
        frames = trained[CPCModule][0](batch["waveforms"]).shape[1]
        assert loss_of(trained[CPCModule][0], batch) < 0.75 * torch.tensor(frames).log()


def test_class_logits_are_those_of_torchaudio():
    torch.manual_seed(0)
    ours, theirs = ClassLogits(12, 7, 5), LogitGenerator(12, 7, 5, skip_masked=False, skip_nomask=False)
    ours.load_state_dict(theirs.state_dict())
    x, label, mask = torch.randn(3, 9, 12), torch.randint(7, (3, 9)), torch.rand(3, 9) < 0.5
    for mine, other in zip(ours(x, label, mask, ~mask), theirs(x, label, mask, ~mask), strict=True):
        torch.testing.assert_close(mine, other)


def test_span_masks():
    torch.manual_seed(0)
    masks = SpanMasks(4, prob=0.8, length=10)
    lengths = torch.tensor([100, 40, 8, 1, 0] * 20)
    valid = torch.arange(100) < lengths[:, None]
    mask = masks.draw(valid)
    assert not (mask & ~valid).any()
    share = mask.sum(1) / lengths.clamp(min=1)
    assert ((share > 0) == (lengths > 1)).all()
    assert (share < 1).all()
    # Eight spans of ten in a hundred frames, at random, cover about 1 - 0.9 ** 8 = 0.57 of them.
    assert 0.45 < share[lengths == 100].mean() < 0.65
    x, drawn = masks(torch.zeros(100, 100, 4), ~valid)
    assert torch.equal(x[drawn], masks.mask_embedding.expand(int(drawn.sum()), 4))
    assert (x[~drawn] == 0).all()


def test_learning_rate_rises_and_falls():
    optim = warmup_adamw(
        [torch.nn.Parameter(torch.zeros(1))], lr=2.0, weight_decay=0.0, warmup_steps=4, total_steps=8
    )
    rates = []
    for _ in range(8):
        rates.append(optim["optimizer"].param_groups[0]["lr"])
        optim["optimizer"].step()
        optim["lr_scheduler"]["scheduler"].step()
    assert rates == [0.5, 1.0, 1.5, 2.0, 2.0, 1.5, 1.0, 0.5]
