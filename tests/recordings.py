"""Tempo, key and beats of real recordings: ``python -m tests.recordings [FOLDER]`` writes the tables of docs/mini.md.

The recordings are in Debian packages. Those that are not installed are downloaded with apt-get and unpacked in FOLDER
(900 MB; default: a folder of its own in the user's cache). ``tests/data/recordings.toml`` has the truth.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from riffstream.audio.beats import find_beats
from riffstream.audio.files import read_audio
from riffstream.audio.key import find_key
from riffstream.audio.tempo import find_tempo

__all__ = [
    "RATE", "Drifting", "Recording", "beats_of_one_tempo", "drifting", "f_measure", "read", "recordings",
    "start_and_length", "tempo_off",
]  # fmt: skip

DATA = Path(__file__).parent / "data" / "recordings.toml"
RATE = 44_100
FIFTH = 5  # semitones, in either direction
NEAR_S, SKIPPED_S = 0.07, 5.0  # as mir_eval.beat.f_measure


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording with its truth.

    Attributes:
        package: the Debian package.
        path: place of the file below the root of the system.
        bpm: tempo; None if it could not be read.
        keys: semitones above C major and A minor, several where several scales fit; empty if they could not be read.
        also: a further scale that counts in the test, but not in the table.
        late: whether it was looked at only after the method was chosen.
    """

    package: str
    path: Path
    bpm: float | None
    keys: tuple[int, ...]
    also: tuple[int, ...]
    late: bool


@dataclass(frozen=True, slots=True)
class Drifting:
    """A recording whose tempo drifts.

    Attributes:
        package: the Debian package.
        path: place of the file below the root of the system.
        beats: places of the beats in the excerpt, in seconds.
    """

    package: str
    path: Path
    beats: NDArray[np.float64]


def drifting() -> list[Drifting]:
    """The recordings whose tempo drifts."""
    every = tomllib.loads(DATA.read_text())["drifting"]
    return [Drifting(entry["package"], Path(entry["file"]), np.array(entry["beats"])) for entry in every]


def recordings(packages: Iterable[str] | None = None) -> list[Recording]:
    """The recordings of some packages, or of all."""
    every: Mapping[str, Any] = tomllib.loads(DATA.read_text())["packages"]
    return [
        Recording(
            package,
            Path(every[package]["folder"]) / entry["file"],
            entry.get("bpm"),
            tuple(entry.get("keys", ())),
            tuple(entry.get("also", ())),
            entry.get("late", False),
        )
        for package in packages or every
        for entry in every[package]["recordings"]
    ]


def start_and_length() -> tuple[float, float]:
    """Start and length of the excerpts of the table, in seconds."""
    truth = tomllib.loads(DATA.read_text())
    return truth["start_s"], truth["length_s"]


def read(path: Path, start_s: float, length_s: float) -> NDArray[np.float32]:
    """An excerpt at :data:`RATE`, [2, N]."""
    whole = read_audio(path, sample_rate=RATE, channels=2, max_seconds=start_s + length_s, cut=True).samples.T
    return np.ascontiguousarray(whole[:, round(start_s * RATE) :])


def tempo_off(found: float, bpm: float) -> float:
    """Relative distance of a tempo, its half or its double from the true one, 0 or more."""
    return min(abs(found * octave / bpm - 1) for octave in (0.5, 1, 2))


def f_measure(true: NDArray[np.float64], found: NDArray[np.float64]) -> tuple[float, str]:
    """Harmonic mean of precision and recall of beats, and the level with the best one.

    A beat counts if it is at most 70 ms from a true one, and the first 5 s do not count, as in mir_eval. The found
    beats, twice or half as many, and the places between them are tried: a recording has several right levels.
    """
    between = (found[1:] + found[:-1]) / 2
    levels = {
        "as found": found,
        "twice": np.sort(np.concatenate([found, between])),
        "half": found[::2],
        "other half": found[1::2],
        "between": between,
    }
    scores = {name: _f_measure(true[true >= SKIPPED_S], level[level >= SKIPPED_S]) for name, level in levels.items()}
    best = max(scores, key=lambda name: scores[name])
    return scores[best], best


def _f_measure(true: NDArray[np.float64], found: NDArray[np.float64]) -> float:
    hits, at = 0, 0
    for beat in true:  # both rise, so the first one that is near is the best choice
        while at < len(found) and found[at] < beat - NEAR_S:
            at += 1
        if at < len(found) and found[at] <= beat + NEAR_S:
            hits, at = hits + 1, at + 1
    return 2 * hits / max(1, len(true) + len(found))


def beats_of_one_tempo(wave: NDArray[np.float32]) -> NDArray[np.float64]:
    """The beats of an excerpt by its tempo alone, in seconds."""
    bpm, first = find_tempo(wave, RATE)
    return np.arange(first / RATE, wave.shape[1] / RATE, 60 / bpm)


def _named_tempo(found: float, bpm: float) -> str:
    """The judgement of a tempo as the table counts it."""
    off = tempo_off(found, bpm)
    return "within 0.5 %" if off < 0.005 else "within 4 %" if off < 0.04 else "wrong"


def _unpacked(package: str, wanted: Path, folder: Path) -> Path:
    """The root below which a package's files are; downloads it if it is neither installed nor unpacked."""
    for root in (Path("/"), folder):
        if (root / wanted).is_file():
            return root
    folder.mkdir(parents=True, exist_ok=True)
    print(f"downloading {package}", file=sys.stderr, flush=True)
    subprocess.run(["apt-get", "download", "-q", package], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    archive = max(folder.glob(f"{package}_*.deb"), key=lambda path: path.stat().st_mtime)
    subprocess.run(["dpkg-deb", "-x", archive, folder], check=True)
    archive.unlink()
    return folder


def _judged(each: Recording, root: Path) -> dict[str, str]:
    wave = read(root / each.path, *start_and_length())
    found = find_beats(wave, RATE)
    judged = {}
    if each.bpm is not None:
        judged["tempo"] = _named_tempo(found.bpm, each.bpm)
        judged["tempo said"] = found.doubt or found.words(RATE) or "clear"
    if each.keys:
        key = find_key(wave, RATE)
        above = key.above if key else 0
        steps = min(min((above - true) % 12, (true - above) % 12) for true in each.keys)
        judged["key"] = "exact" if steps == 0 else "a fifth away" if steps == FIFTH else "further away"
        judged["key said"] = "none" if key is None else "unclear" if key.doubt else "clear"
    said = ", ".join(f"{name} {value}" for name, value in judged.items())
    print(f"{each.package} {each.path.name}: {found.bpm:g} bpm (true: {each.bpm}), {said}", flush=True)
    return judged


def _followed(each: Drifting, root: Path) -> str:
    wave = read(root / each.path, *start_and_length())
    found = find_beats(wave, RATE)
    ours, level = f_measure(each.beats, found.at / RATE)
    one, _ = f_measure(each.beats, beats_of_one_tempo(wave))
    slow, fast = found.range(RATE)
    spread = f"{slow:.0f} to {fast:.0f}" if found.drifts else f"{slow:g}"
    return f"| {each.package} {each.path.name} | {spread} | {ours:.2f} ({level}) | {one:.2f} |"


def _rows(judged: list[tuple[Recording, dict[str, str]]]) -> Iterator[str]:
    wanted = {
        "tempo within 0.5 %, or its half or double": ("tempo", {"within 0.5 %"}),
        "tempo within 4 %, or its half or double": ("tempo", {"within 0.5 %", "within 4 %"}),
        "key exact": ("key", {"exact"}),
        "key a fifth away": ("key", {"a fifth away"}),
        "key further away": ("key", {"further away"}),
    }
    for title, (what, values) in wanted.items():
        counts = []
        for late in (False, True):
            said = [verdict[what] for each, verdict in judged if each.late is late and what in verdict]
            counts.append(f"{sum(value in values for value in said)} of {len(said)}")
        yield f"| {title} | {'; '.join(counts)} |"


def main(arguments: list[str]) -> int:
    """Measure every recording and print the table."""
    folder = Path(arguments[0]) if arguments else Path.home() / ".cache" / "riffstream-recordings"
    judged = [(each, _judged(each, _unpacked(each.package, each.path, folder))) for each in recordings()]
    print("\n| | known while the method was chosen; late |\n|---|---|")
    print(*_rows(judged), sep="\n")
    clear = [verdict["key"] for _, verdict in judged if verdict.get("key said") == "clear"]
    unclear = [verdict["tempo said"] for _, verdict in judged if verdict.get("tempo said", "clear") != "clear"]
    print(f"\n{clear.count('exact')} of {len(clear)} clear keys are exact.")
    print(f"{len(unclear)} tempos are called unclear or drifting.")
    print("\n| drifting | bpm | F-measure, followed | one tempo |\n|---|---|---|---|")
    for each in drifting():
        print(_followed(each, _unpacked(each.package, each.path, folder)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
