"""Whatever happens to a station, its invariants hold and its log replays to the same samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from riffstream.config import TimelineSettings
from riffstream.errors import MediaError
from riffstream.generator.messages import Info
from riffstream.generator.renderer import ToneRenderer
from riffstream.journey.journey import Journey
from riffstream.protocol import MixChange
from riffstream.station.offline import replay, replay_header, run
from riffstream.station.score import Score
from riffstream.station.steering_log import SteeringLog
from tests.station.sim import Sim

AT = st.sampled_from(["asap", "beat", "bar", "clip"])
ACTIONS = st.one_of(
    st.tuples(st.just("steer"), st.fixed_dictionaries({"prompt": st.sampled_from("abc"), "at": AT})),
    st.tuples(
        st.just("steer"),
        st.fixed_dictionaries({"bpm": st.integers(50, 200), "at": AT, "ramp_s": st.sampled_from([0.0, 3.0])}),
    ),
    st.tuples(st.just("steer"), st.fixed_dictionaries({"key": st.integers(-6, 6), "at": AT})),
    st.tuples(
        st.just("steer"),
        st.fixed_dictionaries({"prompt": st.sampled_from("abc"), "ramp_s": st.sampled_from([2.0, 20.0])}),
    ),
    st.tuples(
        st.just("steer"),
        st.fixed_dictionaries(
            {
                "mix": st.sampled_from(
                    [
                        None,
                        MixChange(low=-60.0, tilt=2.0, ramp_s=1.0),
                        MixChange(filter=-0.5),
                        MixChange(hold=True),
                        MixChange(hold=False, solo=("drums",)),
                        MixChange(mute=("bass",), width=2.0),
                        MixChange(fade=True),
                    ]
                ),
                "at": AT,
            },
            optional={"prompt": st.sampled_from("abc"), "bpm": st.integers(50, 200)},
        ),
    ),
    st.tuples(st.just("transport"), st.sampled_from(["pause", "resume", "skip", "reset"])),
    st.tuples(st.just("generator"), st.sampled_from(["kill", "restart", "stall", "go"])),
)
STORY = st.lists(st.tuples(ACTIONS, st.floats(0.1, 6)), min_size=1, max_size=12)


def live(story: list[tuple[tuple[str, object], float]], waits: int, loudness: float | None = None) -> Sim:
    """A station to which all this happens; its invariants are checked on the way."""
    sim = Sim(waits=waits, settings=TimelineSettings(loudness_lufs=loudness))
    connected = True
    sim.run(2)
    for number, ((kind, what), seconds) in enumerate(story):
        if kind == "steer" and isinstance(what, dict):
            sim.steer(str(number), **what)
        elif kind == "transport":
            sim.transport(what, str(number))  # type: ignore[arg-type]
        elif what == "kill" and connected:
            sim.kill()
            connected = False
        elif what == "restart" and not connected:
            sim.restart()
            connected = True
        elif what in ("stall", "go") and connected:
            sim.alive = what == "go"
        before = sim.timeline.playout.committed
        sim.run(seconds)
        assert (
            before
            <= sim.timeline.playout.committed
            <= sim.timeline.playout.mixer.position
            <= sim.timeline.playout.mixer.end
        )
        assert (
            sim.timeline.playout.mixer.position - sim.timeline.playout.committed < 4800
        )  # what the limiter looks ahead
    if not connected:
        sim.restart()
    sim.alive = True
    sim.run(2)
    return sim


def assert_replays(sim: Sim, path: Path) -> None:
    sim.timeline.log.save(path, sim.timeline.playout.committed)
    again = np.concatenate(list(replay(path, ToneRenderer(waits=1, clicks=False))))
    played = np.concatenate([block.pcm for block in sim.blocks])
    assert np.array_equal(again, played)


# A skip replaced one that was scheduled, as a long crossfade from a take that the killed generator could not continue.
CUT_SHORT: list[tuple[tuple[str, object], float]] = [
    (("steer", {"prompt": "c", "ramp_s": 2.0}), 0.35),
    (("generator", "go"), 0.85),
    (("steer", {"prompt": "c", "ramp_s": 2.0}), 0.1),
    (("transport", "skip"), 0.29),
    (("generator", "restart"), 0.1),
    (("generator", "stall"), 1.96),
    (("transport", "skip"), 0.1),
    (("generator", "kill"), 0.73),
    (("steer", {"bpm": 192, "at": "beat", "ramp_s": 0.0}), 0.71),
    (("steer", {"prompt": "b", "ramp_s": 2.0}), 0.1),
    (("steer", {"bpm": 144, "at": "clip", "ramp_s": 3.0}), 0.98),
    (("steer", {"prompt": "a", "ramp_s": 2.0}), 3.18),
]


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STORY, st.sampled_from([1, 10, 60]))
@example(CUT_SHORT, 10)
def test_any_story_keeps_the_invariants_and_replays(
    tmp_path: Path, story: list[tuple[tuple[str, object], float]], waits: int
) -> None:
    sim = live(story, waits)
    positions = [block.pos for block in sim.blocks]
    assert positions == [n * 4800 for n in range(len(sim.blocks))]
    revs = [block.rev for block in sim.blocks]
    assert revs == sorted(revs)
    assert max(revs) <= sim.timeline.rev
    assert np.isfinite(sim.pcm).all()
    assert np.abs(sim.pcm).max() < 0.25
    asked = {reply.id for reply in sim.replies if hasattr(reply, "id")}
    for ident in asked:
        answers = sim.answers(ident)
        assert answers[0] in ("Scheduled", "Rejected"), (ident, answers)
        assert len(answers) <= 2, (ident, answers)
    assert_replays(sim, tmp_path / "log.jsonl")


def test_replay_includes_loudness(tmp_path: Path) -> None:
    story = [(("steer", {"prompt": "b", "at": "bar"}), 5.0), (("generator", "stall"), 30.0), (("generator", "go"), 5.0)]
    assert_replays(live(story, 3, loudness=-20.0), tmp_path / "log.jsonl")


def test_a_log_that_was_cut_off_replays_as_far_as_it_goes(tmp_path: Path) -> None:
    sim = live([(("steer", {"prompt": "b", "at": "asap"}), 5.0)], 3)
    path = tmp_path / "log.jsonl"
    sim.timeline.log.save(path)
    text = path.read_text()
    path.write_text(text[: len(text) - 40])
    again = np.concatenate(list(replay(path, ToneRenderer(clicks=False))))[:, 0]
    n = min(len(again), len(sim.pcm))
    assert n > 48_000
    assert np.array_equal(again[:n], sim.pcm[:n])
    assert replay_header(path)["sample_pos"] is None


def test_a_log_written_while_playing_is_the_log(tmp_path: Path) -> None:
    log = SteeringLog("x", tmp_path / "live.jsonl")
    info = Info(model="tone", steps=4, guidance=2.0)
    from riffstream.config import StationConfig

    score = Score.of(StationConfig(), info, Journey.single("a"))
    blocks = list(run(score, ToneRenderer(), 5 * 48_000, TimelineSettings(), log=log))
    log.close(5 * 48_000)
    assert np.array_equal(np.concatenate(list(replay(tmp_path / "live.jsonl", ToneRenderer()))), np.concatenate(blocks))
    assert list(log.lines(5 * 48_000)) == (tmp_path / "live.jsonl").read_text().splitlines()


def test_logs_hold_no_wall_time() -> None:
    one, two = Sim(), Sim()
    two.time = 1e6
    for sim in (one, two):
        sim.run(3)
        sim.steer("a", "b", at="bar")
        sim.run(5)
    assert list(one.timeline.log.lines()) == list(two.timeline.log.lines())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "does not begin with a header"),
        ("nonsense\n{}", "line 1 is not JSON"),
        ('{"entry": "cue"}\n', "does not begin with a header"),
        ("[1]\n[2]\n", "line 1 is not an entry"),
        ('{"entry":"header"}\n{"entry":"dropped","entries":3}\n', "beginning was dropped"),
    ],
)
def test_what_is_no_log_is_said_so(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(text)
    with pytest.raises(MediaError, match=says):
        list(replay(path, ToneRenderer()))
    with pytest.raises(MediaError, match=r"[Nn]o such"):
        list(replay(tmp_path / "missing.jsonl", ToneRenderer()))


def test_a_log_of_another_model_is_refused(tmp_path: Path) -> None:
    sim = Sim()
    sim.run(2)
    path = tmp_path / "log.jsonl"
    sim.timeline.log.save(path)
    path.write_text(path.read_text().replace('"model":"tone"', '"model":"mini"'))
    with pytest.raises(MediaError, match="made with model mini, not tone"):
        replay(path, ToneRenderer())
    path.write_text(
        path.read_text().replace('"model":"mini"', '"model":"tone"').replace('"weights":""', '"weights":"x"')
    )
    with pytest.raises(MediaError, match="other weights of tone"):
        replay(path, ToneRenderer())


def test_a_log_of_another_version_is_read_without_its_own_keys(tmp_path: Path) -> None:
    sim = Sim()
    sim.run(2)
    path = tmp_path / "log.jsonl"
    sim.timeline.log.save(path)
    path.write_text(path.read_text().replace('"timeline":{', '"timeline":{"from_the_future":1,', 1))
    assert "from_the_future" in path.read_text()
    assert replay(path, ToneRenderer())
    path.write_text(path.read_text().replace('"frame_ms":40', '"frame_ms":55'))
    with pytest.raises(MediaError, match="multiple"):
        replay(path, ToneRenderer())
