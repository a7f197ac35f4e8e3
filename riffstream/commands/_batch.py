"""Batch processing of a folder of audio files in several processes. Files that fail are reported."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from tqdm import tqdm

from riffstream.audio.folders import BESIDE, find_music, is_hidden, natural
from riffstream.commands._reports import note, report
from riffstream.errors import MediaError, MediaWarning, ParameterError, RiffstreamError
from riffstream.threads import usable_cores

__all__ = ["add_batch_options", "find_audio", "output_stems", "run_batch"]

Job = Callable[[Path], list[Path]]
Outcome = tuple[Path, list[Path], str | None, list[str]]  # file, files written, error, remarks

MOST_NAMED = 20  # failed files listed in the last line


def add_batch_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a batch: folders, pattern, limit and processes."""
    add = parser.add_argument
    add("--audio-dir", type=Path, required=True, metavar="DIR", help="folder of audio files")
    add("--output-dir", type=Path, required=True, metavar="DIR", help="folder for the results")
    text = "files to process: '*.mp3', '**/*.mp3' with subfolders (default: all audio files, with subfolders)"
    add("--glob", default=None, metavar="PATTERN", help=text)
    add(
        "--limit",
        type=int,
        default=-1,
        metavar="N",
        help="process only the first N files by name (default -1: all)",
    )
    add(
        "--num-threads",
        "--processes",
        dest="processes",
        type=int,
        default=None,
        metavar="N",
        help="number of processes (default: one a core)",
    )


def find_audio(args: argparse.Namespace) -> list[Path]:
    """Files selected by the options, in natural order."""
    folder: Path = args.audio_dir
    if not folder.is_dir():
        raise ParameterError("--audio-dir", str(folder), "an existing folder")
    if args.glob is None:
        music = find_music(folder, without=[args.output_dir])
        files = music.files
        for remark in music.remarks:
            note(args, remark)
    else:
        try:
            found = [path for path in folder.glob(_any_case(args.glob)) if path.is_file()]
        except (ValueError, NotImplementedError):
            raise ParameterError("--glob", args.glob, "a pattern relative to the folder, such as '*.mp3'") from None
        files = [path for path in found if path.suffix.lower() not in BESIDE and not is_hidden(path.name)]
        files = sorted(set(files), key=lambda path: natural(str(path.relative_to(folder))))
    if args.limit > 0:
        files = files[: args.limit]
    if not files:
        raise MediaError(f"{folder} holds no audio files" + (f" that match {args.glob!r}" if args.glob else ""))
    return files


def _any_case(pattern: str) -> str:
    """Case-insensitive form of a glob pattern: ``*.mp3`` also matches ``SONG.MP3``."""
    pieces = re.split(r"(\[[^\]]*\])", pattern)  # sets are kept
    both = [
        "".join(f"[{c.lower()}{c.upper()}]" if c.isascii() and c.isalpha() else c for c in piece) for piece in pieces
    ]
    return "".join(piece if number % 2 else both[number] for number, piece in enumerate(pieces))


def output_stems(files: Sequence[Path]) -> dict[Path, str]:
    """Unique output name without extension for each file.

    Equal stems get the folder's name as a prefix; equal stems in one folder get the extension as a suffix.
    """
    same: dict[str, list[Path]] = {}
    for path in files:
        same.setdefault(path.stem.lower(), []).append(path)
    stems: dict[Path, str] = {}
    taken: set[str] = set()
    for path in files:
        others = same[path.stem.lower()]
        stem = path.stem
        if len({other.parent for other in others}) > 1:
            stem = f"{path.parent.name}_{stem}"
        if sum(other.parent == path.parent for other in others) > 1:
            stem = f"{stem}_{path.suffix.removeprefix('.')}"
        unique, number = stem, 2
        while unique.lower() in taken:
            unique, number = f"{stem}_{number}", number + 1
        taken.add(unique.lower())
        stems[path] = unique
    return stems


def run_batch(args: argparse.Namespace, job: Job, files: Sequence[Path]) -> int:
    """Run ``job`` on every file and report.

    Args:
        args: parsed batch options.
        job: picklable function of one file that returns the files written.
        files: the files to process.

    Returns:
        The exit code: 0 if all files succeeded, 1 if some failed.
    """
    processes = min(args.processes or usable_cores(), len(files))
    if args.processes is not None and args.processes < 1:
        raise ParameterError("--num-threads", args.processes, "1 or more")
    written: list[Path] = []
    failed: list[dict[str, str]] = []
    remarks: list[dict[str, str]] = []
    outcomes = (_attempt(job, path) for path in files) if processes == 1 else _in_processes(job, files, processes)
    with tqdm(total=len(files), unit="file", disable=args.quiet or None, file=sys.stderr) as bar:
        for path, outputs, error, notes in outcomes:
            written += outputs
            remarks += [{"file": str(path), "note": note} for note in notes]
            if error is not None:
                failed.append({"file": str(path), "error": error})
            for line in [error] if error is not None else [] if args.quiet else notes:
                tqdm.write(f"{args.prog}: {line}", file=sys.stderr)
            bar.update()
    if failed:
        names = ", ".join(Path(each["file"]).name for each in failed[:MOST_NAMED])
        more = f" and {len(failed) - MOST_NAMED} more" if len(failed) > MOST_NAMED else ""
        print(f"{args.prog}: {len(failed)} of {len(files)} files failed: {names}{more}", file=sys.stderr)
    if args.json:
        report(args, sorted(written), failed=failed, notes=remarks)
    elif not args.quiet:
        print(f"Wrote {len(written)} files to {args.output_dir}")
    return 1 if failed else 0


def _attempt(job: Job, path: Path) -> Outcome:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", MediaWarning)
        outputs, problem = _outputs(job, path)
    return path, outputs, problem, list(dict.fromkeys(str(each.message) for each in caught))


def _outputs(job: Job, path: Path) -> tuple[list[Path], str | None]:
    try:
        return job(path), None
    except RiffstreamError as error:
        return [], str(error)
    except Exception as error:  # one bad file must not end the batch
        return [], f"{path}: {type(error).__name__}: {error}"


def _in_processes(job: Job, files: Sequence[Path], processes: int) -> Iterator[Outcome]:
    waiting = list(files)
    while waiting:
        with _pool(processes) as pool:
            futures: dict[Future[Outcome], Path] = {pool.submit(_attempt, job, path): path for path in waiting}
            lost: list[Path] = []
            try:
                for future in as_completed(futures):
                    try:
                        yield future.result()
                    except BrokenProcessPool:
                        lost.append(futures[future])
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        if lost:
            # A process died (out of memory, a crash in a decoder), and the other processes' files were lost too.
            # Running the first of them alone shows whether it is the cause.
            first = min(lost)
            yield _alone(job, first)
            lost.remove(first)
        waiting = lost


def _alone(job: Job, path: Path) -> Outcome:
    with _pool(1) as pool:
        try:
            return pool.submit(_attempt, job, path).result()
        except BrokenProcessPool:
            return path, [], f"{path}: the process that worked on it died", []


def _pool(processes: int) -> ProcessPoolExecutor:
    # Spawned, because a fork of a process with threads (torch, libav) may hang.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(processes, mp_context=context, initializer=_one_thread)


def _one_thread() -> None:
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
