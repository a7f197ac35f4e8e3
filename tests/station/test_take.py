"""A take by itself: its clips, their places, and what it is at fault for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from riffstream.config import StationConfig
from riffstream.generator.renderer import ToneRenderer
from riffstream.journey.journey import Journey
from riffstream.station.score import Score
from riffstream.station.take import LEAD_IN_FRAMES, Entry, Take

BEAT = 24_000  # samples, at 120 beats a minute
SCORE = Score.of(StationConfig(), ToneRenderer().info, Journey.visit(["a", "b"], 2, 2))


def opened(beat: float = 0.0, clip_beat: float = 0.0, index: int = 0, **more: Any) -> Take:
    return Take.open(3, 1, SCORE, beat=beat, clip_beat=clip_beat, index=index, **more)


def asked(take: Take, clip: int = 0) -> Take:
    take.send(take.job("s", clip, deadline=0.0, speculative=False), 0.0, 0)
    return take


def sound(samples: int) -> np.ndarray:
    return np.zeros((samples, 2), np.float32)


def test_clips_follow_each_other_in_the_path_and_in_time() -> None:
    take = opened(index=5)
    for number in range(3):
        asked(take, clip=10 + number)
        assert take.outstanding is not None
        assert (take.outstanding.number, take.outstanding.spec) == (number, SCORE.spec(5 + number, number * 8.0))
        assert take.outstanding.previous == (None if number == 0 else 9 + number)
        assert take.upcoming == 5 + number
        take.receive(sound(8 * BEAT))
        assert take.upcoming == 6 + number
        take.finish()
    assert [(entry.index, entry.beat, entry.start) for entry in take.entries] == [
        (5, 0.0, 0.0),
        (6, 8.0, 8 * BEAT),
        (7, 16.0, 16 * BEAT),
    ]
    assert take.planned_end == 24 * BEAT
    assert take.entry(8 * BEAT - 1) is take.entries[0]
    assert take.entry(8 * BEAT) is take.entries[1]


def test_only_the_first_clip_continues_the_sound_of_an_earlier_take() -> None:
    take = opened(sound=7)
    assert asked(take, clip=10).sound_at(0.0) == 7, "no clip of its own is finished"
    assert take.outstanding is not None
    assert (take.outstanding.sound, take.outstanding.previous) == (7, None)
    take.receive(sound(1))
    assert take.sound_at(0.0) == 7, "the audio may be a draft, and the clip is not sampled yet"
    take.receive(sound(8 * BEAT))
    take.finish()
    asked(take, clip=11).receive(sound(8 * BEAT))
    assert (take.outstanding.sound, take.outstanding.previous) == (None, 10)
    take.finish()
    assert [take.sound_at(beat) for beat in (0.0, 4.0, 8.0, 99.0)] == [10, 10, 11, 11]
    take.over = True
    assert take.sound_at(8.0) is None, "another generator does not know the clip"


def test_it_begins_a_little_before_the_beat_at_which_it_is_heard() -> None:
    take = opened(beat=10.0, clip_beat=8.0)
    assert take.start_frame == 2 * 64 - LEAD_IN_FRAMES
    assert take.lead_in == LEAD_IN_FRAMES * 375
    assert take.beats.beat(take.lead_in) == pytest.approx(10.0)
    asked(take).receive(sound(1))
    assert take.beats.sample(take.next_beat) == pytest.approx(6 * BEAT + take.lead_in)


def test_known_clips_come_first() -> None:
    known = [Entry(clip=40 + k, index=7 + k, spec=SCORE.spec(7 + k, 0.0), start=0.0, beat=8.0 * k) for k in range(2)]
    take = opened(index=9, reuse=list(known))
    indices = []
    for _ in range(3):
        indices.append(take.upcoming)
        asked(take, clip=99).receive(sound(8 * BEAT))
        take.finish()
    assert indices == [7, 8, 9]
    assert [entry.clip for entry in take.entries] == [40, 41, 99]


def test_a_job_that_is_cancelled_is_still_to_do() -> None:
    take = asked(opened())
    take.cancel()
    assert (take.outstanding, take.number, take.entries) == (None, 0, [])
    asked(take)
    assert take.outstanding is not None
    assert take.outstanding.number == 0


@pytest.mark.parametrize(
    ("samples", "complete"), [(8 * BEAT, True), (8 * BEAT - 9000, True), (6 * BEAT, False), (0, False)]
)
def test_audio_that_is_missing_is_noticed_and_what_a_vocoder_keeps_is_not(samples: int, complete: bool) -> None:
    take = asked(opened())
    if samples:
        take.receive(sound(samples))
    take.finish()
    assert take.complete == complete


def test_a_short_beginning_may_have_no_audio_yet() -> None:
    take = asked(opened(beat=7.9))
    take.finish()
    assert take.complete


def test_it_is_at_fault_while_the_generator_works_on_it() -> None:
    take = opened()
    assert not take.at_fault
    assert asked(take).at_fault
    take.cancel()
    take.suspect = True
    asked(take)
    assert take.outstanding is not None
    assert take.outstanding.suspect
    assert not take.at_fault, "it waits for its turn"
    take.tried = True
    assert take.at_fault
    take.receive(sound(8 * BEAT))
    take.finish()
    assert not take.at_fault
    assert not take.job("s", 1, deadline=0.0, speculative=False).suspect, "only its first clip is"


def test_counting_it_later_moves_its_clips() -> None:
    take = asked(opened())
    take.receive(sound(8 * BEAT))
    take.shift(4.0)
    assert (take.clip_beats[0], take.entries[0].beat, take.next_beat) == (4.0, 4.0, 12.0)
    assert take.beats.beat(0) == 4.0


def test_entries_of_the_far_past_are_forgotten() -> None:
    take = opened()
    for number in range(200):
        asked(take, clip=number).receive(sound(10))
        take.finish()
    assert len(take.entries) <= 64
    assert take.entries[-1].clip == 199
