"""The ``riffstream`` command.

Each subcommand is a module of ``riffstream/commands`` that is loaded only when it runs, so that ``riffstream --help``
and shell completion do not wait for torch.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from riffstream import __version__, console
from riffstream.errors import MediaWarning, RiffstreamError
from riffstream.threads import limit_threads

__all__ = ["main"]

# name -> (module with add_arguments(parser) and run(args) -> int, one-line help)
COMMANDS: dict[str, tuple[str, str]] = {
    "serve": ("riffstream.commands.serve", "stream endless music to browsers, players and apps"),
    "relay": ("riffstream.commands.relay", "serve the stations of another server to more listeners"),
    "render": ("riffstream.commands.render", "render prompts to an audio file"),
    "riff": ("riffstream.commands.riff", "render a recording again as a prompt wants it, in its tempo and key"),
    "listen": ("riffstream.commands.listen", "listen to a station from the terminal, record it, steer it"),
    "play": ("riffstream.commands.play", "play a file or a pipe into a station as live input"),
    "config": ("riffstream.commands.config", "print the resolved configuration"),
    "doctor": ("riffstream.commands.doctor", "check this machine, and say how much it carries"),
    "token": ("riffstream.commands.token", "make a signed token for listeners, DJs or owners"),
    "seeds": ("riffstream.commands.seeds", "list, hear, add and remove seed images"),
    "bridge": ("riffstream.commands.bridge", "connect a station to OSC, MIDI clock or Ableton Link"),
    "bench": ("riffstream.commands.bench", "measure this machine and print the tables"),
    "train": ("riffstream.commands.train", "build the corpus, train and evaluate models"),
    "audio-to-image": ("riffstream.commands.audio_to_image", "turn an audio file into a spectrogram image"),
    "image-to-audio": ("riffstream.commands.image_to_audio", "turn a spectrogram image into audio"),
    "print-exif": ("riffstream.commands.print_exif", "print a spectrogram image's parameters"),
    "sample-clips": ("riffstream.commands.sample_clips", "cut random clips from an audio file"),
    "audio-to-images-batch": ("riffstream.commands.audio_to_images_batch", "audio-to-image for a folder"),
    "sample-clips-batch": ("riffstream.commands.sample_clips_batch", "sample-clips for a folder"),
}


_PATH_ERRORS = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError)


class _Parser(argparse.ArgumentParser):
    """Argument parser that reports bad usage in one line (argparse prints the usage first)."""

    def error(self, message: str) -> None:  # type: ignore[override]
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _overview() -> _Parser:
    listing = "\n".join(f"  {name:<22} {text}" for name, (_, text) in COMMANDS.items())
    parser = _Parser(
        prog="riffstream",
        description="An endless, steerable music stream made by spectrogram diffusion.",
        epilog=f"commands:\n{listing}\n\n'riffstream COMMAND --help' shows a command's options and examples.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"riffstream {__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of the commands below")
    rest = parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    rest.required = False  # otherwise the error for a missing COMMAND names it too
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments without the program's name; ``sys.argv[1:]`` by default.

    Returns:
        The exit code: 0 success, 1 the output could not be written, 2 bad input (one line on stderr names it and the
        allowed range), 130 interrupted.
    """
    console.prepare()
    try:
        return console.finish(_run(argv))
    except SystemExit as leaving:  # of argparse: its code is a number
        raise SystemExit(console.finish(int(leaving.code or 0))) from None


def _run(argv: Sequence[str] | None) -> int:
    chosen = _overview().parse_args(argv)
    limit_threads()  # before anything loads torch
    module = importlib.import_module(COMMANDS[chosen.command][0])
    parser = _Parser(
        prog=f"riffstream {chosen.command}",
        description=module.__doc__,
        epilog=getattr(module, "EXAMPLES", None),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    if getattr(module, "PASSES_ON", False):
        args = parser.parse_args(chosen.arguments)
    else:  # parse_args refuses an optional word behind an option: ``riffstream token --for 8h dj``
        args = parser.parse_intermixed_args(chosen.arguments)
    try:
        with _remarks(f"riffstream {chosen.command}", quiet=getattr(args, "quiet", False)):
            return int(module.run(args))
    except RiffstreamError as error:
        print(f"riffstream {chosen.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        if isinstance(error, _PATH_ERRORS) and error.filename is not None:
            # A path from the user without a more specific message.
            print(f"riffstream {chosen.command}: {error.filename}: {error.strerror}", file=sys.stderr)
            return 2
        if isinstance(error, BrokenPipeError) and console.reader_left(error):
            return 0  # as in ``riffstream seeds | head``
        if error.errno == errno.ENOSPC and error.filename is None:
            print(f"riffstream {chosen.command}: {error.strerror}", file=sys.stderr)
            return 1
        raise


@contextlib.contextmanager
def _remarks(prog: str, *, quiet: bool) -> Iterator[None]:
    """Print each MediaWarning as one line on stderr, like errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if quiet else "always", MediaWarning)
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, MediaWarning):
                print(f"{prog}: {message}", file=sys.stderr)
            else:
                usual(message, category, *place, **more)

        warnings.showwarning = show
        yield
