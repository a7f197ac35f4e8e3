import contextlib
import pickle
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riffstream.errors import ParameterError
from riffstream.spectrogram.params import ExifTag, SpectrogramParams


def test_params_defaults_are_riffusions():
    params = SpectrogramParams.riffusion()
    assert params == SpectrogramParams()
    assert (params.n_fft, params.window, params.hop(), params.n_bins) == (17640, 4410, 441.0, 8821)
    assert params.hop(bpm=90) == 441.0  # the hop is fixed: tempo does not move it


def test_params_mini_hop_follows_tempo():
    params = SpectrogramParams.mini()
    assert (params.n_fft, params.window, params.channels) == (2048, 2048, 2)
    assert params.hop() == params.hop(120) == 375.0
    assert params.hop(100) * 512 == pytest.approx(60 / 100 * 8 * 48000)  # 512 frames are 8 beats


@pytest.mark.parametrize(
    "params", [SpectrogramParams.riffusion(), SpectrogramParams.riffusion(stereo=True), SpectrogramParams.mini()]
)
def test_params_survive_exif_dict_and_pickle(params):
    assert SpectrogramParams.from_exif(params.to_exif(123.0)) == params
    assert SpectrogramParams.from_dict(params.to_dict()) == params
    assert pickle.loads(pickle.dumps(params)) == params


def test_exif_of_riffusion_parameters_has_only_riffusions_tags():
    tags = SpectrogramParams.riffusion(stereo=True).to_exif(5.0)
    assert sorted(tags) == [11000, 11005, 11010, 11020, 11030, 11040, 11050, 11060, 11070, 11080]
    assert [type(tags[tag]) for tag in sorted(tags)] == [int] * 8 + [float] * 2
    assert tags[11005] == 1


VALUES = (
    st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5) | st.none() | st.tuples(st.integers())
)


@given(st.dictionaries(st.sampled_from([*ExifTag, 271, 0]), VALUES))
def test_hostile_exif_gives_parameters_or_one_error(exif):
    with contextlib.suppress(ParameterError):
        params = SpectrogramParams.from_exif(exif)
        assert params.window >= 16
        assert params.n_fft >= params.window


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sample_rate", 0),
        ("sample_rate", 44100.5),
        ("step_size_ms", float("nan")),
        ("max_frequency", 30000),
        ("min_frequency", 10000),
        ("padded_duration_ms", 50),
        ("num_frequencies", "many"),
        ("power_for_image", 0),
        ("mel_scale_type", "bark"),
        ("frames_per_beat", 0),
    ],
)
def test_bad_value_names_the_field(field, value):
    with pytest.raises(ParameterError) as caught:
        SpectrogramParams.from_dict({field: value})
    assert caught.value.field == field


def test_unknown_field_is_refused():
    with pytest.raises(ParameterError, match="sampling_rate"):
        SpectrogramParams.from_dict({"sampling_rate": 44100})


@pytest.mark.parametrize("bpm", [0, 19, 401, float("nan")])
def test_hop_refuses_tempo_outside_its_range(bpm):
    with pytest.raises(ParameterError, match="bpm"):
        SpectrogramParams.mini().hop(bpm)


def test_params_load_without_torch():
    code = "import sys, riffstream.spectrogram.params; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
