"""Where segments begin and end, and what a break in the audio does to them."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

import av
import numpy as np
import pytest

from riffstream.audio.aac import FRAME, AacEncoder
from riffstream.protocol import SAMPLE_RATE, Flags
from riffstream.server.hls.rendition import KEPT, SLOT, Rendition
from riffstream.station.outlet import Chunk

BLOCK = 4800


def chunks(seconds: float, *, start: int = 0, bit_rate: int = 64_000, broken: bool = False) -> Iterator[Chunk]:
    """What an outlet gives for a tone that begins at ``start``."""
    encoder = AacEncoder(start=start, bit_rate=bit_rate)
    flags = Flags.DISCONTINUITY if broken else Flags.NONE
    for at in range(0, round(seconds * SAMPLE_RATE), BLOCK):
        tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(start + at, start + at + BLOCK) / SAMPLE_RATE)
        packets = [p for p in encoder.push(np.stack([tone, tone], 1).astype(np.float32)) if p.sample_pos >= 0]
        if packets:
            data = b"".join(packet.data for packet in packets)
            yield Chunk(packets[0].sample_pos, FRAME * len(packets), 0, flags, data)
            flags = Flags.NONE


def played(parts: Sequence[Iterator[Chunk]], bit_rate: int = 64_000) -> Rendition:
    rendition = Rendition(bit_rate)
    for part in parts:
        for chunk in part:
            rendition.push(chunk)
    return rendition


def check(rendition: Rendition) -> None:
    """What holds of every rendition: numbers without holes, places that fit them, audio that can be decoded."""
    segments = list(rendition.segments)
    assert segments
    assert [each.number for each in segments] == list(range(segments[0].number, segments[0].number + len(segments)))
    for segment in segments:
        if segment.data:
            assert segment.number * SLOT <= segment.sample_pos < (segment.number + 1) * SLOT
            assert 0 < segment.n_samples <= SLOT + FRAME
            with av.open(io.BytesIO(rendition.init + segment.data)) as container:
                assert sum(frame.samples for frame in container.decode(audio=0)) == segment.n_samples


@pytest.mark.parametrize("start", [0, 76_800, 24 * 3600 * SAMPLE_RATE])
def test_segments_follow_each_other_on_the_clock(start: int) -> None:
    rendition = played([chunks(13, start=start)])
    check(rendition)
    assert len(rendition.segments) >= 5
    for one, other in zip(list(rendition.segments)[:-1], list(rendition.segments)[1:], strict=True):
        assert other.sample_pos == one.sample_pos + one.n_samples
        assert not other.broken
        assert 0 <= other.sample_pos - other.number * SLOT < FRAME


def test_renditions_have_the_same_borders_whenever_they_began() -> None:
    early = played([chunks(16, start=0, bit_rate=64_000)], 64_000)
    late = played([chunks(10, start=76_800 * 3, bit_rate=256_000)], 256_000)
    borders = {each.number: (each.sample_pos, each.n_samples) for each in early.segments}
    shared = [each for each in late.segments if each.number in borders]
    assert len(shared) >= 3
    assert all(borders[each.number] == (each.sample_pos, each.n_samples) for each in shared)


def test_the_first_segment_is_whole_and_not_broken() -> None:
    first = played([chunks(7, start=76_800, broken=True)]).segments[0]
    assert (first.number, first.broken) == (1, False)
    assert first.n_samples > SLOT - FRAME


def test_a_break_in_the_audio_costs_one_segment_and_is_said() -> None:
    rendition = played([chunks(7), chunks(7, start=7 * SAMPLE_RATE + BLOCK, broken=True)])
    check(rendition)
    empty = [each.number for each in rendition.segments if not each.data]
    assert empty == [3]
    assert [each.number for each in rendition.segments if each.broken] == [4]


def test_a_long_hole_is_filled_with_empty_segments() -> None:
    rendition = played([chunks(7), chunks(7, start=20 * SAMPLE_RATE, broken=True)])
    check(rendition)
    assert [each.number for each in rendition.segments if each.broken] == [10]
    assert [each.number for each in rendition.segments if not each.data] == list(range(4, 10))


def test_audio_that_is_missing_without_a_flag_is_a_break_as_well() -> None:
    rendition = played([chunks(7), chunks(7, start=9 * SAMPLE_RATE)])
    check(rendition)
    assert [each.number for each in rendition.segments if each.broken] == [5]


def test_old_segments_go_and_their_breaks_are_counted() -> None:
    rendition = played([chunks(5), chunks(2 * KEPT + 9, start=5 * SAMPLE_RATE, broken=True)])
    assert len(rendition.segments) == KEPT
    assert rendition.breaks == 1
    assert rendition.segment(rendition.segments[0].number) is rendition.segments[0]
    assert rendition.segment(rendition.segments[0].number - 1) is None
    assert rendition.segment(rendition.segments[-1].number + 1) is None


def test_bytes_that_are_no_frames_are_an_error() -> None:
    with pytest.raises(ValueError, match="ADTS"):
        Rendition(64_000).push(Chunk(0, FRAME, 0, Flags.NONE, b"no frame at all"))
