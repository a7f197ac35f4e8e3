"""What was heard when, and how it is announced."""

from __future__ import annotations

from riffstream.journey.wander import wander
from riffstream.station.history import HISTORY, Heard
from riffstream.station.mixer import Cue
from riffstream.station.tape import Silence
from tests.station.sim import Sim


def cue(pos: int, rev: int = 0) -> Cue:
    return Cue(pos=pos, source=Silence(), offset=0, fade=0, take=None, rev=rev, kind="silence")


def at(heard: Heard, pos: int) -> Cue | None:
    played = heard.at(pos)
    return None if played is None else played.cue


def test_the_cue_at_a_sample_is_the_last_that_began_by_then() -> None:
    heard = Heard()
    assert (heard.at(5), heard.rev(5), heard.newest_rev) == (None, 0, 0)
    first, second = cue(10, 1), cue(20, 2)
    heard.add(first, None, None)
    heard.add(second, None, None)
    assert [at(heard, pos) for pos in (0, 10, 19, 20, 99)] == [first, first, first, second, second]
    assert [heard.rev(end) for end in (10, 11, 20, 21)] == [0, 1, 1, 2]
    assert heard.newest_rev == 2


def test_what_was_heard_is_known_for_a_minute() -> None:
    heard = Heard()
    cues = [cue(n * HISTORY // 4, n) for n in range(9)]
    for each in cues:
        heard.add(each, None, None)
    assert at(heard, HISTORY + 1) is cues[4]
    assert at(heard, 0) is cues[3], "the oldest that is kept still covers the whole minute"


def test_whatever_is_announced_anew_is_another_moment() -> None:
    """Through steers, a ramp of the tempo, pauses, skips and a generator that is lost."""
    sim = Sim(journey=wander(3))
    acts = {
        20: lambda: sim.steer("a", "calm", at="bar"),
        60: lambda: sim.steer("b", bpm=70.0, ramp_s=6.0),
        110: lambda: sim.transport("pause"),
        120: lambda: sim.transport("resume"),
        140: lambda: sim.transport("skip"),
        180: sim.kill,
        260: sim.restart,
        300: lambda: sim.transport("reset"),
    }
    before, announced = None, []
    moments = set()
    for frame in range(400):
        acts.get(frame, lambda: None)()
        sim.run(0.1)
        if not sim.timeline.playout.committed:
            continue
        pos = sim.timeline.playout.committed - 1
        now, moment = sim.timeline.now(pos), sim.timeline.moment(pos)
        shown = (now.rev, now.clip, now.state)
        if before is not None and shown != before[0]:
            announced.append(shown)
            assert moment != before[1], f"frame {frame}: {shown}"
        before = (shown, moment)
        moments.add(moment)
    assert len(announced) > 15
    assert len({shown[2].bpm for shown in announced}) > 5, "the ramp is announced beat by beat"
    assert len(moments) < 150, "most of the 400 frames need no message"
