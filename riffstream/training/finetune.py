"""Fine-tune a model on your own music: a folder of audio files with captions.

Subfolders (albums) are included. ``NAME.txt`` beside ``NAME.flac`` (mp3, wav, ogg, m4a ...) contains captions, one per
line. Without it the file's name is the caption. Tempo comes from ``tempo.txt`` (``tempo_file.py``), from ``--bpm``, or
from the onsets. Beats that drift are followed one by one (``audio/beats.py``). The model only knows C major and A
minor, so music in other keys is transposed by resampling. Clips follow the beat, so resampling only changes their
pitch.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from riffstream.audio.beats import find_beats, frame_positions
from riffstream.audio.folders import find_music
from riffstream.corpus.mels import encode_song
from riffstream.diffusion.mini.family import MODEL_FOLDER
from riffstream.diffusion.mini.sounds import FILE
from riffstream.errors import MediaError, ParameterError, RiffstreamError
from riffstream.ranges import check
from riffstream.text_files import read_notes, readable
from riffstream.training.checkpoints import resume_model
from riffstream.training.denoiser import PRESETS, prepare_data, train_denoiser
from riffstream.training.export import export
from riffstream.training.loop import Log, common_arguments, pick_device
from riffstream.training.seed_library import build_seeds
from riffstream.training.sounds import build_sounds
from riffstream.training.tempo_file import read_tempos

__all__ = ["EXAMPLES", "Imported", "add_arguments", "import_folder", "run"]

EXAMPLES = """examples:
  riffstream train finetune ~/music/my-band --resume-from mini --minutes 30 --to my-band-model
  riffstream render --model my-band-model --prompt "my band, slow song" -o song.flac
"""

RATE = 48000
FRAMES_IN_BEAT = 64
LEVEL = 0.1  # root mean square, close to the loudness of the corpus
SILENCE = 1e-3  # -60 dBFS
QUIET = 0.02  # of the song's level: a beginning below it is no music
LOOPS = 96


@dataclass(frozen=True, slots=True)
class Imported:
    """The result of an import.

    Attributes:
        songs: number of imported songs.
        transposed: path below the folder -> transposition in semitones.
        drifting: path below the folder -> lowest and highest tempo in bpm of a song whose beats are followed.
        unclear: path below the folder -> doubts about a song's tempo and key. It is imported with them nevertheless.
        skipped: path below the folder -> reason.
        remarks: guesses about the text files, and lines of ``tempo.txt`` without a song.
    """

    songs: int
    transposed: dict[str, int]
    drifting: dict[str, tuple[float, float]]
    unclear: dict[str, str]
    skipped: dict[str, str]
    remarks: list[str]


def import_folder(
    folder: Path, corpus: Path, *, bpm: float | None = None, key: int | None = None, beats: int = 8
) -> Imported:
    """Cut the audio files of ``folder`` and its subfolders into beat-synchronous clips: a corpus for training.

    Args:
        bpm: tempo of files that ``tempo.txt`` does not name, 40 to 240; None: estimated.
        key: semitones of the music above C major or A minor, -6 to 6; None: estimated.
        beats: beats of a clip, 8, or 6 in 3/4.

    Raises:
        ParameterError: no folder, a tempo or key out of range, or a line of ``tempo.txt`` without a tempo.
        RiffstreamError: the folder has no audio of at least one clip's length.
    """
    if not folder.is_dir():
        raise ParameterError("folder", str(folder), "a folder of audio files")
    if bpm is not None:
        check("bpm", bpm)
    if key is not None and not -6 <= key <= 6:
        raise ParameterError("key", key, "-6 to 6 semitones")
    music = find_music(folder)
    tempos, remarks = _all_tempos(folder, music.files)
    remarks += music.remarks
    songs = 0
    transposed: dict[str, int] = {}
    drifting: dict[str, tuple[float, float]] = {}
    unclear: dict[str, str] = {}
    skipped: dict[str, str] = {}
    for path in music.files:
        name = readable(path.relative_to(folder).as_posix())
        try:
            clips = _clips(path, tempos.get(path, bpm), key, beats)
        except RiffstreamError as error:
            skipped[name] = str(error)
            continue
        except Exception as error:  # one bad file must not stop the import
            skipped[name] = f"{type(error).__name__}: {error}"
            continue
        if not len(clips.codes):
            skipped[name] = f"shorter than {beats} beats"
            continue
        if clips.moved:
            transposed[name] = clips.moved
        if clips.drift:
            drifting[name] = clips.drift
        if clips.doubt:
            unclear[name] = clips.doubt
        base = corpus / "songs" / "own" / f"{songs:05d}"
        base.parent.mkdir(parents=True, exist_ok=True)
        np.save(base.with_suffix(".npy"), clips.codes)
        words = _words(path)
        captions, remark = _captions(path, words)
        remarks += [remark] if remark else []
        record: dict[str, Any] = {
            "song": f"own/{songs}", "style": words, "bpm": clips.bpm, "beats": beats, "minor": False, "look": "plain",
            "file": name, "split": "train",
            "clips": [{"instruments": [], "section": "full", "captions": captions}] * len(clips.codes),
        }  # fmt: skip
        base.with_suffix(".json").write_text(json.dumps(record), encoding="utf-8")
        songs += 1
    if not songs:
        why = "".join(f"; {name}: {reason}" for name, reason in skipped.items())
        raise RiffstreamError(f"{folder} and its subfolders hold no audio of at least {beats} beats{why}")
    return Imported(songs, transposed, drifting, unclear, skipped, remarks)


def _all_tempos(folder: Path, files: list[Path]) -> tuple[dict[Path, float], list[str]]:
    """Tempos from every ``tempo.txt``; the file of an album takes precedence over those of parent folders."""
    tempos, remarks = read_tempos(folder / "tempo.txt", files)
    below = {parent for path in files for parent in path.parents if folder in parent.parents}
    for place in sorted(below, key=lambda path: len(path.parts)):
        found, more = read_tempos(place / "tempo.txt", [path for path in files if place in path.parents])
        tempos |= found
        remarks += [f"{readable(place.relative_to(folder).as_posix())}/{remark}" for remark in more]
    return tempos, remarks


def _words(path: Path) -> str:
    """A caption from a file's name; a bare number gets the album's name as prefix."""
    words = readable(path.stem).replace("_", " ")
    return words if any(char.isalpha() for char in words) else f"{readable(path.parent.name).replace('_', ' ')} {words}"


@dataclass(frozen=True, slots=True)
class _Clips:
    codes: np.ndarray  # uint8 [windows, 2, 256, 64 * beats]
    bpm: float
    moved: int  # transposition in semitones
    drift: tuple[float, float] | None  # lowest and highest tempo in bpm
    doubt: str | None  # about tempo and key


def _clips(path: Path, bpm: float | None, key: int | None, beats: int) -> _Clips:
    """The clips of a file."""
    from riffstream.audio.key import NO_NOTES, find_key

    wave = _read(path, RATE)
    if np.abs(wave).max() < SILENCE:
        raise MediaError("it is silent; allowed: sound above -60 dBFS")
    found = find_beats(wave, RATE, bpm=bpm)
    heard = find_key(wave, RATE) if key is None else None
    above = key if key is not None else 0 if heard is None else heard.above
    doubts = [found.doubt, None if key is not None else NO_NOTES if heard is None else heard.doubt]
    slower = 2.0 ** (above / 12)
    if above:
        wave = _read(path, round(RATE * slower))
    places = found.at * slower
    places = np.concatenate([_intro(wave, places, beats), places])
    first = round(float(places[0]))
    wave = wave[:, first:]
    wave = wave * (LEVEL / max(float(np.sqrt((wave**2).mean())), 1e-4))
    tempo = found.bpm / slower
    whole = int(wave.shape[1] / RATE * tempo / 60 + 0.1)  # a tenth of the last beat may be missing
    at = None
    if found.drifts:
        places = places - first
        whole = int(np.interp(wave.shape[1], places, np.arange(len(places))) + 0.1)
        at = frame_positions(np.maximum(places, 0.0), FRAMES_IN_BEAT)
    codes = encode_song(wave.astype(np.float32), bpm=tempo, beats=whole, beats_in_window=beats, at=at)
    doubt = "; ".join(filter(None, doubts)) or None
    return _Clips(codes, found.bpm, -above, found.range(RATE) if found.drifts else None, doubt)


def _read(path: Path, rate: int) -> np.ndarray:
    """A file as [2, N] without a constant offset."""
    from riffstream.audio.files import read_audio
    from riffstream.audio.mono import centred

    return centred(np.ascontiguousarray(read_audio(path, sample_rate=rate, channels=2).samples.T))


def _intro(wave: np.ndarray, places: np.ndarray, beats: int) -> np.ndarray:
    """Beats of the whole clips before the first strong beat, if the music plays there already.

    Args:
        wave: [2, N].
        places: positions of the found beats in samples.
        beats: beats of a clip.
    """
    beat = float(places[1] - places[0])
    count = int(places[0] / beat) // beats * beats
    before: np.ndarray = places[0] - beat * np.arange(count, 0, -1)
    level = np.sqrt(np.square(wave[:, : round(float(places[0]))], dtype=np.float64).mean()) if count else 0.0
    return before if level > QUIET * np.sqrt(np.square(wave, dtype=np.float64).mean()) else before[:0]


def _captions(path: Path, words: str) -> tuple[list[str], str | None]:
    """The captions of a song, and a remark on the reading of their file. Lines that begin with ``# `` are comments."""
    wanted = readable(path.stem).casefold()  # macOS decomposes accented letters in names; other systems do not
    notes = [file for file in path.parent.iterdir() if file.suffix.lower() == ".txt" and file.is_file()]
    found = path.with_suffix(".txt") if path.with_suffix(".txt").is_file() else None
    found = found or next((file for file in sorted(notes) if readable(file.stem).casefold() == wanted), None)
    if found is None:
        return [words], None
    text, remark = read_notes(found)
    lines = [" ".join(line.split()) for line in text.split("\n")]
    captions = [line for line in lines if line and not line.startswith("# ")]
    return captions or [words], f"{readable(found.name)}: {remark}" if remark else None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``riffstream train finetune``."""
    parser.add_argument("folder", type=Path, help="your audio files, with NAME.txt captions beside them")
    common_arguments(parser, minutes=30)
    parser.set_defaults(corpus=None, out=Path("runs/finetune"))
    parser.add_argument("--resume-from", default="mini", help="mini, or a checkpoint folder")
    parser.add_argument("--bpm", type=float, default=None, help="tempo of all files that tempo.txt does not name")
    parser.add_argument(
        "--key",
        type=int,
        default=None,
        help="semitones of all files above C major or A minor, -6 to 6; 0: leave them; found for each by default",
    )
    parser.add_argument("--triple", action="store_true", help="the music is in 3/4")
    parser.add_argument("--rate", type=float, default=0.3, help="step size relative to the preset")
    parser.add_argument("--to", type=Path, default=Path("finetuned"), help="checkpoint folder to write")


def run(args: argparse.Namespace) -> int:
    """``riffstream train finetune``."""
    device = pick_device(args.device)
    log = Log(args.out, "finetune", quiet=args.quiet)
    family = resume_model(args.resume_from, args.out)
    corpus = args.corpus or args.out / "corpus"
    shutil.rmtree(corpus / "songs" / "own", ignore_errors=True)
    found = import_folder(args.folder, corpus, bpm=args.bpm, key=args.key, beats=6 if args.triple else 8)
    _tell(found, quiet=args.quiet)
    for remark in found.remarks:
        print(f"riffstream train finetune: {remark}", file=sys.stderr)
    preset = PRESETS[args.preset]
    preset = replace(preset, rate=preset.rate * args.rate, adam_rate=preset.adam_rate * args.rate)
    denoiser = family.denoiser.requires_grad_(True)
    data = prepare_data(corpus, args.out, device, log, text=family.text_encoder)
    result = train_denoiser(
        data, args.out, preset, minutes=args.minutes, decay_minutes=args.minutes / 2, device=device, seed=args.seed,
        resume_from=denoiser, log=log, pictures=data.texts[1:11],
    )  # fmt: skip
    source = MODEL_FOLDER if args.resume_from == "mini" else Path(args.resume_from)
    # Training on plain targets slowly weakens the built-in guidance of a distilled model, so it needs a little always.
    kept = family.defaults
    distilled = kept.guidance == 1 or kept.above is not None
    defaults = replace(kept, sampler="unipc", guidance=1.5, above=None) if distilled else kept
    build_sounds(data, args.out / FILE)
    export(args.out, args.to, text_from=source, defaults=defaults)
    shutil.rmtree(args.to / "seeds", ignore_errors=True)
    loops = build_seeds(corpus, args.to, count=LOOPS, each=1)  # a "style" is a file
    if args.json:
        print(json.dumps({**asdict(found), "loops": len(loops), "folder": str(args.to), **result}))
    return 0


def _tell(found: Imported, *, quiet: bool) -> None:
    if not quiet:
        print(f"{found.songs} songs", file=sys.stderr)
        for name, semitones in found.transposed.items():
            print(f"  {name}: transposed by {semitones:+d}", file=sys.stderr)
        for name, (low, high) in found.drifting.items():
            print(f"  {name}: tempo drifts from {low:.1f} to {high:.1f} bpm, its beats are followed", file=sys.stderr)
    for name, doubt in found.unclear.items():
        print(f"  {name}: {doubt}; --bpm, tempo.txt and --key set them", file=sys.stderr)
    for name, why in found.skipped.items():
        print(f"  {name}: left out, {why}", file=sys.stderr)
