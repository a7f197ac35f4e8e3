"""Offline rendering: timelines and a renderer at full speed, one or many together, or the replay of a steering log.

Threading model
  One thread, the caller's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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

__all__ = ["Finished", "Part", "replay", "replay_header", "run", "run_together"]

KEPT: Final = 40 * SAMPLE_RATE  # audio of a take kept behind the playback position: more than any loop
BLOCK: Final = SAMPLE_RATE // 10


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """One of several renderings at the same time.

    Attributes:
        name: unique name.
        score: the music.
        n_samples: length at 48 kHz.
        settings: loudness and crossfades.
        steps: sampler steps; None: the renderer's own.
        log: steering log; None: none is kept.
        model: name of the model for the log.
        mix: settings of the desk from the first sample on; None: neutral.
        spare: False leaves out the guidance that the model can do without (``Info.spare``), as a late station does.
    """

    name: str
    score: Score
    n_samples: int
    settings: TimelineSettings
    steps: int | None = None
    log: SteeringLog | None = None
    model: str = ""
    mix: Mix | None = None
    spare: bool = True


@dataclass(frozen=True, slots=True)
class Finished:
    """A part is complete; ``clips``: number of clips in it."""

    clips: int


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
    part = Part(
        name="render",
        score=score,
        n_samples=n_samples,
        settings=settings,
        steps=steps,
        log=log,
        model=model,
        mix=mix,
    )
    for _, made in run_together([part], renderer):
        if isinstance(made, RiffstreamError):
            raise made
        if not isinstance(made, Finished):
            yield made


def run_together(
    parts: Iterable[Part], renderer: Renderer, *, at_once: int = 1
) -> Iterator[tuple[Part, Pcm | Finished | RiffstreamError]]:
    """Render several parts through the renderer's batches.

    Audio that is sampled is converted before the next evaluation of the network, so that the clips of all parts are
    sampled together, and so that no clip behind the end of a part is.

    Args:
        parts: begun in this order; each is taken when its turn comes.
        renderer: an :class:`~riffstream.generator.isolation.Isolation` keeps failures to their part.
        at_once: number of parts in progress, 1 or more.

    Yields:
        A part with the next block [n, 2] float32 of its audio, then once with :class:`Finished`, or with the error that
        ends it.
    """
    waiting = iter(parts)
    playing: dict[str, _Playing] = {}
    while True:
        while len(playing) < at_once and (part := next(waiting, None)) is not None:
            playing[part.name] = _Playing(part, renderer)
        if not playing:
            return
        reports = renderer.step()
        if not reports and not renderer.pending:
            for each in playing.values():
                each.obey()
        touched = {playing[name].part.name for name in map(_station, reports) if name in playing}
        for report in reports:
            if _station(report) in playing:
                playing[_station(report)].deliver(report)
        for name in touched:
            each = playing[name]
            for block in each.blocks():
                yield each.part, block
            result = each.result()
            if result is None:
                each.obey()
                continue
            del playing[name]
            renderer.forget(name)
            yield each.part, result


def _station(report: Report) -> str:
    return getattr(report[0], "station", "")


class _Playing:
    """A part in progress."""

    def __init__(self, part: Part, renderer: Renderer) -> None:
        self.part, self._renderer = part, renderer
        log = part.log or SteeringLog(part.name)
        log.header(
            {
                "version": __version__,
                "model": part.model,
                "info": renderer.info,
                "journey": part.score.home.to_dict(),
                "timeline": part.settings,
            }
        )
        stems = part.mix is not None
        self._timeline = Timeline(part.name, part.score, part.settings, log, steps=part.steps, stems=stems)
        self._timeline.effort.adaptive = False
        if part.mix is not None:
            self._timeline.playout.desk.move(Move(pos=0, fields=msgspec.structs.asdict(part.mix), ramp=0))
        self._error: RiffstreamError | None = None
        self.obey()

    def obey(self) -> None:
        """Pass the timeline's messages to the renderer."""
        messages: list[ToGenerator] = self._timeline.plan(0.0)
        for message in messages:
            if isinstance(message, Job):
                guided = self.part.spare or not self.part.score.info_of(message.spec).spare
                self._renderer.submit(msgspec.structs.replace(message, deadline=0.0, speculative=False, guided=guided))
            elif isinstance(message, Cancel):
                for report in self._renderer.cancel(message.station, message.take, message.number):
                    self.deliver(report)
            elif isinstance(message, DropTake):
                self._renderer.drop(message.station, message.take)

    def deliver(self, report: Report) -> None:
        """Pass a report to the timeline."""
        message, pcm = report
        if isinstance(message, Piece) and pcm is not None:
            self._timeline.receive(message.take, message.number, pcm, 0.0)
        elif isinstance(message, Done):
            self._timeline.done(message, 0.0)
        elif isinstance(message, Cancelled):
            self._timeline.cancelled(message.take, message.number)
        elif isinstance(message, Failed):
            self._error = RiffstreamError(message.message)

    def blocks(self) -> Iterator[Pcm]:
        """All audio that is final."""
        playout = self._timeline.playout
        while playout.committed < self.part.n_samples and playout.covered(BLOCK):
            block = self._timeline.commit(min(BLOCK, self.part.n_samples - playout.committed))
            if block is not None:
                yield block.pcm

    def result(self) -> Finished | RiffstreamError | None:
        """None until the part is complete or has failed."""
        if self._timeline.playout.committed >= self.part.n_samples:
            return Finished(self._timeline.now(self.part.n_samples - 1).clip + 1)
        return self._error


def replay_header(path: str | Path) -> dict[str, Any]:
    """Read the header of a steering log, with the length in samples as ``sample_pos`` (None: unknown)."""
    entries = read_log(path)
    return {**entries[0], "sample_pos": _length(entries)}


def _length(entries: Sequence[Mapping[str, Any]]) -> int | None:
    """Length of a log in samples; None without an end. A restarted station's log begins at sample ``begin``."""
    end = next((entry["sample_pos"] for entry in reversed(entries) if entry["entry"] == "end"), None)
    return None if end is None else int(end) - int(entries[0].get("begin", 0))


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
        n_samples = _length(entries)
    cues = [entry for entry in entries if entry["entry"] == "cue"]
    start = int(header.get("begin", 0))
    return _Replay(settings, jobs, cues, moves, renderer, start).play(n_samples)


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
        start: int,
    ) -> None:
        self._fade = round(settings.crossfade_ms * SAMPLE_RATE / 1000)
        self._jobs = deque(jobs)
        self._cues = deque(cues)
        self._renderer = renderer
        self._tapes: dict[int, Tape] = {}
        self._mixer = Mixer(COLUMNS)
        self._mixer.reset(start, 0)
        self._desk = Desk(start=start)
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
