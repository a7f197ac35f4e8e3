"""Numbers of the original's audio stage (see tests/data/parity_audio.json; tolerances from the parity notes).

The compact set runs everywhere; the full one where ``../shared/parity`` lies beside the repository.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from riffstream.spectrogram import parity
from riffstream.spectrogram.analysis import analyse, stft_magnitude
from riffstream.spectrogram.convert import audio_to_image
from riffstream.spectrogram.griffin_lim import griffin_lim
from riffstream.spectrogram.image import amplitudes_from_image, image_from_amplitudes, read_image, save_image
from riffstream.spectrogram.mel import filterbank
from riffstream.spectrogram.params import SpectrogramParams

DATA = Path(__file__).parents[1] / "data"
FULL = Path(__file__).parents[3] / "shared" / "parity"
FACTS = json.loads((DATA / "parity_audio.json").read_text())
RIFFUSION = SpectrogramParams.riffusion()


@pytest.fixture(scope="module")
def data():
    with np.load(DATA / "parity_audio.npz") as file:
        return dict(file)


def off(got, want):
    got, want = np.asarray(got, dtype=np.float64), np.asarray(want, dtype=np.float64)
    return np.abs(got - want).max() / np.abs(want).max()


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("kind", ["mono", "stereo"])
def test_mel_and_pixels_of_audio(data, kind):
    samples = data["wav_head"]
    if kind == "mono":
        samples = samples.astype(np.int32).sum(0, keepdims=True) >> 1  # as the original mixes
    params = SpectrogramParams.riffusion(stereo=kind == "stereo")
    mel = analyse(torch.from_numpy(samples.astype(np.float32)), params, frames=80)
    facts = FACTS["audio_to_image"][kind]
    difference = np.abs(mel[..., [32, 64]].numpy() - data[f"a2i_{kind}/mel_frames_32_64"]).max()
    assert difference / facts["mel_max"] < 1e-5
    image = np.asarray(image_from_amplitudes(mel.numpy(), params, max_value=facts["mel_max"]))[:, 20:80].astype(int)
    want = data[f"a2i_{kind}/pixels_20_80"].astype(int)
    assert np.abs(image - want).max() <= 1
    assert (image != want).mean() <= 0.002


@pytest.mark.parametrize("case", sorted(FACTS["image_to_spectrogram"]))
def test_image_to_amplitudes(data, case):
    got = amplitudes_from_image(data[f"i2s/{case.split('_')[0]}_in"], **FACTS["image_to_spectrogram"][case])
    assert got.shape == data[f"i2s/{case}"].shape
    assert off(got, data[f"i2s/{case}"]) < 1e-6


@pytest.mark.parametrize("kind", ["mono", "stereo"])
def test_amplitudes_to_image(data, kind):
    amplitudes = data["s2i/in"] if kind == "stereo" else data["s2i/in"][:1]
    got = np.asarray(image_from_amplitudes(amplitudes, RIFFUSION)).astype(int)
    want = data[f"s2i/{kind}_out"].astype(int)
    assert np.abs(got - want).max() <= 1
    assert (got != want).mean() <= 0.001


def test_filterbank_sums(data):
    filters = filterbank(RIFFUSION)
    assert off(filters.sum(0), data["invmel/fb_colsum"]) < 1e-6
    assert off(filters.sum(1), data["invmel/fb_rowsum"]) < 1e-6


@pytest.mark.parametrize("iterations", [1, 20, 200])
def test_sgd_inversion(data, iterations, one_thread):
    mel = torch.from_numpy(data["invmel/mel_in"])
    got = parity.invert_mel_sgd(mel, RIFFUSION, iterations=iterations, generator=torch.Generator().manual_seed(0))
    assert off(got[:, 0:4200:25], data[f"invmel/linear_iter{iterations}_bins0_4200_step25"]) < 1e-5


def linear_of(data):
    linear = torch.zeros(1, 8821, 101)
    linear[:, :2001] = torch.from_numpy(data["gl/linear_f16_bins0_2000"].astype(np.float32))
    return linear


@pytest.mark.parametrize(("iterations", "tolerance"), [(0, 1e-4), (1, 2e-3), (2, 2e-3), (8, 5e-3)])
def test_griffin_lim_start(data, iterations, tolerance):
    wave = griffin_lim(linear_of(data), 4410, 441, iterations, n_fft=17640)
    assert wave.shape == (1, 44100)
    assert off(wave[:, :8192], data[f"gl/wave_iter{iterations}_head"]) < tolerance


def test_griffin_lim_32(data):
    linear = linear_of(data)
    wave = griffin_lim(linear, 4410, 441, 32, n_fft=17640)
    want = data["gl/wave_iter32"]
    assert np.linalg.norm(wave.numpy() - want) / np.linalg.norm(want) <= 0.02
    again = stft_magnitude(wave, n_fft=17640, window=4410, hop=441.0)
    got = float((again - linear).norm() / linear.norm())
    assert got == pytest.approx(FACTS["griffin_lim"]["spectral_convergence_iter32"], rel=0.01)


@pytest.mark.parametrize("kind", ["mono", "stereo", "clicky"])
def test_int16_normalise_and_filters(data, kind):
    samples = parity.normalise_int16(data[f"filters/{kind}_wave_in"])
    assert np.abs(samples.astype(int) - data[f"filters/{kind}_int16_normalized"]).max() <= 1
    filtered = parity.apply_filters(data[f"filters/{kind}_int16_normalized"])
    assert np.abs(filtered.astype(int) - data[f"filters/{kind}_int16_filtered"]).max() <= 1


def test_filters_leave_silence_alone():
    silence = np.zeros((1, 100), dtype=np.int16)
    assert np.array_equal(parity.normalise_int16(silence.astype(np.float32)), silence)
    assert np.array_equal(parity.apply_filters(silence), silence)


@pytest.mark.skipif(not FULL.exists(), reason="the full parity set is not beside the repository")
@pytest.mark.parametrize("kind", ["mono", "stereo"])
def test_full_set_png_and_exif(kind, tmp_path):
    facts = json.loads((FULL / "audio.json").read_text())["audio_to_image"][kind]
    wave, _ = soundfile.read(FULL / "inputs" / "clip_v.wav", dtype="float32")
    image = audio_to_image(wave, SpectrogramParams.riffusion(stereo=kind == "stereo"))
    save_image(image, tmp_path / "spectrogram.png")
    got = read_image(tmp_path / "spectrogram.png")
    with Image.open(FULL / "audio" / facts["png"]) as reference:
        want = np.asarray(reference).astype(int)
    pixels = np.asarray(got).astype(int)
    assert np.abs(pixels - want).max() <= 1
    assert (pixels != want).mean() <= 0.002
    exif = dict(got.getexif())
    for tag, entry in facts["exif"].items():
        value = exif[int(tag)]
        assert type(value).__name__ == entry["python_type"]
        assert value == pytest.approx(entry["value"], rel=1e-5)
    assert len(exif) == len(facts["exif"])
