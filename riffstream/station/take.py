"""A take: one continuous audio stream from the generator, made of adjacent clips.

Steering starts a new take at the musical position of the splice; the timeline crossfades from take to take.
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

# Frames converted to audio before a take becomes audible, because a vocoder's first frames have no past.
LEAD_IN_FRAMES: Final = 4
HELD_BACK: Final = 12_000  # upper limit of the samples held back by vocoder and resampler until the next clip


@dataclass(frozen=True, slots=True)
class Entry:
    """A clip in a take.

    Attributes:
        clip: identity in the station.
        index: index in the score's path.
        spec: parameters of the clip.
        start: local sample of its first frame, fractional; negative if the take begins inside the clip.
        beat: the take's beat at its first frame.
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
        ident: number of the take in the station, increasing.
        rev: revision of the score.
        score: the score that it plays.
        beats: musical time.
        clip_beat: beat of the first clip's first frame; a clip follows every ``score.info.beats`` beats.
        start_frame: frame of the first clip at which the audio begins.
        index: index of the next clip in the score's path.
        reuse: existing clips that come first (the same music at another tempo or key).
        first_bar: number of the bar at ``clip_beat`` in the form.
        tape: audio received so far.
        number: number of the next clip in this take.
        entries: clips with audio.
        outstanding: job that was sent and has not ended.
        sounding: True once audio of the outstanding job has arrived.
        sent_at: time at which the outstanding job was sent.
        level: level of effort of the outstanding job.
        over: True if the take cannot be continued.
        suspect: True if a generator ended while rendering the first clip.
        tried: True while the generator renders only that clip.
    """

    ident: int
    rev: int
    score: Score
    beats: BeatMap
    clip_beat: float
    start_frame: int
    index: int
    reuse: list[Entry]
    first_bar: int = 0
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
        bar: int = 0,
    ) -> Take:
        """Open a take whose audio begins shortly before ``beat``, inside the clip that begins at ``clip_beat``."""
        per_beat = score.info.frames / score.info.beats
        frame = max(0, math.floor((beat - clip_beat) * per_beat) - LEAD_IN_FRAMES)
        first = reuse[0].spec if reuse else score.spec(index, clip_beat, bar)
        begin = clip_beat + frame / per_beat
        slope = score.samples_per_beat(first, begin)
        return cls(ident, rev, score, BeatMap(begin, slope), clip_beat, frame, index, reuse or [], bar)

    @property
    def lead_in(self) -> int:
        """Number of samples at the beginning that must stay inaudible."""
        if self.start_frame == 0:
            return 0
        return round(LEAD_IN_FRAMES * self.beats.slope * self.score.info.beats / self.score.info.frames)

    @property
    def next_beat(self) -> float:
        """Beat at which the next clip begins."""
        return self.clip_beat + self.number * self.score.info.beats

    def bar(self, beat: float) -> int:
        """Number of the bar at a beat in the form, 0 or more."""
        bars = (beat - self.clip_beat) / self.score.info.beats_per_bar
        return max(0, self.first_bar + math.floor(bars + 1e-6))

    @property
    def planned_end(self) -> float:
        """Local sample at the end of all requested clips."""
        end = self.next_beat + (self.score.info.beats if self.outstanding is not None and not self.sounding else 0)
        return self.beats.sample(end)

    def job(
        self,
        station: str,
        clip: int,
        *,
        deadline: float,
        speculative: bool,
        steps: int | None = None,
        stems: bool = False,
    ) -> Job:
        """Job of the next clip, not sent yet; ``clip`` is an unused identity."""
        entry = self.reuse[0] if self.reuse else None
        beat = self.next_beat
        spec = entry.spec if entry else self.score.spec(self.index, beat, self.bar(beat))
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
            stems=stems,
            start_frame=self.start_frame if self.number == 0 else 0,
            steps=steps,
            deadline=deadline,
            speculative=speculative,
            rev=self.rev,
            suspect=self.suspect and self.number == 0,
        )

    @property
    def upcoming(self) -> int:
        """Index in the score's path of the next clip, or of the requested clip without audio."""
        return self.reuse[0].index if self.reuse else self.index

    @property
    def at_fault(self) -> bool:
        """Whether this take may be the cause if the generator ends now."""
        job = self.outstanding
        return job is not None and (self.tried or not job.suspect)

    def send(self, job: Job, now: float, level: int) -> None:
        """Record a sent job with its level of effort."""
        self.outstanding, self.sounding, self.sent_at, self.level = job, False, now, level

    @property
    def complete(self) -> bool:
        """Whether all audio of the finished clips has arrived, except for samples held back by the vocoder."""
        slack = self.beats.slope + HELD_BACK
        return self.tape.end >= self.beats.sample(self.next_beat) - slack

    def receive(self, pcm: Pcm) -> None:
        """Append audio of the outstanding job, [n, 2]."""
        self._begin()
        self.tape.append(pcm)

    def finish(self) -> None:
        """Record the end of the outstanding job."""
        self._begin()
        self.outstanding = None

    def cancel(self) -> None:
        """Record that the outstanding job was dropped without audio: it must be sent again."""
        self.outstanding = None

    def _begin(self) -> None:
        """Add the clip of the outstanding job to the take at its first audio."""
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
        """Clip at a local sample, or the nearest one."""
        found = None
        for entry in self.entries:
            if entry.start > local:
                break
            found = entry
        return found or (self.entries[0] if self.entries else None)

    def shift(self, beats: float) -> None:
        """Add ``beats`` to this take's count of beats."""
        self.beats.shift(beats)
        self.clip_beat += beats
        self.entries = [replace(entry, beat=entry.beat + beats) for entry in self.entries]
