"""Fine-tune a model on your own music: a folder of audio files and what to call them.

``NAME.txt`` beside ``NAME.flac`` (mp3, wav, ogg, m4a ...) holds captions, one a line; without it the file's name is
the caption. Tempo comes from ``tempo.txt`` lines ``NAME BPM``, from ``--bpm``, or is found by autocorrelation of the
onsets.
The model hears everything in C major or A minor: give music in that key, or transpose it before.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from riffstream.audio.tempo import find_tempo
from riffstream.diffusion.mini import MODEL_FOLDER, MiniFamily
from riffstream.errors import MediaError, ParameterError, RiffstreamError
from riffstream.training.denoiser import PRESETS, prepare_data, train_denoiser
from riffstream.training.export import export
from riffstream.training.loop import Log, common_arguments, pick_device, save_state
from riffstream.training.mels import encode_song

__all__ = ["EXAMPLES", "add_arguments", "import_folder", "resume_model", "run"]

EXAMPLES = """examples:
  riffstream train finetune ~/music/my-band --resume-from mini --minutes 30 --to my-band-model
  riffstream render --checkpoint my-band-model --prompt "my band, slow song" -o song.flac
"""

AUDIO = {".flac", ".wav", ".mp3", ".ogg", ".opus", ".m4a", ".aac", ".aiff", ".aif"}
RATE = 48000


def import_folder(folder: Path, corpus: Path, *, bpm: float | None = None, beats: int = 8) -> int:
    """Cut every audio file of ``folder`` into beat-synchronous clips, as a corpus that training reads.

    Returns:
        How many songs were imported.

    Raises:
        RiffstreamError: the folder holds no audio that is long enough for one clip.
    """
    from riffstream.audio.files import read_audio

    if not folder.is_dir():
        raise ParameterError("folder", str(folder), "a folder of audio files")
    tempos: dict[str, float] = {}
    if (folder / "tempo.txt").is_file():
        for line in (folder / "tempo.txt").read_text(encoding="utf-8").splitlines():
            name, _, number = line.strip().rpartition(" ")
            if name:
                tempos[name] = float(number)
    imported = 0
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in AUDIO):
        try:
            wave = np.ascontiguousarray(read_audio(path, sample_rate=RATE, channels=2).samples.T)
        except MediaError:
            continue
        given = tempos.get(path.stem, bpm)
        tempo, first = (given, find_tempo(wave)[1]) if given else find_tempo(wave)
        wave = wave[:, first:] * (0.1 / max(float(np.sqrt((wave**2).mean())), 1e-4))  # the corpus' loudness, roughly
        whole = int(wave.shape[1] / RATE * tempo / 60)
        if whole < beats:
            continue
        codes = encode_song(wave.astype(np.float32), bpm=tempo, beats=whole, beats_in_window=beats)
        notes = path.with_suffix(".txt")
        lines = notes.read_text(encoding="utf-8").splitlines() if notes.is_file() else [path.stem.replace("_", " ")]
        captions = [line.strip() for line in lines if line.strip()]
        base = corpus / "songs" / "own" / f"{imported:05d}"
        base.parent.mkdir(parents=True, exist_ok=True)
        np.save(base.with_suffix(".npy"), codes)
        record: dict[str, Any] = {
            "song": f"own/{imported}", "style": "own", "bpm": tempo, "beats": beats, "minor": False, "file": path.name,
            "split": "train", "clips": [{"instruments": [], "section": "full", "captions": captions}] * len(codes),
        }  # fmt: skip
        base.with_suffix(".json").write_text(json.dumps(record))
        imported += 1
    if not imported:
        raise RiffstreamError(f"{folder} holds no audio of at least {beats} beats ({', '.join(sorted(AUDIO))})")
    return imported


def resume_model(source: str, out: Path) -> MiniFamily:
    """Put a model's codec into run folder ``out`` and return the model, whose denoiser is where training starts."""
    family = MiniFamily.load(MODEL_FOLDER if source == "mini" else Path(source), dtype=torch.float32)
    if not (out / "codec.pt").is_file():
        from dataclasses import asdict

        weights = {name: value.detach().clone() for name, value in family.codec.named_parameters()}
        state = {"codec": family.codec.state_dict(), "ema": {"count": 0, "values": weights}, "step": 0}
        save_state(out / "codec.pt", {**state, "config": asdict(family.codec.config)})
    return family


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``riffstream train finetune``."""
    parser.add_argument("folder", type=Path, help="your audio files, with NAME.txt captions beside them")
    common_arguments(parser, minutes=30)
    parser.set_defaults(corpus=None, out=Path("runs/finetune"))
    parser.add_argument("--resume-from", default="mini", help="mini, or a checkpoint folder")
    parser.add_argument("--bpm", type=float, default=None, help="tempo of all files that tempo.txt does not name")
    parser.add_argument("--triple", action="store_true", help="the music is in 3/4")
    parser.add_argument("--rate", type=float, default=0.3, help="step size, as a share of the preset's")
    parser.add_argument("--to", type=Path, default=Path("finetuned"), help="checkpoint folder to write")


def run(args: argparse.Namespace) -> int:
    """``riffstream train finetune``."""
    from dataclasses import replace

    device = pick_device(args.device)
    log = Log(args.out, "finetune", quiet=args.quiet)
    family = resume_model(args.resume_from, args.out)
    corpus = args.corpus or args.out / "corpus"
    shutil.rmtree(corpus / "songs" / "own", ignore_errors=True)
    songs = import_folder(args.folder, corpus, bpm=args.bpm, beats=6 if args.triple else 8)
    preset = PRESETS[args.preset]
    preset = replace(preset, rate=preset.rate * args.rate, adam_rate=preset.adam_rate * args.rate)
    denoiser = family.denoiser.requires_grad_(True)
    data = prepare_data(corpus, args.out, device, log, text=family.text_encoder)
    result = train_denoiser(
        data, args.out, preset, minutes=args.minutes, decay_minutes=args.minutes / 2, device=device, seed=args.seed,
        resume_from=denoiser, log=log,
    )  # fmt: skip
    source = MODEL_FOLDER if args.resume_from == "mini" else Path(args.resume_from)
    # A distilled model has its guidance built in; training on plain targets fades it slowly, so a little is added.
    kept = family.defaults
    defaults = replace(kept, sampler="unipc", guidance=1.5) if kept.guidance == 1 else kept
    export(args.out, args.to, text_from=source, defaults=defaults)
    if args.json:
        print(json.dumps({"songs": songs, "folder": str(args.to), **result}))
    return 0
