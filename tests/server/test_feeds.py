"""A feed by itself: frames of each wire format, joined from an encoder's chunks."""

from __future__ import annotations

import gc
import itertools
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riffstream import protocol
from riffstream.protocol import Flags
from riffstream.server.fanout import Fanout
from riffstream.server.feeds import WIRES, Feed, OggPackets, _Packager, whole_chunks
from riffstream.station.outlet import Chunk, StationEndedError
from tests.server.fakes import FakeStation
from tests.server.test_registry import until


@pytest.fixture
async def station() -> AsyncIterator[FakeStation]:
    made = FakeStation()
    made.advance(6 * 48_000)
    yield made
    await made.close()


CHUNKS = st.lists(
    st.tuples(
        st.sampled_from([960, 1920, 4800]), st.integers(0, 2), st.sampled_from([Flags.NONE, Flags.DISCONTINUITY])
    ),
    max_size=40,
)


@given(CHUNKS, st.sampled_from([20, 100, 500]))
def test_frames_hold_every_chunk_once_and_never_mix_revisions(
    parts: list[tuple[int, int, Flags]], frame_ms: int
) -> None:
    fanout = Fanout(capacity=1000)
    packager = _Packager(WIRES["v1-opus"], frame_ms * 48, fanout)
    pos, rev, chunks = 0, 0, []
    for n_samples, step, flags in parts:
        pos += 480 if flags else 0
        rev += step
        chunks.append(Chunk(pos, n_samples, rev, flags, b"%d," % pos))
        packager.push(chunks[-1])
        pos += n_samples
    frames = [fanout.frame(seq) for seq in range(fanout.first_seq, fanout.next_seq)]
    done = [protocol.unpack_frame(frame.wire[2 if frame.wire[1] < 126 else 4 :]) for frame in frames]
    told = b"".join(frame.payload for frame in done)
    assert b"".join(chunk.payload for chunk in chunks).startswith(told)
    assert sum(frame.n_samples for frame in done) + packager._samples == sum(chunk.n_samples for chunk in chunks)
    assert [frame.seq for frame in done] == list(range(len(done)))
    for one, two in itertools.pairwise(done):
        gap = one.sample_pos + one.n_samples != two.sample_pos
        assert bool(two.flags & Flags.DISCONTINUITY) == gap
        assert two.rev >= one.rev
    for frame in done:
        revs = {
            chunk.rev for chunk in chunks if frame.sample_pos <= chunk.sample_pos < frame.sample_pos + frame.n_samples
        }
        assert revs == {frame.rev}


@pytest.mark.parametrize("passive_ms", [20, 40, 100, 250, 500, 501, 2000])
@pytest.mark.parametrize("chunk_ms", [20, 40, 60, 200, 1000])
def test_a_frame_is_as_long_as_announced(chunk_ms: int, passive_ms: int) -> None:
    """``welcome.frame_ms`` is the length of the frames, not the configured one."""
    announced = whole_chunks(passive_ms, chunk_ms)
    fanout = Fanout(capacity=1000)
    packager = _Packager(WIRES["v1-opus"], announced * 48, fanout)
    for number in range(200):
        packager.push(Chunk(number * chunk_ms * 48, chunk_ms * 48, 0, Flags.NONE, b"x"))
    frames = [fanout.frame(seq) for seq in range(fanout.first_seq, fanout.next_seq)]
    assert {frame.n_samples for frame in frames} == {announced * 48}
    assert abs(announced - passive_ms) <= chunk_ms / 2 or announced == chunk_ms


async def test_a_new_wire_format_begins_with_what_was_played(station: FakeStation) -> None:
    feed = await Feed.open(station.outlet("pcm_s16"), 30.0, lambda feed: None)
    short, long = feed.fanout("v1-pcm_s16", 100), feed.fanout("socket", 500)
    assert feed.fanout("v1-pcm_s16", 100) is short
    assert short.number != long.number
    assert [fanout.next_seq for fanout in (short, long)] == [50, 10]
    assert short.frame(49).sample_pos == station.committed - 4800
    station.advance(48_000)
    await until(lambda: (short.next_seq, long.next_seq) == (60, 12))
    feed.close()
    assert (short.first_seq, long.first_seq) == (60, 12)  # closed feeds keep no audio
    with pytest.raises(IndexError):
        short.frame(59)


async def test_every_wire_format_shares_one_ring_however_late_it_is_asked_for(station: FakeStation) -> None:
    """One station's sockets and streams in Opus share an encoder and its audio; so do PCM and WAV."""
    feed = await Feed.open(station.outlet("opus"), 2.0, lambda feed: None)
    fanouts = [feed.fanout("v1-opus", 100), feed.fanout("ogg", 500)]
    station.advance(4 * 48_000)
    late = feed.fanout("v1-opus", 500)
    await until(lambda: late.frame(late.next_seq - 1).sample_pos > station.committed - 48_000)
    assert station.outlet("ogg") is feed.source
    kept = [chunk for chunk in gc.get_objects() if type(chunk) is Chunk]
    assert {id(chunk) for chunk in kept} == {id(chunk) for chunk in feed._ring}
    assert sum(chunk.n_samples for chunk in kept) <= 2.1 * 48_000
    assert not any(frame._built for fanout in (*fanouts, late) for frame in fanout._frames)  # nobody listens
    feed.close()
    del kept
    assert not [chunk for chunk in gc.get_objects() if type(chunk) is Chunk]
    assert not station.outlet("opus").running


async def test_frames_of_one_second_hold_the_same_packets_in_every_wire_format(station: FakeStation) -> None:
    feed = await Feed.open(station.outlet("opus"), 30.0, lambda feed: None)
    socket, ogg = feed.fanout("v1-opus", 500), feed.fanout("ogg", 500)
    for seq in range(socket.next_seq):
        frame = socket.frame(seq)
        body = protocol.unpack_frame(frame.wire[4:])
        packets = protocol.split_packets(body.payload)
        wire = ogg.frame(seq).wire
        assert isinstance(wire, OggPackets)
        assert [packet for body in wire.bodies for packet in body.packets] == packets
        assert (body.sample_pos, body.n_samples) == (ogg.frame(seq).sample_pos, ogg.frame(seq).n_samples)
        assert frame.wire is frame.wire
    assert socket.next_seq >= 9
    feed.close()


async def test_a_feed_is_idle_from_its_opening_on_until_it_is_held(station: FakeStation) -> None:
    feed = await Feed.open(station.outlet("mp3"), 30.0, lambda feed: None)
    assert feed.idle_since is not None
    feed.hold()
    feed.hold()
    feed.release()
    assert feed.idle_since is None
    feed.release()
    assert feed.idle_since is not None
    feed.close()


async def test_a_feed_tells_that_its_station_ended(station: FakeStation) -> None:
    ended: list[Feed] = []
    feed = await Feed.open(station.outlet("mp3"), 30.0, ended.append)
    station.outlet("mp3").close()
    assert ended == [feed]
    with pytest.raises(StationEndedError):
        await Feed.open(station.outlet("mp3"), 30.0, ended.append)
    assert ended == [feed]
    feed.close()
