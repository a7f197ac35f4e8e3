"""Audio files: round trips, and everything a user might hand over by mistake or on purpose."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import IO

import mutagen
import numpy as np
import pytest
import soundfile

from riffstream.audio.decode import downmix
from riffstream.audio.files import AudioFileWriter, audio_info, read_audio, write_audio
from riffstream.audio.writing import FORMATS
from riffstream.errors import MediaError, MediaWarning, ParameterError
from tests.audio.signals import RATE, lag, music, noise, tone

TAGS = {"title": "lo-fi rain, jazz", "bpm": "120", "seed": "7", "comment": "süß"}
LENGTH = RATE + 321


@pytest.mark.parametrize("extension", FORMATS)
def test_written_files_read_back_with_their_length_and_tags(extension: str, tmp_path: Path) -> None:
    wave, path = music(LENGTH), tmp_path / f"a.{extension}"
    with AudioFileWriter(path, RATE, tags=TAGS) as writer:
        for at in range(0, LENGTH, 7_000):
            writer.write(wave[at : at + 7_000])
    audio = read_audio(path)
    assert (audio.samples.shape, audio.sample_rate) == (wave.shape, RATE)
    if extension in ("wav", "flac"):
        np.testing.assert_allclose(audio.samples, wave, atol=1 / 32_000)
    else:
        assert lag(wave, audio.samples) == (0, pytest.approx(0.95, abs=0.05))
    tags = mutagen.File(path)
    found = str({key.lower(): tags[key] for key in tags}).lower()
    assert all(value in found for value in TAGS.values())
    assert os.listdir(tmp_path) == [path.name]
    assert audio_info(path).seconds == pytest.approx(LENGTH / RATE)


@pytest.mark.parametrize("extension", FORMATS)
def test_a_file_object_gets_the_same_file(extension: str, tmp_path: Path) -> None:
    class Pipe(io.RawIOBase):  # cannot seek, as a socket
        def __init__(self) -> None:
            self.data = b""

        def writable(self) -> bool:
            return True

        def write(self, data: bytes) -> int:  # type: ignore[override]
            self.data += bytes(data)
            return len(data)

    wave, pipe = music(5_000), Pipe()
    write_audio(pipe, wave, RATE, TAGS, format=extension)  # type: ignore[arg-type]
    audio = read_audio(pipe.data)
    assert audio.samples.shape == wave.shape
    assert not pipe.closed
    with pytest.raises(ParameterError, match="no name"):
        AudioFileWriter(io.BytesIO(), RATE)


def test_24_bits_keep_what_16_lose(tmp_path: Path) -> None:
    wave = noise(1_000, level=1e-5)
    for bits, worst in ((16, 2e-5), (24, 1e-6)):
        with AudioFileWriter(tmp_path / "a.flac", RATE, bits=bits) as writer:
            writer.write(wave)
        assert 0 < np.abs(read_audio(tmp_path / "a.flac").samples - wave).max() < worst


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    write_audio(path, tone(440, -6, 0.1), RATE)
    before = path.read_bytes()

    def interrupted() -> None:
        with AudioFileWriter(path, RATE) as writer:
            writer.write(noise(100_000))
            assert path.read_bytes() == before
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.wav"]


@pytest.mark.parametrize("extension", ["wav", "flac", "mp3", "ogg"])
def test_a_full_disk_is_one_clear_error_and_leaves_nothing(
    extension: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def __init__(self, file: IO[bytes]) -> None:
            self.inner, self.closed = file, False

        def write(self, data: bytes) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def close(self) -> None:
            self.closed = True
            self.inner.close()

    def write() -> None:
        with AudioFileWriter(tmp_path / f"a.{extension}", RATE) as writer:
            monkeypatch.setattr(writer._sink, "file", Full(writer._sink.file))
            writer.write(noise(500_000))

    with pytest.raises(MediaError, match=r"cannot write .*a\.\w+: No space left on device"):
        write()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("target", "problem"), [("missing/a.wav", "no such file"), ("folder.wav", "it is a folder"), ("a.wav/b.wav", "")]
)
def test_places_that_cannot_be_written_are_named(target: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "a.wav").write_bytes(b"x")
    with pytest.raises(MediaError, match=f"(?i)cannot write .*{target}: .*{problem}"):
        AudioFileWriter(tmp_path / target, RATE)


def test_formats_refuse_what_they_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="wav, flac, ogg, opus, mp3"):
        AudioFileWriter(tmp_path / "a.xyz", RATE)
    with pytest.raises(ParameterError, match=r"sample_rate is 96000.*mp3"):
        AudioFileWriter(tmp_path / "a.mp3", 96_000)
    with pytest.raises(ParameterError, match="channels"):
        AudioFileWriter(tmp_path / "a.mp3", RATE, 6)
    with pytest.raises(ParameterError, match="bits"):
        AudioFileWriter(tmp_path / "a.wav", RATE, bits=8)
    writer = AudioFileWriter(tmp_path / "a.wav", RATE)
    writer.n_samples = 2**30 - 1_000_000  # as after six hours
    with pytest.raises(MediaError, match="4 GiB"):
        writer.write(noise(1_100_000))
    writer.discard()
    with pytest.raises(ValueError, match="closed"):
        writer.write(noise(1))
    assert os.listdir(tmp_path) == []


@pytest.fixture
def convert(need_tool: Callable[[str], str], tmp_path: Path) -> Callable[..., Path]:
    """``convert(name, *options)``: two seconds of music as ffmpeg writes them."""
    program = need_tool("ffmpeg")
    write_audio(tmp_path / "source.wav", music(2 * RATE), RATE)

    def run(name: str, *options: str) -> Path:
        command = [program, "-v", "error", "-i", str(tmp_path / "source.wav"), *options, str(tmp_path / name)]
        subprocess.run(command, check=True)
        return tmp_path / name

    return run


def test_a_start_between_two_samples_is_the_same_sample_after_any_seek(tmp_path: Path) -> None:
    """Odd multiples of 5 ms lie halfway between two samples of 44.1 kHz."""
    write_audio(tmp_path / "a.wav", noise(3 * 44_100), 44_100)
    whole = read_audio(tmp_path / "a.wav").samples
    for ms in range(5, 2900, 70):
        part = read_audio(tmp_path / "a.wav", start_s=ms / 1000, max_seconds=0.01, cut=True).samples
        first = round(ms / 1000 * 44_100)
        np.testing.assert_array_equal(part, whole[first : first + len(part)], err_msg=f"{ms} ms")


@pytest.mark.parametrize("name", ["a.m4a", "a.webm", "a.mka", "a.aif", "a.mp3", "a.opus", "a.w64"])
def test_what_soundfile_does_not_know_libav_reads(name: str, convert: Callable[..., Path]) -> None:
    path = convert(name)
    audio = read_audio(path)
    assert lag(music(2 * RATE), audio.samples) == (0, pytest.approx(0.92, abs=0.09))
    assert abs(len(audio.samples) - 2 * RATE) < 1_024
    part = read_audio(path, start_s=1, max_seconds=0.5, cut=True)
    shift, found = lag(audio.samples[RATE : RATE + RATE // 2], part.samples)
    assert len(part.samples) == RATE // 2
    assert abs(shift) <= RATE * 3 // 1_000  # Matroska's clock counts milliseconds, Vorbis starts within a block
    assert found > 0.97


@pytest.mark.parametrize(("name", "pretends"), [("a.mp3", "b.wav"), ("a.flac", "b.mp3"), ("a.m4a", "b.raw")])
def test_the_content_decides_not_the_name(name: str, pretends: str, convert: Callable[..., Path]) -> None:
    path = convert(name)
    path = path.rename(path.with_name(pretends))
    assert lag(music(2 * RATE), read_audio(path).samples)[1] > 0.9


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.webm"])
def test_a_truncated_file_gives_what_is_there(name: str, convert: Callable[..., Path]) -> None:
    path = convert(name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.warns(MediaWarning, match="cut short: "):
        audio = read_audio(path)
    assert 0.3 * RATE < len(audio.samples) < 1.9 * RATE
    assert lag(music(2 * RATE)[: RATE // 2], audio.samples[: RATE // 2]) == (0, pytest.approx(0.95, abs=0.06))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "it is empty"),
        (b"hello, this is no sound at all\n" * 50, "not audio"),
        (b"#EXTM3U\nfile:///etc/passwd\n", "not audio"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "not audio"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", "not audio"),
        (bytes(5_000), "not audio"),
    ],
)
def test_what_is_no_audio_is_one_clear_error(content: bytes, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    path.write_bytes(content)
    with pytest.raises(MediaError, match=f"cannot read .*song.wav: .*{problem}"):
        read_audio(path)
    with pytest.raises(MediaError, match=f"cannot read the audio: .*{problem}"):
        read_audio(content)


def test_random_bytes_never_crash_the_reader() -> None:
    rng = np.random.default_rng(0)
    heads = [b"", b"ID3\x04\0\0\0\0\0\0", b"\xff\xfb\x90\x00", b"fLaC", b"OggS", b"RIFF....WAVE", b"\0\0\0\x18ftypM4A "]
    for head in heads:
        for _ in range(3):
            with contextlib.suppress(MediaError):
                assert np.isfinite(read_audio(head + rng.bytes(3_000)).samples).all()


def test_missing_files_folders_and_devices_are_named(tmp_path: Path) -> None:
    for path, problem in (
        (tmp_path / "no.wav", "no such file"),
        (tmp_path, "a folder"),
        (Path("/dev/zero"), "regular"),
    ):
        with pytest.raises(MediaError, match=problem):
            read_audio(path)
    with pytest.raises(MediaError, match="null"):
        read_audio("a\0b.wav")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_numbers_are_refused_with_their_place(bad: float, tmp_path: Path) -> None:
    wave = noise(RATE)
    wave[24_000, 1] = bad
    soundfile.write(tmp_path / "a.wav", wave, RATE, subtype="FLOAT")
    with pytest.raises(MediaError, match=r"not numbers, the first at 0.500 s"):
        read_audio(tmp_path / "a.wav")


def test_one_sample_is_audio_and_none_is_not(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", np.full((1, 2), 0.5, np.float32), RATE)
    assert read_audio(tmp_path / "a.wav", sample_rate=44_100).samples.shape == (1, 2)
    write_audio(tmp_path / "b.wav", np.zeros((0, 2), np.float32), RATE)
    with pytest.raises(MediaError, match="no sound"):
        read_audio(tmp_path / "b.wav")


def test_eight_channels_at_192_khz_become_stereo_at_48(tmp_path: Path) -> None:
    wave = np.zeros((19_200, 8), np.float32)
    wave[:, 0] = tone(1_000, -6, 0.1, rate=192_000, channels=1)[:, 0]
    soundfile.write(tmp_path / "a.wav", wave, 192_000)
    audio = read_audio(tmp_path / "a.wav", sample_rate=48_000, channels=2)
    assert audio.samples.shape == (4_800, 2)
    assert np.abs(audio.samples[:, 1]).max() < 1e-4
    assert np.abs(audio.samples[1_000:-1_000, 0]).max() == pytest.approx(0.5 / 3.121, abs=0.01)  # 1 + 3 x 0.707
    assert read_audio(tmp_path / "a.wav").channels == 8


@pytest.mark.parametrize("channels", range(1, 13))
def test_downmix_never_clips_and_keeps_the_sides_apart(channels: int) -> None:
    ones = np.ones((4, channels), np.float32)
    np.testing.assert_allclose(downmix(ones, 2), 1, rtol=1e-6)
    np.testing.assert_allclose(downmix(ones, 1), 1, rtol=1e-6)
    if channels > 1:
        left = np.zeros((1, channels), np.float32)
        left[0, 0] = 1
        mixed = downmix(left, 2)
        assert mixed[0, 0] > 0 == mixed[0, 1]


def header_of_ten_hours() -> bytes:
    """A WAV file that says it holds ten hours of 16-bit stereo (4 GiB at most), and does for the first block."""
    size = 36_000 * 8_000 * 2 * 2
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 2, 8_000, 32_000, 4, 16)
    return struct.pack("<4sI4s", b"RIFF", size + 36, b"WAVE") + form + struct.pack("<4sI", b"data", size)


def test_ten_hours_are_refused_before_decoding_and_read_in_part(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    with open(path, "wb") as file:  # sparse: it takes no space
        file.write(header_of_ten_hours())
        file.truncate(44 + 36_000 * 8_000 * 4)
    assert audio_info(path).seconds == 36_000
    with pytest.raises(MediaError, match="longer than the 3600 s allowed"):
        read_audio(path)
    assert len(read_audio(path, start_s=35_000, max_seconds=2, cut=True).samples) == 16_000


def test_a_header_that_lies_about_its_length_costs_no_memory() -> None:
    with pytest.warns(MediaWarning, match="cut short: 4044 of"):
        audio = read_audio(header_of_ten_hours() + bytes(4_000))
    assert audio.samples.shape == (1_000, 2)


def test_length_limit_counts_what_is_decoded(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.mp3", music(2 * RATE), RATE)
    assert read_audio(tmp_path / "a.mp3", max_seconds=2).seconds == 2
    with pytest.raises(MediaError, match=r"longer than the 1\.5 s"):
        read_audio(tmp_path / "a.mp3", max_seconds=1.5)
    assert read_audio(tmp_path / "a.mp3", max_seconds=1.5, cut=True).seconds == 1.5
    with pytest.raises(MediaError, match=r"no sound .* from 60 s on"):
        read_audio(tmp_path / "a.mp3", start_s=60)


def test_a_file_object_and_bytes_read_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    write_audio(path, music(10_000), RATE)
    with open(path, "rb") as file:
        from_object = read_audio(file)
    np.testing.assert_array_equal(from_object.samples, read_audio(path).samples)
    np.testing.assert_array_equal(from_object.samples, read_audio(path.read_bytes()).samples)
    assert read_audio(path, mono=True).samples.shape == (10_000, 1)


@pytest.mark.parametrize("options", [{"channels": 3}, {"max_seconds": 0}, {"start_s": -1}, {"sample_rate": 3}])
def test_bad_options_are_named(options: dict[str, int], tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", noise(100), RATE)
    with pytest.raises(ParameterError, match=next(iter(options))):
        read_audio(tmp_path / "a.wav", **options)


def test_a_name_may_be_as_long_as_names_can_be(tmp_path: Path) -> None:
    path = tmp_path / f"{'n' * 251}.wav"
    write_audio(path, noise(100), RATE)
    assert audio_info(path).channels == 2
    assert list(tmp_path.iterdir()) == [path]
