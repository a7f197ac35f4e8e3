import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from riffstream.errors import MediaError, ParameterError
from riffstream.spectrogram import SpectrogramParams, audio_to_image, image_to_audio
from riffstream.spectrogram.image import (
    amplitudes_from_image,
    image_from_amplitudes,
    image_params,
    read_image,
    save_image,
)
from tests.spectrogram.material import convergence, music

MINI = SpectrogramParams.mini()


def amplitudes(channels, seed=0):
    return (np.random.default_rng(seed).random((channels, 64, 20)) ** 4 * 1e6).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 2])
def test_amplitudes_survive_to_a_pixel_step(channels):
    want = amplitudes(channels)
    image = image_from_amplitudes(want, SpectrogramParams.riffusion().replace(num_frequencies=64))
    got = amplitudes_from_image(image, stereo=channels == 2, max_value=float(want.max()))
    step = np.abs((got / want.max()) ** 0.25 - (want / want.max()) ** 0.25)
    assert got.shape == want.shape
    assert step.max() <= 1.01 / 255


def test_stereo_is_green_and_blue_and_loud_is_dark():
    loud_left = np.zeros((2, 4, 3), dtype=np.float32)
    loud_left[0, 0, 1] = 1.0  # lowest frequency, middle frame
    pixels = np.asarray(image_from_amplitudes(loud_left, SpectrogramParams.riffusion(stereo=True)))
    assert tuple(pixels[3, 1]) == (0, 0, 255)
    assert tuple(pixels[0, 0]) == (0, 255, 255)
    mono = np.asarray(image_from_amplitudes(loud_left[:1], SpectrogramParams.riffusion()))
    assert tuple(mono[3, 1]) == (0, 0, 0)
    assert tuple(mono[0, 0]) == (255, 255, 255)


def test_silence_is_white():
    pixels = np.asarray(image_from_amplitudes(np.zeros((1, 4, 4), np.float32), SpectrogramParams.riffusion()))
    assert (pixels == 255).all()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
@pytest.mark.parametrize("params", [SpectrogramParams.riffusion(stereo=True), MINI])
def test_files_keep_parameters(tmp_path, suffix, params):
    image = image_from_amplitudes(amplitudes(2), params)
    save_image(image, tmp_path / f"clip{suffix}")
    back = read_image(tmp_path / f"clip{suffix}")
    assert image_params(back) == params
    difference = np.abs(np.asarray(back).astype(int) - np.asarray(image).astype(int))
    assert difference.mean() < (3 if suffix == ".jpg" else 1e-9)


def test_image_without_parameters_says_so():
    with pytest.warns(UserWarning, match=r"photo\.png has no spectrogram parameters"):
        params = image_params(Image.new("RGB", (10, 512)), name="photo.png")
    assert params == SpectrogramParams.riffusion()


def test_image_with_some_parameters_says_which_are_missing():
    image = Image.new("RGB", (10, 256))
    image.getexif().update({11000: 48000, 11005: 1})
    with pytest.warns(UserWarning, match="has no step_size_ms, window_duration_ms"):
        params = image_params(image)
    assert (params.sample_rate, params.stereo, params.num_frequencies) == (48000, True, 256)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "I;16", "CMYK"])
def test_any_pixel_mode_is_read(mode):
    assert amplitudes_from_image(Image.new(mode, (5, 8))).shape == (1, 8, 5)


@pytest.mark.parametrize(
    "content",
    [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, b"\xff\xd8\xff\xe0" + b"\0" * 64, b"RIFF\4\0\0\0WEBP"],
)
def test_broken_files_give_one_error(tmp_path, content):
    (tmp_path / "broken.png").write_bytes(content)
    with pytest.raises(MediaError, match=r"broken\.png"):
        read_image(tmp_path / "broken.png")


def test_truncated_and_missing_files_give_one_error(tmp_path):
    save_image(image_from_amplitudes(amplitudes(1), SpectrogramParams.riffusion()), tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    for name in ("cut.png", "missing.png"):
        with pytest.raises(MediaError, match=name):
            read_image(tmp_path / name)


def test_unknown_extension_is_refused(tmp_path):
    with pytest.raises(ParameterError, match="png"):
        save_image(Image.new("RGB", (2, 2)), tmp_path / "clip.bmp")


@pytest.mark.parametrize("params", [SpectrogramParams.riffusion(), MINI])
def test_audio_survives_the_round_trip(params):
    wave = music(1.0, rate=params.sample_rate)
    image = audio_to_image(wave.numpy().T, params)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the parameters travel in the image
        back = image_to_audio(image)
    assert back.dtype == np.float32
    assert back.shape == (round(image.width * params.hop()), params.channels)
    assert np.abs(back).max() <= 1
    scale = float(wave.norm()) / float(np.linalg.norm(back.mean(1)) * 2**0.5)
    source = wave.mean(0) * (float(np.linalg.norm(back.mean(1))) / float(wave.mean(0).norm()))
    assert scale > 0
    assert convergence(torch.from_numpy(back.mean(1).copy()), source, params.window) < 0.3


def test_tempo_and_key_of_an_image():
    image = audio_to_image(music(0.5).numpy().T, MINI)
    slow = image_to_audio(image, hop=750.0, key=-2)
    assert len(slow) == image.width * 750


def test_methods_agree_on_length_and_rate():
    params = SpectrogramParams(
        sample_rate=32000, padded_duration_ms=100, num_frequencies=64, max_mel_iters=20, num_griffin_lim_iters=4
    )
    image = audio_to_image(music(0.5, rate=32000).numpy().T, params)
    hop = round(params.hop())
    assert len(image_to_audio(image, params)) == image.width * hop
    assert len(image_to_audio(image, params, method="griffin-lim", iterations=2)) == image.width * hop
    first, again = (image_to_audio(image, params, method="parity", seed=3) for _ in range(2))
    assert len(first) == (image.width - 1) * hop  # the original drops the last hop
    assert np.array_equal(first, again)
    assert not np.array_equal(first, image_to_audio(image, params, method="parity", seed=4))


def test_wrong_height_is_named():
    with pytest.raises(ParameterError, match="image height"):
        image_to_audio(Image.new("RGB", (10, 100)), SpectrogramParams.riffusion())


@pytest.mark.parametrize("wave", [np.zeros((0, 2)), np.zeros((10, 3)), np.full((10, 1), np.nan), np.zeros((2, 2, 2))])
def test_unusable_audio_is_refused(wave):
    with pytest.raises(ParameterError, match="wave"):
        audio_to_image(wave)


def test_mono_and_stereo_convert_into_each_other():
    mono, stereo = np.zeros(4000, np.float32), np.zeros((4000, 2), np.float32)
    assert audio_to_image(mono, MINI).getexif()[11005] == 1
    assert audio_to_image(stereo).getexif()[11005] == 0
