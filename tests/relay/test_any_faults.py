"""Any faults of an upstream in any order: a listener behind the relay gets each sample in place, or a word about a gap.

The relay's own source, feed and fan-out run without a network; the listener's end is the Python client's inbox.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from riffstream import protocol
from riffstream.client.inbox import Block, Inbox
from riffstream.protocol import Codec, Flags
from riffstream.relay.source import REPEATED_S, Source
from riffstream.server.fanout import Listener
from riffstream.server.feeds import Feed

FRAME = 1920
LAST_S = 3.0  # audio without faults at the end


def samples(clock: int, pos: int, n: int) -> bytes:
    """Audio that tells its place: the station's clock in one channel, the position in the other."""
    places = np.arange(pos, pos + n)
    return np.stack([np.full(n, clock), places % 30_000], 1).astype("<i2").tobytes()


@dataclass
class World:
    """An upstream with faults, a relay's source and feed, and a listener."""

    clock: int = 1
    pos: int = 48_000  # of the upstream's next frame
    seq: int = 25
    ring: int = 750  # frames that the upstream keeps
    wire: list[bytes] = field(default_factory=list)
    sent: list[protocol.AudioFrame] = field(default_factory=list)

    def __post_init__(self) -> None:
        upstreams = type("Upstreams", (), {"server_id": "relay"})()
        self.source = Source(
            cast(Any, upstreams), "main", "pcm_s16", token=None, epoch=lambda epoch: None, ended=lambda reason: None
        )
        outlet = type("Outlet", (), {"codec": "pcm_s16", "closed": False, "stop": lambda self: None})()
        self.feed = Feed(outlet, 30.0, lambda feed: None)
        self.source._consumers["feed"] = self.feed._take
        self.welcome(resumed=False)
        self.play(5)
        transport = type(
            "Transport",
            (),
            {
                "write": lambda _, data: self.wire.append(data),
                "get_write_buffer_size": lambda _: 0,
                "is_closing": lambda _: False,
                "abort": lambda _: None,
            },
        )()
        listener = Listener(transport)
        self.feed.fanout("v1-pcm_s16", 40).attach(listener, burst_samples=FRAME)

    def frame(self, **changes: Any) -> protocol.AudioFrame:
        """The upstream's next frame, perhaps with changes."""
        about: dict[str, Any] = {
            "seq": self.seq & 0xFFFFFFFF,
            "sample_pos": self.pos,
            "n_samples": FRAME,
            "rev": 1,
            "payload": samples(self.clock, self.pos, FRAME),
            "codec": Codec.PCM_S16,
        }
        return protocol.AudioFrame(**(about | changes))

    def deliver(self, frame: protocol.AudioFrame) -> None:
        """Send a frame over the wire format, as the link does."""
        try:
            self.source._take(protocol.unpack_frame(protocol.pack_frame(frame)))
        except Exception as error:
            raise AssertionError(f"a frame broke the source: {error!r}") from error

    def play(self, frames: int) -> None:
        for _ in range(frames):
            self.sent.append(self.frame())
            self.deliver(self.sent[-1])
            self.advance(1)

    def advance(self, frames: int) -> None:
        """Let the upstream play without the relay."""
        self.pos += frames * FRAME
        self.seq += frames

    def welcome(self, *, resumed: bool) -> None:
        self.source._welcomed(
            protocol.Welcome(
                v=1, session=f"clock{self.clock}.x", role="listener", station="main", sample_rate=48_000, channels=2,
                codec="pcm_s16", frame_ms=40, sample_pos=self.pos, rev=1, state=protocol.State(prompts=()),
                limits=protocol.Limits(), caps=protocol.Caps(), resumed=resumed, path=("origin",),
            )
        )  # fmt: skip

    # -- faults ---------------------------------------------------------------------------------------------------

    def die(self, frames: int, burst: int) -> None:
        """The connection ends; the upstream plays on; the relay resumes if the upstream still has the audio."""
        begin = self.pos
        resume = self.source._hello().resume
        self.advance(frames)
        resumed = resume is not None and frames <= self.ring and resume.sample_pos == begin
        end = self.pos, self.seq
        if resumed:
            self.advance(-frames)
        else:
            self.advance(-min(burst, self.pos // FRAME))
        behind = (end[0] - self.pos) // FRAME
        self.pos, self.seq, (pos, seq) = *end, (self.pos, self.seq)
        self.welcome(resumed=resumed)
        self.pos, self.seq = pos, seq
        self.play(behind)

    def restart(self, pos: int, seq: int) -> None:
        """Another process, with another clock."""
        self.clock += 1
        self.pos, self.seq = pos * FRAME, seq
        self.welcome(resumed=False)
        self.play(3)

    def lie(self, pos: int) -> None:
        """Another clock at the same connection, without a word."""
        self.clock += 1
        self.pos = pos * FRAME

    def repeat(self, frames: int) -> None:
        for frame in self.sent[-frames:]:
            self.deliver(frame)

    def lose(self, frames: int) -> None:
        """Frames are missing without a flag."""
        self.advance(frames)

    def skip(self, frames: int) -> None:
        """Frames are missing with a flag, as from a slow connection."""
        self.advance(frames)
        self.deliver(self.frame(flags=Flags.DISCONTINUITY))
        self.advance(1)

    def wrong(self, changes: dict[str, Any]) -> None:
        self.deliver(self.frame(**changes))


small = st.integers(0, 40)
FAULTS = st.one_of(
    st.tuples(st.just("die"), st.integers(0, 1000), small),
    st.tuples(st.just("restart"), st.integers(0, 3000), st.integers(0, 100)),
    st.tuples(st.just("lie"), st.integers(0, 3000)),
    st.tuples(st.just("repeat"), st.integers(1, 40)),
    st.tuples(st.just("lose"), st.integers(1, 40)),
    st.tuples(st.just("skip"), st.integers(1, 40)),
    st.tuples(
        st.just("wrong"),
        st.sampled_from(
            [
                {"codec": Codec.OPUS},
                {"payload": b""},
                {"payload": b"abc"},
                {"n_samples": 0, "payload": b""},
                {"n_samples": 2**31, "payload": b"xx"},
                {"sample_pos": 2**62},
                {"seq": 0xFFFFFFFF},
            ]
        ),
    ),
    st.tuples(st.just("play"), st.integers(1, 10)),
)


async def heard(faults: list[tuple[Any, ...]]) -> tuple[World, list[Block]]:
    """What a listener gets, with audio without faults at the end."""
    world = World()
    for name, *arguments in faults:
        getattr(world, name)(*arguments)
        await asyncio.sleep(0)
    world.play(round((LAST_S + REPEATED_S) * 48_000 / FRAME))
    await asyncio.sleep(0)
    inbox, blocks = Inbox(10**9), []
    for data in world.wire:
        head = 2 if data[1] < 126 else 4 if data[1] == 126 else 10
        inbox.take(protocol.unpack_frame(data[head:]))
        while (block := inbox.pop()) is not None:
            blocks.append(block)
    assert inbox.damaged == 0
    return world, blocks


@settings(max_examples=60, deadline=None)
@given(st.lists(FAULTS, max_size=6))
@example([("wrong", {"sample_pos": 2**62})])
@example([("lie", 0)])
@example([("repeat", 40), ("die", 1000, 40)])
@example([("restart", 0, 0), ("wrong", {"codec": Codec.OPUS})])
@example([("wrong", {"payload": b"abc"}), ("lose", 1)])
def test_each_sample_is_in_its_place_or_a_gap_is_announced(faults: list[tuple[Any, ...]]) -> None:
    world, blocks = asyncio.run(heard(faults))
    assert blocks
    for before, after in itertools.pairwise(blocks):
        if not after.discontinuity:
            assert after.sample_pos == before.sample_pos + len(before.samples)
    for block in blocks:
        values = np.rint(block.samples * 32768)
        if block.sample_pos < 2**61:  # the wrong position itself is announced too
            assert (values[:, 1] == np.arange(block.sample_pos, block.sample_pos + len(values)) % 30_000).all()
        assert len(set(values[:, 0])) == 1
    last = [block for block in blocks if round(float(block.samples[0, 0]) * 32768) == world.clock]
    assert last, "the newest audio arrives"
    assert last[-1].sample_pos + len(last[-1].samples) == world.pos
    tail = sum(len(block.samples) for block in last)
    assert tail >= (LAST_S - 0.1) * 48_000, "no long silence after the faults"


def test_without_faults_nothing_is_announced() -> None:
    _, blocks = asyncio.run(heard([("play", 10), ("die", 20, 0), ("repeat", 5), ("play", 3)]))
    assert not any(block.discontinuity for block in blocks)
    assert len(blocks) > 80
