"""Segments of fragmented MP4, as a decoder that we did not write reads them."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest

from riffstream.audio.aac import FRAME, AacEncoder
from riffstream.audio.fmp4 import Fmp4Muxer, split_adts

RATE = 48_000


def frames(seconds: float, start: int = 0) -> tuple[int, list[bytes]]:
    """Position of the first frame, and frames without their headers."""
    encoder = AacEncoder(start=start)
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE)) / RATE)
    packets = encoder.push(np.stack([tone, tone], 1).astype(np.float32))
    return packets[0].sample_pos, split_adts(b"".join(packet.data for packet in packets))


def box(data: bytes, name: bytes) -> bytes:
    return data[data.index(name) - 4 :]


@pytest.mark.parametrize("pos", [0, 96_000, 24 * 3600 * RATE + 1, 2**40 + 7])
def test_segments_that_follow_each_other_decode_as_one_stream(pos: int) -> None:
    _, given = frames(6.0)
    muxer = Fmp4Muxer(RATE, 2, 160_000)
    parts = [muxer.segment(k, pos + at * FRAME, given[at : at + 90]) for k, at in enumerate(range(0, 270, 90))]
    with av.open(io.BytesIO(muxer.init + b"".join(parts))) as container:
        stream = container.streams.audio[0]
        assert (stream.codec_context.name, stream.rate, stream.channels) == ("aac", RATE, 2)
        decoded = list(container.decode(stream))
    assert [frame.pts for frame in decoded] == [pos + k * FRAME for k in range(270)]
    wave = np.concatenate([frame.to_ndarray()[0] for frame in decoded])[2 * FRAME :]
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    assert np.argmax(spectrum) * RATE / len(wave) == pytest.approx(440, abs=1)
    assert np.abs(np.diff(wave)).max() < 0.03  # a click would be a jump


def test_each_segment_can_be_decoded_by_itself_and_has_its_number() -> None:
    _, given = frames(2.0)
    muxer = Fmp4Muxer(RATE, 2, 64_000)
    segment = muxer.segment(2**32 + 5, 4096, given)
    assert int.from_bytes(box(segment, b"mfhd")[12:16], "big") == 5
    assert int.from_bytes(box(segment, b"tfdt")[12:20], "big") == 4096
    with av.open(io.BytesIO(muxer.init + segment)) as container:
        assert sum(frame.samples for frame in container.decode(audio=0)) == len(given) * FRAME


def test_the_initialisation_segment_is_the_same_each_time() -> None:
    assert Fmp4Muxer(RATE, 2, 128_000).init == Fmp4Muxer(RATE, 2, 128_000).init
    assert Fmp4Muxer(RATE, 2, 128_000).init[4:8] == b"ftyp"


def test_adts_frames_are_split_and_damage_is_an_error() -> None:
    encoder = AacEncoder()
    packets = encoder.push(np.zeros((10 * FRAME, 2), np.float32))
    joined = b"".join(packet.data for packet in packets)
    assert split_adts(b"") == []
    assert split_adts(joined) == [packet.data[7:] for packet in packets]
    for damaged in (joined[:-1], joined[1:], joined[:5], b"\xff\xf1\x4c\x80\x00\x00\x00"):
        with pytest.raises(ValueError, match="ADTS"):
            split_adts(damaged)
