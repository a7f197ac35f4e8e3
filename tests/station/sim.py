"""A station without processes, threads or clocks: timeline and metronome, stepped by hand."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from riffstream import protocol
from riffstream.config import StationConfig, TimelineSettings
from riffstream.generator.messages import Cancel, Cancelled, Done, DropTake, Failed, Job, Piece, Trial
from riffstream.generator.renderer import Renderer, Report, ToneRenderer
from riffstream.journey.journey import Journey
from riffstream.station.block import Block
from riffstream.station.score import Score
from riffstream.station.timeline import Timeline

FRAME = 4800


class Sim:
    """Time goes by in frames of 100 ms; in each, the renderer may do some steps and the timeline commits a block.

    Args:
        waits: steps before a clip's first audio.
        renderer: in place of the metronome.
    """

    def __init__(
        self,
        *,
        waits: int = 3,
        clicks: bool = False,
        renderer: Renderer | None = None,
        settings: TimelineSettings | None = None,
        journey: Journey | None = None,
        station: StationConfig | None = None,
    ) -> None:
        self.renderer: Renderer = renderer or ToneRenderer(waits=waits, clicks=clicks, level=0.0 if clicks else 0.1)
        self.settings = settings or TimelineSettings(loudness_lufs=None)
        journey = journey or Journey.single("first")
        score = Score.of(station or StationConfig(), self.renderer.info, journey)
        self.timeline = Timeline("main", score, self.settings)
        self.timeline.log.header(
            {"version": "0", "model": "tone", "info": self.renderer.info, "journey": {}, "timeline": self.settings}
        )
        self.time = 0.0
        self.blocks: list[Block] = []
        self.replies: list[protocol.ServerMessage] = []
        self.jobs: list[Job] = []
        self.alive = True
        self.steps = 12

    @property
    def pcm(self) -> NDArray[np.float32]:
        """Everything that was committed, [n]: one channel (both are the same)."""
        return np.concatenate([block.pcm for block in self.blocks])[:, 0]

    def run(self, seconds: float) -> None:
        """Let time go by."""
        for _ in range(round(seconds * 48_000 / FRAME)):
            self.render(self.steps if self.alive else 0)
            block = self.timeline.commit(FRAME)
            if block is not None:
                self.blocks.append(block)
            self.time += FRAME / 48_000

    def render(self, steps: int) -> None:
        """Let the renderer do some steps."""
        self._obey()
        for _ in range(steps):
            for report in self.renderer.step():
                self._deliver(report)
            self._obey()

    def _obey(self) -> None:
        for message in self.timeline.plan(self.time):
            if isinstance(message, Job):
                self.jobs.append(message)
                self.renderer.submit(message)
            elif isinstance(message, Cancel):
                for report in self.renderer.cancel(message.station, message.take, message.number):
                    self._deliver(report)
            elif isinstance(message, DropTake):
                self.renderer.drop(message.station, message.take)

    def _deliver(self, report: Report) -> None:
        message, pcm = report
        if isinstance(message, Piece) and pcm is not None:
            self.timeline.likenesses.learn(message.likeness)
            self.timeline.receive(message.take, message.number, pcm, self.time, message.at)
        elif isinstance(message, Done):
            self.timeline.done(message, self.time)
        elif isinstance(message, Cancelled):
            self.timeline.cancelled(message.take, message.number)
        elif isinstance(message, Trial):
            self.timeline.tried(message.take, message.number)
        elif isinstance(message, Failed):
            self.timeline.failed(message, self.time)

    def kill(self, *, blame: bool = True) -> None:
        """The generator dies: what it was doing is lost. ``blame``: False if no clip can be the cause."""
        self.renderer.forget("main")
        self.alive = False
        self.timeline.disconnect("killed", blame=blame)

    def restart(self) -> None:
        """Another generator is there."""
        self.alive = True
        self.timeline.connect(self.time)

    def steer(self, ident: str, prompt: str | None = None, **fields: object) -> None:
        """Send a steer; replies are kept."""
        if prompt is not None:
            fields["prompts"] = (protocol.Prompt(text=prompt),)
        self.timeline.steer(protocol.Steer(id=ident, **fields), self.replies.append, self.time)  # type: ignore[arg-type]

    def transport(self, op: protocol.Op, ident: str = "t") -> None:
        """Send a transport message."""
        self.timeline.transport(protocol.Transport(id=ident, op=op), self.replies.append, self.time)

    def answers(self, ident: str) -> list[str]:
        """The kinds of replies to a request, in order."""
        return [type(reply).__name__ for reply in self.replies if getattr(reply, "id", None) == ident]

    def applied(self, ident: str) -> int:
        """Where a change was spliced."""
        return next(
            reply.audible_at for reply in self.replies if isinstance(reply, protocol.Applied) and reply.id == ident
        )

    def events(self) -> list[str]:
        """Kinds of events since the last call."""
        events, self.timeline.playout.events = self.timeline.playout.events, []
        return [event.kind for event in events]


def pitch(pcm: NDArray[np.float32]) -> float:
    """The strongest frequency of [n] samples in Hz, to a few tenths."""
    size = 2**18
    spectrum = np.abs(np.fft.rfft(pcm * np.hanning(len(pcm)), size))
    return float(spectrum.argmax()) * 48_000 / size


def largest_step(pcm: NDArray[np.float32]) -> float:
    """The largest change from one sample to the next."""
    return float(np.abs(np.diff(pcm)).max())


def click_positions(pcm: NDArray[np.float32]) -> NDArray[np.int64]:
    """Where the metronome's clicks begin in [n] samples without a tone, to a few samples."""
    loud = np.flatnonzero(np.abs(pcm) > 0.003)
    return loud[np.flatnonzero(np.diff(loud, prepend=-100_000) > 2400)]
