"""Worker process that makes a seed image from an untrusted file, so that the file cannot harm the server.

``python -m riffstream.server.uploads.worker SOURCE FOLDER RULES`` reads SOURCE, writes ``loop.wav`` or ``loop.png``,
``preview.png`` and ``result.json`` (:class:`Result`) into FOLDER, and exits with 0 for any file. The caller kills it
after a timeout; it limits its own memory, CPU time and size of files, and has no network and no other files
(:mod:`riffstream.server.sandbox`). RULES is :class:`Rules` as JSON.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from riffstream.errors import MediaWarning
from riffstream.server.sandbox import code_folders, confine

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Result", "Rules", "limit_process", "prepare"]

ANALYSED_S: Final = 60.0  # analysed part at the beginning of a long recording
SHORTEST_S: Final = 0.25
SILENCE: Final = 1e-3  # -60 dBFS
SOFT: Final = 0.1  # of the level behind the first strong onset: music, not the noise before it
LEVEL: Final = 0.1  # root mean square, as in the material that the model learned
OUTPUT_BYTES: Final = 64 * 2**20
LOWEST_BPM, HIGHEST_BPM = 40.0, 240.0
PREVIEW_SIZE: Final = (512, 256)
MODEL_ROWS, MODEL_DB = 256, 80.0  # pictures of the embedded model: rows, and decibels from black to white
PICTURES: Final = ("PNG", "JPEG", "WEBP")


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """Limits (``[limits]``), and the user's tempo, key and channels of a picture."""

    length_s: float = 900.0
    pixels: float = 16e6
    cpu_s: float = 10.0
    memory_mb: float = 1024.0
    bpm: float | None = None
    key: float | None = None
    stereo: bool | None = None


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Result of the worker: a loop and remarks on its file, or the HTTP status and the message of a refusal."""

    kind: str = ""
    bpm: float = 0.0
    key: float = 0.0
    seconds: float = 0.0
    beats: list[float] = []
    digest: str = ""
    notes: list[str] = []
    status: int = 201
    message: str = ""


class UploadError(Exception):
    """The file cannot be a seed image."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def limit_process(rules: Rules) -> None:
    """Limit this process permanently (memory, CPU time, file sizes) and lower its priority below the music."""
    with contextlib.suppress(OSError, AttributeError):
        os.nice(5)
    try:
        import resource
    except ImportError:  # Windows: only the caller's timeout applies
        return
    memory, seconds = int(rules.memory_mb * 2**20), int(rules.cpu_s) + 2
    for kind, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, OUTPUT_BYTES),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        with contextlib.suppress(OSError, ValueError):  # the system does not support a limit, or it is lower already
            resource.setrlimit(kind, (value, value))


def prepare(source: Path, folder: Path, rules: Rules) -> Result:
    """Write a loop and its preview into ``folder``.

    Raises:
        UploadError: with the status and a message that names the field and the range.
    """
    from riffstream.spectrogram.pictures import is_picture

    with source.open("rb") as file:
        start = file.read(16)
    return _picture(source, folder, rules) if is_picture(start) else _audio(source, folder, rules)


# -- audio ------------------------------------------------------------------------------------------------------------


def _audio(source: Path, folder: Path, rules: Rules) -> Result:
    import numpy as np
    import soundfile
    from PIL import Image

    from riffstream.audio.beat_fit import EVERYWHERE
    from riffstream.audio.beats import find_beats
    from riffstream.audio.files import audio_info
    from riffstream.audio.key import NO_NOTES, find_key
    from riffstream.audio.mono import centred, mono_of
    from riffstream.audio.spectrum import loudness_picture
    from riffstream.audio.tempo import music_start
    from riffstream.errors import MediaError
    from riffstream.models.uploads import AUDIO, BEATS, RATE

    try:
        info = audio_info(source)
    except MediaError as error:
        if isinstance(error.__cause__, MemoryError):
            raise error.__cause__ from None
        kinds = "wav, flac, mp3, ogg, opus, m4a, or a spectrogram as png, jpg or webp"
        raise UploadError(415, f"file is neither audio nor a readable picture; allowed: {kinds}") from None
    if info.seconds is not None and info.seconds > rules.length_s:
        raise UploadError(413, f"file is {info.seconds:.0f} s long; allowed: up to {rules.length_s:g} s")
    try:
        wave = centred(_first_minute(source, RATE, rules.length_s))
    except MediaError as error:
        if isinstance(error.__cause__, MemoryError):
            raise error.__cause__ from None
        raise UploadError(400, f"file: {str(error).replace(str(source), 'it')}") from None
    if not wave.shape[1] or np.abs(wave).max() < SILENCE:
        raise UploadError(400, "file is silent; allowed: sound above -60 dBFS")
    if wave.shape[1] < SHORTEST_S * RATE:
        allowed = f"{SHORTEST_S:g} to {rules.length_s:g} s"
        raise UploadError(400, f"file has {wave.shape[1] / RATE:.2f} s of sound; allowed: {allowed}")
    whole, start = wave, music_start(wave, RATE) * RATE // 100
    wave = wave[:, start:]
    found = find_beats(wave, RATE, bpm=rules.bpm)
    bpm, beats = found.bpm, []
    if found.unclear is not None and found.unclear[0] * RATE < found.at[min(BEATS, len(found.at) - 1)]:
        unclear = replace(found, unclear=EVERYWHERE)  # the loop is a small part of what was measured
        warnings.warn(unclear.doubt or "", MediaWarning, stacklevel=1)
    if found.drifts and len(found.at) > BEATS and found.at[BEATS] <= wave.shape[1]:
        warnings.warn(found.words(RATE) or "", MediaWarning, stacklevel=1)
        wave = wave[:, round(float(found.at[0])) :]
        beats = [float(place) for place in np.round((found.at[: BEATS + 1] - found.at[0]) / RATE, 5)]
        bpm = BEATS * 60 / beats[-1]
    else:
        wave = whole[:, start - _missing(whole, start, 60 / bpm * RATE, BEATS) :]
    loop = _loop(wave, round(BEATS * 60 / bpm * RATE), BEATS)
    loop = loop * np.float32(LEVEL / max(float(np.sqrt((loop**2).mean())), SILENCE * LEVEL))
    soundfile.write(folder / AUDIO, loop.T, RATE, subtype="FLOAT")
    shade = 255 * (1 - loudness_picture(mono_of(loop), *PREVIEW_SIZE))
    Image.fromarray(shade.astype(np.uint8)).save(folder / "preview.png", optimize=True)
    key = rules.key
    if key is None:
        heard = find_key(loop, RATE)
        key = 0 if heard is None else heard.above
        if doubt := NO_NOTES if heard is None else heard.doubt:
            warnings.warn(doubt, MediaWarning, stacklevel=1)
    seconds = round(loop.shape[1] / RATE, 3)
    return Result(kind="audio", bpm=bpm, key=key, seconds=seconds, digest=_digest(loop, bpm, key), beats=beats)


def _first_minute(source: Path, rate: int, length_s: float) -> NDArray[Any]:
    """The first :data:`ANALYSED_S` of a recording from its first sound on, [2, N]; empty if ``length_s`` are silent.

    Raises:
        MediaError: the file cannot be read.
    """
    import numpy as np

    from riffstream.audio.files import audio_blocks
    from riffstream.errors import MediaError

    most, have, heard, silent = round(ANALYSED_S * rate), 0, False, 0
    kept: list[NDArray[Any]] = []
    with contextlib.closing(audio_blocks(source, sample_rate=rate, channels=2)) as blocks:
        for block in blocks:
            heard = heard or bool(len(block) and np.ptp(block, axis=0).max() >= 2 * SILENCE)
            if not heard:
                kept = [block] if len(block) else kept  # the first sound may be soft at its beginning
                have = len(kept[0]) if kept else 0
                silent += len(block)
                if silent > length_s * rate:  # of a file that states no length
                    break
                continue
            kept.append(block[: most - have])
            have += len(kept[-1])
            if have >= most:
                break
    if not kept:
        raise MediaError("it has no sound that can be decoded")
    return np.concatenate(kept).T if heard else np.zeros((2, 0), np.float32)


def _missing(wave: NDArray[Any], start: int, beat: float, beats: int) -> int:
    """Samples of whole beats before ``start`` that a loop of ``beats`` needs, if the music plays there already."""
    import numpy as np

    lacking = beats - (wave.shape[1] - start) / beat
    count = min(int(start / beat + 0.05), int(np.ceil(lacking - 0.25)))  # as in _loop, a quarter may be missing
    if count <= 0:
        return 0
    size = min(start, round(count * beat))
    added, rest = wave[:, start - size : start], wave[:, start:]
    return size if (added**2).mean() > SOFT**2 * (rest**2).mean() else 0


def _loop(given: NDArray[Any], size: int, beats: int) -> NDArray[Any]:
    """Make a loop of ``beats`` beats and ``size`` samples from [..., N].

    It is the beginning of the recording, or repeats its whole beats (8, 4, 2 or 1; a quarter of a beat may be missing).
    """
    import numpy as np

    have = given.shape[-1] * beats / size
    unit = next((n for n in (beats, beats // 2, beats // 4) if n <= have + 0.25), 1)
    length = -(-size * unit // beats)
    piece = given[..., :length]
    piece = np.concatenate([piece, np.zeros((*piece.shape[:-1], length - piece.shape[-1]), piece.dtype)], -1)
    return np.tile(piece, (1,) * (piece.ndim - 1) + (beats // unit,))[..., :size]


# -- pictures ---------------------------------------------------------------------------------------------------------


def _picture(source: Path, folder: Path, rules: Rules) -> Result:
    import numpy as np
    from PIL import Image

    from riffstream.audio.tempo import STEP_S, first_onset, tempo_of
    from riffstream.errors import MediaError, ParameterError
    from riffstream.models.uploads import BEATS, PICTURE
    from riffstream.spectrogram.image import amplitudes_from_image, image_from_amplitudes, image_params, save_image
    from riffstream.spectrogram.params import ExifTag, SpectrogramParams
    from riffstream.spectrogram.pictures import colouring, open_picture

    Image.MAX_IMAGE_PIXELS = None  # our own limit is checked before decoding
    try:
        picture = open_picture(source, name="it", formats=PICTURES, max_pixels=rules.pixels)
    except MediaError as error:
        if isinstance(error.__cause__, MemoryError):
            raise error.__cause__ from None
        raise UploadError(413 if "at most" in str(error) else 400, f"file: {error}") from None
    width, height = picture.size
    exif = dict(picture.getexif())
    told = [tag for tag in ExifTag if tag in exif]
    missing = SpectrogramParams.missing_in_exif(exif)
    try:
        bare_riffusion = rules.stereo is not None or colouring(picture) == "stereo"
        if not told and height == MODEL_ROWS and not bare_riffusion:  # as the seed library's: no EXIF, decibels
            params = SpectrogramParams.mini()
            how = "black to white is 80 dB, 8 beats are 512 columns"
            warnings.warn(
                f"it has no EXIF; read as a picture of the embedded model ({how})", MediaWarning, stacklevel=1
            )
            decibels = -np.asarray(picture)[::-1, :, 1:].transpose(2, 0, 1).astype(np.float32) / 255 * MODEL_DB
            amplitudes = np.where(decibels > -MODEL_DB, 10 ** (decibels / 20), 0).astype(np.float32)
        elif told and missing:
            raise UploadError(400, f"file: its EXIF lacks {', '.join(missing)}; allowed: all parameters, or none")
        else:
            params = image_params(picture, name="it", stereo=rules.stereo)
            amplitudes = amplitudes_from_image(picture, power=params.power_for_image, stereo=params.stereo)
    except ParameterError as error:
        raise UploadError(400, f"file: its EXIF says: {error}") from None
    except MediaError as error:
        raise UploadError(400, f"file: {str(error).replace('--stereo, --mono', 'field stereo: 1 or 0')}") from None
    if height != params.num_frequencies or height < 16:
        raise UploadError(
            400, f"file is {height} pixels high; its EXIF says {params.num_frequencies}; allowed: 16 to 4096"
        )
    if not amplitudes.any():
        raise UploadError(400, "file is an empty picture; allowed: a picture with sound")
    level = np.log1p(1e3 * amplitudes.mean((0, 1)) / amplitudes.max())
    rise = np.maximum(np.diff(level, prepend=0.0), 0.0)
    start = first_onset(rise)
    rise = np.interp(np.arange(0, width, STEP_S / _step_s(params)), np.arange(width), rise)
    fixed = None if params.frames_per_beat is None else 60 / (params.frames_per_beat * _step_s(params))
    if fixed is not None and not LOWEST_BPM <= fixed <= HIGHEST_BPM:  # a hop without a valid tempo
        fixed = None
    bpm = rules.bpm or fixed or tempo_of(rise)
    # On a beat grid 8 beats have a fixed number of frames; otherwise the tempo decides.
    frames = BEATS * params.frames_per_beat if params.frames_per_beat else BEATS * 60 / bpm / _step_s(params)
    if width - start < frames <= width:  # a whole loop, with a soft beginning
        start = 0
    loop = _loop(amplitudes[..., start:], max(1, round(frames)), BEATS)
    made = image_from_amplitudes(loop, params)
    save_image(made, folder / PICTURE)
    made.resize(PREVIEW_SIZE, Image.Resampling.BILINEAR).save(folder / "preview.png", optimize=True)
    key = rules.key or 0.0  # not detected: the lowest rows of a picture are more than a semitone apart
    digest = _digest(np.asarray(made), bpm, key)
    return Result(kind="picture", bpm=round(bpm, 1), key=key, seconds=round(BEATS * 60 / bpm, 3), digest=digest)


def _step_s(params: Any) -> float:
    return float(params.hop() / params.sample_rate)


def _digest(loop: NDArray[Any], bpm: float, key: float) -> str:
    about = f"{loop.shape} {bpm:.1f}" + (f" {key:g}" if key else "")
    return hashlib.blake2b(loop.tobytes() + about.encode(), digest_size=6).hexdigest()


def _outcome(source: Path, folder: Path, rules: Rules) -> Result:
    try:
        return prepare(source, folder, rules)
    except UploadError as refused:
        return Result(status=refused.status, message=str(refused))
    except MemoryError:
        return Result(status=413, message=f"file needs more memory than the {rules.memory_mb:g} MB allowed")
    except Exception as error:  # a bug of a library
        return Result(status=400, message=f"file cannot be read: {type(error).__name__}: {str(error)[:160]}")


def _load() -> None:
    """Import what :func:`prepare` needs; after the confinement libraries outside the known folders cannot be read."""
    import soundfile  # noqa: F401
    from PIL import Image

    import riffstream.audio.beat_fit
    import riffstream.audio.beats
    import riffstream.audio.files
    import riffstream.audio.key
    import riffstream.audio.mono
    import riffstream.audio.spectrum
    import riffstream.audio.tempo
    import riffstream.spectrogram.pictures  # noqa: F401

    Image.init()  # the readers of all formats


def main() -> None:
    """Entry point of the process."""
    source, folder, rules = Path(sys.argv[1]), Path(sys.argv[2]), msgspec.json.decode(sys.argv[3], type=Rules)
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"  # threads reserve memory
    limit_process(rules)
    with contextlib.suppress(MemoryError, ImportError):  # the result says it
        _load()
    confine((source, *code_folders()), (folder,))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", MediaWarning)
        result = _outcome(source, folder, rules)
    notes = [str(each.message).removeprefix(f"{source}: ").removeprefix("it: ") for each in caught]
    result = msgspec.structs.replace(result, notes=list(dict.fromkeys(notes)))
    (folder / "result.json").write_bytes(msgspec.json.encode(result))


if __name__ == "__main__":
    main()
