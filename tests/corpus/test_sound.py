"""Synthesis and production: pitch, timing, level, and that every patch and effect makes sound."""

from __future__ import annotations

import numpy as np
import pytest

from riffstream.corpus import production as fx
from riffstream.corpus.drums import KITS, render_drums
from riffstream.corpus.grooves import GrooveSource, find_grooves, mma_available
from riffstream.corpus.instruments import INSTRUMENTS
from riffstream.corpus.midi import read_midi
from riffstream.corpus.mixing import LOOKS, Stem, balance, loudness_by_window, master
from riffstream.corpus.music import Note, Track
from riffstream.corpus.soundfont import SoundFont, find_soundfonts, library_available
from riffstream.corpus.synths import PATCHES, render_patch
from riffstream.errors import MediaError

RATE = fx.RATE
HAS_FONT = library_available() and "fluidr3" in find_soundfonts()


def _tone(hz: float, seconds: float, level: float = 0.3) -> np.ndarray:
    wave = level * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)
    return np.stack([wave, wave]).astype(np.float32)


def _strongest(wave: np.ndarray, low: float, high: float) -> float:
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave)), 1 << 18))
    hertz = np.fft.rfftfreq(1 << 18, 1 / RATE)
    use = (hertz > low) & (hertz < high)
    return float(hertz[use][spectrum[use].argmax()])


@pytest.mark.parametrize("patch", sorted(PATCHES))
def test_patches_play_the_pitch_at_the_beat(patch: str) -> None:
    pitch = 45 if "bass" in patch or patch in ("reese", "wobble", "acid", "drone") else 69
    rng = np.random.default_rng(0)
    wave = render_patch(patch, [Note(1.0, 2.0, pitch, 100)], bpm=120, samples=2 * RATE, rng=rng)
    assert wave.shape == (2, 2 * RATE)
    assert wave.dtype == np.float32
    assert np.isfinite(wave).all()
    assert 0.01 < np.abs(wave).max() < 8
    assert np.abs(wave[:, : RATE // 2 - 1000]).max() < 1e-3 * np.abs(wave).max()  # nothing sounds before the beat
    if patch not in ("church_bell", "drone"):  # a bell's strike tone is none of its partials; a drone is a fifth
        hertz = 440 * 2 ** ((pitch - 69) / 12)
        found = _strongest(wave.mean(0)[RATE // 2 :], hertz * 0.6, hertz * 1.7)
        assert abs(np.log2(found / hertz)) * 1200 < 40, f"{found:.1f} Hz for {hertz:.1f}"


def test_equal_notes_are_rendered_once_and_placed_exactly() -> None:
    rng = np.random.default_rng(0)
    notes = [Note(0.0, 0.5, 69, 100), Note(1.5, 0.5, 69, 100)]
    wave = render_patch("marimba", notes, bpm=97.3, samples=3 * RATE, rng=rng)
    start = round(1.5 * 60 / 97.3 * RATE)
    assert np.allclose(wave[:, :8000], wave[:, start : start + 8000], atol=1e-4)


@pytest.mark.parametrize("kit", KITS)
def test_kicks_are_low_and_hats_are_high(kit: str) -> None:
    kick = render_drums(kit, [(0.0, "kick", 110)], bpm=120, samples=RATE)
    hat = render_drums(kit, [(1.0, "hat", 110)], bpm=120, samples=RATE)
    assert _strongest(kick.mean(0), 20, 20000) < 220
    assert _strongest(hat.mean(0), 20, 20000) > 3000
    assert int(np.argmax(np.abs(hat).max(0) > 1e-3)) == pytest.approx(RATE // 2, abs=60)


@pytest.mark.parametrize("look", sorted(LOOKS))
def test_looks_keep_length_and_are_heard(look: str) -> None:
    rng = np.random.default_rng(1)
    wave = (0.1 * rng.standard_normal((2, RATE))).astype(np.float32)
    out = LOOKS[look].apply(wave.copy(), 0.5, 3)
    assert out.shape == wave.shape
    assert np.isfinite(out).all()
    assert np.array_equal(out, LOOKS[look].apply(wave.copy(), 0.5, 3))  # chance comes from the seed alone
    assert look == "plain" or np.abs(out - wave).max() > 0.01


def test_filters_pass_and_stop() -> None:
    low, high = _tone(100, 0.5), _tone(8000, 0.5)
    middle = slice(RATE // 8, RATE // 4)
    for filtered, kept, stopped in (
        (lambda w: fx.low_pass(w, 1000), low, high),
        (lambda w: fx.high_pass(w, 1000), high, low),
        (lambda w: fx.moving_filter(w, np.array([1000.0, 1000.0])), low, high),
        (lambda w: fx.moving_filter(w, np.array([1000.0, 1000.0]), kind="high"), high, low),
    ):
        assert filtered(kept)[:, middle].std() == pytest.approx(0.3 / np.sqrt(2), rel=0.05)
        assert filtered(stopped)[:, middle].std() < 0.01


def test_an_open_moving_filter_gives_back_what_it_got() -> None:
    wave = (0.1 * np.random.default_rng(2).standard_normal((2, 20001))).astype(np.float32)
    assert np.abs(fx.moving_filter(wave, np.array([1e7, 1e7])) - wave).max() < 1e-4


def test_loudness_is_that_of_the_standard() -> None:
    """EBU Tech 3341, case 1: a 1 kHz tone of -23 dBFS in both channels measures -23 LUFS."""
    assert fx.loudness(_tone(1000, 4, 10 ** (-23 / 20))) == pytest.approx(-23, abs=0.1)
    assert fx.loudness(np.zeros((2, RATE), np.float32)) == -70


def test_level_hits_the_target_and_the_limiter_holds() -> None:
    rng = np.random.default_rng(3)
    wave = (0.02 * rng.standard_normal((2, 3 * RATE))).astype(np.float32)
    wave[:, RATE] = 0.5
    out = fx.level(wave)
    assert np.abs(out).max() <= 0.891
    assert fx.loudness(out) == pytest.approx(-18, abs=1.0)


def test_pump_ducks_on_the_beat() -> None:
    wave = np.ones((2, RATE), np.float32)
    out = fx.pump(wave, RATE / 2, depth=0.8)
    assert out[0, 0] == pytest.approx(0.2, abs=0.01)
    assert out[0, RATE // 2 - 10] == pytest.approx(1.0, abs=0.01)
    assert out[0, RATE // 2] == pytest.approx(0.2, abs=0.02)


def test_the_mix_has_one_loudness_and_its_stems_their_roles() -> None:
    stems = [Stem("drums", "drums", _tone(90, 2, 0.9)), Stem("pad", "pad", _tone(440, 2, 0.001))]
    balance(stems, np.random.default_rng(0), [0.0, 0.0])
    levels = loudness_by_window(stems, RATE, 2)
    assert 3 < levels[0].mean() - levels[1].mean() < 14
    mix = master(stems, "plain", bpm=120, seed=0, room=(1.0, 0.2), pump=0.5, opening=0)
    assert mix.shape == (2, 2 * RATE)
    assert fx.loudness(mix) == pytest.approx(-18, abs=1.5)


def test_midi_files_are_read() -> None:
    track = bytes([0, 0xFF, 3, 4]) + b"Bass" + bytes(
        [0, 0xC0, 33, 0, 0x90, 40, 100, 48, 43, 90, 48, 0x80, 40, 0, 0, 0x90, 43, 0, 0, 0xFF, 0x2F, 0]
    )  # fmt: skip
    data = b"MThd" + bytes([0, 0, 0, 6, 0, 1, 0, 1, 0, 96]) + b"MTrk" + len(track).to_bytes(4, "big") + track
    (channel,) = read_midi(data)
    assert (channel.name, channel.program, channel.channel) == ("Bass", 33, 0)
    assert channel.notes == [Note(0.0, 1.0, 40, 100), Note(0.5, 0.5, 43, 90)]
    with pytest.raises(MediaError, match="MThd"):
        read_midi(b"RIFF" + bytes(20))
    cut = data[: len(data) - 10]
    with pytest.raises(MediaError, match="middle"):
        read_midi(cut)


@pytest.mark.skipif(not HAS_FONT, reason="libfluidsynth or FluidR3 is not installed")
def test_soundfont_tracks_come_apart_in_tune_and_on_time() -> None:
    font = SoundFont(find_soundfonts()["fluidr3"])
    tracks = [
        Track("flute", 73, notes=[Note(0.0, 2.0, 69, 100)]),
        Track("drums", 0, True, [Note(1.0, 0.2, 37, 120)]),
        *(Track("rest", 0) for _ in range(7)),
        Track("piano", 0, notes=[Note(2.0, 1.0, 45, 100)]),  # the tenth: a second pass
    ]
    first = font.render(tracks, bpm=120, samples=2 * RATE)
    again = font.render(tracks, bpm=120, samples=2 * RATE)
    font.close()
    font.close()
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert len(first) == 10
    assert _strongest(first[0].mean(0)[: RATE // 2], 300, 600) == pytest.approx(440, rel=0.01)
    drum = np.abs(first[1]).max(0)
    assert int(np.argmax(drum > 0.1 * drum.max())) == pytest.approx(RATE // 2, abs=400)
    assert np.abs(first[5]).max() == 0
    piano = np.abs(first[9]).max(0)
    assert piano[: RATE - 200].max() < 1e-4 < piano.max()


@pytest.mark.skipif(not mma_available(), reason="MMA is not installed")
def test_grooves_make_songs_in_key() -> None:
    grooves = find_grooves()
    assert sum(map(len, grooves.values())) > 600
    assert all(groove.beats in (3, 4) for group in grooves.values() for groove in group)
    song = GrooveSource("waltz").compose(0, 0)
    assert song == GrooveSource("waltz").compose(0, 0)
    assert song.style.beats == 3
    assert {"bass", "chords"} & {voice.role for voice in song.voices}
    pitches = [n.pitch % 12 for v in song.voices if v.track and not v.track.drum for n in v.track.notes]
    assert np.mean([pitch in (0, 2, 4, 5, 7, 9, 11) for pitch in pitches]) > 0.85
    assert max(n.start for v in song.voices if v.track for n in v.track.notes) < song.beats


def test_every_instrument_can_do_without_a_soundfont() -> None:
    assert all(instrument.patch in PATCHES for instrument in INSTRUMENTS.values())
