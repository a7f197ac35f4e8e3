import numpy as np
import pytest
import scipy.optimize
import torch

from riffstream.errors import ParameterError
from riffstream.spectrogram.analysis import analyse, stft_magnitude
from riffstream.spectrogram.mel import MelInverter, centre_frequencies, filterbank, triangles
from riffstream.spectrogram.params import SpectrogramParams
from tests.spectrogram.material import music

MINI = SpectrogramParams.mini()


@pytest.mark.parametrize("scale", ["htk", "slaney"])
@pytest.mark.parametrize("norm", [None, "slaney"])
def test_the_frequencies_are_those_of_the_filters(scale, norm):
    params = SpectrogramParams(num_frequencies=96, mel_scale_type=scale, mel_scale_norm=norm)
    ours = triangles(centre_frequencies(params), params)
    torch.testing.assert_close(filterbank(params), ours, rtol=1e-5, atol=1e-7)


def test_mini_filters_are_none_empty_and_resolve_the_bass():
    filters = filterbank(MINI)
    assert float(filters.sum(0).min()) > 1.0
    spacing = centre_frequencies(MINI).diff()
    assert float(spacing.min()) >= 48000 / 2048 - 1e-3
    # The lowest bins can be told apart: what was in one of them comes back there.
    for bin_ in range(1, 13):
        back = MelInverter(MINI)(filters[bin_][:, None])[:, 0]
        assert int(back.argmax()) == bin_
        assert float(back[bin_]) > 0.8


def test_htk_filters_would_be_empty_at_this_window():
    assert int((filterbank(MINI.replace(mel_scale_type="htk")).sum(0) == 0).sum()) == 4


@pytest.fixture(scope="module")
def spectra():
    linear = stft_magnitude(music(), n_fft=2048, window=2048, hop=375.0)
    filters = filterbank(MINI)
    return linear, (linear.transpose(-1, -2) @ filters).transpose(-1, -2)


def test_inversion_explains_the_mel_without_bass_loss(spectra):
    _, mel = spectra
    inverted = MelInverter(MINI)(mel)
    assert inverted.min() >= 0
    again = (inverted.transpose(-1, -2) @ filterbank(MINI)).transpose(-1, -2)
    assert float((again - mel).norm() / mel.norm()) < 0.004
    assert float((again - mel)[:, :64].norm() / mel[:, :64].norm()) < 0.004
    energy = again[:, :64].square().sum() / mel[:, :64].square().sum()
    assert float(energy) == pytest.approx(1, abs=0.005)


def test_more_updates_come_closer(spectra):
    _, mel = spectra
    filters = filterbank(MINI)
    residuals = []
    for updates in (0, 1, 2, 4, 8):
        inverted = MelInverter(MINI, updates=updates)(mel)
        residuals.append(float(((inverted.transpose(-1, -2) @ filters).transpose(-1, -2) - mel).norm() / mel.norm()))
    assert residuals == sorted(residuals, reverse=True)
    assert residuals[-1] < 0.002


def test_inversion_sounds_nearer_to_the_truth_than_least_squares(spectra):
    """Exact non-negative least squares puts a band's energy on single bins; the smooth solution is nearer."""
    linear, mel = spectra
    frames = slice(40, 60)
    matrix = filterbank(MINI).T.double().numpy()
    columns = mel[0, :, frames].double().numpy().T
    exact = torch.from_numpy(np.stack([scipy.optimize.nnls(matrix, column)[0] for column in columns], 1)).float()
    truth = linear[0, :, frames].clone()
    truth[683:] = 0
    ours = MelInverter(MINI)(mel[0, :, frames])
    pseudo = (torch.linalg.pinv(filterbank(MINI).T) @ mel[0, :, frames]).clamp_min(0)

    def decibels(x):
        return 20 * torch.log10(x[1:683].clamp_min(1e-3 * float(truth.max())))

    distance = [float((decibels(x) - decibels(truth)).square().mean().sqrt()) for x in (ours, pseudo, exact)]
    assert distance[0] < min(distance[1:])


def test_columns_are_independent_to_the_last_bit(spectra):
    _, mel = spectra
    inverter = MelInverter(MINI)
    whole = inverter(mel)
    for size in range(1, 41):  # a matrix library picks its kernel by the number of columns
        assert torch.equal(inverter(mel[..., :size]), whole[..., :size]), f"{size} frames at a time"


def test_silence_stays_silent():
    assert not MelInverter(MINI)(torch.zeros(1, 256, 5)).any()


def test_inverter_refuses_another_height():
    with pytest.raises(ParameterError, match="mel"):
        MelInverter(MINI)(torch.zeros(1, 128, 5))


def test_analysis_frames_sit_at_rounded_multiples_of_the_hop():
    """Fractional hops: each frame equals the frame of the whole-sample analysis at its rounded position."""
    wave = music(0.5)
    hop = 373.37
    frames = analyse(wave, MINI, hop=hop, frames=40)
    dense = analyse(wave, MINI, hop=1, frames=int(39 * hop) + 2)
    places = [round(k * hop) for k in range(40)]
    torch.testing.assert_close(frames, dense[..., places], rtol=1e-5, atol=1e-5)


def test_analysis_can_start_anywhere():
    wave = music(0.5)
    whole = analyse(wave, MINI, hop=375.5)
    assert torch.equal(analyse(wave, MINI, hop=375.5, first=10, frames=5), whole[..., 10:15])


@pytest.mark.parametrize("n_samples", [1, 2, 100, 2048])
def test_analysis_of_very_short_audio(n_samples):
    mel = analyse(torch.ones(1, n_samples), MINI, hop=375)
    assert mel.shape == (1, 256, n_samples // 375 + 1)
    assert torch.isfinite(mel).all()


def test_analysis_refuses_nothing_and_zero_hop():
    with pytest.raises(ParameterError, match="wave"):
        analyse(torch.zeros(1, 0), MINI)
    with pytest.raises(ParameterError, match="hop"):
        analyse(torch.zeros(1, 100), MINI, hop=0)
