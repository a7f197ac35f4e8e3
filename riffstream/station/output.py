"""Output of a station: the last minutes of committed audio, and an outlet for each requested codec.

Threading model
  Event loop   makes every call but one. Encoders run in threads of their own (``outlet.py``).
  Any thread   recording().
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from riffstream.audio.aac import FRAME as AAC_FRAME
from riffstream.config import Config
from riffstream.errors import ParameterError
from riffstream.generator.messages import Pcm
from riffstream.protocol import SAMPLE_RATE
from riffstream.station.block import Block
from riffstream.station.outlet import CODECS, HLS_KBPS, SHARED, Outlet, hls_codec
from riffstream.station.ring import PcmRing

__all__ = ["Output"]

SLACK_S: Final = 2.0  # margin of the oldest samples, which may be overwritten while a thread reads a recording
BURST_S: Final = 5.0  # audio encoded at the start of an outlet, so that its first listener does not wait
HLS_BURST_S: Final = 12.0  # the same for HLS: players buffer three segments before they play
_HLS_CODECS: Final = frozenset(map(hls_codec, HLS_KBPS))


class Output:
    """Distributor of committed blocks to the ring and the outlets.

    Args:
        config: lengths, and the encoders' bit rates.
        revision: function from a committed sample to the revision at it.
        start: sample clock at the first block.
        recent: audio before it, [n, 2] float32.
    """

    def __init__(
        self, config: Config, revision: Callable[[int], int], *, start: int = 0, recent: Pcm | None = None
    ) -> None:
        self._revision = revision
        self._frame = config.timeline.frame_ms * SAMPLE_RATE // 1000
        lead_in = 0 if recent is None else len(recent)
        self._ring = PcmRing(round((config.timeline.ring_s + SLACK_S) * SAMPLE_RATE), start - lead_in)
        if recent is not None:
            self._ring.push(recent)
        self._outlets: dict[str, Outlet] = {}
        self._closed = False
        rates = config.encoders
        self._kbps = {
            "opus": rates.opus_kbps,
            "ogg": rates.ogg_kbps,
            "mp3": rates.mp3_kbps,
            "aac": rates.aac_kbps,
            **{hls_codec(kbps): kbps for kbps in HLS_KBPS},
        }

    @property
    def running(self) -> list[str]:
        """Codecs with a running encoder."""
        return [codec for codec, outlet in self._outlets.items() if outlet.running]

    def push(self, block: Block) -> None:
        """Add the next committed block."""
        self._ring.push(block.pcm)
        for outlet in self._outlets.values():
            outlet.push(block)

    def recording(self, seconds: float) -> tuple[int, Pcm]:
        """Newest ``seconds`` of audio: (sample clock of the first sample, [n, 2] float32)."""
        end = self._ring.end
        pcm = self._ring.read(end - round(seconds * SAMPLE_RATE), end)
        return end - len(pcm), pcm

    def outlet(self, codec: str) -> Outlet:
        """Outlet of a codec, created at the first request.

        Ogg shares the outlet of Opus unless their bit rates differ; WAV shares that of PCM.

        Raises:
            ParameterError: an unknown codec.
        """
        if codec not in CODECS:
            raise ParameterError("codec", codec, ", ".join(CODECS))
        if codec != "ogg" or self._kbps["ogg"] == self._kbps["opus"]:
            codec = SHARED.get(codec, codec)
        if codec not in self._outlets:
            kbps = self._kbps.get(codec)
            recent = self._recent_for_hls if codec in _HLS_CODECS else self._recent
            self._outlets[codec] = Outlet(codec, recent, bit_rate=None if kbps is None else kbps * 1000)
            if self._closed:  # otherwise its encoder would outlive the station
                self._outlets[codec].close()
        return self._outlets[codec]

    def _recent_for_hls(self) -> list[Block]:
        """Newest audio for an HLS encoder. It begins at a common border of blocks and AAC frames."""
        blocks = self._recent(HLS_BURST_S)
        aligned = itertools.dropwhile(lambda block: block.pos % AAC_FRAME, blocks)
        return list(aligned) or blocks

    def _recent(self, seconds: float = BURST_S) -> list[Block]:
        """Newest audio for a new encoder, as blocks with the revision at their end."""
        blocks = self._ring.blocks(seconds, self._frame, 0)
        return [replace(block, rev=self._revision(block.pos + len(block.pcm) - 1)) for block in blocks]

    def close(self) -> None:
        """End every outlet; outlets requested later end at once."""
        self._closed = True
        for outlet in self._outlets.values():
            outlet.close()
