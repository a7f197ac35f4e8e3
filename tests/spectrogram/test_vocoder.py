import math

import pytest
import torch

from riffstream import _torchaudio
from riffstream.errors import ParameterError
from riffstream.spectrogram.analysis import analyse, stft_magnitude
from riffstream.spectrogram.grid import Geometry
from riffstream.spectrogram.griffin_lim import griffin_lim
from riffstream.spectrogram.params import SpectrogramParams
from riffstream.spectrogram.pghi import TURN, PhaseIntegrator
from riffstream.spectrogram.refine import OverlapAdd
from riffstream.spectrogram.vocoder import Vocoder
from tests.spectrogram.heap_pghi import heap_phases
from tests.spectrogram.material import clicks, convergence, music, pitch, tone

MINI = SpectrogramParams.mini()
HOP = 375.0


@pytest.fixture(scope="module")
def vocoder():
    return Vocoder(MINI)


def level_db(wave, reference):
    return 20 * math.log10(float(wave.norm() / reference.norm()))


@pytest.mark.parametrize("bpm", [40, 90, 120, 173.3, 240])
def test_length_and_sound_at_any_tempo(vocoder, bpm):
    """The hop runs from 187 samples to 1125, more than half a window."""
    hop = MINI.hop(bpm)
    source = music(1.0)
    frames = int(source.shape[-1] / hop)
    wave = vocoder(analyse(source, MINI, hop=hop, frames=frames), hop=hop)
    assert wave.shape == (2, round(frames * hop))
    assert abs(level_db(wave, source[:, : wave.shape[1]])) < 1.0
    assert convergence(wave.mean(0), source.mean(0)) < (0.3 if bpm < 60 else 0.2)


def test_quality_beats_32_griffin_lim_iterations(vocoder):
    source = music(1.0)
    frames = int(source.shape[-1] / HOP)
    mel = analyse(source, MINI, hop=HOP, frames=frames)
    reference = Vocoder(MINI, method="griffin-lim")
    ours, theirs = (convergence(v(mel, hop=HOP).mean(0), source.mean(0)) for v in (vocoder, reference))
    assert ours < theirs


def test_phases_are_as_good_as_the_heaps():
    """Spectral convergence without any iteration, on exact magnitudes: the published algorithm and ours."""
    geometry = Geometry(256, 8)
    source = music(0.6).mean(0)
    magnitudes = stft_magnitude(source, n_fft=2048, window=2048, hop=256.0)[:600].T.contiguous()
    turns = PhaseIntegrator(256, 2048).push(magnitudes[None], last=True)[0]
    signs = 1.0 - 2.0 * (torch.arange(600) % 2)
    results = []
    for phase in (turns * (2 * math.pi / TURN), torch.from_numpy(heap_phases(magnitudes.numpy(), 256, 2048))):
        spectra = torch.polar(magnitudes, phase.float()) * signs
        results.append(convergence(OverlapAdd(geometry).push(spectra, last=True), source))
    ours, heap = results
    assert ours < heap * 1.1
    assert ours < 0.25


@pytest.mark.parametrize("frequency", [82.0, 110.0, 440.0, 1234.5, 5000.0])
def test_tone_keeps_pitch_and_level(vocoder, frequency):
    source = tone(frequency)[None]
    wave = vocoder(analyse(source, MINI, hop=HOP, frames=128), hop=HOP)[0]
    assert abs(1200 * math.log2(pitch(wave) / frequency)) < 8
    assert abs(level_db(wave[4800:-4800], source[0, 4800:-4800])) < 1.0


@pytest.mark.parametrize("key", [-6, -2.5, 1, 6])
@pytest.mark.parametrize("frequency", [220.0, 440.0, 1500.0])
def test_key_transposes_pitch_and_keeps_level(vocoder, frequency, key):
    source = tone(frequency)[None]
    wave = vocoder(analyse(source, MINI, hop=HOP, frames=128), hop=HOP, key=key)[0]
    assert abs(1200 * math.log2(pitch(wave) / (frequency * 2 ** (key / 12)))) < 10
    assert abs(level_db(wave[4800:-4800], source[0, 4800:-4800])) < 1.0


def test_drum_hits_have_little_pre_echo(vocoder):
    source, onsets = clicks()
    mel = analyse(source[None], MINI, hop=HOP)
    wave = vocoder(mel, hop=HOP)[0]
    reference = Vocoder(MINI, method="griffin-lim")(mel, hop=HOP)[0]

    def pre_echo(x):
        before = [x[start - 960 : start - 144].square().mean() for start in onsets]
        after = [x[start : start + 960].square().mean() for start in onsets]
        return 10 * math.log10(float(sum(before) / sum(after)))

    assert pre_echo(wave) < -22
    assert pre_echo(wave) < pre_echo(reference)


def test_channels_keep_their_levels_and_share_the_phase(vocoder):
    source = music(0.8)[1]
    panned = torch.stack((source, 0.25 * source))
    wave = vocoder(analyse(panned, MINI, hop=HOP, frames=100), hop=HOP)
    torch.testing.assert_close(wave[1], 0.25 * wave[0], rtol=1e-3, atol=1e-5)


def test_batch_equals_single_clips(vocoder):
    clips = torch.stack([analyse(music(0.5, seed=k), MINI, hop=HOP, frames=60) for k in range(3)])
    together = vocoder(clips, hop=HOP)
    assert together.shape == (3, 2, 22500)
    for clip, wave in zip(clips, together, strict=True):
        torch.testing.assert_close(vocoder(clip, hop=HOP), wave, rtol=0, atol=1e-5)


def test_scale_does_not_matter(vocoder):
    """Amplitudes in int16 units give the same sound, 32768 times as loud."""
    mel = analyse(music(0.5), MINI, hop=HOP, frames=60)
    torch.testing.assert_close(vocoder(mel * 32768) / 32768, vocoder(mel), rtol=0, atol=2e-4)


def test_silence_stays_silent_and_bad_values_do_not_spread(vocoder):
    silent = torch.zeros(1, 256, 100)
    assert not vocoder(silent).any()
    broken = analyse(music(0.8), MINI, hop=HOP, frames=100)
    broken[:, 3, 50] = float("nan")
    broken[:, 4, 50] = float("inf")
    broken[:, 5, 50] = -1
    wave = vocoder(broken)
    assert torch.isfinite(wave).all()
    assert wave.abs().max() < 2


@pytest.mark.parametrize("frames", [0, 1, 2, 3, 10])
def test_very_short_clips(vocoder, frames):
    wave = vocoder(torch.ones(1, 256, frames), hop=HOP)
    assert wave.shape == (1, round(frames * HOP))
    assert torch.isfinite(wave).all()


@pytest.mark.parametrize("stereo", [False, True])
def test_riffusion_parameters(stereo):
    params = SpectrogramParams.riffusion(stereo=stereo)
    source = music(1.0, rate=44100)[: params.channels]
    wave = Vocoder(params)(analyse(source, params))
    assert wave.shape == (params.channels, 101 * 441)
    assert convergence(wave[0], source[0], 4410) < 0.25


@pytest.mark.parametrize("window_ms", [20, 46.44, 61.3])
def test_odd_windows_find_a_grid(window_ms):
    params = SpectrogramParams(
        sample_rate=22050, window_duration_ms=window_ms, padded_duration_ms=2 * window_ms, num_frequencies=256
    )
    source = tone(440.0, rate=22050)[None]
    wave = Vocoder(params)(analyse(source, params))[0]
    assert abs(1200 * math.log2(pitch(wave, 22050) / 440)) < 15


def test_griffin_lim_equals_torchaudio():
    if not _torchaudio.ensure_importable():
        pytest.skip("torchaudio is not installed")
    from torchaudio.transforms import GriffinLim

    magnitudes = stft_magnitude(music(0.4), n_fft=2048, window=2048, hop=512.0)
    reference = GriffinLim(2048, 8, hop_length=512, power=1.0, momentum=0.99, rand_init=False)(magnitudes)
    torch.testing.assert_close(griffin_lim(magnitudes, 2048, 512, 8), reference, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [({"hop": 3.0}, "hop"), ({"hop": 1e6}, "hop"), ({"hop": float("nan")}, "hop"), ({"key": 7.0}, "key")],
)
def test_out_of_range_arguments_are_named(vocoder, arguments, field):
    with pytest.raises(ParameterError) as caught:
        vocoder(torch.ones(1, 256, 4), **arguments)
    assert caught.value.field == field


def test_wrong_shapes_are_refused(vocoder):
    for shape in [(256, 4), (1, 128, 4)]:
        with pytest.raises(ParameterError, match="mel"):
            vocoder(torch.ones(shape))
    with pytest.raises(ParameterError, match="mel"):
        vocoder.stream(channels=2).push(torch.ones(1, 256, 4), hop=HOP)
    with pytest.raises(ParameterError, match="method"):
        Vocoder(MINI, method="wavenet")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu(vocoder):
    mel = analyse(music(0.8), MINI, hop=HOP, frames=100)
    cpu, gpu = vocoder(mel), Vocoder(MINI, device="cuda")(mel.cuda()).cpu()
    assert convergence(gpu.mean(0), cpu.mean(0)) < 0.1
