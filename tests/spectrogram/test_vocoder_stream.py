import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from riffstream.spectrogram.analysis import analyse
from riffstream.spectrogram.grid import GridResampler
from riffstream.spectrogram.params import SpectrogramParams
from riffstream.spectrogram.vocoder import Vocoder
from tests.spectrogram.material import music

MINI = SpectrogramParams.mini()
HOP = 371.25
VOCODER = Vocoder(MINI)
MEL = analyse(music(1.0), MINI, hop=HOP, frames=120)
WHOLE = VOCODER(MEL, hop=HOP)


def streamed(stream, cuts, mel=MEL, hop=HOP):
    parts, start = [], 0
    for size in cuts:
        parts.append(stream.push(mel[..., start : start + size], hop=hop))
        start += size
    parts += [stream.push(mel[..., start:], hop=hop), stream.flush()]
    return torch.cat(parts, -1)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(0, 40), max_size=6))
def test_streamed_equals_whole_for_any_chunking(cuts):
    assert torch.equal(streamed(VOCODER.stream(), cuts), WHOLE)


def test_streamed_equals_whole_frame_by_frame():
    assert torch.equal(streamed(VOCODER.stream(), [1] * 119), WHOLE)


def test_later_input_never_changes_earlier_output():
    stream = VOCODER.stream()
    early = stream.push(MEL[..., :60], hop=HOP)
    other = torch.cat((early, stream.push(torch.flip(MEL, (-1,)) * 3, hop=900.0, key=5.0)), -1)
    assert torch.equal(other[:, : early.shape[1]], WHOLE[:, : early.shape[1]])


@pytest.mark.parametrize("bpm", [40.0, 120.0, 240.0])
def test_delay_is_as_stated(bpm):
    hop = MINI.hop(bpm)
    stream = VOCODER.stream()
    made = 0
    for k in range(60):
        made += stream.push(MEL[..., k : k + 1], hop=hop).shape[-1]
        if k * hop > 4 * VOCODER.delay:
            assert round(k * hop) - made <= VOCODER.delay, f"frame {k}"
    look_ahead = VOCODER.delay - VOCODER.geometry.window // 2
    assert look_ahead <= 0.05 * MINI.sample_rate


def test_hop_and_key_change_at_each_push():
    stream = VOCODER.stream()
    hops = [375.0, 380.4, 187.5, 1125.0, 400.1]
    parts = [stream.push(MEL[..., 20 * k : 20 * k + 20], hop=hop, key=k - 2) for k, hop in enumerate(hops)]
    parts.append(stream.flush())
    wave = torch.cat(parts, -1)
    assert wave.shape[-1] == round(20 * sum(hops))
    assert torch.isfinite(wave).all()
    assert wave.diff().abs().max() < 3 * WHOLE.diff().abs().max()  # no clicks where hop and key jump


def test_clips_join_without_a_seam():
    """Two clips pushed one after the other are one stream: the join is no different from the middle of a clip."""
    stream = VOCODER.stream()
    parts = [stream.push(MEL[..., :64], hop=HOP), stream.push(MEL[..., 64:], hop=HOP), stream.flush()]
    assert torch.equal(torch.cat(parts, -1), WHOLE)


def test_reset_and_flush_start_over():
    stream = VOCODER.stream()
    stream.push(MEL, hop=HOP)
    stream.reset()
    assert torch.equal(streamed(stream, [50]), WHOLE)
    assert torch.equal(streamed(stream, [7, 7]), WHOLE), "after flush"
    assert stream.flush().shape == (2, 0)


def test_reference_method_streams_at_flush():
    vocoder = Vocoder(MINI, method="griffin-lim", iterations=2)
    stream = vocoder.stream()
    assert stream.push(MEL[..., :30], hop=HOP).shape == (2, 0)
    stream.push(MEL[..., 30:60], hop=HOP)
    assert torch.equal(stream.flush(), vocoder(MEL[..., :60], hop=HOP))


@settings(max_examples=30, deadline=None)
@given(
    st.floats(40, 2000),
    st.integers(1, 60),
    st.lists(st.integers(1, 20), max_size=5),
    st.sampled_from([64, 256, 441]),
)
def test_grid_interpolates_positions_exactly(hop, frames, cuts, grid_hop):
    """Frames that hold their own position come out as the grid's positions, held after the last frame."""
    positions = torch.tensor([float(round(k * hop)) for k in range(frames)])[:, None]
    resampler = GridResampler(grid_hop)
    parts, start = [], 0
    for size in [*cuts, frames]:
        if start < frames:
            parts.append(resampler.push(positions[start : start + size], hop))
            start += size
    assert resampler.end == round(frames * hop)
    parts.append(resampler.flush())
    got = torch.cat(parts)[:, 0]
    want = torch.arange(len(got)).float() * grid_hop
    torch.testing.assert_close(got, want.clamp_max(float(positions[-1])), rtol=1e-5, atol=0.05)
    assert len(got) == -(-resampler.end // grid_hop)
