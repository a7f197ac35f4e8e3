"""Measure how well a model follows its conditions: chords, parts, density, energy and brightness.

Held-out clips are rendered again under conditions. The same measures of the real clips are the ceiling. Some rows use
the conditions of the clips' own songs. Others request different values for one group at a time, independent of the
caption. docs/evaluation.md explains the rows.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from riffstream.corpus import levels, measures
from riffstream.errors import ParameterError, RiffstreamError
from riffstream.evaluation.options import add_model_options, add_run_options, held_out, seed_library
from riffstream.journey.chords import Chord
from riffstream.journey.conditions import PARTS, BarPlan, lay_out
from riffstream.journey.keyframe import NONE
from riffstream.training.asked import plan_of

if TYPE_CHECKING:
    from riffstream.corpus.data import Corpus
    from riffstream.diffusion.clip import ClipRequest
    from riffstream.diffusion.engine import Engine
    from riffstream.evaluation.probe import Probe

__all__ = ["EXAMPLES", "add_arguments", "conduct", "markdown", "run"]

EXAMPLES = """examples:
  riffstream train conduct --corpus runs/corpus --model my-model --out runs/evaluation
  riffstream train conduct --corpus runs/corpus --model my-model --clips 16 --from-noise --json
"""

COMMONEST = 24  # number of candidate chords; the requested one should be the nearest
VALUES = (0.1, 0.3, 0.5, 0.7, 0.9)  # requested density, energy and brightness
THERE, GONE = 0.7, 0.1  # lowest level of a playing part, highest level of a silent part


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``riffstream train conduct``."""
    add_model_options(parser)
    parser.add_argument("--clips", type=int, default=48, help="held-out clips for each row, 4 to 1000")
    parser.add_argument("--listener-clips", type=int, default=3000, help="training clips of the listener for parts")
    parser.add_argument(
        "--from-noise", action="store_true", help="start from noise alone, without a seed loop or an opening sound"
    )
    parser.add_argument("--sampler", default=None, help="default: the model's")
    add_run_options(parser)


def run(args: argparse.Namespace) -> int:
    """``riffstream train conduct``."""
    from riffstream.corpus.data import Corpus
    from riffstream.diffusion.checkpoint import Checkpoint
    from riffstream.diffusion.engine import Engine
    from riffstream.evaluation.probe import load_probe

    if not 4 <= args.clips <= 1000:
        raise ParameterError("clips", args.clips, "4 to 1000")
    unseen = held_out(args)
    corpus = Corpus(args.corpus)
    family = Checkpoint.load(args.model, device=args.device)
    library = seed_library(args.model)
    args.out.mkdir(parents=True, exist_ok=True)
    kept = args.out / "listener.safetensors"
    if kept.is_file():
        listener = load_probe(kept)
    else:
        listener = fit_listener(corpus, clips=args.listener_clips, seed=args.seed, quiet=args.quiet)
        listener.save(kept)
    engine = Engine(family, steps=args.steps, sampler=args.sampler, seeds=library)
    start = {"seed_image": NONE} if args.from_noise or library is None else {}
    report = conduct(
        engine,
        corpus,
        listener,
        held_out=unseen,
        clips=args.clips,
        guidance=args.guidance,
        seed=args.seed,
        quiet=args.quiet,
        **start,
    )
    report["model"] = str(args.model)
    (args.out / "conduct.json").write_text(json.dumps(report, indent=1))
    table = markdown(report)
    (args.out / "conduct.md").write_text(table)
    if args.json:
        print(json.dumps(report))
    elif not args.quiet:
        print(table)
    return 0


def fit_listener(corpus: Corpus, *, clips: int, epochs: int = 8, seed: int = 0, quiet: bool = False) -> Probe:
    """Train a probe for parts instead of instruments."""
    from riffstream.evaluation.probe import fit_probe

    def parts(index: int) -> np.ndarray:
        return np.array([_level(corpus, index, part) > 0.5 for part in PARTS], np.float32)

    return fit_probe(corpus, clips=clips, epochs=epochs, seed=seed, quiet=quiet, classes=PARTS, target=parts)


def conduct(
    engine: Engine,
    corpus: Corpus,
    listener: Probe,
    *,
    held_out: Corpus | None = None,
    clips: int = 48,
    guidance: float | None = None,
    seed: int = 0,
    quiet: bool = False,
    **start: Any,
) -> dict[str, Any]:
    """Render held-out clips under conditions and measure them.

    Args:
        engine: engine of the model. A model without conditions is only measured without them.
        corpus: corpus with bar facts; its held-out songs are used without ``held_out``.
        held_out: corpus of unseen songs (another seed).
        listener: result of :func:`fit_listener`.
        clips: number of clips in each row.
        start: ``seed_image`` and ``denoising``, by default the model's.

    Returns:
        ``chords``: rows of figures; ``parts``: a row per part; ``levels``: a row per measure.

    Raises:
        RiffstreamError: the corpus has no held-out clips with facts.
    """
    rng = np.random.default_rng(seed)
    common = _commonest(corpus)
    unseen = list(range(len(held_out))) if held_out else corpus.split("held_out")
    corpus = held_out or corpus
    unseen = [i for i in unseen if corpus[i].bars]
    unseen = [unseen[int(i)] for i in rng.permutation(len(unseen))]
    if not unseen:
        raise RiffstreamError(f"{corpus.path} has no held-out songs with facts of bars; render some with this version")
    takes = bool(engine.family.conditions)
    player = _Player(engine, corpus, guidance, rng, quiet, start)
    report: dict[str, Any] = {"chords": {}, "parts": {}, "levels": {}, "conditions": takes}

    changing = [i for i in unseen if _bar_chords(corpus, i) is not None][:clips]
    report["chord_clips"] = len(changing)
    report["chords"]["real"] = _chord_figures(corpus, changing, [corpus.mel(i) for i in changing], common)
    # Empty conditions: without any, captions such as "no drums" would become conditions.
    withheld = [_laid(corpus, i, [BarPlan()] * len(corpus[i].bars)) if takes else None for i in changing]
    plain = player.play(changing, withheld, "no conditions")
    report["chords"]["conditions withheld"] = _chord_figures(corpus, changing, plain, common)
    if not takes:
        return report
    asked = [_conditions(corpus, i) for i in changing]
    played = player.play(changing, asked, "all conditions")
    report["chords"]["the clip's own conditions"] = _chord_figures(corpus, changing, played, common)
    alone = [_only_chords(corpus, i) for i in changing]
    played = player.play(changing, alone, "chords alone")
    report["chords"]["its chords alone"] = _chord_figures(corpus, changing, played, common)

    few = max(4, clips // 3)
    for part in PARTS:
        have = [i for i in unseen if _level(corpus, i, part) > THERE and len(corpus[i].instruments) > 1][:few]
        lack = [i for i in unseen if _level(corpus, i, part) < GONE][:few]
        if have:
            report["parts"][part] = _part_figures(player, listener, part, have, lack)
    for name in ("density", "energy", "brightness"):
        report["levels"][name] = _level_figures(player, name, unseen[:few])
    return report


class _Player:
    """Renders held-out clips again, with their captions and meters, under given conditions."""

    def __init__(
        self,
        engine: Engine,
        corpus: Corpus,
        guidance: float | None,
        rng: np.random.Generator,
        quiet: bool,
        start: dict[str, Any],
    ) -> None:
        self.engine, self.corpus, self.guidance, self.quiet, self.start = engine, corpus, guidance, quiet, start
        self.prompts = {i: str(rng.choice(corpus.captions(i))) for i in range(len(corpus))}

    def play(self, chosen: Sequence[int], asked: Sequence[np.ndarray | None], what: str) -> list[np.ndarray]:
        """Mel amplitudes [2, M, T] of each clip under its conditions. Its position is the seed of its noise."""
        from tqdm import tqdm

        from riffstream.evaluation import trials

        under_way: dict[int, tuple[int, ClipRequest]] = {}
        made: dict[int, np.ndarray] = {}
        waiting = list(range(len(chosen)))[::-1]
        with tqdm(total=len(chosen), desc=what, disable=self.quiet) as bar:
            while waiting or self.engine.pending:
                while waiting and self.engine.pending < 16:
                    place = waiting.pop()
                    i = chosen[place]
                    request = trials.request(
                        self.prompts[i], place, self.guidance, frames=64 * self.corpus.beats(i),
                        conditions=asked[place], **self.start,
                    )  # fmt: skip
                    under_way[id(request)] = (place, request)
                    self.engine.submit(request)
                for clip in self.engine.tick():
                    made[under_way.pop(id(clip.request))[0]] = clip.mel.numpy()
                    bar.update()
        return [made[place] for place in range(len(chosen))]


def _plans(corpus: Corpus, index: int) -> list[BarPlan]:
    return [plan_of(bar) for bar in corpus[index].bars]


def _laid(corpus: Corpus, index: int, plans: Sequence[BarPlan]) -> np.ndarray:
    beats = corpus.beats(index)
    return lay_out(plans, 2 * beats, beats // len(plans))


def _conditions(corpus: Corpus, index: int) -> np.ndarray:
    return _laid(corpus, index, _plans(corpus, index))


def _only_chords(corpus: Corpus, index: int) -> np.ndarray:
    return _laid(corpus, index, [BarPlan(plan.chords) for plan in _plans(corpus, index)])


def _level(corpus: Corpus, index: int, part: str) -> float:
    """Level of a part, 0 to 1: the mean over the clip's bars."""
    levels = [dict(plan.parts or {})[part] for plan in _plans(corpus, index)]
    return float(sum(levels) / len(levels))


def _bar_chords(corpus: Corpus, index: int) -> list[Chord] | None:
    """The chords of a clip's two bars, if each bar has one chord and their pitch classes differ."""
    chords = [plan.chords for plan in _plans(corpus, index)]
    single = [row[0] for row in chords if len(row) == 1 and row[0] is not None]
    if len(single) != len(chords) or len({frozenset(chord.classes) for chord in single}) < len(single):
        return None
    return single


def _commonest(corpus: Corpus) -> list[frozenset[int]]:
    """Pitch classes of the most common chords of the corpus."""
    seen: Counter[frozenset[int]] = Counter()
    for clip in corpus.clips:
        for bar in clip.bars:
            seen.update(frozenset(Chord.parse(name).classes) for name in bar["chords"] if name)
    return [classes for classes, _ in seen.most_common(COMMONEST)]


def _chord_figures(
    corpus: Corpus, chosen: Sequence[int], mels: Sequence[np.ndarray], common: Sequence[frozenset[int]]
) -> dict[str, float]:
    """Agreement of each bar's chroma with its own chord, the other bar's chord and another clip's chord; and the share
    of bars in which no common chord agrees better than its own."""
    chords = [chord for i in chosen if (chord := _bar_chords(corpus, i)) is not None]
    own: list[float] = []
    swapped: list[float] = []
    other: list[float] = []
    nearest: list[float] = []
    for place, (row, mel) in enumerate(zip(chords, mels, strict=True)):
        stranger = chords[(place + 1) % len(chords)]
        for number, chroma in enumerate(measures.chroma(part) for part in np.split(mel, len(row), -1)):
            classes = frozenset(row[number].classes)
            own.append(measures.chord_agreement(chroma, classes))
            swapped.append(measures.chord_agreement(chroma, row[number - 1].classes))
            other.append(measures.chord_agreement(chroma, stranger[number].classes))
            best = max(measures.chord_agreement(chroma, each) for each in common)
            nearest.append(float(classes in common and own[-1] >= best - 1e-9))
    columns = {"own": own, "swapped": swapped, "another": other, "nearest": nearest}
    return {name: round(float(np.mean(values)), 3) for name, values in columns.items()}


def _part_figures(
    player: _Player, listener: Probe, part: str, have: Sequence[int], lack: Sequence[int]
) -> dict[str, float]:
    """One part on request and on request silent, in clips of songs with this part, with the same caption and noise."""
    from riffstream.evaluation.probe import probe_features

    corpus = player.corpus

    def heard(mels: Sequence[np.ndarray]) -> float:
        logits = listener.listen([probe_features(mel) for mel in mels])[2][:, PARTS.index(part)]
        return round(float((1 / (1 + np.exp(-logits))).mean()), 3)

    def asked(level: float) -> list[np.ndarray | None]:
        return [_laid(corpus, i, [BarPlan(parts={part: level})] * len(corpus[i].bars)) for i in have]

    on, off = player.play(have, asked(1.0), f"{part} on"), player.play(have, asked(0.0), f"{part} off")
    figures = {
        "clips": len(have),
        "real with": heard([corpus.mel(i) for i in have]),
        "on": heard(on),
        "off": heard(off),
    }
    if lack:
        figures["real without"] = heard([corpus.mel(i) for i in lack])
    if part == "drums":
        level = measures.percussive_db
        figures["percussive on, dB"] = round(float(np.mean([level(mel) for mel in on])), 2)
        figures["percussive off, dB"] = round(float(np.mean([level(mel) for mel in off])), 2)
        if lack:
            figures["percussive real without, dB"] = round(float(np.mean([level(corpus.mel(i)) for i in lack])), 2)
    return figures


def _level_figures(player: _Player, name: str, chosen: Sequence[int]) -> dict[str, float]:
    """The measure for each requested value, and the share of rising steps between successive values, per clip."""
    corpus = player.corpus
    measure = {
        "density": measures.onsets_per_beat, "energy": levels.loudness_db, "brightness": levels.brightness_octaves,
    }[name]  # fmt: skip
    heard = []
    for value in VALUES:
        plan = BarPlan(
            density=value if name == "density" else None,
            energy=value if name == "energy" else None,
            brightness=value if name == "brightness" else None,
        )
        asked: list[np.ndarray | None] = [_laid(corpus, i, [plan] * len(corpus[i].bars)) for i in chosen]
        heard.append([measure(mel) for mel in player.play(chosen, asked, f"{name} {value}")])
    table = np.array(heard)
    figures = {f"at {value}": round(float(row.mean()), 3) for value, row in zip(VALUES, table, strict=True)}
    return figures | {"steps up": round(float((np.diff(table, axis=0) > 0).mean()), 3), "clips": len(chosen)}


def markdown(report: dict[str, Any]) -> str:
    """The report as tables."""
    lines = [
        f"| | own chord | bars swapped | another clip's | nearest of {COMMONEST} |", "|---|---|---|---|---|",
        *(
            f"| {name} | {row['own']} | {row['swapped']} | {row['another']} | {row['nearest']} |"
            for name, row in report["chords"].items()
        ),
        "", f"Chroma of bars against pitch classes; {report['chord_clips']} held-out clips with two different chords.",
    ]  # fmt: skip
    if report["parts"]:
        lines += ["", "| part | clips | real with | on | off | real without |", "|---|---|---|---|---|---|"]
        for part, row in report["parts"].items():
            lines.append(
                f"| {part} | {row['clips']} | {row['real with']} | {row['on']} | {row['off']} | "
                f"{row.get('real without', '')} |"
            )
        drums = {name: value for name, value in report["parts"].get("drums", {}).items() if "dB" in name}
        lines += [
            "",
            f"How surely the listener hears the part. Drums: {', '.join(f'{k} {v}' for k, v in drums.items())}.",
        ]
    if report["levels"]:
        names = [f"at {value}" for value in VALUES]
        lines += ["", f"| asked | {' | '.join(names)} | steps up |", "|---" * (len(names) + 2) + "|"]
        for name, row in report["levels"].items():
            lines.append(f"| {name} | {' | '.join(str(row[key]) for key in names)} | {row['steps up']} |")
        lines += ["", "Onsets a beat, level in dB, mean octave (log2 of Hertz)."]
    return "\n".join(lines) + "\n"
