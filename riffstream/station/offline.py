"""Offline rendering: a station's timeline and renderer at full speed, or the replay of a steering log.

Threading model
  One thread, the caller's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from riffstream import __version__
from riffstream.config import TimelineSettings
from riffstream.errors import MediaError, RiffstreamError
from riffstream.generator.messages import Cancel, Cancelled, Done, DropTake, Failed, Job, Pcm, Piece, ToGenerator
from riffstream.generator.renderer import Renderer, Report
from riffstream.protocol import SAMPLE_RATE, Mix, MixChange
from riffstream.station.block import Levelled
from riffstream.station.desk import COLUMNS, Desk, Move
from riffstream.station.mixer import Cue, Mixer
from riffstream.station.playout import PRIMER
from riffstream.station.score import Score
from riffstream.station.steering_log import SteeringLog, read_log
from riffstream.station.tape import Loop, Silence, Source, Tape
from riffstream.station.timeline import Timeline

__all__ = ["replay", "replay_header", "run"]

KEPT: Final = 40 * SAMPLE_RATE  # audio of a take kept behind the playback position: more than any loop
BLOCK: Final = SAMPLE_RATE // 10


def run(
    score: Score,
    renderer: Renderer,
    n_samples: int,
    settings: TimelineSettings,
    *,
    log: SteeringLog | None = None,
    model: str = "",
    steps: int | None = None,
    mix: Mix | None = None,
) -> Iterator[Pcm]:
    """Render a score for ``n_samples`` samples, waiting for every clip. Yields blocks [n, 2] float32.

    ``mix``: settings of the desk from the first sample on.

    Raises:
        RiffstreamError: a clip cannot be rendered.
    """
    log = log or SteeringLog("render")
    log.header(
        {
            "version": __version__,
            "model": model,
            "info": renderer.info,
            "journey": score.home.to_dict(),
            "timeline": settings,
        }
    )
    timeline = Timeline("render", score, settings, log, steps=steps, stems=mix is not None)
    timeline.effort.adaptive = False
    if mix is not None:
        timeline.playout.desk.move(Move(pos=0, fields=msgspec.structs.asdict(mix), ramp=0))
    while timeline.playout.committed < n_samples:
        _obey(renderer, timeline)
        for report in renderer.step():
            _deliver(timeline, report)
        while timeline.playout.committed < n_samples and timeline.playout.covered(BLOCK):
            block = timeline.commit(min(BLOCK, n_samples - timeline.playout.committed))
            if block is not None:
                yield block.pcm


def _obey(renderer: Renderer, timeline: Timeline) -> None:
    messages: list[ToGenerator] = timeline.plan(0.0)
    for message in messages:
        if isinstance(message, Job):
            renderer.submit(message)
        elif isinstance(message, Cancel):
            for report in renderer.cancel(message.station, message.take, message.number):
                _deliver(timeline, report)
        elif isinstance(message, DropTake):
            renderer.drop(message.station, message.take)


def _deliver(timeline: Timeline, report: Report) -> None:
    message, pcm = report
    if isinstance(message, Piece) and pcm is not None:
        timeline.receive(message.take, message.number, pcm, 0.0)
    elif isinstance(message, Done):
        timeline.done(message, 0.0)
    elif isinstance(message, Cancelled):
        timeline.cancelled(message.take, message.number)
    elif isinstance(message, Failed):
        raise RiffstreamError(message.message)


def replay_header(path: str | Path) -> dict[str, Any]:
    """Read the header of a steering log, with the length in samples as ``sample_pos`` (None: unknown)."""
    entries = read_log(path)
    end = next((entry["sample_pos"] for entry in reversed(entries) if entry["entry"] == "end"), None)
    return {**entries[0], "sample_pos": end}


def replay(path: str | Path, renderer: Renderer, n_samples: int | None = None) -> Iterator[Pcm]:
    """Reproduce the samples committed by a station from its steering log. Yields blocks [n, 2] float32.

    Args:
        path: the steering log.
        renderer: renderer with the same model.
        n_samples: number of samples; None: to the end of the log.

    Raises:
        MediaError: not a steering log, or one of another model.
        RiffstreamError: a clip cannot be rendered.
    """
    entries = read_log(path)
    header = entries[0]
    info = msgspec.to_builtins(renderer.info)
    for name in ("model", "frames", "beats", "hop"):
        if header["info"][name] != info[name]:
            raise MediaError(f"steering log {path}: made with {name} {header['info'][name]}, not {info[name]}")
    if header["info"].get("weights", "") != info["weights"]:
        raise MediaError(
            f"steering log {path}: made with other weights of {info['model']}; it would not sound the same"
        )
    try:
        known = {key: value for key, value in header["timeline"].items() if key in TimelineSettings.__struct_fields__}
        settings = msgspec.convert(known, TimelineSettings)  # without keys of other versions
        jobs = [msgspec.convert(entry["job"], Job) for entry in entries if entry["entry"] == "job"]
        moves = [_move(entry) for entry in entries if entry["entry"] == "desk"]
    except (msgspec.ValidationError, KeyError) as error:
        raise MediaError(f"steering log {path}: {error}") from None
    if n_samples is None:
        n_samples = next((entry["sample_pos"] for entry in reversed(entries) if entry["entry"] == "end"), None)
    cues = [entry for entry in entries if entry["entry"] == "cue"]
    return _Replay(settings, jobs, cues, moves, renderer).play(n_samples)


def _move(entry: dict[str, Any]) -> Move:
    """A move of the desk from its log entry."""
    change = msgspec.convert(entry["mix"], MixChange)
    return Move(pos=entry["pos"], fields=change.fields(), ramp=entry["ramp"], bar=entry["bar"], rev=entry["rev"])


class _Replay:
    """Player of a log's cues and moves of the desk that renders the logged jobs on demand."""

    def __init__(
        self,
        settings: TimelineSettings,
        jobs: Sequence[Job],
        cues: Sequence[dict[str, Any]],
        moves: Sequence[Move],
        renderer: Renderer,
    ) -> None:
        self._fade = round(settings.crossfade_ms * SAMPLE_RATE / 1000)
        self._jobs = deque(jobs)
        self._cues = deque(cues)
        self._renderer = renderer
        self._tapes: dict[int, Tape] = {}
        self._mixer = Mixer(COLUMNS)
        self._desk = Desk()
        self._moves = deque(moves)
        self._out = Levelled(self._mixer, self._desk, settings)
        self._primed = False

    def play(self, n_samples: int | None) -> Iterator[Pcm]:
        """Yield blocks up to the end."""
        done = 0
        while n_samples is None or done < n_samples:
            n = BLOCK if n_samples is None else min(BLOCK, n_samples - done)
            while (missing := self._out.missing(n)) > 0:
                playable = self._prepare(missing)
                if playable == 0:
                    break
                self._out.play(playable)
            if self._out.missing(n):  # a log without an end (the station was killed): stop at the end of its audio
                if have := min(n, self._out.flush()):
                    yield self._out.take(have)
                return
            self._trim()
            yield self._out.take(n)
            done += n

    def _prepare(self, n: int) -> int:
        """Render enough for ``n`` samples, if the log has them; return the number of playable samples."""
        position = self._mixer.position
        while self._cues and self._cues[0]["pos"] < position + n:
            self._place(self._cues.popleft())
        while self._moves and self._moves[0].pos < position + n:
            self._desk.add(self._moves.popleft())
        reach = position + n
        for cue in (self._mixer.current, *self._mixer.coming):
            if cue.kind == "take" and cue.take is not None:
                self._render(cue.take, reach + cue.offset)
        return max(0, min(n, self._mixer.end - position))

    def _place(self, entry: dict[str, Any]) -> None:
        pos, fade, offset, take = entry["pos"], entry["fade"], entry["offset"], entry["take"]
        before = self._mixer.last
        if before.kind == "take" and before.take is not None:
            self._render(before.take, pos + fade + before.offset)
        source: Source = Silence()
        if entry["kind"] == "take":
            self._render(take, max(pos + fade + offset, 0 if self._primed else PRIMER))
            source = self._tapes[take]
            if not self._primed:
                self._out.prime(source.read(0, PRIMER))
                self._primed = True
        elif entry["kind"] == "loop":
            self._render(take, entry["loop_end"])
            source = Loop(self._tapes[take], entry["loop_end"], entry["loop_length"], self._fade)
        kind = entry["kind"]
        self._mixer.insert(
            Cue(pos=pos, source=source, offset=offset, fade=fade, take=take, rev=entry["rev"], kind=kind)
        )

    def _render(self, take: int, until: int) -> None:
        """Run jobs in the log's order until a take has audio up to a local sample, or until its last job is done."""
        tape = self._tapes.setdefault(take, Tape())
        while tape.end < until and (self._renderer.pending or self._jobs):
            if not self._renderer.pending:
                self._renderer.submit(self._jobs.popleft())
            for message, pcm in self._renderer.step():
                if isinstance(message, Piece) and pcm is not None:
                    self._tapes.setdefault(message.take, Tape()).append(pcm)
                elif isinstance(message, Failed):
                    raise RiffstreamError(message.message)

    def _trim(self) -> None:
        cue = self._mixer.current
        if cue.take is not None and cue.kind == "take":
            self._tapes[cue.take].trim(self._mixer.position + cue.offset - KEPT)
            for ident in [ident for ident in self._tapes if ident < cue.take - 8]:
                del self._tapes[ident]
