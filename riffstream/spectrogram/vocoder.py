"""The vocoder: mel amplitudes to audio, for whole clips or as an endless stream.

frames -> mel inversion -> transposition -> synthesis grid -> phase gradient integration -> a few Griffin-Lim
iterations -> overlap-add. Every stage is causal with a fixed delay of a frame or less. A stream therefore has one
continuous phase, and consecutive clips join without a seam. A whole clip is one long push through the same stages.

Threading model
  A Vocoder is immutable after construction: any number of threads may share it. A VocoderStream belongs to the thread
  that made it; ``copy()`` makes one for another thread.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from riffstream.errors import ParameterError
from riffstream.spectrogram.grid import Geometry, GridResampler
from riffstream.spectrogram.griffin_lim import griffin_lim
from riffstream.spectrogram.mel import MelInverter
from riffstream.spectrogram.params import SpectrogramParams
from riffstream.spectrogram.pghi import TURN, PhaseIntegrator
from riffstream.spectrogram.refine import OverlapAdd, Refinement, impose
from riffstream.spectrogram.transpose import MAX_KEY, Spectrum

__all__ = ["Vocoder", "VocoderStream"]

Method = Literal["pghi", "griffin-lim"]
DEFAULT_ITERATIONS = {"pghi": 4, "griffin-lim": 32}
BLOCK_FRAMES = 128  # frames processed at once, over all clips: interpreter overhead is small, the data fits the cache


class Vocoder:
    """Synthesis of audio from mel amplitudes.

    Args:
        params: spectrogram parameters of the mel amplitudes.
        method: ``"pghi"`` streams. ``"griffin-lim"`` is the reference: torchaudio's algorithm over all frames at once
            from zero phase, channel by channel. Its stream returns everything at ``flush``.
        iterations: Griffin-Lim iterations; by default 4 after pghi, 32 alone. Each one after pghi adds a grid hop of
            delay.
        device: torch device of the computation and of the result.
        mel_updates: see ``MelInverter``.

    Raises:
        ParameterError: an unknown method, or iterations outside 0 to 10000.
    """

    def __init__(
        self,
        params: SpectrogramParams,
        *,
        method: Method = "pghi",
        iterations: int | None = None,
        device: torch.device | str = "cpu",
        mel_updates: int = 2,
    ) -> None:
        if method not in DEFAULT_ITERATIONS:
            raise ParameterError("method", method, "pghi or griffin-lim")
        iterations = DEFAULT_ITERATIONS[method] if iterations is None else iterations
        if not 0 <= iterations <= 10_000:
            raise ParameterError("iterations", iterations, "0 to 10000")
        self.params, self.method, self.iterations = params, method, iterations
        self.device = torch.device(device)
        self.geometry = Geometry.of(params)
        self.inverter = MelInverter(params, updates=mel_updates, device=self.device)
        self.spectrum = Spectrum(self.inverter, params.n_fft, self.geometry.window, self.device)
        self.bins = self.spectrum.bins

    @property
    def delay(self) -> int:
        """Largest lag of a stream's output behind the position of the latest frame pushed, in samples.

        Half a window (the frame's own width) plus the look-ahead: a grid hop for the phase gradient, one for each
        iteration, and one for the grid.
        """
        return self.geometry.window // 2 + self.geometry.hop * (self.iterations + 2)

    def __call__(self, mel: Tensor, *, hop: float | None = None, key: float = 0.0) -> Tensor:
        """Audio of whole clips.

        Args:
            mel: [..., A, M, T] amplitudes, float; channels of one clip share their phase. Negative and non-finite
                values count as 0.
            hop: samples from frame to frame; ``params.hop()`` by default.
            key: transposition in semitones, -6 to 6.

        Returns:
            [..., A, round(T * hop)] float32, in the unit of the audio that was analysed.
        """
        if mel.dim() < 3:
            raise ParameterError("mel", tuple(mel.shape), "[..., channels, mel bins, frames]")
        clips = math.prod(mel.shape[:-3])
        stream = VocoderStream(self, clips, mel.shape[-3])
        flat = mel.reshape(clips, *mel.shape[-3:])
        parts = (stream._push(flat, self.params.hop() if hop is None else hop, key), stream._flush())
        wave = torch.cat(parts, -1)
        return wave.reshape(*mel.shape[:-2], wave.shape[-1])

    def stream(self, channels: int = 2, *, stems: bool = False) -> VocoderStream:
        """Open a stream that joins one clip to the next; ``stems``: with the part under a mask as further channels."""
        if channels < 1:
            raise ParameterError("channels", channels, "1 or more")
        return VocoderStream(self, 1, channels, stems=stems)


class VocoderStream:
    """An endless take: mel frames in, samples out. ``Vocoder.stream`` makes it.

    The samples are final. They do not depend on how the frames were cut into pushes (bit for bit on one machine).
    """

    def __init__(self, vocoder: Vocoder, batch: int, channels: int, *, stems: bool = False) -> None:
        self.vocoder, self.channels, self.stems = vocoder, channels, stems
        self._batch = batch
        geometry = vocoder.geometry
        bins, device = vocoder.bins, vocoder.device
        self._grid = GridResampler(geometry.hop)
        self._phase = PhaseIntegrator(geometry.hop, geometry.window)
        self._refinements = (
            [Refinement(geometry, bins, device) for _ in range(vocoder.iterations)] if vocoder.method == "pghi" else []
        )
        self._overlap = OverlapAdd(geometry, device)
        # The transform's phase refers to the window's first sample, the integrator's phase to its centre.
        self._signs = 1.0 - 2.0 * (torch.arange(bins, device=device) % 2)
        self.reset()

    def reset(self) -> None:
        """Start a new take at sample 0."""
        self._grid.reset()
        self._phase.reset()
        self._overlap.reset()
        for stage in self._refinements:
            stage.reset()
        self._held: Tensor | None = None  # [B, A, q, bins] magnitudes of frames that are not synthesised yet
        self._guide: Tensor = self._signs  # [B, q, bins] the same frames, channels combined
        self._passed = [0] * (len(self._refinements) + 1)  # frames into each refinement, and out of the last one
        self._emitted = 0

    def push(self, mel: Tensor, *, hop: float, key: float = 0.0, mask: Tensor | None = None) -> Tensor:
        """Take the next frames.

        Args:
            mel: [A, M, t] amplitudes, float, t >= 0.
            hop: duration of each of these frames in samples.
            key: transposition of these frames in semitones, -6 to 6.
            mask: [M, t] share of each amplitude in the stem, 0 to 1; only for a stream with stems. None: 0.

        Returns:
            [A, n] float32, the final samples; about ``t * hop`` of them once the delay is filled. With stems
            [2 * A, n]: then the stem of each channel. It has the phase of its channel, so their difference is the rest.
        """
        if mask is not None and (not self.stems or mask.shape != mel.shape[1:]):
            raise ParameterError("mask", tuple(mask.shape), f"{tuple(mel.shape[1:])}, of a stream with stems")
        if mel.dim() != 3 or mel.shape[0] != self.channels:
            raise ParameterError("mel", tuple(mel.shape), f"[{self.channels}, {self.vocoder.inverter.n_mels}, frames]")
        return self._push(mel[None], hop, key, mask)[0]

    def flush(self) -> Tensor:
        """End the take and return the remaining samples [A, n]. The stream is then as after ``reset``."""
        return self._flush()[0]

    def _push(self, mel: Tensor, hop: float, key: float, mask: Tensor | None = None) -> Tensor:
        self._check(mel, hop, key)
        parts = [self._silence()]
        mel = mel.to(self.vocoder.device, torch.float32)
        block = max(1, BLOCK_FRAMES // max(1, self._batch))
        for start in range(0, mel.shape[-1], block):
            frames = self.vocoder.spectrum(mel[..., start : start + block], key)
            if self.stems:
                share = None if mask is None else self.vocoder.spectrum.share(mask[:, start : start + block], key)
                frames = torch.cat((frames, torch.zeros_like(frames) if share is None else frames * share), 1)
            parts.append(self._sound(self._grid.push(frames, hop)))
            self._emitted += parts[-1].shape[-1]
        return torch.cat(parts, -1)

    def _check(self, mel: Tensor, hop: float, key: float) -> None:
        window = self.vocoder.geometry.window
        if mel.shape[-2] != self.vocoder.inverter.n_mels:
            raise ParameterError("mel", tuple(mel.shape), f"[..., {self.vocoder.inverter.n_mels} mel bins, frames]")
        if not window / 64 <= hop <= 8 * window:
            raise ParameterError("hop", hop, f"{window / 64:g} to {8 * window} samples")
        if not -MAX_KEY <= key <= MAX_KEY:
            raise ParameterError("key", key, f"{-MAX_KEY} to {MAX_KEY} semitones")

    def _sound(self, magnitudes: Tensor, *, last: bool = False) -> Tensor:
        """Grid frames [B, A, g, bins] to final samples [B, A, n]."""
        if self._held is None:
            self._held = magnitudes[:, :, :0]
            self._guide = magnitudes[:, 0, :0]
        self._held = torch.cat((self._held, magnitudes), 2)
        if self.vocoder.method == "griffin-lim":
            return self._whole() if last else self._silence()
        # All channels share the phase of their root mean square, so that the stereo image does not move.
        guide = magnitudes[:, 0] if self.channels == 1 else magnitudes[:, : self.channels].square().sum(1).sqrt_()
        self._guide = torch.cat((self._guide, guide), 1)
        angle = self._phase.push(guide, last=last).float().mul_(2 * math.pi / TURN)
        spectra = torch.complex(angle.cos() * self._signs, angle.sin() * self._signs)
        for k, stage in enumerate(self._refinements):
            start, count = self._passed[k] - self._passed[-1], spectra.shape[1]
            self._passed[k] += count
            spectra = stage.push(impose(spectra, self._guide[:, start : start + count]), last=last)
        count = spectra.shape[1]
        self._passed[-1] += count
        samples = self._overlap.push(impose(spectra[:, None], self._held[:, :, :count]), last=last)
        self._held, self._guide = self._held[:, :, count:].clone(), self._guide[:, count:].clone()
        return samples

    def _flush(self) -> Tensor:
        end = self._grid.end
        rest = self._grid.flush()
        samples = self._silence() if rest is None else self._sound(rest, last=True)[..., : end - self._emitted]
        self.reset()
        return samples

    def _silence(self) -> Tensor:
        return torch.zeros(self._batch, self.channels * (1 + self.stems), 0, device=self.vocoder.device)

    def _whole(self) -> Tensor:
        """The reference: every frame at once, channel by channel."""
        assert self._held is not None
        geometry = self.vocoder.geometry
        # One more frame, so that the last grid hop is not cut off.
        magnitudes = torch.cat((self._held, self._held[:, :, -1:]), 2).transpose(-1, -2)
        magnitudes = F.pad(magnitudes, (0, 0, 0, geometry.window // 2 + 1 - self.vocoder.bins))
        return griffin_lim(magnitudes, geometry.window, geometry.hop, self.vocoder.iterations)
