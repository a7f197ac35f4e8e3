"""A critic of decoded spectrograms, for a sharper decoder.

It learns to tell decoded spectrograms from real ones (hinge loss, Lim & Ye 2017, arXiv:1705.02894). The decoder learns
to be taken for real, and to have the features of the real spectrogram inside the critic (Larsen et al. 2016,
arXiv:1512.09300). Both gradients are scaled to a share of the gradient of the decoder's errors, whatever their own
size (the balancer of Défossez et al. 2022, arXiv:2210.13438).
"""

from __future__ import annotations

import itertools
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from riffstream.training.loop import autocast

__all__ = ["CodecCritic", "Sharpener"]

WIDTH: Final = 32
RATE: Final = 4e-4
REAL, FEATURES = 0.3, 0.6  # sizes of the critic's two gradients relative to that of the decoder's errors
SLOW: Final = 0.99  # share of the earlier value in the moving averages of the gradients' sizes
ALONE, RAMP = 50, 300  # steps of the critic alone, and steps in which its influence rises from nothing


class CodecCritic(nn.Module):
    """Four convolutions over features [B, 2, M, T] with the place of each row, and a score for each 8 x 8 square."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        widths = (4, width, 2 * width, 4 * width)
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, 4, stride=2, padding=1) for before, after in itertools.pairwise(widths)
        )
        self.layers.append(nn.Conv2d(widths[-1], widths[-1], 3, padding=1))
        self.score = nn.Conv2d(widths[-1], 1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Scores [B, 1, M / 8, T / 8], larger is more real, and the features of each layer."""
        place = torch.linspace(-1, 1, x.shape[2], device=x.device)[None, None, :, None]
        planes = torch.cat([place, torch.cos(3 * torch.pi * place)], 1).expand(len(x), -1, -1, x.shape[3])
        hidden, features = torch.cat([x / 2, planes], 1).contiguous(memory_format=torch.channels_last), []
        for layer in self.layers:
            hidden = F.leaky_relu(layer(hidden), 0.2)
            features.append(hidden)
        return self.score(hidden).float(), features


class Sharpener:
    """A critic in training, and its gradient for a decoder.

    Args:
        device: torch device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._critic = CodecCritic().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._optimiser = torch.optim.Adam(self._critic.parameters(), RATE, betas=(0.5, 0.9))
        self._sizes = torch.zeros(3)
        self._step = 0

    def gradient(self, made: Tensor, wanted: Tensor, errors: Tensor) -> Tensor:
        """Train the critic for a step, and add its gradients to that of the decoder's errors.

        Args:
            made: decoded features [B, 2, M, T] float32; M and T are multiples of 8.
            wanted: real features.
            errors: gradient of the decoder's errors for ``made``.

        Returns:
            The gradient for ``made``, [B, 2, M, T].
        """
        fake = made.detach().requires_grad_()
        with autocast(self._device):
            (real, aim), (false, own) = self._critic(wanted), self._critic(fake)
        loss = F.relu(1 - real).mean() + F.relu(1 + false).mean()
        if not torch.isfinite(loss) or not torch.isfinite(errors).all():
            return errors  # the decoder's guard refuses the step; the critic would not recover from it
        apart = torch.stack(
            [(a.float() - b.detach().float()).abs().mean() for a, b in zip(own, aim, strict=True)]
        ).sum()
        # Both passes serve the decoder and the critic, which learns last: its step changes the weights of the passes.
        (fooling,) = torch.autograd.grad(-false.mean(), fake, retain_graph=True)
        (likeness,) = torch.autograd.grad(apart, fake, retain_graph=True)
        weights = list(self._critic.parameters())
        for weight, slope in zip(weights, torch.autograd.grad(loss, weights), strict=True):
            weight.grad = slope
        self._optimiser.step()
        sizes = torch.stack([errors.norm(), fooling.norm(), likeness.norm()]).cpu()
        self._sizes = torch.lerp(sizes, self._sizes, SLOW) if self._step else sizes
        influence = min(1.0, max(0, self._step - ALONE) / RAMP)
        self._step += 1
        size, *others = self._sizes.clamp_min(1e-12).tolist()
        shares = (REAL * influence * size / others[0], FEATURES * influence * size / others[1])
        total: Tensor = errors + shares[0] * fooling + shares[1] * likeness
        return total

    def state(self) -> dict[str, Any]:
        """Everything that :meth:`restore` needs."""
        return {
            "critic": self._critic.state_dict(), "optimiser": self._optimiser.state_dict(), "sizes": self._sizes,
            "step": self._step,
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a :meth:`state`."""
        self._critic.load_state_dict(state["critic"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._sizes, self._step = state["sizes"].cpu(), state["step"]
