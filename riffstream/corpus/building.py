"""Building of the training corpus: songs are composed, played, analysed and captioned by one worker per core.

A corpus folder holds ``songs/<style>/<index>.npy`` (uint8 [windows, 2, 256, frames], see ``mels.py``), a ``.json``
for each song, and ``manifest.json``. ``data.Corpus`` reads it. An interrupted build can be resumed.
"""

from __future__ import annotations

import json
import multiprocessing
import platform
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from riffstream.corpus.bars import bar_facts
from riffstream.corpus.captions import ClipFacts, captions
from riffstream.corpus.mels import CODE_FLOOR_DB, CODE_STEP_DB, encode_song
from riffstream.corpus.mixing import LOOKS
from riffstream.corpus.songs import BARS_IN_WINDOW, Song, perform
from riffstream.corpus.soundfont import SoundFont, find_soundfonts, library_available
from riffstream.corpus.sources import Source, all_sources
from riffstream.errors import ParameterError, RiffstreamError
from riffstream.threads import usable_cores

__all__ = ["CorpusOptions", "build_corpus", "plan", "song_files", "split_of"]

FORMAT = 2  # format 1 had no bar facts
HELD_OUT = 40  # one song in 40
AUDIBLE_DB = 24.0  # captions omit instruments this far below the loudest


@dataclass(frozen=True, slots=True)
class CorpusOptions:
    """Options of a build.

    Attributes:
        out: corpus folder; existing songs are kept.
        hours: amount of music, in hours.
        songs: largest number of songs; 0: no limit.
        seed: seed of the corpus; it changes every song.
        workers: number of processes; 0: one per core.
        soundfonts: names of soundfonts; empty: synthesisers only.
        styles: names of styles; empty: all.
        keep_audio: also write ``.flac`` files.
    """

    out: Path
    hours: float = 12.0
    songs: int = 0
    seed: int = 0
    workers: int = 0
    soundfonts: tuple[str, ...] = ("fluidr3", "musescore")
    styles: tuple[str, ...] = ()
    keep_audio: bool = False


def plan(sources: Sequence[Source]) -> Iterator[tuple[Source, int]]:
    """An endless sequence of songs. The source furthest below its weight comes next, so every prefix is balanced."""
    made = [0] * len(sources)
    while True:
        place = min(range(len(sources)), key=lambda i: ((made[i] + 0.5) / sources[i].weight, i))
        yield sources[place], made[place]
        made[place] += 1


def song_files(out: Path, name: str) -> tuple[Path, Path]:
    """Paths of the array and the description of a song ``<style>/<index>``."""
    style, index = name.rsplit("/", 1)
    base = out / "songs" / style / f"{int(index):05d}"
    return base.with_suffix(".npy"), base.with_suffix(".json")


_state: dict[str, Any] = {}


def _start_worker(options: CorpusOptions) -> None:
    import torch

    if multiprocessing.parent_process() is not None:
        torch.set_num_threads(1)
    _state["options"] = options
    _state["fonts"] = {}
    _state["sources"] = {source.name: source for source in all_sources(bool(options.soundfonts), options.styles)}


def _font(options: CorpusOptions, rng: np.random.Generator) -> tuple[str, SoundFont | None]:
    names = [name for name in options.soundfonts if name in find_soundfonts()]
    if not names:
        return "none", None
    # The second soundfont takes 15 s to load and doubles the memory. Each worker loads it once, at its first use.
    name = names[0] if len(names) == 1 or rng.random() < 0.65 else names[1]
    fonts = _state["fonts"]
    if name not in fonts:
        fonts[name] = SoundFont(find_soundfonts()[name])
    return name, fonts[name]


def _make(task: tuple[str, int]) -> dict[str, Any]:
    source_name, index = task
    options: CorpusOptions = _state["options"]
    array_path, json_path = song_files(options.out, f"{source_name}/{index}")
    if json_path.is_file() and array_path.is_file():
        return dict(json.loads(json_path.read_text(encoding="utf-8")))
    source: Source = _state["sources"][source_name]
    song = source.compose(index, options.seed)
    rng = np.random.default_rng([song.seed, 1])
    font_name, font = _font(options, rng)
    mix, stems, levels = perform(song, font)
    window_beats = BARS_IN_WINDOW * song.style.beats
    codes = encode_song(mix, bpm=song.bpm, beats=song.beats, beats_in_window=window_beats)
    record = describe(song, [stem.words for stem in stems], [stem.role for stem in stems], levels, rng)
    record["soundfont"] = font_name
    facts = bar_facts(song, mix, stems, codes)
    for position, clip in enumerate(record["clips"]):
        clip["bars"] = facts[position * BARS_IN_WINDOW : (position + 1) * BARS_IN_WINDOW]
    array_path.parent.mkdir(parents=True, exist_ok=True)
    partial = array_path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.save(file, codes)
    partial.replace(array_path)
    if options.keep_audio:
        import soundfile

        soundfile.write(array_path.with_suffix(".flac"), mix.T, 48000)
    partial.write_text(json.dumps(record))
    partial.replace(json_path)
    return record


def describe(
    song: Song, words: Sequence[str], roles: Sequence[str], levels: np.ndarray, rng: np.random.Generator
) -> dict[str, Any]:
    """A song's JSON: facts of the song, and the instruments and captions of each window."""
    starts = np.cumsum([0, *(section.bars for section in song.sections)])
    drums_in_song = "drums" in roles
    clips = []
    for window in range(levels.shape[1]):
        bar = window * BARS_IN_WINDOW
        place = int(np.searchsorted(starts, bar, side="right") - 1)
        level = levels[:, window]
        order = [int(i) for i in np.argsort(-level) if level[i] > level.max() - AUDIBLE_DB and level[i] > -70]
        heard = {roles[i] for i in order}
        lead = next((words[i] for i in order if roles[i] == "lead"), "")
        section = song.sections[place].name
        if section == "drums alone" and heard != {"drums"}:
            section = "full"
        if "drums" in heard and section == "breakdown":
            section = "full"
        opening = song.opening > window * BARS_IN_WINDOW * song.style.beats
        look = (
            ("filter sweep", "low-pass filter opening", "muffled intro, filter rising")
            if opening
            else LOOKS[song.look].words
        )
        facts = ClipFacts(
            tags=song.style.tags,
            moods=song.style.moods,
            scenes=song.style.scenes,
            description=song.descriptions[place] if song.descriptions else "",
            instruments=list(dict.fromkeys(words[i] for i in order)),
            lead=lead,
            section=section,
            drums="drums" in heard,
            drums_in_song=drums_in_song,
            bpm=song.bpm,
            minor=song.minor,
            beats_per_bar=song.style.beats,
            look=look,
        )
        clips.append({"instruments": list(facts.instruments), "section": section, "captions": captions(facts, rng)})
    return {
        "song": song.name,
        "style": song.style.name,
        "bpm": song.bpm,
        "beats": BARS_IN_WINDOW * song.style.beats,
        "minor": song.minor,
        "look": song.look,
        "chords": [chord.symbol for chord in song.chords],
        "split": split_of(song.name),
        "seconds": round(song.beats * 60 / song.bpm, 3),
        "clips": clips,
    }


def split_of(name: str) -> str:
    """ "train" or "held_out". It depends on the song's name alone, so a growing corpus keeps its split."""
    return "held_out" if zlib.crc32(name.encode()) % HELD_OUT == 0 else "train"


def build_corpus(options: CorpusOptions, *, quiet: bool = False) -> dict[str, Any]:
    """Build the corpus, or its missing songs.

    Args:
        options: options of the build.
        quiet: no progress bar.

    Returns:
        The manifest.

    Raises:
        RiffstreamError: a soundfont or library is missing; the message names the Debian packages.
    """
    if options.soundfonts:
        missing = [] if library_available() else ["libfluidsynth (apt install fluidsynth)"]
        found = find_soundfonts()
        packages = {"fluidr3": "fluid-soundfont-gm", "musescore": "musescore-general-soundfont"}
        missing += [
            f"{name} (apt install {packages.get(name, name)})" for name in options.soundfonts if name not in found
        ]
        if missing:
            raise RiffstreamError(f"not installed: {', '.join(missing)}; or give --synths-only")
    sources = all_sources(bool(options.soundfonts), options.styles)
    options.out.mkdir(parents=True, exist_ok=True)
    _claim(options)
    workers = options.workers or usable_cores()
    seconds, songs, clips, used = 0.0, 0, 0, set()
    tasks = ((source.name, index) for source, index in plan(sources))
    bar = tqdm(total=round(options.hours, 3), unit="h", disable=quiet, bar_format=_BAR)
    with _results(options, tasks, workers) as results:
        for record in results:
            seconds += record["seconds"]
            songs += 1
            clips += len(record["clips"])
            used.add(record["style"])
            bar.set_postfix_str(f"{songs} songs, {len(used)} styles", refresh=False)
            bar.update(min(record["seconds"] / 3600, bar.total - bar.n))
            if seconds >= options.hours * 3600 or (options.songs and songs >= options.songs):
                break
    bar.close()
    manifest = {
        "format": FORMAT,
        "songs": songs,
        "clips": clips,
        "styles": sorted(used),
        "hours": round(seconds / 3600, 3),
        "sample_rate": 48000,
        "code_floor_db": CODE_FLOOR_DB,
        "code_step_db": CODE_STEP_DB,
        "seed": options.seed,
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
        "soundfonts": list(options.soundfonts),
        "options": {
            key: str(value) if isinstance(value, Path) else value
            for key, value in asdict(options).items()
            if key != "out"
        },
    }
    partial = options.out / "manifest.partial"
    partial.write_text(json.dumps(manifest, indent=1))
    partial.replace(options.out / "manifest.json")
    return manifest


def _claim(options: CorpusOptions) -> None:
    """Refuse a folder of another seed: songs of two seeds have the same names."""
    path = options.out / "corpus.json"
    mine = {"format": FORMAT, "seed": options.seed, "soundfonts": list(options.soundfonts)}
    if path.is_file():
        other = json.loads(path.read_text(encoding="utf-8"))
        for key, value in mine.items():
            if other.get(key) != value:
                raise ParameterError(key, value, f"{other.get(key)!r}, the value of the existing corpus {options.out}")
    path.write_text(json.dumps(mine))


_BAR = "{l_bar}{bar}| {n:.2f}/{total:.2f} h {postfix} [{elapsed}<{remaining}]"


@contextmanager
def _results(
    options: CorpusOptions, tasks: Iterator[tuple[str, int]], workers: int
) -> Iterator[Iterator[dict[str, Any]]]:
    """Songs in the order of the tasks, from ``workers`` processes; one worker runs in this process."""
    if workers == 1:
        _start_worker(options)
        yield map(_make, tasks)
        return
    with get_context("spawn").Pool(workers, _start_worker, (options,)) as pool:
        yield _in_order(pool, tasks, ahead=workers * 3)
        pool.terminate()


def _in_order(pool: Any, tasks: Iterator[tuple[str, int]], *, ahead: int) -> Iterator[dict[str, Any]]:
    """Results of endless tasks, in their order. At most ``ahead`` tasks are in progress."""
    waiting = [pool.apply_async(_make, (next(tasks),)) for _ in range(ahead)]
    while True:
        yield waiting.pop(0).get()
        waiting.append(pool.apply_async(_make, (next(tasks),)))
