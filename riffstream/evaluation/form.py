"""Measure the form of an unattended stretch of the default journey: borders of sections, chords, and likeness of clips.

The clips are rendered one after another as on a station, each as the continuation of the previous one. Borders are the
peaks of Foote's novelty (Foote 2000, "Automatic audio segmentation using a measure of audio novelty"): the mean over
a checkerboard of the self-similarity of beats. docs/evaluation.md explains the rows.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import signal

from riffstream.corpus import measures
from riffstream.errors import ParameterError
from riffstream.evaluation.options import add_run_options, seed_library
from riffstream.journey.chords import Chord
from riffstream.journey.form import FORMS, FormName, PlannedBar
from riffstream.journey.plan import form_of, lifted, planned
from riffstream.journey.wander import ARC_CLIPS, wander

if TYPE_CHECKING:
    from riffstream.corpus.data import Corpus
    from riffstream.diffusion.engine import Engine

__all__ = ["EXAMPLES", "add_arguments", "borders_found", "likeness", "markdown", "measure", "novelty", "run"]

EXAMPLES = """examples:
  riffstream train form --model my-model --minutes 60 --out runs/evaluation
  riffstream train form --model my-model --minutes 10 --form dj --json
"""

BEATS, BARS = 8, 2  # of a clip
BANDS = 32
HALF = 16  # beats on each side of a border
APART = 16  # least distance of two peaks in beats
WITHIN = 1  # beats between a border and its peak
COMMONEST = 24  # candidate chords
CEILING_CLIPS = 400  # of a corpus, for the ceiling of the borders
SONGS = 200  # songs of a corpus that are measured


@dataclass(frozen=True, slots=True)
class _Made:
    """A rendered clip: mel amplitudes [2, M, T] and the plan of its bars."""

    mel: np.ndarray
    plan: tuple[PlannedBar, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``riffstream train form``."""
    parser.add_argument("--model", default="mini", help="mini or a checkpoint folder")
    parser.add_argument("--minutes", type=float, default=60.0, help="length of the stretch, 2 to 600")
    parser.add_argument("--form", choices=FORMS, default="song", help="planner (song)")
    parser.add_argument("--corpus", type=Path, default=None, help="corpus whose songs show the usual likeness of clips")
    parser.add_argument("--out", type=Path, default=Path("runs/evaluation"), help="folder for JSON and table")
    add_run_options(parser)


def run(args: argparse.Namespace) -> int:
    """``riffstream train form``."""
    from riffstream.corpus.data import Corpus
    from riffstream.diffusion.checkpoint import Checkpoint
    from riffstream.diffusion.engine import Engine

    if not 2 <= args.minutes <= 600:
        raise ParameterError("minutes", args.minutes, "2 to 600")
    family = Checkpoint.load(args.model, device=args.device)
    engine = Engine(family, steps=args.steps, seeds=seed_library(args.model))
    report = measure(
        engine,
        args.form,
        minutes=args.minutes,
        corpus=None if args.corpus is None else Corpus(args.corpus),
        guidance=args.guidance,
        seed=args.seed,
        quiet=args.quiet,
    )
    report["model"] = str(args.model)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "form.json").write_text(json.dumps(report, indent=1))
    table = markdown(report)
    (args.out / "form.md").write_text(table)
    if args.json:
        print(json.dumps(report))
    elif not args.quiet:
        print(table)
    return 0


def measure(
    engine: Engine,
    form: FormName,
    *,
    minutes: float,
    corpus: Corpus | None = None,
    guidance: float | None = None,
    seed: int = 0,
    quiet: bool = False,
) -> dict[str, Any]:
    """Render a stretch of the default journey and measure it.

    Args:
        engine: engine of the model. A model without conditions follows the journey alone.
        form: planner; its borders are compared also with a model that does not follow it.
        minutes: length of the stretch.
        corpus: songs for the usual likeness of clips.
        guidance: None: the model's own.
        seed: seed of the journey.
        quiet: no progress bar.

    Returns:
        ``borders``: number of borders, the share with a peak within a beat, the share of as many random places, the
        number of peaks, and the share in the corpus's songs. ``drums``: mean percussive level, in dB, of bars in which
        the plan lets the drums rest, and of the others (empty without conditions or such bars). ``chords``: as in
        ``conduct``, for the stretch and for single clips (empty without conditions). ``likeness``: mean similarity of
        successive clips, and of the corpus's songs.
    """
    obeys = bool(engine.family.conditions)
    made = list(_play(engine, form, minutes, guidance, seed, quiet=quiet))
    borders = [
        clip * BEATS + bar * BEATS // BARS
        for clip, each in enumerate(made)
        for bar, plan in enumerate(each.plan)
        if plan.starts and clip + bar > 0
    ]
    curve = novelty([each.mel for each in made])
    peaks = _peaks(curve)
    inside = [place for place in borders if HALF <= place < len(curve) - HALF]
    rng = np.random.default_rng(seed)
    chance = [borders_found(rng.integers(HALF, len(curve) - HALF, len(inside)), peaks) for _ in range(200)]
    report: dict[str, Any] = {
        "form": form,
        "minutes": minutes,
        "clips": len(made),
        "conditions": obeys,
        "borders": {
            "planned": len(inside),
            "found": round(borders_found(inside, peaks), 3),
            "by chance": round(float(np.mean(chance)), 3),
            "peaks": len(peaks),
        },
        "drums": _drum_levels(made) if obeys else {},
        "chords": {},
        "likeness": {"stretch": round(likeness([each.mel for each in made]), 3)},
    }
    if obeys and form != "none":
        singles = list(_play(engine, form, min(minutes, 8.0), guidance, seed, quiet=quiet, continued=False))
        common = _commonest(made)
        report["chords"] = {"stretch": _chord_figures(made, common), "single clips": _chord_figures(singles, common)}
    if corpus is not None:
        report["likeness"]["songs"] = round(_likeness_of_songs(corpus), 3)
        report["borders"]["songs"] = round(_borders_of_songs(corpus), 3)
    return report


def _play(
    engine: Engine,
    form: FormName,
    minutes: float,
    guidance: float | None,
    seed: int,
    *,
    quiet: bool,
    continued: bool = True,
) -> Iterator[_Made]:
    """Render the default journey clip by clip, as ``ModelRenderer`` does."""
    from tqdm import tqdm

    from riffstream.diffusion.clip import ClipRequest
    from riffstream.diffusion.past import Past

    conditions = bool(engine.family.conditions)
    drift = engine.family.defaults.drift
    journey = wander(seed, stay=ARC_CLIPS - 4, form=form).paced(drift)
    plan = form_of(form, journey, BARS, home=True)
    past: Past | None = None
    left, index = minutes * 60.0, 0
    with tqdm(total=round(left), unit="s", desc="rendering", disable=quiet) as bar:
        while left > 0:
            spec = journey.clip(index)
            bars = planned(plan, None, spec.start.prompts, BARS * index, BARS)
            asked = replace(spec, plan=bars) if conditions else spec
            if guidance is not None:
                asked = replace(
                    asked,
                    start=replace(asked.start, guidance=guidance),
                    end=replace(asked.end, guidance=guidance),
                )
            key = lifted(replace(spec, plan=bars)) if bars else spec.key
            continuation = past.continuation(asked, engine.family) if past and continued else {}
            engine.submit(ClipRequest(asked, key=key, **continuation))
            clips = engine.tick()
            while not clips:
                clips = engine.tick()
            yield _Made(clips[0].mel.numpy(), bars)
            made = clips[0]
            past = Past.after(past, asked, made.latents, made.mel, engine.family, opening=made.opening)
            seconds = BEATS * 60.0 / (spec.bpm or 120.0)
            left -= seconds
            index += 1
            bar.update(round(seconds))


def features(mels: Sequence[np.ndarray]) -> np.ndarray:
    """Sound of each beat: levels of 32 bands in dB and twelve pitch classes, [beats, 44], each with its own mean
    removed and scaled to unit variance over the stretch."""
    rows = []
    for mel in mels:
        for part in np.split(mel, BEATS, -1):
            rows.append(np.concatenate([_bands(part), 40 * measures.chroma(part)]))
    table = np.array(rows)
    return np.asarray((table - table.mean(0)) / (table.std(0) + 1e-9))


def _bands(mel: np.ndarray) -> np.ndarray:
    """Levels of the bands in dB, [BANDS]."""
    return np.array([20 * np.log10(band.mean() + 0.1) for band in np.array_split(mel.mean(0), BANDS, 0)])


def novelty(mels: Sequence[np.ndarray]) -> np.ndarray:
    """Novelty at the beginning of each beat, [beats]; 0 where a side has less than ``HALF`` beats.

    Bar by bar, chords and rhythms repeat; a mean over whole bars on each side of the border removes that.
    """
    rows = features(mels)
    unit = rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-9)
    unit = unit.astype(np.float32)
    side = np.concatenate([-np.ones(HALF), np.ones(HALF)])
    taper = signal.windows.gaussian(2 * HALF, HALF / 2)
    kernel = np.outer(side * taper, side * taper)
    out = np.zeros(len(rows))
    for beat in range(HALF, len(rows) - HALF + 1):
        near = unit[beat - HALF : beat + HALF]
        out[beat] = (near @ near.T * kernel).sum()
    return np.asarray(out[: len(rows)])


def _peaks(curve: np.ndarray) -> np.ndarray:
    """Beats of the peaks: above the mean, prominent, and at least ``APART`` beats from each other."""
    places, _ = signal.find_peaks(curve, distance=APART, height=curve.mean(), prominence=0.25 * curve.std())
    return np.asarray(places)


def borders_found(borders: Sequence[int] | np.ndarray, peaks: Sequence[int] | np.ndarray) -> float:
    """Share of borders with a peak within a beat, 0 to 1; 0 without borders."""
    if not len(borders) or not len(peaks):
        return 0.0
    distance = np.abs(np.asarray(borders)[:, None] - np.asarray(peaks)[None]).min(1)
    return float((distance <= WITHIN).mean())


def likeness(mels: Sequence[np.ndarray]) -> float:
    """Mean correlation of the band levels of successive clips, -1 to 1."""
    levels = [_bands(mel) for mel in mels]
    values = [np.corrcoef(a, b)[0, 1] for a, b in pairwise(levels) if a.std() > 0 and b.std() > 0]
    return float(np.mean(values)) if values else 0.0


def _borders_of_songs(corpus: Corpus) -> float:
    """Share of the changes of arrangement found in songs in 4/4 that follow each other: the ceiling of the measure."""
    mels: list[np.ndarray] = []
    borders: list[int] = []
    for index, clip in enumerate(corpus.clips):
        if clip.beats != BEATS or not clip.bars:
            continue
        borders += [len(mels) * BEATS + bar * BEATS // BARS for bar, facts in enumerate(clip.bars) if facts["starts"]]
        mels.append(corpus.mel(index))
        if len(mels) >= CEILING_CLIPS:
            break
    if len(mels) < 2 * HALF // BEATS + 1:
        return 0.0
    curve = novelty(mels)
    inside = [place for place in borders if HALF <= place < len(curve) - HALF]
    return borders_found(inside, _peaks(curve))


def _likeness_of_songs(corpus: Corpus) -> float:
    """Mean likeness of successive windows of the same song, for up to ``SONGS`` songs."""
    songs: dict[str, list[int]] = {}
    for index, clip in enumerate(corpus.clips):
        songs.setdefault(clip.song, []).append(index)
    several = [places for places in songs.values() if len(places) > 1]
    found = [likeness([corpus.mel(i) for i in places]) for places in several[:: max(1, len(several) // SONGS)]]
    return float(np.mean(found)) if found else 0.0


def _classes(text: str) -> frozenset[int] | None:
    """Pitch classes of a bar with one chord."""
    names = text.split(" / ")
    return frozenset(Chord.parse(names[0]).classes) if len(names) == 1 and names[0] not in ("", "N.C.") else None


def _commonest(made: Sequence[_Made]) -> list[frozenset[int]]:
    seen = Counter(classes for each in made for bar in each.plan if (classes := _classes(bar.chords)) is not None)
    return [classes for classes, _ in seen.most_common(COMMONEST)]


def _chord_figures(made: Sequence[_Made], common: Sequence[frozenset[int]]) -> dict[str, float]:
    """Agreement of each bar's chroma with its own chord and with the clip's other chord; and the share of bars in which
    no common chord agrees better. Clips with two different chords count."""
    own: list[float] = []
    swapped: list[float] = []
    nearest: list[float] = []
    for each in made:
        chords = [_classes(bar.chords) for bar in each.plan]
        if None in chords or len(set(chords)) < len(chords):
            continue
        for number, part in enumerate(np.split(each.mel, len(chords), -1)):
            heard = measures.chroma(part)
            mine, other = chords[number], chords[number - 1]
            assert mine is not None
            assert other is not None
            own.append(measures.chord_agreement(heard, mine))
            swapped.append(measures.chord_agreement(heard, other))
            best = max(measures.chord_agreement(heard, classes) for classes in common)
            nearest.append(float(own[-1] >= best - 1e-9))
    columns = {"own": own, "swapped": swapped, "nearest": nearest}
    means = {name: round(float(np.mean(values)), 3) if values else 0.0 for name, values in columns.items()}
    return {"bars": len(own), **means}


def _drum_levels(made: Sequence[_Made]) -> dict[str, float]:
    """Percussive level of the bars in which the drums rest and of the other bars; empty without both kinds."""
    levels: dict[str, list[float]] = {"resting": [], "playing": []}
    for each in made:
        for plan, part in zip(each.plan, np.split(each.mel, BARS, -1), strict=False):
            levels["resting" if dict(plan.parts).get("drums") == 0 else "playing"].append(measures.percussive_db(part))
    if not all(levels.values()):
        return {}
    return {name: round(float(np.mean(values)), 2) for name, values in levels.items()}


def markdown(report: dict[str, Any]) -> str:
    """The report as tables."""
    borders = report["borders"]
    lines = [
        f"{report['minutes']:g} minutes, {report['clips']} clips, form {report['form']}"
        + ("" if report["conditions"] else " (the model takes words alone)"),
        "", "| planned borders | with a peak within a beat | random places | peaks |", "|---|---|---|---|",
        f"| {borders['planned']} | {borders['found']} | {borders['by chance']} | {borders['peaks']} |",
    ]  # fmt: skip
    if "songs" in borders:
        lines += ["", f"Borders found in songs of the corpus: {borders['songs']}."]
    if report["drums"]:
        drums = report["drums"]
        lines += ["", f"Percussive level: {drums['playing']} dB, where the drums rest {drums['resting']} dB."]
    if report["chords"]:
        lines += ["", f"| chords | bars | own | swapped | nearest of {COMMONEST} |", "|---|---|---|---|---|"]
        for name, row in report["chords"].items():
            lines.append(f"| {name} | {row['bars']} | {row['own']} | {row['swapped']} | {row['nearest']} |")
    lines += ["", "| likeness of successive clips | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in report["likeness"].items()]
    return "\n".join(lines) + "\n"
