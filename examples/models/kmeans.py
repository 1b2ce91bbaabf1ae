"""The targets of HuBERT's first iteration: k-means clusters of MFCC."""

import math

import faiss
import torch
from torch import Tensor
from torch.nn import functional as F
from torchaudio.functional import compute_deltas
from torchaudio.transforms import MFCC

from lightning_mi.examples.models.corpus import FrontEnd

_COEFFICIENTS = 13


class KMeansTargets(FrontEnd):
    """Label each frame with the nearest of ``num_classes`` centroids of 39-dimensional MFCC.

    13 coefficients with their first and second differences, clustered by k-means (Hsu et al. 2021,
    arXiv:2106.07447, segment IV-B); windows of 25 ms, each dimension standardised over the corpus. Frame
    ``t`` is centred on the receptive field of the encoder's frame ``t``.

    Args:
        num_classes: number of clusters.
        hop: samples between frames, the total stride of the encoder's convolutions.
        receptive_field: samples that one frame of those convolutions sees.
        sample_rate: samples per second.
        seed: seed of k-means.

    Attributes:
        codebook: (num_classes, 39) float32 buffer, zeros until fitted.
    """

    codebook: Tensor

    def __init__(
        self, num_classes: int, hop: int, receptive_field: int, sample_rate: int = 16000, seed: int = 0
    ) -> None:
        super().__init__(3 * _COEFFICIENTS)
        self.register_buffer("codebook", torch.zeros(num_classes, 3 * _COEFFICIENTS))
        self.hop = hop
        self.receptive_field = receptive_field
        self.seed = seed
        window = sample_rate * 25 // 1000
        self.n_fft = 2 ** math.ceil(math.log2(window))
        # log_mels: torchaudio's decibels are cut off relative to the loudest item of the batch, which would
        # let a frame's label depend on its neighbours in the batch.
        self.mfcc = MFCC(
            sample_rate,
            _COEFFICIENTS,
            log_mels=True,
            melkwargs={
                "n_fft": self.n_fft,
                "win_length": window,
                "hop_length": hop,
                "n_mels": 40,
                "center": False,
            },
        )

    def num_frames(self, samples: int) -> int:
        """Frames that the encoder's convolutions make of this many samples."""
        return max(0, (samples - self.receptive_field) // self.hop + 1)

    def frames(self, waveforms: Tensor, lengths: Tensor | None = None) -> Tensor:
        """MFCC with differences, before standardisation.

        Args:
            waveforms: (B, T) float32 samples.
            lengths: (B,) int64 samples before the padding, or None for no padding.

        Returns:
            (B, num_frames(T), 39) float32; frames past an utterance's end hold no meaning.
        """
        batch, samples = waveforms.shape
        count = self.num_frames(samples)
        if count == 0:
            return waveforms.new_zeros(batch, 0, len(self.mean))
        # Pad (or, if negative, crop) so that windows and receptive fields share their centres.
        left = (self.n_fft - self.receptive_field) // 2
        right = self.n_fft + self.hop * (count - 1) - samples - left
        mfcc: Tensor = self.mfcc(F.pad(waveforms, (left, right)))
        if lengths is not None:
            # Hold the last frame, as compute_deltas does at the end of an utterance that stands alone.
            ends = torch.div(lengths - self.receptive_field, self.hop, rounding_mode="floor").clamp(min=0)
            times = torch.minimum(torch.arange(count, device=ends.device), ends.unsqueeze(1))
            mfcc = mfcc.gather(2, times.unsqueeze(1).expand(-1, _COEFFICIENTS, -1))
        first = compute_deltas(mfcc)
        return torch.cat([mfcc, first, compute_deltas(first)], dim=1).transpose(1, 2)

    def fit(self, frames: Tensor) -> None:
        """Take mean and deviation of ``frames`` (N, 39) and cluster them.

        Raises:
            ValueError: if there are fewer frames than clusters.
        """
        classes = len(self.codebook)
        if len(frames) < classes:
            raise ValueError(
                f"num_classes: got {classes} clusters for {len(frames)} frames of training data, expected at "
                "least one frame per cluster; lower num_classes or raise fit_utterances"
            )
        super().fit(frames)
        kmeans = faiss.Kmeans(
            frames.shape[1], classes, niter=25, seed=self.seed, gpu=False, min_points_per_centroid=1
        )
        kmeans.train(self.standardise(frames).cpu().contiguous().numpy())
        self.codebook.copy_(torch.from_numpy(kmeans.centroids))

    @torch.no_grad()
    def forward(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        """Label the frames: (B, T) samples and (B,) lengths to (B, num_frames(T)) int64.

        Raises:
            RuntimeError: if the codebook is not fitted.
        """
        if not bool(self.fitted):
            raise RuntimeError(
                "codebook: not fitted, expected a fitted one before training or validation; run the module "
                "in a Trainer with training data (its setup() fits it), or load a checkpoint saved after that"
            )
        with torch.autocast(waveforms.device.type, enabled=False):
            frames = self.standardise(self.frames(waveforms.float(), lengths))
            distances: Tensor = torch.cdist(frames, self.codebook.expand(len(frames), -1, -1))
        return distances.argmin(-1)
