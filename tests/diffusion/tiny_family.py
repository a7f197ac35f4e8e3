"""Two small families for the engine's tests: a real random network, and the exact denoiser of Gaussian music."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from riffstream.diffusion.family import Defaults, Family, TextEmbedding, TrainingSchedule
from riffstream.spectrogram.params import SpectrogramParams


class TinyFamily(Family):
    """A small convolutional network that listens to latent, time, text and the clip before. 16 frames a column."""

    name = "tiny"
    frames = 128
    beats = 8
    text_length = 6
    text_chunks = 2

    def __init__(
        self, kind: str = "flow", *, continues: bool = True, guidance: float = 3.0, masked: bool = True
    ) -> None:
        flow = kind == "flow"
        self.params = SpectrogramParams.mini().replace(num_frequencies=32)
        self.schedule = TrainingSchedule("flow", "flow") if flow else TrainingSchedule("ddpm", "epsilon")
        self.defaults = Defaults("euler" if flow else "ddim", steps=6, guidance=guidance, denoising=0.75, bpm=120.0)
        self.device, self.dtype = torch.device("cpu"), torch.float32
        self.continues = continues
        self.low_first = True
        self.masked = masked
        self.calls: list[int] = []
        self.texts = 0
        self.encoded = 0
        with torch.random.fork_rng():
            torch.manual_seed(7)
            self.inner = nn.Conv2d(8, 16, 3, padding=1).requires_grad_(False)
            self.outer = nn.Conv2d(16, 4, 3, padding=1).requires_grad_(False)
            self.words = torch.randn(64, 16)

    def latent_shape(self, frames: int | None = None) -> tuple[int, int, int]:
        return 4, 4, (frames or self.frames) // 16

    def encode_text(self, texts: Sequence[str]) -> TextEmbedding:
        self.texts += len(texts)
        tokens, mask = torch.zeros(len(texts), 6, 16), torch.zeros(len(texts), 6)
        for row, text in enumerate(texts):
            for place, word in enumerate(text.split()[:6]):
                tokens[row, place] = self.words[sum(map(ord, word)) % 64]
                mask[row, place] = 1
        return TextEmbedding(tokens, mask if self.masked else None)

    def denoise(
        self,
        x: Tensor,
        t: Tensor,
        text: TextEmbedding,
        *,
        previous: Tensor | None = None,
        previous_mask: Tensor | None = None,
        conditions: Tensor | None = None,
    ) -> Tensor:
        self.calls.append(len(x))
        weights = torch.ones(text.tokens.shape[:2]) if text.mask is None else text.mask
        pooled = (text.tokens * weights[..., None]).sum(1) / 6
        if previous is None:
            previous = torch.zeros_like(x)
        elif previous_mask is not None:
            previous = torch.where(previous_mask.view(-1, 1, 1, 1), previous, torch.zeros_like(previous))
        scale = t if self.schedule.kind == "flow" else t / 1000
        hidden = self.inner(torch.cat([x, previous], 1)) + pooled[:, :, None, None] + scale.view(-1, 1, 1, 1)
        return 0.5 * x + self.outer(torch.tanh(hidden))

    def encode_mel(self, mel: Tensor, *, noise: Tensor | None = None) -> Tensor:
        self.encoded += 1
        pooled = F.avg_pool2d(mel.mean(1, keepdim=True), (8, 16))
        return pooled.expand(-1, 4, -1, -1).log1p()

    def encode_image(self, image: np.ndarray, *, noise: Tensor | None = None) -> Tensor:
        levels = torch.from_numpy(255 - image[::-1, :, :1].astype(np.float32)).permute(2, 0, 1)[None] / 64
        return self.encode_mel(levels)

    def decode_mel(self, latents: Tensor) -> Tensor:
        return F.softplus(latents.mean(1, keepdim=True)).repeat_interleave(8, 2).repeat_interleave(16, 3)

    def decode_image(self, latents: Tensor) -> np.ndarray:
        mel = self.decode_mel(latents).clamp(0, 4).mul(63)
        return (255 - mel).byte().expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()


class GaussianFamily(TinyFamily):
    """Music whose latents are independent normals: the denoiser is exact, and so is every answer. Guidance 1."""

    mean, spread = 1.5, 0.3

    def __init__(self, kind: str = "flow", *, continues: bool = False) -> None:
        super().__init__(kind, continues=continues, guidance=1.0)

    def denoise(self, x: Tensor, t: Tensor, text: TextEmbedding, **_: Tensor | None) -> Tensor:
        self.calls.append(len(x))
        sigma = t.view(-1, 1, 1, 1)
        alpha = 1 - sigma
        gain = alpha * self.spread**2 / ((alpha * self.spread) ** 2 + sigma**2)
        clean = self.mean + gain * (x - alpha * self.mean)
        return (x - clean) / sigma
