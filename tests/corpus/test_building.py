"""A small corpus, built on the synthesisers alone: determinism, resuming, alignment, captions, splits, reading."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from riffstream.corpus import building as corpus_module
from riffstream.corpus.building import CorpusOptions, build_corpus, plan, song_files
from riffstream.corpus.data import Corpus
from riffstream.corpus.levels import loudness_db
from riffstream.corpus.measures import beat_strength, key_share, onset_strength, phase_error
from riffstream.corpus.mels import CODE_STEP_DB, amplitudes, quantise
from riffstream.corpus.sources import all_sources
from riffstream.errors import ParameterError, RiffstreamError

STYLES = ("chiptune", "music_box_waltz")


def _options(out: Path, **change: object) -> CorpusOptions:
    values: dict[str, object] = {"out": out, "songs": 2, "workers": 1, "soundfonts": (), "styles": STYLES}
    return CorpusOptions(**{**values, **change})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("corpus")
    build_corpus(_options(out), quiet=True)
    return out


@pytest.fixture(scope="module")
def small(folder: Path) -> Corpus:
    return Corpus(folder)


def test_the_manifest_agrees_with_the_songs(folder: Path, small: Corpus) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["songs"] == 2
    assert manifest["clips"] == len(small)
    assert manifest["styles"] == sorted(STYLES) == small.styles
    assert {clip.song for clip in small.clips} == {"chiptune/0", "music_box_waltz/0"}
    seconds = sum(clip.beats * 60 / clip.bpm for clip in small.clips)
    assert manifest["hours"] == pytest.approx(seconds / 3600, abs=1e-3)


def test_every_bar_has_its_facts(folder: Path, small: Corpus) -> None:
    clips = 0
    for path in folder.glob("songs/*/*.json"):
        record = json.loads(path.read_text())
        for position, clip in enumerate(record["clips"]):
            assert len(clip["bars"]) == 2
            for number, bar in enumerate(clip["bars"]):
                place = 2 * position + number
                each = len(record["chords"]) // (2 * len(record["clips"]))
                own = record["chords"][place * each : (place + 1) * each]
                assert all(chord in (None, name) for chord, name in zip(bar["chords"], own, strict=True))
                assert bar["level_db"] == pytest.approx(
                    loudness_db(np.split(amplitudes(np.load(path.with_suffix(".npy"))[position]), 2, -1)[number]),
                    abs=0.1,
                )
            silent = [name for name in ("drums", "bass") if name not in clip["bars"][0]["parts"]]
            assert not [name for name in silent if name in clip["instruments"]]
            clips += 1
        assert record["clips"][0]["bars"][0]["starts"]
        assert record["clips"][-1]["bars"][-1]["ends"]
    assert clips == len(small)


def test_a_folder_of_another_format_is_not_added_to(tmp_path: Path) -> None:
    (tmp_path / "corpus.json").write_text(json.dumps({"format": 1, "seed": 0, "soundfonts": []}))
    with pytest.raises(ParameterError, match="existing corpus"):
        build_corpus(_options(tmp_path), quiet=True)


def test_clips_have_their_meters_and_neighbours(small: Corpus) -> None:
    for index in range(len(small)):
        beats = small.beats(index)
        assert beats == (6 if small.style(index) == "music_box_waltz" else 8)
        assert small.codes(index).shape == (2, 256, 64 * beats)
        assert small.codes(index).dtype == np.uint8
        before = small.previous(index)
        if before is None:
            assert small[index].position == 0
        else:
            assert small[before].song == small[index].song
            assert small[before].position == small[index].position - 1
    assert np.array_equal(small.mel(0), amplitudes(small.codes(0)))
    assert small.batch([0, 1]).shape[0] == 2


def test_music_continues_across_windows(small: Corpus) -> None:
    """The last frame of a window is nearer to the next window's first than frames a beat apart are to each other."""
    near, far = [], []
    for index in range(1, len(small)):
        before = small.previous(index)
        if before is not None:
            last, first = small.codes(before)[..., -1].astype(float), small.codes(index)[..., 0].astype(float)
            near.append(np.abs(last - first).mean())
            far.append(np.abs(small.codes(before)[..., -200] - first).mean())
    assert np.mean(near) < np.mean(far)


def test_onsets_fall_on_the_grid(small: Corpus) -> None:
    chip = [i for i in range(len(small)) if small.style(i) == "chiptune"]
    errors = [error for i in chip if (error := phase_error(small.mel(i))) is not None]
    assert errors
    assert max(errors) <= 2  # frames; an onset shows up to half a window (2 frames) early
    assert np.mean([beat_strength(small.mel(i)) for i in chip]) > 0.6  # chance: 0.31
    shifted = np.roll(small.mel(chip[0]), 8, -1)
    assert phase_error(shifted) == pytest.approx(8, abs=2)


def test_the_first_beat_is_at_frame_zero(small: Corpus) -> None:
    """A drum on the beat: energy rises between two frames before and two after, in every window with drums."""
    chip = [i for i in range(len(small)) if small.style(i) == "chiptune" and "full" in small[i].section]
    folded = sum(onset_strength(small.mel(i)).reshape(-1, 64).mean(0) for i in chip)
    assert isinstance(folded, np.ndarray)
    assert {int(k) % 16 for k in np.argsort(-folded)[:4]} <= {0, 1, 2, 14, 15}


def test_the_key_is_c_major(small: Corpus) -> None:
    assert np.mean([key_share(small.mel(i)) for i in range(len(small))]) > 0.75  # noise: 0.58


def test_levels_are_even_and_nothing_is_clipped_or_silent(small: Corpus) -> None:
    codes = [small.codes(i) for i in range(len(small))]
    assert max(code.max() for code in codes) < 250
    songs: dict[str, list[float]] = {}
    for i in range(len(small)):
        songs.setdefault(small[i].song, []).append(loudness_db(small.mel(i)))
    loudest = [max(levels) for levels in songs.values()]
    assert max(loudest) - min(loudest) < 12
    assert min(loudest) > 40


def test_captions_are_several_and_varied(small: Corpus) -> None:
    every = [small.captions(i) for i in range(len(small))]
    assert min(map(len, every)) >= 5
    assert all(text and text == text.strip() for texts in every for text in texts)
    assert len({text for texts in every for text in texts}) > 3 * len(small)


def test_a_song_is_in_one_split(small: Corpus) -> None:
    splits: dict[str, set[bool]] = {}
    for clip in small.clips:
        splits.setdefault(clip.song, set()).add(clip.held_out)
    assert all(len(found) == 1 for found in splits.values())
    assert sorted(small.split("train") + small.split("held_out")) == list(range(len(small)))


def test_two_to_three_percent_of_the_songs_are_held_out() -> None:
    sources = all_sources(soundfont=False)
    names = [f"{source.name}/{index}" for source, index in itertools.islice(plan(sources), 3000)]
    assert len(set(names)) == 3000
    held = [name for name in names if corpus_module.split_of(name) == "held_out"]
    assert 0.015 < len(held) / len(names) < 0.035
    assert len({name.split("/")[0] for name in held}) > 25


def test_any_beginning_of_the_plan_is_balanced() -> None:
    sources = all_sources(soundfont=False)
    made = [source.name for source, _ in itertools.islice(plan(sources), 4 * len(sources))]
    assert set(made) == {source.name for source in sources}
    weights = {source.name: source.weight for source in sources}
    share = {name: made.count(name) / weight for name, weight in weights.items()}
    assert max(share.values()) <= 2.6 * min(share.values())


def test_the_same_seed_makes_the_same_bytes_and_another_does_not(folder: Path, tmp_path: Path) -> None:
    build_corpus(_options(tmp_path / "again", songs=1), quiet=True)
    build_corpus(_options(tmp_path / "other", songs=1, seed=1), quiet=True)
    array, description = song_files(Path(), "chiptune/0")
    assert (folder / array).read_bytes() == (tmp_path / "again" / array).read_bytes()
    assert (folder / description).read_text() == (tmp_path / "again" / description).read_text()
    assert (folder / array).read_bytes() != (tmp_path / "other" / array).read_bytes()


def test_an_interrupted_run_goes_on(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array, description = song_files(tmp_path, "chiptune/0")
    build_corpus(_options(tmp_path, songs=1), quiet=True)
    kept = array.stat().st_mtime_ns
    performed: list[str] = []
    perform = corpus_module.perform

    def watched(song: object, *rest: object) -> object:
        performed.append(song.name)  # type: ignore[attr-defined]
        return perform(song, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(corpus_module, "perform", watched)
    build_corpus(_options(tmp_path), quiet=True)
    assert performed == ["music_box_waltz/0"]
    assert array.stat().st_mtime_ns == kept
    assert (tmp_path / "manifest.json").read_text() == (folder / "manifest.json").read_text()
    description.unlink()  # as a process killed between the two files leaves it
    build_corpus(_options(tmp_path, songs=1), quiet=True)
    assert performed[1:] == ["chiptune/0"]
    assert not list(tmp_path.rglob("*.partial"))


def test_seeds_do_not_mix_in_a_folder(folder: Path) -> None:
    with pytest.raises(ParameterError, match="seed is 7"):
        build_corpus(_options(folder, seed=7), quiet=True)


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_module, "find_soundfonts", dict)
    monkeypatch.setattr(corpus_module, "library_available", lambda: False)
    with pytest.raises(RiffstreamError, match=r"apt install fluidsynth.*fluid-soundfont-gm.*--synths-only"):
        build_corpus(_options(tmp_path, soundfonts=("fluidr3",)), quiet=True)


def test_unknown_styles_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="chiptune"):
        build_corpus(_options(tmp_path, styles=("polka-metal",)), quiet=True)


def test_an_empty_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RiffstreamError, match="riffstream train corpus"):
        Corpus(tmp_path)


def test_a_damaged_description_is_named(tmp_path: Path) -> None:
    path = tmp_path / "songs" / "techno" / "00000.json"
    path.parent.mkdir(parents=True)
    for text in ("{", "[]", '{"song": "techno/0", "clips": []}'):
        path.write_text(text)
        with pytest.raises(RiffstreamError, match=r"00000\.json does not describe a song"):
            Corpus(tmp_path)


def test_bytes_keep_amplitudes_to_a_fifth_of_a_decibel() -> None:
    mel = np.geomspace(1e-2, 9e2, 4000).astype(np.float32)
    error = 20 * np.log10(amplitudes(quantise(mel)) / mel)
    assert np.abs(error).max() <= CODE_STEP_DB / 2 + 0.01
    assert amplitudes(quantise(np.zeros(3))).tolist() == [0, 0, 0]
