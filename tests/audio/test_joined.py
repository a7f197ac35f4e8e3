"""Files from elsewhere: joined, changing midway, damaged, with several streams. ffmpeg writes and judges."""

from __future__ import annotations

import itertools
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from riffstream.audio.files import Audio, audio_blocks, audio_info, read_audio
from riffstream.audio.joined import parts_of
from riffstream.errors import MediaError, MediaWarning
from tests.audio.signals import Pcm, lag, music

Make = Callable[..., Path]
SECONDS = 1.5
CODECS = {
    "mp3": ["libmp3lame"], "ogg": ["libvorbis"], "opus": ["libopus"], "oga": ["flac", "-f", "ogg"], "flac": ["flac"],
    "wav": ["pcm_s16le"], "aif": ["pcm_s16be"], "w64": ["pcm_s16le"], "caf": ["pcm_s16be"], "m4a": ["aac"],
    "mka": ["flac"], "webm": ["libopus"], "aac": ["aac"], "ts": ["aac", "-f", "mpegts"], "mp2": ["mp2"],
    "au": ["pcm_s16be"], "tta": ["tta"], "wv": ["wavpack"], "voc": ["pcm_s16le"], "wma": ["wmav2"],
    "flv": ["aac"],
}  # fmt: skip
# ffmpeg decodes the priming and padding between two joined files as sound.
TOLERANCE_S = 0.1


@pytest.fixture(scope="module")
def make(need_tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Make:
    """``make("mp3", 440, rate, channels)``: a tone in a file of its kind, made once."""
    program, folder = need_tool("ffmpeg"), tmp_path_factory.mktemp("pieces")

    def run(kind: str, hz: int = 440, rate: int = 44_100, channels: int = 1, options: tuple[str, ...] = ()) -> Path:
        path = folder / f"{hz}_{rate}_{channels}_{len(options)}.{kind}"
        if not path.exists():
            source = f"sine={hz}:duration={SECONDS}:sample_rate={rate}"
            codec = ["-c:a", *CODECS[kind]]
            command = [program, "-v", "error", "-f", "lavfi", "-i", source, "-ac", str(channels), *codec, *options]
            subprocess.run([*command, str(path)], check=True)
        return path

    return run


def decoded_by_ffmpeg(path: Path) -> float:
    """Seconds of sound that ffmpeg's command line decodes of a file."""
    command = [
        "ffmpeg",
        "-v",
        "quiet",
        "-i",
        str(path),
        "-map",
        "0:a:0",
        "-f",
        "s16le",
        "-ac",
        "1",
        "-ar",
        "48000",
        "-",
    ]
    return len(subprocess.run(command, capture_output=True, check=False).stdout) / 2 / 48_000


def join(target: Path, *pieces: Path) -> Path:
    target.write_bytes(b"".join(piece.read_bytes() for piece in pieces))
    return target


def quietly(path: Path, **options: int) -> tuple[Audio, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        audio = read_audio(path, **options)
    return audio, [str(each.message) for each in caught]


def pitch(samples: Pcm, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples[:, 0] * np.hanning(len(samples))))
    return float(spectrum.argmax() * rate / len(samples))


@pytest.mark.parametrize("kind", CODECS)
def test_joined_files_are_read_to_the_end(kind: str, make: Make, tmp_path: Path) -> None:
    path = join(tmp_path / f"both.{kind}", make(kind, 440), make(kind, 660, 48_000, 2))
    audio, notes = quietly(path)
    assert notes == []
    assert audio.seconds == pytest.approx(2 * SECONDS, abs=TOLERANCE_S)
    rate, middle = audio.sample_rate, len(audio.samples) // 2
    assert (rate, audio.channels) == (audio_info(path).sample_rate, 1)
    assert pitch(audio.samples[: middle - rate // 10], rate) == pytest.approx(440, abs=2)
    assert pitch(audio.samples[middle + rate // 10 :], rate) == pytest.approx(660, abs=2)
    if kind in ("mp3", "ogg", "opus", "oga", "aac", "ts", "mp2"):  # the others' second part is lost on ffmpeg
        assert decoded_by_ffmpeg(path) == pytest.approx(audio.seconds, abs=TOLERANCE_S)
    if kind in ("mp3", "ogg", "opus", "oga", "flac", "wav", "aif", "caf", "m4a", "au", "tta", "wv", "voc"):  # gapless
        assert audio.seconds == 2 * SECONDS


@settings(max_examples=15, deadline=None)
@given(
    order=st.lists(st.sampled_from(["mp3", "ogg", "opus", "flac", "wav", "aif", "m4a", "caf"]), min_size=1, max_size=4)
)
def test_any_mixture_of_kinds_is_read_or_said(
    order: list[str], make: Make, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rates = itertools.cycle((44_100, 48_000))
    pieces = [make(kind, 440, next(rates), 1) for kind in order]
    audio, notes = quietly(join(tmp_path_factory.mktemp("mixed") / "song", *pieces))
    assert notes == []
    assert audio.seconds == pytest.approx(SECONDS * len(order), abs=TOLERANCE_S)


def test_channels_that_are_wanted_are_taken_from_each_part(make: Make, tmp_path: Path) -> None:
    left = tmp_path / "left.wav"
    soundfile.write(left, np.stack([np.full(48_000, 0.5), np.zeros(48_000)], 1), 48_000)
    path = join(tmp_path / "both.wav", make("wav"), left)
    late = round((SECONDS + 0.2) * 44_100)
    assert read_audio(path, channels=2).samples[late:].mean(0) == pytest.approx([0.5, 0], abs=1e-3)
    assert read_audio(path, channels=1).samples[late:].mean() == pytest.approx(0.25, abs=1e-3)


@pytest.mark.parametrize("kind", ["mp3", "ogg", "aac", "flac", "m4a", "wav"])
def test_a_start_lies_where_it_lies_in_the_whole(kind: str, make: Make, tmp_path: Path) -> None:
    path = join(tmp_path / f"a.{kind}", make(kind), make(kind, 660))
    whole = read_audio(path)
    part = read_audio(path, start_s=1.2345, max_seconds=1, cut=True)
    at = round(1.2345 * whole.sample_rate)
    np.testing.assert_allclose(part.samples, whole.samples[at : at + whole.sample_rate], atol=1e-6)
    blocks = list(audio_blocks(path, sample_rate=whole.sample_rate))
    np.testing.assert_array_equal(np.concatenate(blocks), whole.samples)


@pytest.mark.parametrize("kind", ["m4a", "flac", "wav"])
def test_a_jump_is_exact(kind: str, make: Make) -> None:
    path = make(kind, 523)
    assert audio_info(path).exact
    whole, part = read_audio(path), read_audio(path, start_s=0.9)
    np.testing.assert_allclose(part.samples, whole.samples[round(0.9 * 44_100) :], atol=1e-3)  # AAC has random noise


@pytest.mark.parametrize("kind", ["mp3", "ogg", "opus", "m4a", "flac", "wav"])
def test_priming_and_padding_are_no_sound(kind: str, make: Make) -> None:
    assert read_audio(make(kind)).seconds == SECONDS
    assert audio_info(make(kind)).seconds == pytest.approx(SECONDS, abs=1e-4)


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [
        *itertools.product(["WAV"], ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"]),
        *itertools.product(["WAVEX", "AIFF", "CAF", "RF64", "W64", "FLAC", "AU"], ["PCM_16", "PCM_24"]),
        ("NIST", "PCM_16"), ("PAF", "PCM_16"), ("VOC", "PCM_16"),
    ],
)  # fmt: skip
def test_lossless_files_are_read_bit_for_bit(kind: str, subtype: str, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a", music(50_000), 44_100, format=kind, subtype=subtype)
    want, _ = soundfile.read(tmp_path / "a", dtype="float32")
    np.testing.assert_array_equal(read_audio(tmp_path / "a").samples, want)
    np.testing.assert_array_equal(read_audio(tmp_path / "a", start_s=0.5).samples, want[22_050:])


@pytest.mark.parametrize("stated", [0, 0xFFFFFFFF, 0x7FFFF024])
@pytest.mark.parametrize("twice", [False, True])
def test_a_wav_file_of_a_pipe_is_read_whole(stated: int, twice: bool, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", music(30_000), 48_000)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    data[4:8] = data[40:44] = stated.to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(bytes(data) * (1 + twice))
    audio, notes = quietly(tmp_path / "a.wav")
    assert (len(audio.samples), notes) == (30_000 * (1 + twice), [])


@pytest.mark.parametrize("kind", ["flac", "ogg", "mp3", "m4a", "ts", "opus"])
def test_damage_is_left_out_and_said(kind: str, make: Make, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", music(6 * 48_000), 48_000)
    path = tmp_path / f"a.{kind}"
    subprocess.run(["ffmpeg", "-v", "error", "-i", tmp_path / "a.wav", "-c:a", *CODECS[kind], path], check=True)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3_000 : 2] = bytes(1_500)
    path.write_bytes(data)
    audio, notes = quietly(path)
    assert 3 < audio.seconds < 6.1
    assert np.abs(audio.samples).max() < 8  # a damaged packet that decodes is loud at worst
    (note,) = notes
    assert note.startswith(f"{path}: ")
    assert "damaged" in note or "cut short" in note or "clock" in note


def test_tags_between_two_files_are_no_damage(make: Make, tmp_path: Path) -> None:
    plain = make("mp3", options=("-write_xing", "0"))
    audio, notes = quietly(join(tmp_path / "a.mp3", plain, plain))
    assert notes == []
    assert audio.seconds == pytest.approx(2 * SECONDS, abs=TOLERANCE_S)


def test_where_all_is_damaged_it_is_refused(make: Make, tmp_path: Path) -> None:
    data = make("flac").read_bytes()
    start = data.index(b"\xff\xf8")  # the first frame
    (tmp_path / "a.flac").write_bytes(data[:start] + np.random.default_rng(0).bytes(len(data) - start))
    with pytest.raises(MediaError, match=r"a\.flac"):
        read_audio(tmp_path / "a.flac")


def test_a_second_stream_is_said_and_the_default_one_read(make: Make, tmp_path: Path) -> None:
    low, high = make("wav", 440), make("wav", 660)
    for default, want in (("0", 440), ("1", 660)):
        other = "1" if default == "0" else "0"
        command = ["ffmpeg", "-v", "error", "-y", "-i", str(low), "-i", str(high), "-map", "0", "-map", "1"]
        flags = [f"-disposition:a:{default}", "default", f"-disposition:a:{other}", "0"]
        subprocess.run([*command, *flags, str(tmp_path / "a.mka")], check=True)
        audio, notes = quietly(tmp_path / "a.mka")
        assert pitch(audio.samples, 44_100) == pytest.approx(want, abs=2)
        assert "2 audio streams" in notes[0]
        assert f"number {int(default) + 1} was read" in notes[0]


def test_pictures_and_films_beside_the_sound_do_not_matter(make: Make, tmp_path: Path) -> None:
    film = ["-f", "lavfi", "-i", f"testsrc=duration={SECONDS}:size=64x48:rate=10"]
    subprocess.run(["ffmpeg", "-v", "error", *film, "-i", str(make("wav")), str(tmp_path / "a.mp4")], check=True)
    subprocess.run(
        ["ffmpeg", "-v", "error", *film, "-i", str(make("mp3")), "-map", "1", "-map", "0", "-c:a", "copy",
         "-frames:v", "1", "-disposition:v", "attached_pic", str(tmp_path / "a.mp3")],
        check=True,
    )  # fmt: skip
    for name in ("a.mp4", "a.mp3"):
        audio, notes = quietly(tmp_path / name)
        assert (audio.seconds, notes) == (pytest.approx(SECONDS, abs=0.03), [])


def test_a_gap_in_the_clock_is_closed_and_said(make: Make, tmp_path: Path) -> None:
    early, late = make("ts"), tmp_path / "late.ts"
    command = ["ffmpeg", "-v", "error", "-i", str(early), "-c", "copy", "-output_ts_offset", "7", "-f", "mpegts"]
    subprocess.run([*command, str(late)], check=True)
    path = join(tmp_path / "gap.ts", early, late)
    audio, notes = quietly(path)
    assert audio.seconds == pytest.approx(2 * SECONDS, abs=TOLERANCE_S)
    assert decoded_by_ffmpeg(path) == pytest.approx(audio.seconds, abs=TOLERANCE_S)
    assert "clock leaves out 5." in notes[0]


@pytest.mark.parametrize("layout", ["5.1", "7.1", "4.0", "quad", "2.1", "5.0(side)"])
def test_surround_keeps_its_sides(layout: str, need_tool: Callable[[str], str], tmp_path: Path) -> None:
    for name in ("FL", "FR", "FC"):
        if name == "FC" and layout in ("quad", "2.1"):
            continue
        tone = f"sine=440:duration=0.3[a];[a]pan={layout}|{name}=c0"
        command = [need_tool("ffmpeg"), "-v", "error", "-y", "-f", "lavfi", "-i", tone, str(tmp_path / "a.flac")]
        subprocess.run(command, check=True)
        left, right = np.sqrt((read_audio(tmp_path / "a.flac", channels=2).samples ** 2).mean(0))
        heard = {"FL": left > 0 and right < 1e-4, "FR": right > 0 and left < 1e-4, "FC": left == right > 0}
        assert heard[name], (layout, name, left, right)


def test_tags_in_any_encoding_do_not_matter(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", music(1_000), 48_000)
    data = (tmp_path / "a.wav").read_bytes()
    title = b"INAM\x06\0\0\0caf\xe9\0\0"
    data += b"LIST" + (len(title) + 4).to_bytes(4, "little") + b"INFO" + title
    (tmp_path / "a.wav").write_bytes(data[:4] + (len(data) - 8).to_bytes(4, "little") + data[8:])
    assert len(read_audio(tmp_path / "a.wav").samples) == 1_000


def test_samples_far_beyond_full_scale_are_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.array([0.1, 1e30, 0.1], np.float32), 48_000, subtype="FLOAT")
    with pytest.raises(MediaError, match=r"a\.wav has samples of 1e\+30"):
        read_audio(tmp_path / "a.wav")


def test_what_libraries_raise_names_the_file(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make("wav")
    for error in (
        ValueError("odd frame"),
        MemoryError(),
        OSError(5, "Input/output error"),
        RuntimeError("lost"),
        KeyError(3),
    ):

        def fail(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr("riffstream.audio.decode._as_float", fail)
        with pytest.raises(MediaError, match=rf"cannot read .*{path.name}: "):
            read_audio(path)


def test_a_long_file_is_searched_in_pieces(make: Make, tmp_path: Path) -> None:
    ogg, mp3 = make("ogg"), make("mp3")
    for pad in range((1 << 20) - 70, (1 << 20) + 10, 9):  # headers across the border of two pieces
        data = mp3.read_bytes()
        filler = data[-400:] * (pad // 400 + 1)
        first = data + filler[: pad - len(data)]
        (tmp_path / "a").write_bytes(first + ogg.read_bytes())
        with open(tmp_path / "a", "rb") as file:
            assert [part.start for part in parts_of(file)] == [0, len(first)]


def test_nothing_was_joined_that_was_not(make: Make) -> None:
    for kind in CODECS:
        with open(make(kind), "rb") as file:
            assert len(parts_of(file)) == 1, kind


def test_streams_side_by_side_are_no_joined_files(make: Make, tmp_path: Path) -> None:
    command = ["ffmpeg", "-v", "error", "-i", str(make("ogg")), "-i", str(make("opus")), "-map", "0", "-map", "1"]
    subprocess.run([*command, "-c", "copy", str(tmp_path / "a.ogg")], check=True)
    with open(tmp_path / "a.ogg", "rb") as file:
        assert len(parts_of(file)) == 1
    with pytest.warns(MediaWarning, match="2 audio streams"):
        assert read_audio(tmp_path / "a.ogg").seconds == pytest.approx(SECONDS, abs=0.01)


def test_a_reader_that_stops_early_is_told_of_other_streams(make: Make, tmp_path: Path) -> None:
    command = ["ffmpeg", "-v", "error", "-i", str(make("wav")), "-i", str(make("mp3")), "-map", "0", "-map", "1"]
    subprocess.run([*command, str(tmp_path / "a.mka")], check=True)
    blocks = audio_blocks(tmp_path / "a.mka", sample_rate=44_100)
    next(blocks)
    with pytest.warns(MediaWarning, match="2 audio streams"):
        blocks.close()


def test_the_same_sound_comes_out_of_every_format(make: Make) -> None:
    want = read_audio(make("wav", 440, 48_000)).samples
    for kind in ("mp3", "ogg", "opus", "m4a", "flac"):
        assert lag(want, read_audio(make(kind, 440, 48_000)).samples)[0] == 0, kind
