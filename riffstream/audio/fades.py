"""Crossfade curves of constant loudness, chosen by the correlation of the two sounds.

For equally loud signals with correlation r, the gains (f, g) give a sum of power f² + g² + 2 r f g. Unrelated sounds
(r = 0) need f² + g² = 1 (equal power), identical sounds (r = 1) need f + g = 1 (linear). For any r, a pair of gains
divided by the square root of that power keeps the power constant (Fink, Holters, Zölzer, "Signal-matched
power-complementary cross-fading", DAFx 2016). :func:`correlated` does this with the equal-power pair.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from riffstream.audio.checks import Pcm
from riffstream.errors import ParameterError

__all__ = ["Crossfade", "Curve", "correlated", "correlation", "crossfade", "equal_power", "linear"]

Curve = Literal["equal-power", "linear", "auto"]
Gains = tuple[NDArray[np.float64], NDArray[np.float64]]

# Below this the sounds cancel in mid-fade, and more gain would only boost the difference between them.
LEAST_CORRELATION = -0.5


def equal_power(position: NDArray[np.float64]) -> Gains:
    """(outgoing, incoming) gains at ``position`` in [0, 1]; the squares sum to 1."""
    angle = position * (np.pi / 2)
    return np.cos(angle), np.sin(angle)


def linear(position: NDArray[np.float64]) -> Gains:
    """(outgoing, incoming) gains at ``position`` in [0, 1]; they sum to 1."""
    return 1 - position, position


def correlated(position: NDArray[np.float64], r: float) -> Gains:
    """(outgoing, incoming) gains of constant power for two equally loud sounds of correlation ``r`` in [-1, 1].

    r = 0 is :func:`equal_power`; at r = 1 the gains sum to 1. ``r`` below -0.5 counts as -0.5 (+3 dB in the middle).
    """
    out, into = equal_power(position)
    scale = 1 / np.sqrt(1 + 2 * max(r, LEAST_CORRELATION) * out * into)
    return out * scale, into * scale


def correlation(a: Pcm, b: Pcm) -> float:
    """Normalised correlation of two blocks [n, channels] over their common length and all channels.

    Returns:
        -1 to 1; 0 when either is silent.
    """
    n = min(len(a), len(b))
    x, y = a[:n].astype(np.float64).ravel(), b[:n].astype(np.float64).ravel()
    power = float(np.dot(x, x) * np.dot(y, y))
    return float(np.clip(np.dot(x, y) / power**0.5, -1.0, 1.0)) if power > 1e-24 else 0.0


class Crossfade:
    """A crossfade of ``n_samples`` that is applied in pieces; the pieces may have any length.

    Args:
        n_samples: length of the fade, 1 or more.
        curve: "equal-power" for unrelated sounds, "linear" for the same sound in phase, "auto" for the curve that
            keeps the power of sounds with correlation ``r``.
        r: correlation in [-1, 1], as :func:`correlation` measures it over the fade; used by "auto" only.
    """

    def __init__(self, n_samples: int, curve: Curve = "equal-power", r: float = 0.0) -> None:
        if n_samples < 1:
            raise ParameterError("n_samples", n_samples, "1 or more")
        # Sample centres in (0, 1) make the fade equal to its mirror image.
        position = (np.arange(n_samples) + 0.5) / n_samples
        match curve:
            case "equal-power":
                gains = equal_power(position)
            case "linear":
                gains = linear(position)
            case "auto":
                gains = correlated(position, r)
            case _:
                raise ParameterError("curve", curve, "equal-power, linear or auto")
        self.outgoing: Pcm = gains[0].astype(np.float32)
        self.incoming: Pcm = gains[1].astype(np.float32)

    def __len__(self) -> int:
        return len(self.outgoing)

    def mix(self, old: Pcm, new: Pcm, offset: int = 0) -> Pcm:
        """Mix the samples ``offset`` to ``offset + len(old)`` of the fade.

        The result is ``old`` before the fade (negative positions) and ``new`` after it.

        Args:
            old: [n, channels], the outgoing sound at this position.
            new: [n, channels], the incoming sound at this position.
            offset: position in the fade, in samples; may be negative.

        Returns:
            float32 [n, channels].

        Raises:
            ParameterError: the shapes differ.
        """
        if old.shape != new.shape:
            raise ParameterError("new", f"block of shape {new.shape}", f"the shape of old, {old.shape}")
        mixed = old.copy()
        first, last = max(-offset, 0), min(len(self) - offset, len(old))
        if last > first:
            out = self.outgoing[first + offset : last + offset, None]
            into = self.incoming[first + offset : last + offset, None]
            mixed[first:last] = old[first:last] * out + new[first:last] * into
        mixed[max(last, 0) :] = new[max(last, 0) :]
        return mixed


def crossfade(old: Pcm, new: Pcm, n_samples: int, curve: Curve = "auto") -> Pcm:
    """Join two blocks [n, channels]: the last ``n_samples`` of ``old`` overlap the first of ``new``.

    Returns:
        float32 [len(old) + len(new) - n_samples, channels].
    """
    if not 0 <= n_samples <= min(len(old), len(new)):
        raise ParameterError("n_samples", n_samples, f"0 to {min(len(old), len(new))}, the shorter block")
    if n_samples == 0:
        return np.concatenate([old, new])
    tail, head = old[len(old) - n_samples :], new[:n_samples]
    fade = Crossfade(n_samples, curve, correlation(tail, head) if curve == "auto" else 0.0)
    return np.concatenate([old[: len(old) - n_samples], fade.mix(tail, head), new[n_samples:]])
