"""Ogg streams of their own for each listener, from the packets of one encoder."""

from __future__ import annotations

import io
import json
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from riffstream.audio.ogg import PRE_SKIP, OggOpusLinks, PageBody, one_line, page_bodies
from riffstream.audio.opus import OpusEncoder
from riffstream.errors import ParameterError
from tests.audio.signals import RATE, ffmpeg_decode, lag, music

FRAME = 960


@pytest.fixture(scope="module")
def encoded() -> tuple[np.ndarray, OpusEncoder, list[bytes]]:
    """Four seconds of sound, and its packets."""
    wave, encoder = music(4 * RATE), OpusEncoder()
    return wave, encoder, [packet.data for packet in encoder.push(wave)]


def pages(data: bytes) -> list[tuple[int, int, int, int, bytes]]:
    """Flags, granule, serial, sequence and content of every page; the checksums are right and nothing lies between."""
    found, at = [], 0
    while at < len(data):
        mark, version, flags, granule, serial, sequence, given = struct.unpack_from("<4sBBqIII", data, at)
        assert (mark, version) == (b"OggS", 0)
        lacing = data[at + 27 : at + 27 + data[at + 26]]
        end = at + 27 + len(lacing) + sum(lacing)
        crc = 0
        for byte in data[at : at + 22] + bytes(4) + data[at + 26 : end]:  # bit by bit, as RFC 3533 has it
            crc ^= byte << 24
            for _ in range(8):
                crc = (crc << 1 ^ 0x04C11DB7 if crc >> 31 else crc << 1) & 0xFFFFFFFF
        assert crc == given
        found.append((flags, granule, serial, sequence, data[at + 27 + len(lacing) : end]))
        at = end
    return found


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.binary(max_size=700), min_size=1, max_size=20),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(-1, 2**60),
    st.sampled_from([0, 2, 4]),
)
def test_a_page_has_the_checksum_of_rfc_3533(
    packets: list[bytes], serial: int, sequence: int, granule: int, flags: int
) -> None:
    page = PageBody(packets, 0).page(serial=serial, sequence=sequence, granule=granule, flags=flags)
    assert pages(page) == [(flags, granule, serial, sequence, b"".join(packets))]


def test_packets_go_into_as_few_pages_as_hold_them() -> None:
    bodies = page_bodies([b"x" * 1000] * 130, FRAME)  # four lacing values each
    assert [len(body.packets) for body in bodies] == [63, 63, 4]
    assert [body.n_samples for body in bodies] == [63 * FRAME, 63 * FRAME, 4 * FRAME]
    with pytest.raises(ParameterError, match="255 or fewer"):
        PageBody([b"x" * 70_000], FRAME)


def stream(encoder: OpusEncoder, packets: list[bytes], titles: dict[int, str], sizes: tuple[int, ...] = (25,)) -> bytes:
    """An Ogg stream from a packet on (``titles[first]``), with a change of title at the other packets."""
    first = min(titles)
    links = OggOpusLinks(encoder.header, serial=7)
    data, at, n = links.begin({"title": titles[first]}), first, 0
    while at < len(packets):
        size = sizes[n % len(sizes)]
        if any(at < change <= at + size for change in titles):
            links.retitle({"title": next(titles[change] for change in titles if at < change <= at + size)})
        for body in page_bodies(packets[at : at + size], FRAME):
            data += links.push(body)
        at, n = at + size, n + 1
    return data


def test_a_late_joiner_begins_at_zero_with_a_decoder_that_has_converged(
    encoded: tuple[np.ndarray, OpusEncoder, list[bytes]], need_tool: Callable[[str], str], tmp_path: Path
) -> None:
    wave, encoder, packets = encoded
    data = stream(encoder, packets, {50: "late"})
    found = pages(data)
    assert [(flags, granule) for flags, granule, *_ in found[:3]] == [(2, 0), (0, 0), (0, 25 * FRAME)]
    assert [sequence for *_, sequence, _ in found] == list(range(len(found)))
    path = tmp_path / "late.ogg"
    path.write_bytes(data)
    probe = [need_tool("ffprobe"), "-v", "error", "-show_entries", "packet=pts", "-of", "json", str(path)]
    first = json.loads(subprocess.run(probe, capture_output=True, check=True).stdout)["packets"][0]
    assert int(first["pts"]) == -PRE_SKIP
    decoded = ffmpeg_decode(need_tool("ffmpeg"), data)
    assert len(decoded) == (len(packets) - 50) * FRAME - PRE_SKIP
    expected = wave[50 * FRAME + PRE_SKIP - encoder.priming :]
    shift, likeness = lag(expected[:4800], decoded[:4800])
    assert (shift, likeness > 0.9) == (0, True)


@pytest.mark.parametrize("sizes", [(25,), (1,), (2, 9, 1)])
def test_a_new_title_begins_a_new_link_and_no_sample_is_lost_or_doubled(
    encoded: tuple[np.ndarray, OpusEncoder, list[bytes]], need_tool: Callable[[str], str], sizes: tuple[int, ...]
) -> None:
    _, encoder, packets = encoded
    whole = ffmpeg_decode(need_tool("ffmpeg"), stream(encoder, packets, {10: "one"}))
    data = stream(encoder, packets, {10: "one", 60: "two", 130: "three"}, sizes)
    chained = ffmpeg_decode(need_tool("ffmpeg"), data)
    assert len(chained) == len(whole)
    for at in range(0, len(whole) - 2400, 2400):  # 50 ms at a time, the seams too
        shift, likeness = lag(whole[at : at + 2400], chained[at : at + 2400])
        assert (shift, likeness > 0.97) == (0, True), f"at sample {at}"
    found = pages(data)
    assert [serial for flags, _, serial, *_ in found if flags & 2] == [7, 8, 9]
    assert [serial for flags, _, serial, *_ in found if flags & 4] == [7, 8]
    titles = [content for *_, content in found if content.startswith(b"OpusTags")]
    assert [title.rpartition(b"TITLE=")[2] for title in titles] == [b"one", b"two", b"three"]


def test_other_decoders_read_the_first_link(encoded: tuple[np.ndarray, OpusEncoder, list[bytes]]) -> None:
    """libsndfile, which knows no chained streams, opens one and plays its beginning."""
    _, encoder, packets = encoded
    wave, rate = soundfile.read(io.BytesIO(stream(encoder, packets, {0: "one"})), dtype="float32")
    assert (rate, len(wave)) == (RATE, len(packets) * FRAME - PRE_SKIP)


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("rock 'n' \"roll\"; x=y", "rock 'n' \"roll\"; x=y"),
        ("two\nlines\r\nARTIST=me\0", "two lines ARTIST=me"),
        ("ночь 夜 ♫ 👩‍🎤", "ночь 夜 ♫ 👩‍🎤"),
        ("broken \ud800 pair", "broken pair"),
        ("", ""),
    ],
)
def test_a_title_is_one_comment_of_valid_text(
    title: str, shown: str, encoded: tuple[np.ndarray, OpusEncoder, list[bytes]]
) -> None:
    record = pages(OggOpusLinks(encoded[1].header).begin({"title": title, "artist": "a"}))[1][4]
    assert comments(record) == [f"TITLE={shown}", "ARTIST=a"]
    assert one_line(title) == shown


@given(st.text(max_size=3000))
def test_any_title_fits_a_page(title: str) -> None:
    head = b"OpusHead" + bytes(11)
    first, _ = comments(pages(OggOpusLinks(head).begin({"title": title * 5, "artist": title}))[1][4])
    assert first.startswith("TITLE=")
    assert len(first.encode()) <= 4000
    assert f"TITLE={one_line(title * 5)}".startswith(first)


def comments(record: bytes) -> list[str]:
    """What an ``OpusTags`` record says; it ends where its lengths end."""
    assert record.startswith(b"OpusTags")
    at = 12 + int.from_bytes(record[8:12], "little")
    count, at = int.from_bytes(record[at : at + 4], "little"), at + 4
    found = []
    for _ in range(count):
        size = int.from_bytes(record[at : at + 4], "little")
        found.append(record[at + 4 : at + 4 + size].decode())
        at += 4 + size
    assert at == len(record)
    return found
