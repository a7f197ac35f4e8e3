"""Every live encoder against ffmpeg: whole, joined in mid-stream, and packet by packet."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riffstream.audio.encoders import (
    ENCODERS,
    AacEncoder,
    Encoder,
    Mp3Encoder,
    OpusEncoder,
    Packet,
    PcmEncoder,
    make_encoder,
    wav_header,
)
from riffstream.audio.mp3 import lameenc, split_frames
from riffstream.errors import ParameterError
from tests.audio.signals import RATE, ffmpeg_decode, lag, music, pieces, tone

Make = Callable[..., Encoder]


def wav(**more: Any) -> PcmEncoder:
    """PCM behind the header that makes it a WAV stream."""
    encoder = PcmEncoder(**more)
    encoder.header = wav_header(encoder.sample_rate, encoder.channels)
    return encoder


# name -> (factory, least correlation with the input, whether a decoder that reads the stream alone plays the priming)
CODECS: dict[str, tuple[Make, float, bool]] = {
    "mp3": (Mp3Encoder, 0.95, True),
    "mp3-libav": (lambda **more: Mp3Encoder(backend="libav", **more), 0.95, True),
    "aac": (AacEncoder, 0.93, True),
    "aac-fast": (lambda **more: AacEncoder(coder="fast", **more), 0.9, True),
    "wav": (wav, 0.9999, False),
}
LENGTH = 2 * RATE + 123


def encode(encoder: Encoder, pcm: np.ndarray, sizes: tuple[int, ...] = (960, 4_800, 77)) -> list[Packet]:
    packets = [packet for block in pieces(pcm, sizes) for packet in encoder.push(block)]
    return packets + encoder.close()


def body(packets: list[Packet]) -> bytes:
    return b"".join(packet.data for packet in packets)


@pytest.fixture
def ffmpeg(need_tool: Callable[[str], str]) -> str:
    return need_tool("ffmpeg")


@pytest.mark.parametrize("name", CODECS)
def test_decodes_gaplessly_and_in_place(name: str, ffmpeg: str) -> None:
    make, likeness, plays_priming = CODECS[name]
    wave, encoder = music(LENGTH), make()
    packets = encode(encoder, wave)
    decoded = ffmpeg_decode(ffmpeg, encoder.header + body(packets))
    shift, found = lag(wave, decoded)
    assert shift == (encoder.priming if plays_priming else 0)
    assert found > likeness
    assert 0 <= len(decoded) - shift - LENGTH < 2 * max(encoder.frame_samples, 1_152)  # the end is all there
    # Each tenth of a second is as like the input as the whole: nothing is lost or doubled anywhere.
    for at in range(0, LENGTH - 4_800, 4_800):
        assert lag(wave[at : at + 4_800], decoded[at + shift : at + shift + 4_800])[0] == 0, f"at sample {at}"


@pytest.mark.parametrize("name", CODECS)
def test_packets_say_where_they_lie(name: str) -> None:
    make, wave = CODECS[name][0], music(LENGTH)
    encoder = make(start=1_000_000)
    packets = encode(encoder, wave)
    assert packets[0].sample_pos == 1_000_000 - encoder.priming
    for packet, following in pairwise(packets):
        assert following.sample_pos == packet.sample_pos + packet.n_samples
    assert packets[-1].sample_pos + packets[-1].n_samples == 1_000_000 + LENGTH
    assert encoder.close() == []


@pytest.mark.parametrize("part", [0.21, 0.5, 0.77])
@pytest.mark.parametrize("name", CODECS)
def test_a_late_joiner_hears_the_same_from_the_preroll_on(name: str, part: float, ffmpeg: str) -> None:
    make, likeness, _ = CODECS[name]
    wave, encoder = music(LENGTH), make()
    packets = encode(encoder, wave)
    first = int(part * len(packets))
    joined = ffmpeg_decode_leniently(ffmpeg, encoder.header + body(packets[first:]))
    skip = encoder.preroll
    expected = wave[packets[first].sample_pos + skip :]
    shift, found = lag(expected, joined[skip:])
    assert (shift, found > likeness) == (0, True), f"{shift=} {found=}"
    whole = ffmpeg_decode(ffmpeg, encoder.header + body(packets))
    offset = packets[first].sample_pos + skip + (encoder.priming if CODECS[name][2] else 0)
    n = min(len(whole) - offset, len(joined) - skip) - 4_800
    alone, together = joined[skip : skip + n], whole[offset : offset + n]
    if name.startswith(("mp3", "wav")):
        np.testing.assert_allclose(alone, together, atol=1e-4)
    else:  # Opus converges; AAC decoders draw substituted noise themselves
        assert lag(together, alone) == (0, pytest.approx(1, abs=0.02))


def ffmpeg_decode_leniently(program: str, data: bytes) -> np.ndarray:
    """As a player: what the decoder says about the frame that lacks its predecessor's bits does not matter."""
    command = [program, "-v", "quiet", "-i", "-", "-f", "f32le", "-ac", "2", "-ar", str(RATE), "-"]
    done = subprocess.run(command, input=data, capture_output=True, check=True)
    return np.frombuffer(done.stdout, np.float32).reshape(-1, 2)


def test_bare_opus_packets_decode_one_by_one_from_any_packet() -> None:
    wave, encoder = music(LENGTH), OpusEncoder(start=5_000)
    packets = encode(encoder, wave)
    assert {packet.n_samples for packet in packets[:-1]} == {960}
    assert encoder.header.startswith(b"OpusHead")
    for first in (0, 30):
        decoder = av.CodecContext.create("libopus", "r")
        decoder.sample_rate, decoder.layout = RATE, "stereo"
        frames = [frame for packet in packets[first:] for frame in decoder.decode(av.Packet(packet.data))]
        decoded = np.concatenate([frame.to_ndarray().reshape(-1, 2) for frame in frames]).astype(np.float32)
        assert len(decoded) == 960 * len(packets[first:])
        skip = encoder.preroll
        expected = wave[packets[first].sample_pos - 5_000 + skip :]
        assert lag(expected, decoded[skip:]) == (0, pytest.approx(0.95, abs=0.05))


@pytest.mark.parametrize("name", [*CODECS, "opus", "pcm_s16"])
def test_packets_do_not_depend_on_the_blocks(name: str) -> None:
    make: Make = CODECS[name][0] if name in CODECS else ENCODERS[name]
    wave = music(20_000)
    whole = make()
    reference = whole.header + body(encode(whole, wave, (20_000,)))
    for sizes in ((1_000,), (1, 4_999), (960,)):
        encoder = make()
        assert encoder.header + body(encode(encoder, wave, sizes)) == reference


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(1, 3_000), min_size=1, max_size=30))
def test_an_encoder_holds_back_less_than_two_frames_of_opus(sizes: list[int]) -> None:
    encoder, given_samples, sent = OpusEncoder(), 0, 0
    for size in sizes:
        given_samples += size
        sent += sum(packet.n_samples for packet in encoder.push(np.zeros((size, 2), np.float32)))
        assert given_samples - 960 < sent <= given_samples


@pytest.mark.parametrize("name", ENCODERS)
def test_nothing_in_nothing_out_and_a_closed_encoder_stays_closed(name: str) -> None:
    encoder = make_encoder(name)
    assert encoder.push(np.zeros((0, 2), np.float32)) == []
    rest = encoder.close()
    assert sum(packet.n_samples for packet in rest) == 0
    assert encoder.close() == []
    if name != "pcm_s16":
        with pytest.raises(ValueError, match="closed"):
            encoder.push(np.zeros((10_000, 2), np.float32))


@pytest.mark.parametrize("name", ENCODERS)
def test_mono_and_hostile_samples_are_taken(name: str) -> None:
    encoder = make_encoder(name, RATE, 1)
    wave = tone(440, 12, 0.5, channels=1)  # far over full scale
    wave[100:200] = np.nan
    wave[300] = np.inf
    assert sum(packet.n_samples for packet in encode(encoder, wave)) == len(wave) + encoder.priming
    with pytest.raises(ParameterError, match=r"shape \[n, 1\]"):
        make_encoder(name, RATE, 1).push(np.zeros((10, 2), np.float32))


@pytest.mark.parametrize("rate", [32_000, 44_100, 48_000])
@pytest.mark.parametrize("backend", ["lame", "libav"])
def test_mp3_frames_are_constant_in_rate_and_carry_no_header_frame(backend: str, rate: int) -> None:
    if backend == "lame" and lameenc is None:
        pytest.skip("the lameenc package is not installed here")
    encoder = Mp3Encoder(rate, bit_rate=128_000, backend=backend)
    packets = encode(encoder, music(rate))
    assert all(packet.data[:2] in (b"\xff\xfb", b"\xff\xfa") for packet in packets)
    assert len(body(packets)) * 8 * rate / 1_152 / len(packets) == pytest.approx(128_000, rel=0.01)
    assert not any(mark in body(packets) for mark in (b"Xing", b"Info", b"ID3"))
    frames, rest = split_frames(body(packets) + b"\xff\xfb\x94")
    assert (frames, rest) == ([packet.data for packet in packets], b"\xff\xfb\x94")
    with pytest.raises(ValueError, match="byte 0"):
        split_frames(b"RIFFxxxx")


def test_pcm_rounds_clips_and_dithers_the_same_for_any_blocks() -> None:
    values = np.array([[0.0, 1.0], [-1.0, 2.0], [-3.0, 0.5 / 32_767], [1.5 / 32_767, -0.4 / 32_767]], np.float32)
    samples = np.frombuffer(PcmEncoder().push(values)[0].data, "<i2")
    assert samples.tolist() == [0, 32_767, -32_767, 32_767, -32_768, 0, 2, 0]
    quiet = np.full((40_000, 2), 0.3 / 32_767, np.float32)
    dithered = np.frombuffer(body(encode(PcmEncoder(dither="tpdf"), quiet, (333, 1))), "<i2")
    np.testing.assert_array_equal(dithered, np.frombuffer(PcmEncoder(dither="tpdf").push(quiet)[0].data, "<i2"))
    assert dithered.mean() == pytest.approx(0.3, abs=0.02)  # what rounding alone would have made 0
    assert dithered.std() == pytest.approx(0.5, abs=0.05)  # a triangle of two steps, and the rounding


def test_wav_header_with_and_without_a_length() -> None:
    assert wav_header(48_000, 2, 10)[-4:] == (40).to_bytes(4, "little")
    assert wav_header(48_000, 2)[4:8] == b"\xff\xff\xff\xff"
    with pytest.raises(ParameterError, match="4 GiB"):
        wav_header(48_000, 2, 2**31)


@pytest.mark.parametrize(
    ("make", "options", "field"),
    [
        (OpusEncoder, {"sample_rate": 44_100}, "sample_rate"),
        (OpusEncoder, {"frame_ms": 21}, "frame_ms"),
        (OpusEncoder, {"complexity": 11}, "complexity"),
        (OpusEncoder, {"bit_rate": 1}, "bit_rate"),
        (OpusEncoder, {"channels": 3}, "channels"),
        (Mp3Encoder, {"sample_rate": 96_000}, "sample_rate"),
        (Mp3Encoder, {"bit_rate": 100_000}, "bit_rate"),
        (Mp3Encoder, {"quality": 9}, "quality"),
        (Mp3Encoder, {"backend": "fhg"}, "backend"),
        (Mp3Encoder, {"channels": 6}, "channels"),
        (AacEncoder, {"sample_rate": 47_000}, "sample_rate"),
        (AacEncoder, {"coder": "slow"}, "coder"),
        (AacEncoder, {"channels": 6}, "channels"),
        (PcmEncoder, {"dither": "pink"}, "dither"),
    ],
)
def test_bad_options_are_named(make: Make, options: dict[str, Any], field: str) -> None:
    with pytest.raises(ParameterError, match=field):
        make(**options)


def test_make_encoder_knows_the_names_and_their_bit_rates() -> None:
    assert isinstance(make_encoder("mp3", bit_rate=128_000), Mp3Encoder)
    with pytest.raises(ParameterError, match="opus, pcm_s16, mp3"):
        make_encoder("flac")
    with pytest.raises(ParameterError, match="fixed rate"):
        make_encoder("pcm_s16", bit_rate=1)
