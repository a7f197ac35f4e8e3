"""Timestamps of every codec over a simulated day: ``python -m tests.timestamps [HOURS [CODEC ...]]``.

Silence goes through the station's real outlets as fast as they encode, and through the server's wire formats. Each
position that a listener can see is compared with the number of samples in the audio before it, counted in the encoded
frames themselves.
"""

from __future__ import annotations

import asyncio
import re
import struct
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from riffstream.audio.fmp4 import split_adts
from riffstream.audio.mp3 import split_frames
from riffstream.protocol import SAMPLE_RATE, split_packets, unpack_frame
from riffstream.server.feeds import WIRES
from riffstream.server.hls.playlists import media_playlist
from riffstream.server.hls.rendition import Rendition
from riffstream.server.stream_body import Body
from riffstream.station.block import Block
from riffstream.station.outlet import HLS_KBPS, Chunk, Outlet, hls_codec

BLOCK = SAMPLE_RATE
AHEAD = 5 * SAMPLE_RATE  # below the backlog at which an outlet drops audio
FRAMES: dict[str, Callable[[bytes], int]] = {
    "opus": lambda data: 960 * len(split_packets(data)),
    "mp3": lambda data: 1152 * len(split_frames(data)[0]),
    "aac": lambda data: 1024 * len(split_adts(data)),
    "pcm_s16": lambda data: len(data) // 4,
}
CODECS = ("opus", "pcm_s16", "mp3", "aac", *map(hls_codec, HLS_KBPS))


@dataclass
class Drift:
    """Largest differences from the sample clock, in samples, by what was compared."""

    worst: dict[str, float] = field(default_factory=dict)

    def note(self, what: str, samples: float) -> None:
        self.worst[what] = max(self.worst.get(what, 0.0), abs(samples))

    @property
    def milliseconds(self) -> float:
        return max(self.worst.values()) / SAMPLE_RATE * 1000


class Listener:
    """What takes an outlet's chunks and reads every timestamp of them."""

    def __init__(self, codec: str) -> None:
        self.codec = codec
        self.drift = Drift()
        self.end = 0
        self.counted: int | None = None  # sample clock by the number of samples in the frames
        self._kind = "aac" if codec.startswith("aac") else codec
        self._hls = Rendition(128_000) if codec.startswith("aac-") else None
        self._playlist_s: float | None = None
        self._segment = -1
        self._ogg: Body | None = None
        self._granule = 0
        self.arrived = asyncio.Event()

    def take(self, chunk: Chunk | None) -> None:
        assert chunk is not None, "the encoder failed"
        samples = FRAMES[self._kind](chunk.payload)
        if self.counted is None:
            self.counted = chunk.sample_pos
        self.drift.note("chunk", chunk.sample_pos - self.counted)
        self.drift.note("length", chunk.n_samples - samples)
        wire = {"opus": "v1-opus", "pcm_s16": "v1-pcm_s16"}.get(self.codec)
        if wire is not None:
            frame = unpack_frame(WIRES[wire].build(0, [chunk])[0][-len(chunk.payload) - 24 :])
            self.drift.note("WebSocket", frame.sample_pos - self.counted)
        if self.codec == "opus":
            self._ogg_page(chunk)
        if self._hls is not None:
            self._hls.push(chunk)
            self._segments(self._hls)
        self.counted += samples
        self.end = chunk.sample_pos + chunk.n_samples
        self.arrived.set()

    def _ogg_page(self, chunk: Chunk) -> None:
        if self._ogg is None:
            self._ogg = Body("ogg", None, None)
            self._ogg.begin(b"OpusHead" + bytes(11))
        page = self._ogg.push(WIRES["ogg"].build(0, [chunk])[0])
        self._granule += FRAMES["opus"](chunk.payload)
        self.drift.note("Ogg", struct.unpack_from("<q", page, 6)[0] - self._granule)

    def _segments(self, hls: Rendition) -> None:
        """A player that adds the durations of the playlist to the first segment's time."""
        newest = hls.segments[-1] if hls.segments else None
        if newest is None or newest.number == self._segment:
            return
        self._segment = newest.number
        text = media_playlist(list(hls.segments), hls.breaks, "x", 0.0)
        duration = float(re.findall(r"#EXTINF:([0-9.]+),", text)[-1])
        decode_time = struct.unpack_from(">Q", newest.data, newest.data.index(b"tfdt") + 8)[0]
        if self._playlist_s is None:
            self._playlist_s = newest.sample_pos / SAMPLE_RATE
        self.drift.note("HLS decode time", decode_time - newest.sample_pos)
        self.drift.note("HLS playlist", self._playlist_s * SAMPLE_RATE - newest.sample_pos)
        self._playlist_s += duration


async def measure(codec: str, hours: float) -> Drift:
    """Encode so many hours of silence with a codec."""
    listener = Listener(codec)
    outlet = Outlet(codec, list, bit_rate=None if codec == "pcm_s16" else 128_000)
    await outlet.start(listener.take)
    silence = np.zeros((BLOCK, 2), np.float32)
    total = round(hours * 3600 * SAMPLE_RATE) // BLOCK * BLOCK
    for pos in range(0, total, BLOCK):
        while pos - listener.end > AHEAD:
            listener.arrived.clear()
            await listener.arrived.wait()
        outlet.push(Block(pos, silence, 0, True))
    async with asyncio.timeout(60):
        while listener.end < total - SAMPLE_RATE:
            listener.arrived.clear()
            await listener.arrived.wait()
    outlet.stop()
    return listener.drift


async def main(hours: float, codecs: Sequence[str]) -> int:
    print(f"| codec | {hours:g} h took | largest difference | of |\n| --- | --- | --- | --- |")
    worst = 0.0
    for codec in codecs or CODECS:
        began = time.monotonic()
        drift = await measure(codec, hours)
        worst = max(worst, drift.milliseconds)
        compared = ", ".join(drift.worst)
        print(f"| {codec} | {time.monotonic() - began:.0f} s | {drift.milliseconds:.6f} ms | {compared} |", flush=True)
    return int(worst > 1)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else 24, sys.argv[2:])))
