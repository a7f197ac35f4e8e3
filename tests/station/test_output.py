"""What leaves a station: one outlet an encoder, the ring behind all of them."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from riffstream.config import Config, EncodersSettings, TimelineSettings
from riffstream.errors import ParameterError
from riffstream.station.block import Block
from riffstream.station.outlet import CODECS, HLS_KBPS, Chunk, StationEndedError, hls_codec
from riffstream.station.output import Output
from tests.conftest import PATIENCE_S

FRAME = 4800
TIMELINE = TimelineSettings(ring_s=10.0, frame_ms=100)
CONFIG = Config(timeline=TIMELINE, encoders=EncodersSettings(opus_kbps=96, mp3_kbps=160))


def filled(blocks: int) -> Output:
    """Block number n is n / 100 throughout; revision n is heard at its samples."""
    output = Output(CONFIG, lambda pos: pos // FRAME)
    for number in range(blocks):
        output.push(Block(number * FRAME, np.full((FRAME, 2), number / 100, np.float32), number, False))
    return output


async def test_each_encoder_has_one_outlet_whatever_its_audio_is_packed_in() -> None:
    output = filled(0)
    outlets = {codec: output.outlet(codec) for codec in CODECS}
    assert all(output.outlet(codec) is outlet for codec, outlet in outlets.items())
    assert len(set(outlets.values())) == len(CODECS) - 1  # of WAV and PCM
    assert outlets["wav"] is outlets["pcm_s16"]
    assert outlets["ogg"].codec == "ogg"  # its bit rate is another
    same = Output(Config(encoders=EncodersSettings(opus_kbps=96, ogg_kbps=96)), lambda pos: 0)
    assert same.outlet("ogg") is same.outlet("opus")
    with pytest.raises(ParameterError, match="codec is 'vinyl'"):
        output.outlet("vinyl")


async def test_a_new_outlet_begins_with_the_newest_audio_and_its_revisions() -> None:
    output = filled(70)
    outlet = output.outlet("pcm_s16")
    heard: list[Chunk | None] = []
    assert output.running == []
    await outlet.start(heard.append)
    chunks = [chunk for chunk in heard if chunk is not None]
    assert [chunk.rev for chunk in chunks] == list(range(20, 70))
    assert [chunk.sample_pos for chunk in chunks] == [number * FRAME for number in range(20, 70)]
    assert output.running == ["pcm_s16"]
    outlet.stop()
    assert output.running == []
    output.close()


async def test_recordings_are_the_newest_audio() -> None:
    output = filled(70)
    start, pcm = output.recording(0.15)
    assert (start, len(pcm)) == (70 * FRAME - 7200, 7200)
    assert pcm[[0, -1], 0] == pytest.approx([0.68, 0.69], abs=1e-4)
    start, pcm = output.recording(60.0)
    assert (start, len(pcm)) == (0, 70 * FRAME)


async def test_the_longest_recording_is_all_there_while_the_next_seconds_come() -> None:
    output = filled(200)
    start, pcm = output.recording(CONFIG.recording_s)
    assert (start, len(pcm)) == (200 * FRAME - 480_000, 480_000)
    for number in range(200, 220):  # what is committed while a thread reads
        output.push(Block(number * FRAME, np.ones((FRAME, 2), np.float32), number, False))
    assert output.recording(12.0)[0] == start


async def test_an_outlet_of_a_station_that_is_gone_is_closed() -> None:
    output = filled(10)
    before = output.outlet("mp3")
    output.close()
    late = output.outlet("pcm_s16")
    for outlet in (before, late):
        with pytest.raises(StationEndedError):
            await asyncio.wait_for(outlet.start(lambda chunk: None), PATIENCE_S)
        assert outlet.closed
        assert not outlet.running


async def test_renditions_of_hls_begin_where_a_block_and_an_aac_frame_begin_together() -> None:
    output = filled(150)
    for codec in map(hls_codec, HLS_KBPS):
        recent = output.outlet(codec)._recent()
        assert recent[0].pos % 1024 == 0
        assert recent[-1].pos == 149 * FRAME
        assert len(recent) * FRAME > 10 * 48_000
