"""A take: one continuous audio stream from the generator, made of adjacent clips.

Steering starts a new take at the musical position of the splice; the timeline crossfades from take to take.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Final

from riffstream.generator.messages import Info, Job, Pcm
from riffstream.journey.journey import ClipSpec
from riffstream.station.bars import Bars
from riffstream.station.beats import BeatMap
from riffstream.station.score import Score
from riffstream.station.tape import Tape

__all__ = ["Entry", "Take"]

# Frames converted to audio before a take becomes audible, because a vocoder's first frames have no past.
LEAD_IN_FRAMES: Final = 4
LINES: Final = 64  # clip starts that a take remembers
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
        meter: beats to the bar.
        bar: number of its first bar in the form.
    """

    clip: int
    index: int
    spec: ClipSpec
    start: float
    beat: float
    meter: int = 4
    bar: int = 0


@dataclass(slots=True)
class Take:
    """State of one take.

    Attributes:
        ident: number of the take in the station, increasing.
        rev: revision of the score.
        score: the score that it plays.
        beats: musical time.
        bars: bar lines; known for the clips so far and those of :meth:`foresee`.
        clip_beats: beats at which clips begin, in order; the last one is the end of the foreseen clips.
        next_beat: beat at which the next clip begins.
        start_frame: frame of the first clip at which the audio begins.
        index: index of the next clip in the score's path.
        reuse: existing clips that come first (the same music at another tempo or key).
        first_bar: number of the first clip's first bar in the form.
        sound: clip of an earlier take whose sound the first clip continues; None: there is none.
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
        trace: W3C trace context of the steer that waits for the first clip; "" without one.
    """

    ident: int
    rev: int
    score: Score
    beats: BeatMap
    bars: Bars
    clip_beats: list[float]
    next_beat: float
    start_frame: int
    index: int
    reuse: list[Entry]
    first_bar: int = 0
    sound: int | None = None
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
    trace: str = ""

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
        sound: int | None = None,
    ) -> Take:
        """Open a take whose audio begins shortly before ``beat``, inside the clip that begins at ``clip_beat``."""
        first = reuse[0].spec if reuse else score.spec(index, clip_beat, bar)
        info = score.info_of(first)
        per_beat = info.frames / info.beats
        frame = max(0, math.floor((beat - clip_beat) * per_beat) - LEAD_IN_FRAMES)
        begin = clip_beat + frame / per_beat
        beats = BeatMap(begin, score.samples_per_beat(first, begin))
        bars = Bars.of(clip_beat, info.beats_per_bar)
        return cls(ident, rev, score, beats, bars, [clip_beat], clip_beat, frame, index, reuse or [], bar, sound)

    @property
    def info(self) -> Info:
        """The model's properties in the metre of the last clip with audio, or else of the next clip."""
        if self.entries:
            return self.score.info.in_meter(self.entries[-1].meter)
        return self.following

    @property
    def following(self) -> Info:
        """The model's properties for the next clip."""
        return self.score.info_of(self._spec(0))

    def _spec(self, ahead: int) -> ClipSpec:
        """Parameters of the next clip (0), or of one after it."""
        if ahead < len(self.reuse):
            return self.reuse[ahead].spec
        return self.score.spec(self.index + ahead - len(self.reuse), self.next_beat)

    def foresee(self, beat: float) -> None:
        """Extend the bar lines and the starts of clips to ``beat``: their metres are known before their audio."""
        ahead = sum(start >= self.next_beat - 1e-6 for start in self.clip_beats) - 1
        while self.clip_beats[-1] <= beat + 1e-6:
            info = self.score.info_of(self._spec(ahead))
            self.bars = self.bars.change(self.clip_beats[-1], info.beats_per_bar)
            self.clip_beats.append(self.clip_beats[-1] + info.beats)
            ahead += 1

    @property
    def lead_in(self) -> int:
        """Number of samples at the beginning that must stay inaudible."""
        if self.start_frame == 0:
            return 0
        info = self.score.info_of(self.entries[0].spec if self.entries else self._spec(0))
        return round(LEAD_IN_FRAMES * self.beats.slope * info.beats / info.frames)

    def bar(self, beat: float) -> int:
        """Number of the bar at a beat in the form, 0 or more."""
        entry = self.entry(self.beats.sample(beat))
        if entry is not None:
            begin, first, meter = entry.beat, entry.bar, entry.meter
        else:
            begin, first, meter = self.next_beat, self.first_bar, self.info.beats_per_bar
        return max(0, first + math.floor((beat - begin) / meter + 1e-6))

    @property
    def planned_end(self) -> float:
        """Local sample at the end of all requested clips."""
        job = self.outstanding
        return self.beats.sample(self.next_beat + (len(job.hops) if job is not None and not self.sounding else 0))

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
        info = self.score.info_of(spec)
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
            sound=self.sound if self.number == 0 and info.continues else None,
            key=self.score.transposition(spec),
            stems=stems,
            start_frame=self.start_frame if self.number == 0 else 0,
            steps=steps,
            deadline=deadline,
            speculative=speculative,
            rev=self.rev,
            suspect=self.suspect and self.number == 0,
            trace=self.trace if self.number == 0 else "",
        )

    @property
    def upcoming(self) -> int:
        """Index in the score's path of the next clip, or of the requested clip without audio."""
        return self.reuse[0].index if self.reuse else self.index

    def sound_at(self, beat: float) -> int | None:
        """The newest finished clip that begins at or before a beat, or else the one that this take continues."""
        if self.over:
            return None
        sampled = self.entries[:-1] if self.outstanding is not None and self.sounding else self.entries
        return next((entry.clip for entry in reversed(sampled) if entry.beat <= beat + 1e-6), self.sound)

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
        self.foresee(self.next_beat)
        info = self.score.info_of(job.spec)
        per_beat = info.frames / info.beats
        skipped = job.start_frame / per_beat
        begin = self.beats.sample(self.next_beat) if self.number else -job.start_frame * job.hops[0]
        index = self.reuse.pop(0).index if self.reuse else self.index
        bar = self.bar(self.next_beat)
        self.entries.append(Entry(job.clip, index, job.spec, begin, self.next_beat, info.beats_per_bar, bar))
        for i, hop in enumerate(job.hops):
            part = min(1.0, i + 1 - skipped)
            if part > 0:
                self.beats.extend(part, hop * per_beat)
        self.index = index + 1
        self.number += 1
        self.next_beat += info.beats
        if len(self.entries) > 64:
            del self.entries[:32]
        del self.clip_beats[: max(0, len(self.clip_beats) - LINES)]

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
        self.bars = self.bars.shift(beats)
        self.clip_beats = [start + beats for start in self.clip_beats]
        self.next_beat += beats
        self.entries = [replace(entry, beat=entry.beat + beats) for entry in self.entries]
