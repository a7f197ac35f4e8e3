"""Compare a model with held-out music: adherence to prompts, tempo, key, and stability of long streams.

The judge is a probe, trained on the corpus alone (``probe.py``). It is trained once and saved in the output folder.
The tables compare generated clips with real held-out clips, with real clips of other songs of the same styles
(``peers.py``), with clips after a round trip through the codec (the ceiling of all models with this codec), with the
labels of other prompts (the floor), and with guesses from the words of the prompts alone (``word_scores.py``).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from riffstream.corpus import levels, measures
from riffstream.errors import ParameterError, RiffstreamError
from riffstream.evaluation.options import add_model_options, add_run_options, held_out, seed_library
from riffstream.journey.keyframe import AUTO, NONE

if TYPE_CHECKING:
    from riffstream.corpus.data import Corpus
    from riffstream.diffusion.clip import ClipRequest
    from riffstream.diffusion.engine import Engine
    from riffstream.diffusion.family import Family
    from riffstream.diffusion.seed_images import SeedSource
    from riffstream.evaluation.probe import Judge, Probe
    from riffstream.evaluation.tagger import Heard, Tagger

__all__ = ["EXAMPLES", "Generated", "add_arguments", "evaluate", "markdown", "rhythm_and_level", "run"]

EXAMPLES = """examples:
  riffstream train evaluate --corpus runs/corpus --out runs/evaluation
  riffstream train evaluate --corpus runs/corpus --model my-model --clips 64 --json
"""

_COLUMNS = (
    ("frechet", "Fréchet distance"),
    ("style_top1", "style, first"),
    ("style_top5", "style, first five"),
    ("instruments", "instruments"),
    ("tempo_error_percent", "tempo error %"),
    ("phase_error_frames", "phase error, frames"),
    ("on_grid", "onsets on the grid"),
    ("in_key", "in key"),
    ("loudness_db", "level dB"),
    ("loudness_spread_db", "spread dB"),
)
_TAGGER_COLUMNS = (("tags", "tags like real"), ("tags_distance", "tagger's distance"))


@dataclass(slots=True)
class Generated:
    """Clips and their prompts.

    Attributes:
        mels: mel amplitudes, [2, 256, T] each.
        prompts: prompts of the clips.
        styles: styles of the source clips.
        instruments: instruments of the source clips.
        features: input of the probe.
    """

    mels: list[np.ndarray]
    prompts: list[str]
    styles: list[str]
    instruments: list[tuple[str, ...]]
    features: list[np.ndarray]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``riffstream train evaluate``."""
    add_model_options(parser)
    parser.add_argument("--clips", type=int, default=192, help="prompts to render, 8 to 10000")
    parser.add_argument("--probe-clips", type=int, default=8000, help="training clips of the probe")
    parser.add_argument("--tagger", action="store_true", help="let musicnn judge too (pip install --no-deps musicnn)")
    parser.add_argument("--stream-clip", type=int, default=0, help="row for this clip of each prompt's stream; 0: none")
    parser.add_argument("--drift-clips", type=int, default=64, help="clips of one continuous stream; 0: none")
    add_run_options(parser)


def run(args: argparse.Namespace) -> int:
    """``riffstream train evaluate``."""
    from riffstream.corpus.data import Corpus
    from riffstream.diffusion.checkpoint import Checkpoint
    from riffstream.evaluation.probe import fit_probe, load_probe

    if not 8 <= args.clips <= 10_000:
        raise ParameterError("clips", args.clips, "8 to 10000")
    if args.stream_clip and not 2 <= args.stream_clip <= 1000:
        raise ParameterError("stream-clip", args.stream_clip, "0, or 2 to 1000")
    tagger = None
    if args.tagger:
        from riffstream.evaluation.tagger import Tagger

        tagger = Tagger.load()
    unseen = held_out(args)
    corpus = Corpus(args.corpus)
    family = Checkpoint.load(args.model, device=args.device)
    args.out.mkdir(parents=True, exist_ok=True)
    kept = args.out / "probe.safetensors"
    if kept.is_file():
        probe = load_probe(kept)
    else:
        probe = fit_probe(corpus, clips=args.probe_clips, seed=args.seed, quiet=args.quiet)
        probe.save(kept)
    report = evaluate(
        family,
        corpus,
        probe,
        held_out=unseen,
        library=seed_library(args.model),
        tagger=tagger,
        clips=args.clips,
        stream_clip=args.stream_clip,
        drift_clips=args.drift_clips,
        steps=args.steps,
        guidance=args.guidance,
        seed=args.seed,
        quiet=args.quiet,
    )
    report["model"] = str(args.model)
    (args.out / "evaluation.json").write_text(json.dumps(report, indent=1))
    table = markdown(report)
    (args.out / "evaluation.md").write_text(table)
    if args.json:
        print(json.dumps(report))
    elif not args.quiet:
        print(table)
    return 0


def evaluate(
    family: Family,
    corpus: Corpus,
    probe: Probe,
    *,
    held_out: Corpus | None = None,
    library: SeedSource | None = None,
    tagger: Tagger | None = None,
    clips: int = 192,
    stream_clip: int = 0,
    drift_clips: int = 64,
    steps: int | None = None,
    guidance: float | None = None,
    seed: int = 0,
    quiet: bool = False,
) -> dict[str, Any]:
    """Render held-out prompts and measure them.

    Args:
        family: model of the mini family, with beat-synchronous mels.
        corpus: training corpus of the model and the probe. Prompts come from its held-out songs without ``held_out``.
        held_out: corpus of unseen songs (another seed).
        probe: the judge.
        library: seed library of the model. With one, clips from noise alone and the nearest loops alone are also
            measured, whatever the model's default start.
        tagger: a second judge, from elsewhere.
        clips: number of prompts to render.
        stream_clip: number of a clip, 2 or more. A further row has this clip of a stream for each prompt; 0: no row.
        drift_clips: length of the continuous stream in clips.
        steps: see ``ClipRequest``.
        guidance: see ``ClipRequest``.
        seed: seed of prompts and noise.
        quiet: whether to hide progress bars.

    Returns:
        Figures by name; each row is a dict of columns. ``markdown`` prints them.

    Raises:
        RiffstreamError: no held-out clips, fewer than two other songs, or a model without a beat grid.
    """
    from riffstream.diffusion.engine import Engine
    from riffstream.evaluation import trials
    from riffstream.evaluation.peers import draw_peers, keep_songs
    from riffstream.evaluation.probe import probe_features

    if family.beats is None:
        raise RiffstreamError("this evaluation needs a beat-synchronous model (mini), not Stable Diffusion")
    rng = np.random.default_rng(seed)
    engine = Engine(family, steps=steps, seeds=library)
    source = held_out or corpus
    unseen = list(range(len(source))) if held_out else corpus.split("held_out")
    if not unseen:
        raise RiffstreamError(f"{corpus.path} has no held-out songs yet; render more hours or give --held-out")
    # A generator of its own, so that the draws below are those of a corpus of single songs, which keeps none.
    apart = np.random.default_rng([seed, 1])
    asking, kept = keep_songs(source, unseen, apart)
    chosen = [asking[int(i)] for i in rng.permutation(len(asking))][:clips]
    peers = draw_peers(source, kept, chosen, corpus, apart)
    begin = time.perf_counter()
    prompts = [str(rng.choice(source.captions(i))) for i in chosen]
    made = _render(engine, source, chosen, prompts, guidance, quiet)
    elapsed = time.perf_counter() - begin
    music = sum(8 * 60 / source.bpm(i) * source.beats(i) / 8 for i in chosen)
    real = _labelled(source, chosen, [source.mel(i) for i in chosen])
    another = _labelled(source, chosen, [peer.mel for peer in peers.others])
    coded = _labelled(source, chosen, [_through_codec(family, mel) for mel in real.mels])
    shuffled = Generated(
        made.mels,
        made.prompts,
        made.styles[1:] + made.styles[:1],
        made.instruments[1:] + made.instruments[:1],
        made.features,
    )
    rows = {"real": real, "another song": another, "codec only": coded, "generated": made}
    if library is not None:
        noise = family.defaults.seed_image == NONE or (family.defaults.seed_image is None and family.sounds is None)
        rows["from noise alone"] = (
            made if noise else _render(engine, source, chosen, prompts, guidance, quiet, seed_image=NONE)
        )
        rows["nearest loop alone"] = _render(
            engine, source, chosen, prompts, guidance, quiet, seed_image=AUTO, denoising=0.0
        )
    if stream_clip > 1:
        later = _render(engine, source, chosen, prompts, guidance, quiet, number=stream_clip)
        rows[f"generated, clip {stream_clip}"] = later
    rows["shuffled captions"] = shuffled
    words = _told(family, corpus, made, seed)
    known = [peer.mel for peer in peers.reference]
    reference = probe.listen([probe_features(mel) for mel in known])[0]
    report: dict[str, Any] = {
        "clips": len(chosen),
        "styles": len({source.style(i) for i in chosen}),
        "probe_styles": len(probe.styles),
        "reference_unseen": round(peers.unseen, 3),
        "reference_same_style": round(peers.same_style, 3),
        "real_time_factor": round(music / elapsed, 2),
        "rows": {},
        "instruments": {},
    }
    for name, clips_of in rows.items():
        judged, classes = _recognise(probe, clips_of)
        for kind, (count, share) in classes.items():
            report["instruments"].setdefault(kind, {"clips": count})[name] = round(share, 3)
        embedding = probe.listen(clips_of.features)[0]
        judged["frechet"] = round(measures.frechet_distance(embedding, reference), 3)
        report["rows"][name] = judged | (rhythm_and_level(clips_of.mels) if name != "shuffled captions" else {})
    if tagger is not None:
        own = [source.bpm(i) for i in chosen]
        waves = {name: (clips_of.mels, own) for name, clips_of in rows.items() if clips_of is not shuffled}
        waves["another song"] = (another.mels, [peer.bpm for peer in peers.others])
        heard = _heard(tagger, family, waves | {"reference": (known, [peer.bpm for peer in peers.reference])})
        others = heard.pop("reference")
        heard["shuffled captions"] = heard["generated"].shifted()
        for name, each in heard.items():
            report["rows"][name]["tags"] = round(each.likeness(heard["real"]), 3)
            report["rows"][name]["tags_distance"] = round(each.distance(others), 2)
    report["rows"]["words alone"], classes = words
    for kind, (_, share) in classes.items():
        report["instruments"][kind]["words alone"] = round(share, 3)
    report["codec_error_db"] = round(
        float(np.mean([measures.mel_distance_db(a, b) for a, b in zip(coded.mels, real.mels, strict=True)])), 2
    )
    report["diversity"] = trials.diversity(engine, probe, made.prompts, guidance, reference, rng)
    report["interpolation"] = trials.interpolation(engine, made.prompts, guidance, rng)
    if drift_clips:
        report["drift"] = trials.drift(engine, probe, made.prompts[0], guidance, drift_clips)
    return report


def _render(
    engine: Engine,
    corpus: Corpus,
    chosen: Sequence[int],
    prompts: list[str],
    guidance: float | None,
    quiet: bool,
    *,
    number: int = 1,
    **start: Any,
) -> Generated:
    """One clip per prompt: clip ``number`` of a stream of its own; ``start``: ``seed_image`` and ``denoising``, by
    default the model's."""
    from tqdm import tqdm

    from riffstream.diffusion.past import Past
    from riffstream.evaluation import trials

    mels: list[np.ndarray] = [np.empty(0)] * len(chosen)
    pasts: list[Past | None] = [None] * len(chosen)
    bar = tqdm(total=number * len(chosen), desc="rendering", disable=quiet)
    for clip_number in range(number):
        under_way: dict[int, tuple[int, ClipRequest]] = {}
        waiting = list(range(len(chosen)))[::-1]
        while waiting or engine.pending:
            while waiting and engine.pending < 16:
                place = waiting.pop()
                frames, seed = 64 * corpus.beats(chosen[place]), place + clip_number * len(chosen)
                request = trials.request(prompts[place], seed, guidance, frames=frames, **start)
                past = pasts[place]
                if past is not None:
                    request = replace(request, **past.continuation(request.spec, engine.family))
                engine.submit(request)
                under_way[id(request)] = (place, request)
            for clip in engine.tick():
                place, request = under_way.pop(id(clip.request))
                past = Past.after(
                    pasts[place], request.spec, clip.latents, clip.mel, engine.family, opening=clip.opening
                )
                mels[place], pasts[place] = clip.mel.numpy(), past
                bar.update()
    bar.close()
    return _labelled(corpus, chosen, mels, prompts)


def _heard(tagger: Tagger, family: Family, rows: dict[str, tuple[list[np.ndarray], list[float]]]) -> dict[str, Heard]:
    """What the tagger hears in the audio of each row's clips, at their tempos in beats per minute."""
    import torch

    from riffstream.spectrogram.vocoder import Vocoder

    vocoder = Vocoder(family.params)

    def wave(mel: np.ndarray, bpm: float) -> np.ndarray:
        return vocoder(torch.from_numpy(mel), hop=family.params.hop(bpm)).numpy().T

    return {
        name: tagger.listen(wave(mel, bpm) for mel, bpm in zip(mels, tempos, strict=True))
        for name, (mels, tempos) in rows.items()
    }


def _labelled(
    corpus: Corpus, chosen: Sequence[int], mels: list[np.ndarray], prompts: list[str] | None = None
) -> Generated:
    from riffstream.evaluation.probe import probe_features

    return Generated(
        mels,
        prompts or [""] * len(chosen),
        [corpus.style(i) for i in chosen],
        [corpus[i].instruments for i in chosen],
        [probe_features(mel) for mel in mels],
    )


def _through_codec(family: Family, mel: np.ndarray) -> np.ndarray:
    import torch

    with torch.no_grad():
        latents = family.encode_mel(torch.from_numpy(mel)[None].to(family.device))
        return np.asarray(family.decode_mel(latents)[0].float().cpu().numpy())


def _told(
    family: Family, corpus: Corpus, clips: Generated, seed: int
) -> tuple[dict[str, float], dict[str, tuple[int, float]]]:
    """Scores of guesses about the clips from their prompts alone."""
    from riffstream.evaluation.word_scores import judge_of_words, sentence_vectors

    vectors = list(sentence_vectors(family, clips.prompts))
    return _recognise(judge_of_words(family, corpus, seed=seed), replace(clips, features=vectors))


def _recognise(probe: Judge, clips: Generated) -> tuple[dict[str, float], dict[str, tuple[int, float]]]:
    from riffstream.evaluation.probe import recognition

    result = recognition(probe, clips.features, clips.styles, clips.instruments)
    shares = {
        "style_top1": round(result.style_top1, 3),
        "style_top5": round(result.style_top5, 3),
        "instruments": round(result.instrument_precision, 3),
    }
    return shares, result.classes


def rhythm_and_level(mels: Sequence[np.ndarray]) -> dict[str, float]:
    """Tempo, phase, key and loudness of a set of clips: means over the measurable clips."""
    tempo = [error for mel in mels if (error := measures.tempo_error(mel)) is not None]
    phase = [error for mel in mels if (error := measures.phase_error(mel)) is not None]
    level = [levels.loudness_db(mel) for mel in mels]
    return {
        "tempo_error_percent": round(100 * float(np.median(tempo)), 2) if tempo else 0.0,
        "phase_error_frames": round(float(np.mean(phase)), 2) if phase else 0.0,
        "on_grid": round(float(np.mean([measures.beat_strength(mel) for mel in mels])), 3),
        "in_key": round(float(np.mean([measures.key_share(mel) for mel in mels])), 3),
        "loudness_db": round(float(np.mean(level)), 2),
        "loudness_spread_db": round(float(np.std(level)), 2),
    }


def markdown(report: dict[str, Any]) -> str:
    """The report as a table."""
    columns = _COLUMNS + (_TAGGER_COLUMNS if "tags" in report["rows"]["generated"] else ())
    lines = ["| | " + " | ".join(title for _, title in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in report["rows"].items():
        lines.append(f"| {name} | " + " | ".join(str(row.get(key, "")) for key, _ in columns) + " |")
    lines += [
        "",
        f"{report['clips']} held-out prompts of {report['styles']} styles; the probe knows {report['probe_styles']} "
        f"(chance {1 / report['probe_styles']:.3f}). Rendering ran {report['real_time_factor']} times real time.",
        "Clips of other songs, in the reference of both distances and in their own row: "
        f"{100 * report['reference_unseen']:.0f} % of unseen songs, {100 * report['reference_same_style']:.0f} % of "
        "the prompt's style.",
        f"Codec error {report['codec_error_db']} dB. Spread within a prompt {report['diversity']['within_prompt']} of "
        "that between songs. Interpolation: largest step "
        f"{report['interpolation']['largest_over_mean_step']} times the mean.",
    ]
    if "drift" in report:
        drift = report["drift"]
        lines.append(
            f"After {drift['clips']} continued clips: level {drift['loudness_change_db']:+} dB, white-key share "
            f"{drift['key_change']:+}, embedding moved by {drift['embedding_shift']} of the spread between clips."
        )
    common = sorted(report["instruments"].items(), key=lambda item: -item[1]["clips"])
    lines += [
        "",
        "| instrument | clips | " + " | ".join(report["rows"]) + " |",
        "|---" * (len(report["rows"]) + 2) + "|",
    ]
    for kind, shares in [item for item in common if item[1]["clips"] >= 5]:
        each = " | ".join(str(shares.get(name, "")) for name in report["rows"])
        lines.append(f"| {kind} | {shares['clips']} | {each} |")
    return "\n".join(lines) + "\n"
