"""Where changes are aimed at and spliced, on a playout whose lead plays at 120 beats a minute."""

from __future__ import annotations

import numpy as np
import pytest

from riffstream.config import StationConfig, TimelineSettings
from riffstream.generator.messages import Job
from riffstream.generator.renderer import ToneRenderer
from riffstream.journey.journey import Journey
from riffstream.station.bridges import SILENCE_FADE
from riffstream.station.playout import PRIMER, Playout
from riffstream.station.score import Change, Score
from riffstream.station.splices import Opening, Splice, aim, find, opening
from riffstream.station.steering_log import SteeringLog
from riffstream.station.take import Take

BEAT = 24_000
FRAME = 4800
SCORE = Score.of(StationConfig(), ToneRenderer().info, Journey.single("a"))


def take(ident: int, beat: float, samples: int, clip_beat: float = 0.0) -> Take:
    made = Take.open(ident, ident, SCORE, beat=beat, clip_beat=clip_beat, index=0)
    made.tape.append(np.full((samples, 2), 0.1, np.float32))
    return made


def clip_of(made: Take, clip: int) -> Job:
    return made.job("s", clip, deadline=0.0, speculative=False)


def playing() -> Playout:
    """Ten beats into a take of two clips: 0 to 8 and 8 to 16."""
    playout = Playout(TimelineSettings(loudness_lufs=None), SteeringLog("s"))
    lead = Take.open(0, 0, SCORE, beat=0.0, clip_beat=0.0, index=0)
    for clip in range(2):
        lead.send(clip_of(lead, clip), 0.0, 0)
        lead.receive(np.full((8 * BEAT, 2), 0.1, np.float32))
        lead.finish()
    playout.cut_to(lead, pos=0, local=0, fade=SILENCE_FADE)
    for _ in range(50):
        playout.commit(FRAME)
    return playout


@pytest.mark.parametrize(("at", "beat"), [("beat", 11), ("bar", 12), ("clip", 16)])
def test_a_change_is_aimed_at_the_grid_after_its_audio_can_be_there(at: str, beat: int) -> None:
    playout = playing()
    assert aim(playout, "asap", 0.25) == playout.mixer.earliest + 12_000
    assert aim(playout, at, 0.25) + playout.fade == beat * BEAT


def test_the_end_is_where_the_lead_still_has_audio_for_the_crossfade() -> None:
    playout = playing()
    assert aim(playout, "end", 0.1) == 16 * BEAT - playout.need
    assert aim(playout, "end", 100.0) == playout.mixer.earliest + 4_800_000


def test_new_clips_begin_inside_the_bar_and_known_ones_with_the_clip() -> None:
    playout = playing()
    pos = 13 * BEAT
    assert opening(playout, Change(SCORE, "clip"), pos) == Opening(13.0, 12.0, 1, [], 3, 3, 0, 1)
    assert opening(playout, Change(SCORE, "clip", 5), pos) == Opening(13.0, 12.0, 5, [], 10, 10, 7)
    voiced = opening(playout, Change(SCORE, "vocoder"), pos)
    assert (voiced.clip_beat, voiced.index, [entry.clip for entry in voiced.reuse]) == (8.0, 1, [1])
    assert playout.lead is not None
    playout.lead.over = True  # the generator that knew the clip is gone
    assert opening(playout, Change(SCORE, "vocoder"), pos) == Opening(13.0, 12.0, 1, [], 3, 3)


def test_a_station_begins_when_there_is_enough_to_find_its_loudness() -> None:
    playout = Playout(TimelineSettings(loudness_lufs=None), SteeringLog("s"))
    assert find(playout, take(0, 0.0, PRIMER - 1), "asap", 0.0) is None
    assert find(playout, take(0, 0.0, PRIMER), "asap", 0.0) == Splice(0, 0, SILENCE_FADE, 0)


@pytest.mark.parametrize(("at", "beat"), [("beat", 11), ("bar", 12), ("clip", 16)])
def test_both_takes_are_on_the_same_beat_where_the_crossfade_ends(at: str, beat: int) -> None:
    playout = playing()
    following = take(1, 10.5, 20 * BEAT, clip_beat=8.0)
    splice = find(playout, following, at, 0.0)
    assert splice is not None
    assert splice.fade == playout.fade
    assert splice.pos + splice.fade == beat * BEAT
    assert following.beats.beat(splice.local + splice.fade) == pytest.approx(beat - splice.late, abs=1e-4)


def test_a_take_without_enough_audio_waits() -> None:
    playout = playing()
    assert find(playout, take(1, 10.5, playout.need, clip_beat=8.0), "asap", 0.0) is None


def test_a_long_crossfade_is_no_longer_than_what_the_lead_has() -> None:
    playout = playing()
    following = take(1, 10.0, 20 * BEAT, clip_beat=8.0)
    usual, long, endless = (find(playout, following, "asap", fade_s) for fade_s in (0.0, 1.5, 60.0))
    assert usual is not None
    assert long is not None
    assert endless is not None
    assert (usual.fade, long.fade) == (playout.fade, 72_000)
    assert endless.fade == 16 * BEAT - endless.pos - 2 * playout.fade


@pytest.mark.parametrize("at", ["beat", "bar", "clip"])
@pytest.mark.parametrize("past", [1, 5])
def test_a_line_that_is_past_is_not_the_place_of_a_change(at: str, past: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines up to beat 16 seem to be some beats earlier, as where two takes count the same beats."""
    playout, change = playing(), take(1, beat=9.0, samples=20 * BEAT, clip_beat=8.0)
    where = Playout.where
    monkeypatch.setattr(Playout, "where", lambda self, beat: where(self, beat) - (past * BEAT if beat < 16 else 0))
    splice = find(playout, change, at, 0.0)
    assert splice is not None
    assert min(splice.pos, aim(playout, at, 0.0)) >= playout.mixer.earliest
    playout.cut_to(change, pos=splice.pos, local=splice.local, fade=splice.fade)
