"""audio-to-image, image-to-audio and print-exif, end to end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from riffstream.audio.files import read_audio
from tests.commands.conftest import RunResult, make_song, picture

Run = Callable[..., RunResult]


def loudest_hz(samples: np.ndarray, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(spectrum.argmax()) * rate / len(samples)


def test_a_song_survives_the_way_to_an_image_and_back(run: Run, song: Path, tmp_path: Path) -> None:
    image, audio = tmp_path / "a.png", tmp_path / "b.flac"
    assert run("audio-to-image", "--audio", song, "--image", image, "--stereo") == (0, f"Wrote {image}\n", "")
    assert picture(image).shape == (512, 301, 3)
    code, out, err = run("image-to-audio", "--image", image, "--audio", audio, "--json")
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert report == {"written": [str(audio)], "seconds": pytest.approx(3, abs=0.02), "exif": True}
    back = read_audio(audio)
    assert (back.sample_rate, back.channels) == (44_100, 2)
    middle = back.samples[44_100:88_200]
    assert loudest_hz(middle[:, 0], 44_100) == pytest.approx(440, abs=5)
    assert loudest_hz(middle[:, 1], 44_100) == pytest.approx(1_000, abs=10)


def test_print_exif_shows_riffusions_fields(run: Run, song: Path, tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    run("audio-to-image", "--audio", song, "--image", image, "--step-size-ms", "20", "--num-frequencies", "128")
    code, out, _ = run("print-exif", "--image", image)
    assert code == 0
    assert "STEP_SIZE_MS         =              20\n" in out
    told = json.loads(run("print-exif", "--image", image, "--json")[1])
    assert (told["sample_rate"], told["num_frequencies"], told["stereo"]) == (44_100, 128, 0)
    assert run("print-exif", "--image", image, "--quiet") == (0, "", "")
    assert picture(image).shape == (128, 151, 3)


@pytest.mark.parametrize("extension", ["jpg", "webp"])
def test_other_image_formats_carry_the_parameters_too(extension: str, run: Run, song: Path, tmp_path: Path) -> None:
    image = tmp_path / f"a.{extension}"
    assert run("audio-to-image", "--audio", song, "--image", image, "--quiet") == (0, "", "")
    assert json.loads(run("print-exif", "--image", image, "--json")[1])["max_frequency"] == 10_000


def test_an_image_without_exif_takes_riffusions_defaults_and_says_so(run: Run, song: Path, tmp_path: Path) -> None:
    image, bare = tmp_path / "a.png", tmp_path / "bare.png"
    run("audio-to-image", "--audio", song, "--image", image)
    Image.fromarray(picture(image)).save(bare)
    code, out, err = run("image-to-audio", "--image", bare, "--audio", tmp_path / "b.wav")
    assert (code, out) == (0, f"Wrote {tmp_path / 'b.wav'}\n")
    assert (
        err == f"riffstream image-to-audio: {bare} has no spectrogram parameters in its EXIF; "
        "assuming Riffusion's (44100 Hz, 10 ms hop, mono)\n"
    )
    assert read_audio(tmp_path / "b.wav").channels == 1
    code, _, err = run("print-exif", "--image", bare)
    assert code == 2
    assert "has no spectrogram parameters" in err


def test_key_transposes_and_bpm_needs_beats(run: Run, song: Path, tmp_path: Path) -> None:
    image, audio = tmp_path / "a.png", tmp_path / "b.wav"
    run("audio-to-image", "--audio", song, "--image", image, "--stereo")
    assert run("image-to-audio", "--image", image, "--audio", audio, "--key", "-5")[0] == 0
    pitch = loudest_hz(read_audio(audio).samples[44_100:88_200, 0], 44_100)
    assert pitch == pytest.approx(440 * 2 ** (-5 / 12), abs=5)
    assert run("image-to-audio", "--image", image, "--audio", audio, "--key", "7")[0] == 2
    code, _, err = run("image-to-audio", "--image", image, "--audio", audio, "--bpm", "90")
    assert (code, "FRAMES_PER_BEAT" in err) == (2, True)


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (22_050, 2), (96_000, 6)])
def test_any_rate_and_number_of_channels_becomes_an_image(rate: int, channels: int, run: Run, tmp_path: Path) -> None:
    song, image = make_song(tmp_path / "odd.wav", rate=rate, channels=channels, seconds=1), tmp_path / "a.png"
    assert run("audio-to-image", "--audio", song, "--image", image)[0] == 0
    told = json.loads(run("print-exif", "--image", image, "--json")[1])
    assert told["sample_rate"] == (rate if rate >= 20_000 else 44_100)  # the mel range needs twice 10 kHz
    pixels = picture(image)
    assert pixels.shape == (512, 101, 3)
    assert pixels[:, 50, 0].argmin() > 340  # 1 kHz and lower lie in the lowest third


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--audio", "{song}", "--image", "a.gif"], "--image is 'a.gif'; allowed: a name that ends in .png"),
        (["--audio", "{song}", "--image", "a.png", "--max-frequency", "90000"], "max_frequency"),
        (["--audio", "{song}", "--image", "a.png", "--num-frequencies", "0"], "num_frequencies is 0; allowed: 1 to"),
        (["--audio", "{song}", "--image", "a.png", "--step-size-ms", "ten"], "--step-size-ms"),
        (["--audio", "{song}", "--image", "a.png", "--max-seconds", "2"], "longer than the 2 s allowed"),
        (["--audio", "{song}", "--image", "a.png", "--device", "tpu"], "--device is 'tpu'; allowed: auto"),
        (["--audio", "{song}", "--image", "{tmp}/no/a.png"], "cannot write"),
        (["--audio", "missing.wav", "--image", "a.png"], "cannot read missing.wav: no such file"),
        (["--audio", "{tmp}", "--image", "a.png"], "it is a folder"),
        (["--image", "a.png"], "--audio"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, run: Run, song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run("audio-to-image", *[a.format(song=song, tmp=tmp_path) for a in arguments])
    assert (code, out) == (2, "")
    assert err.startswith("riffstream audio-to-image: ")
    assert err.count("\n") == 1
    assert message in err
    assert os.listdir(tmp_path) == ["song.wav"]


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\nbroken", b"just text"])
def test_an_image_that_is_none_is_named(content: bytes, run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(content)
    for command in (["image-to-audio", "--audio", tmp_path / "b.wav"], ["print-exif"]):
        code, _, err = run(*command, "--image", tmp_path / "a.png")
        assert (code, err.count("\n"), "a.png" in err) == (2, 1, True)
    code, _, err = run("image-to-audio", "--image", tmp_path / "a.png", "--audio", tmp_path / "b.xyz")
    assert (code, "wav, flac, ogg, opus, mp3" in err) == (2, True)


@pytest.mark.slow
def test_the_installed_program_does_the_same(song: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "riffstream", "audio-to-image", "--audio", str(song), "--image", "a.png"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Wrote a.png\n", "")


def test_a_sample_rate_of_nothing_is_no_default(run: Run, song: Path, tmp_path: Path) -> None:
    code, _, err = run("audio-to-image", "--audio", song, "--image", tmp_path / "x.png", "--sample-rate", 0)
    assert code == 2
    assert "sample_rate is 0" in err


def test_stereo_without_exif_is_told_by_its_planes_or_by_an_option(run: Run, song: Path, tmp_path: Path) -> None:
    image, bare, audio = tmp_path / "a.png", tmp_path / "bare.png", tmp_path / "b.wav"
    run("audio-to-image", "--audio", song, "--image", image, "--stereo")
    Image.fromarray(picture(image)).save(bare)
    for options, channels in (((), 2), (("--stereo",), 2), (("--mono",), 1)):
        code, _, err = run("image-to-audio", "--image", bare, "--audio", audio, *options)
        assert (code, read_audio(audio).channels) == (0, channels)
        assert ("stereo" if channels == 2 else "mono") in err
    run("image-to-audio", "--image", image, "--audio", tmp_path / "want.wav")
    run("image-to-audio", "--image", bare, "--audio", audio)
    np.testing.assert_array_equal(read_audio(audio).samples, read_audio(tmp_path / "want.wav").samples)


def test_parameters_that_an_image_lacks_are_given_by_options(run: Run, tmp_path: Path) -> None:
    song, image, bare, audio = (tmp_path / name for name in ("s.wav", "a.png", "bare.png", "b.wav"))
    make_song(song, rate=32_000)
    run("audio-to-image", "--audio", song, "--image", image, "--step-size-ms", 5)
    Image.fromarray(picture(image)).save(bare)
    options = ("--sample-rate", 32_000, "--step-size-ms", 5)
    assert run("image-to-audio", "--image", bare, "--audio", audio, *options)[0] == 0
    want = tmp_path / "want.wav"
    run("image-to-audio", "--image", image, "--audio", want)
    assert read_audio(audio).sample_rate == 32_000
    np.testing.assert_array_equal(read_audio(audio).samples, read_audio(want).samples)
    code, _, err = run("image-to-audio", "--image", bare, "--audio", audio, "--max-frequency", 30_000)
    assert code == 2
    assert "max_frequency" in err


def test_remarks_on_a_file_are_one_line(run: Run, song: Path, tmp_path: Path) -> None:
    data = song.read_bytes()
    song.write_bytes(data[: len(data) // 2])
    code, _, err = run("audio-to-image", "--audio", song, "--image", tmp_path / "a.png")
    assert (code, err.count("\n")) == (0, 1)
    assert err.startswith(f"riffstream audio-to-image: {song}: it is cut short: ")
    assert run("audio-to-image", "--audio", song, "--image", tmp_path / "a.png", "--quiet") == (0, "", "")


def test_an_image_may_have_a_name_as_long_as_names_can_be(tmp_path: Path) -> None:
    from PIL import Image

    from riffstream.commands._reports import save_image

    save_image(Image.new("RGB", (8, 8)), tmp_path / f"{'n' * 251}.png")
    assert len(list(tmp_path.glob("*.png"))) == 1
