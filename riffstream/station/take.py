"""A take: one unbroken stream of sound from the generator, its clips end to end.

Steering starts a new take at the musical place of the splice; the timeline crossfades from take to take.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Final

from riffstream.generator.messages import Job, Pcm
from riffstream.journey.journey import ClipSpec
from riffstream.station.beats import BeatMap
from riffstream.station.score import Score
from riffstream.station.tape import Tape

__all__ = ["Entry", "Take"]

# Frames turned into audio before the place where a take is to be heard: a vocoder's first frames have no past.
LEAD_IN_FRAMES: Final = 4
HELD_BACK: Final = 12_000  # samples that a vocoder and a resampler may keep until the next clip: far more than ours do


@dataclass(frozen=True, slots=True)
class Entry:
    """A clip in a take.

    Attributes:
        clip: identity within the station.
        index: in the score's path.
        spec: what it is.
        start: local sample of its first frame (fractional; negative where the take begins inside it).
        beat: the take's own count of beats at its first frame.
    """

    clip: int
    index: int
    spec: ClipSpec
    start: float
    beat: float


@dataclass(slots=True)
class Take:
    """State of one take.

    Attributes:
        ident: unique within the station, increasing.
        score: what it plays. rev: the revision that the score is.
        beats: musical time.
        clip_beat: beat of the first clip's first frame; clips follow every ``score.info.beats`` beats.
        start_frame: of the first clip, where the audio begins.
        index: in the score's path, of the next clip. number: of the next clip in this take.
        reuse: clips made before that come first (the same music at another tempo or key).
        outstanding: the job that was sent and has not ended.
        sounding: whether audio of the outstanding job has come.
        level: of effort, of the outstanding job.
        over: whether it cannot be continued.
        suspect: the generator ended while it worked on the first clip. tried: it works on that clip alone.
    """

    ident: int
    rev: int
    score: Score
    beats: BeatMap
    clip_beat: float
    start_frame: int
    index: int
    reuse: list[Entry]
    tape: Tape = field(default_factory=Tape)
    number: int = 0
    entries: list[Entry] = field(default_factory=list)
    outstanding: Job | None = None
    sounding: bool = False
    sent_at: float = 0.0
    level: int = 0
    over: bool = False
    suspect: bool = False
    tried: bool = False

    @classmethod
    def open(
        cls,
        ident: int,
        rev: int,
        score: Score,
        *,
        beat: float,
        clip_beat: float,
        index: int,
        reuse: list[Entry] | None = None,
    ) -> Take:
        """A take whose audio begins a little before ``beat``, inside the clip that begins at ``clip_beat``."""
        per_beat = score.info.frames / score.info.beats
        frame = max(0, math.floor((beat - clip_beat) * per_beat) - LEAD_IN_FRAMES)
        first = reuse[0].spec if reuse else score.spec(index, clip_beat)
        begin = clip_beat + frame / per_beat
        slope = score.samples_per_beat(first, begin)
        return cls(ident, rev, score, BeatMap(begin, slope), clip_beat, frame, index, reuse or [])

    @property
    def lead_in(self) -> int:
        """Local samples at the beginning that should not be heard."""
        if self.start_frame == 0:
            return 0
        return round(LEAD_IN_FRAMES * self.beats.slope * self.score.info.beats / self.score.info.frames)

    @property
    def next_beat(self) -> float:
        """The take's beat at which the next clip begins."""
        return self.clip_beat + self.number * self.score.info.beats

    @property
    def planned_end(self) -> float:
        """Local sample at which everything that was asked for ends."""
        end = self.next_beat + (self.score.info.beats if self.outstanding is not None and not self.sounding else 0)
        return self.beats.sample(end)

    def job(self, station: str, clip: int, *, deadline: float, speculative: bool, steps: int | None = None) -> Job:
        """The next clip's job (not yet sent). ``clip``: an unused identity."""
        entry = self.reuse[0] if self.reuse else None
        beat = self.next_beat
        spec = entry.spec if entry else self.score.spec(self.index, beat)
        info = self.score.info
        per_beat = info.frames / info.beats
        hops = tuple(self.score.samples_per_beat(spec, beat + i) / per_beat for i in range(info.beats))
        return Job(
            station=station,
            take=self.ident,
            number=self.number,
            clip=entry.clip if entry else clip,
            spec=spec,
            hops=hops,
            frames=info.frames if info.frames != info.meters[4][0] else None,
            previous=self.entries[-1].clip if self.entries and info.continues else None,
            key=self.score.transposition(spec),
            start_frame=self.start_frame if self.number == 0 else 0,
            steps=steps,
            deadline=deadline,
            speculative=speculative,
            rev=self.rev,
            suspect=self.suspect and self.number == 0,
        )

    @property
    def upcoming(self) -> int:
        """Where in the score's path the next clip is, or the one that is asked for and has no sound yet."""
        return self.reuse[0].index if self.reuse else self.index

    @property
    def at_fault(self) -> bool:
        """Whether a generator that ends now may have ended because of this take."""
        job = self.outstanding
        return job is not None and (self.tried or not job.suspect)

    def send(self, job: Job, now: float, level: int) -> None:
        """A job was sent, at a level of effort."""
        self.outstanding, self.sounding, self.sent_at, self.level = job, False, now, level

    @property
    def complete(self) -> bool:
        """Whether the audio of all clips that ended is there, but for what a vocoder holds back."""
        slack = self.beats.slope + HELD_BACK
        return self.tape.end >= self.beats.sample(self.next_beat) - slack

    def receive(self, pcm: Pcm) -> None:
        """Audio of the outstanding job."""
        self._begin()
        self.tape.append(pcm)

    def finish(self) -> None:
        """The outstanding job ended."""
        self._begin()
        self.outstanding = None

    def cancel(self) -> None:
        """The outstanding job was dropped before any audio: it is still to do."""
        self.outstanding = None

    def _begin(self) -> None:
        """On a job's first sound its clip becomes part of the take."""
        job = self.outstanding
        if job is None or self.sounding:
            return
        self.sounding = True
        per_beat = self.score.info.frames / self.score.info.beats
        skipped = job.start_frame / per_beat
        begin = self.beats.sample(self.next_beat) if self.number else -job.start_frame * job.hops[0]
        index = self.reuse.pop(0).index if self.reuse else self.index
        self.entries.append(Entry(job.clip, index, job.spec, begin, self.next_beat))
        for i, hop in enumerate(job.hops):
            part = min(1.0, i + 1 - skipped)
            if part > 0:
                self.beats.extend(part, hop * per_beat)
        self.index = index + 1
        self.number += 1
        if len(self.entries) > 64:
            del self.entries[:32]

    def entry(self, local: float) -> Entry | None:
        """The clip at a local sample; the nearest where there is none yet."""
        found = None
        for entry in self.entries:
            if entry.start > local:
                break
            found = entry
        return found or (self.entries[0] if self.entries else None)

    def shift(self, beats: float) -> None:
        """Count this take's beats ``beats`` higher."""
        self.beats.shift(beats)
        self.clip_beat += beats
        self.entries = [replace(entry, beat=entry.beat + beats) for entry in self.entries]
