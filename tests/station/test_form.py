"""Form, chords and parts of a station: what clips are planned, what is announced, and how steers change it."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from riffstream import protocol
from riffstream.config import StationConfig
from riffstream.errors import ParameterError
from riffstream.generator.messages import Info
from riffstream.generator.renderer import ToneRenderer
from riffstream.journey.chords import parse_bars
from riffstream.journey.conditions import PARTS
from riffstream.journey.form import FORMS
from riffstream.journey.journey import Journey
from riffstream.journey.wander import wander
from riffstream.protocol import PartsChange
from riffstream.station.score import Here, Score
from tests.station.sim import Sim


class Conducted(ToneRenderer):
    """A metronome that takes conditions, and plays as before."""

    def __init__(self, waits: int = 3) -> None:
        super().__init__(waits=waits, clicks=False)
        self.info = msgspec.structs.replace(self.info, conditions=True)


INFO = Conducted().info


def sim(form: str | None = "song", journey: Journey | None = None, **station: object) -> Sim:
    config = StationConfig(form=form, bpm=120.0, **station)  # type: ignore[arg-type]
    return Sim(renderer=Conducted(), journey=journey or Journey.single("cool jazz trio", seed=3), station=config)


def test_every_clip_of_a_station_has_a_plan() -> None:
    made = sim()
    made.run(60)
    form = made.timeline.score.form
    assert form is not None
    for number, job in enumerate(made.jobs):
        assert job.spec.plan == (
            form.bar(2 * number, ("jazz", "minor_jazz")),
            form.bar(2 * number + 1, ("jazz", "minor_jazz")),
        )
        plans = job.spec.bars(2, job.key)
        assert plans is not None
        assert all(bar.chords and bar.starts is not None for bar in plans)


CONDUCTING = ({"parts": PartsChange(drums=0.0)}, {"chords": "Am F"}, {"energy": 0.2}, {"density": 0.9}, {"form": "dj"})
OTHERWISE = ({"prompt": "techno"}, {"seed": 5}, {"negative": "voice"}, {"guidance": 3.0}, {"beats_per_bar": 3})


@pytest.mark.parametrize("fields", [*CONDUCTING, *OTHERWISE], ids=str)
def test_a_steer_without_new_words_continues_the_sound(fields: dict[str, object]) -> None:
    made = sim()
    made.run(11)
    audible = made.timeline.playout.entry(made.timeline.playout.mixer.earliest)
    made.steer("1", **fields)  # type: ignore[arg-type]
    made.run(5)
    (opening,) = [job for job in made.jobs if job.number == 0 and job.take > 0]
    assert audible is not None
    assert opening.sound == (audible.clip if fields in CONDUCTING else None)
    assert opening.previous is None
    assert [job.sound for job in made.jobs if job.number > 0 or job.take == 0] == [None] * (len(made.jobs) - 1)


def test_after_a_generator_ended_no_take_continues_its_sound() -> None:
    made = sim()
    made.run(11)
    made.kill()
    made.restart()
    made.steer("1", energy=0.2)
    made.run(5)
    assert [job.sound for job in made.jobs] == [None] * len(made.jobs)


def test_a_model_without_conditions_gets_no_plan_and_the_state_says_so() -> None:
    made = Sim(journey=wander(1), station=StationConfig(form="dj"))
    made.run(10)
    now = made.timeline.now(4 * 48_000)
    assert not any(job.spec.plan for job in made.jobs)
    assert (now.state.form, now.chord, now.section) == ("none", None, None)
    assert {each.by for each in now.coming} <= {"journey"}
    assert now.state.form_reason == "the model tone takes words alone"


def test_now_tells_chord_section_and_what_comes() -> None:
    made = sim()
    made.run(40)
    score = made.timeline.score
    form = score.form
    assert form is not None
    beat_samples = score.samples_per_beat(score.spec(0, 0), 0)
    for seconds in (1, 7, 13, 22.5, 31):
        now = made.timeline.now(round(seconds * 48_000))
        bar = int((now.beat + 1e-6) // 4)
        section = form.section(bar)
        assert (now.section, now.section_bar, now.section_bars) == (section.name, bar - section.start + 1, section.bars)
        sections = [each for each in now.coming if each.by == "form"]
        assert [each.section for each in sections] == [each.name for each in form.following(bar, 2)]
        assert abs(sections[0].at - section.end * 4 * beat_samples) < 50
        names = form.bar(bar, ("jazz", "minor_jazz")).chords.split(" / ")
        assert now.chord in names


def test_the_default_journey_changes_its_prompt_where_an_arc_ends() -> None:
    score = Score.of(StationConfig(), INFO)
    form = score.form
    assert form is not None
    for stop in range(4):
        first = stop * 36  # clips
        assert form.section(2 * first).start == 2 * first
        before, after = score.spec(first - 1, 0, 2 * first - 2) if first else None, score.spec(first, 0, 2 * first)
        assert after.alpha == 0
        if before is not None:
            assert before.plan[-1].ends
            assert before.start.prompts != after.start.prompts
            assert score.transposition(before) == before.start.key + before.plan[0].key  # not half way
        assert after.plan[0].starts


def test_the_key_changes_at_borders_only() -> None:
    score = Score.of(StationConfig(seed=11), INFO)
    before = None
    for index in range(36 * 12):
        spec = score.spec(index, 0.0, 2 * index)
        key = score.transposition(spec)
        if before is not None and key != before:
            assert spec.plan[0].starts
        before = key


def test_chords_begin_with_the_change_and_repeat() -> None:
    made = sim("none")
    made.run(11)
    made.steer("1", chords="Am F / G C", at="bar")
    made.run(20)
    start = made.applied("1")
    now = [made.timeline.now(start + 2000 + round(beat * 24_000)) for beat in range(14)]  # behind the crossfade
    assert [each.chord for each in now] == ["Am"] * 4 + ["F"] * 2 + ["G"] * 2 + ["C"] * 4 + ["Am"] * 2
    assert now[0].state.chords == "Am F / G C"
    assert now[0].state.steered
    assert now[0].section is None


@pytest.mark.parametrize("at", ["asap", "beat"])
def test_chords_begin_inside_a_bar_as_asked(at: protocol.At) -> None:
    made = sim("none")
    made.run(11.3)
    made.steer("1", chords="Am F C G", at=at)
    made.run(20)
    start = made.applied("1")
    line = made.timeline.now(start + 2000).beat // 4 * 4 + 4
    heard = [made.timeline.now(start + 2000 + step * 6000) for step in range(64)]
    assert heard[0].chord == "Am"
    changes = [after.beat for before, after in itertools.pairwise(heard) if before.chord != after.chord]
    assert changes[0] - line in (pytest.approx(0, abs=0.3), pytest.approx(4, abs=0.3))
    assert 2 <= changes[0] - heard[0].beat <= 6.1
    assert changes[1] - changes[0] == pytest.approx(4, abs=0.3)


@pytest.mark.parametrize("form", ["none", "song"])
def test_later_steers_do_not_restart_the_chords(form: str) -> None:
    """Whatever is steered, also before the last change is heard: other clips, another path, or only the vocoder."""
    made = sim(form)
    made.run(11)
    made.steer("1", chords="Am F C G Dm E Bdim", at="bar")
    made.run(9)
    made.steer("2", energy=0.9, at="bar")
    made.run(5)
    made.steer("3", "techno", at="bar")
    made.run(0.3)
    made.steer("4", guidance=4.0, at="bar")
    made.run(4)
    made.steer("5", prompts=None)
    made.run(5)
    made.steer("6", key=2.0)
    made.run(5)
    made.kill()
    made.restart()
    made.run(12)
    first = made.applied("1") + 2000
    row = ["Am", "F", "C", "G", "Dm", "E", "Bdim"]
    chords = [made.timeline.now(first + bar * 96_000).chord for bar in range(18)]
    moved = ["Bm", "G", "D", "A", "Em", "F#", "C#dim"]
    assert all(chord in (row[bar % 7], moved[bar % 7]) for bar, chord in enumerate(chords)), chords


def test_chords_are_written_as_they_sound_and_follow_a_later_key() -> None:
    made = sim("none", key=2.0)
    made.run(11)
    made.steer("1", chords="Bm G D A", at="bar")
    made.run(8)
    job = made.jobs[-1]
    plans = job.spec.bars(2, job.key)
    assert plans is not None
    assert {chord.classes[0] for bar in plans for chord in bar.chords if chord} <= {9, 5, 0, 7}  # Am F C G
    made.steer("2", key=-1.0, at="bar")
    made.run(8)
    assert made.timeline.target().chords == "G#m E B F#"
    assert {bar.chords for job in made.jobs[-2:] for bar in job.spec.plan} <= {"Am", "F", "C", "G"}
    made.steer("3", chords=None)
    made.run(4)
    assert made.timeline.target().chords is None


def test_given_chords_stay_in_their_key_where_the_plan_would_modulate() -> None:
    score = Score.of(StationConfig(), INFO, wander(11))
    here = score.spec(0, 0.0, 0)
    steered = score.steer(protocol.Steer(id="1", chords="Am F"), Here(here, 0.0, 4.0)).score.anchored(0)
    key = score.transposition(here)
    assert {steered.transposition(steered.spec(n, 0.0, 2 * n)) for n in range(400)} == {key}


def test_levels_replace_the_plan_and_null_returns_to_it() -> None:
    made = sim()
    made.run(6)
    made.steer("1", parts=PartsChange(drums=0.25, bass=1.0), energy=0.9)
    made.run(6)
    job = made.jobs[-1]
    plan = job.spec.bars(2, job.key)
    assert plan is not None
    assert plan[0].parts is not None
    assert (plan[0].parts["drums"], plan[0].parts["bass"], plan[0].energy) == (0.25, 1.0, 0.9)
    state = made.timeline.target()
    assert state.parts == protocol.Parts(drums=0.25, bass=1.0)
    made.steer("2", "techno")
    made.run(6)
    made.steer("3", parts=PartsChange(bass=None), energy=None)
    made.run(6)
    state = made.timeline.target()
    assert (state.parts, state.energy) == (protocol.Parts(drums=0.25), None)
    made.steer("4", parts=None)
    made.run(6)
    assert made.timeline.target().parts is None
    job = made.jobs[-1]
    assert job.spec.start.parts is None
    assert job.spec.start.energy is None


def test_words_let_parts_rest_until_somebody_sets_a_level() -> None:
    made = sim()
    made.run(6)
    assert made.timeline.target().rests is None

    def drums() -> float | None:
        plan = made.jobs[-1].spec.bars(2, made.jobs[-1].key)
        assert plan is not None
        return (plan[-1].parts or {}).get("drums")

    made.steer("1", "rock, no drums")
    made.run(6)
    assert made.timeline.target().rests == protocol.Rests(drums="no drums")
    assert drums() == 0.0
    made.steer("2", parts=PartsChange(drums=0.8))
    made.run(6)
    assert (made.timeline.target().rests, drums()) == (None, 0.8)
    made.steer("3", parts=PartsChange(drums=None))
    made.run(6)
    assert (made.timeline.target().rests, drums()) == (protocol.Rests(drums="no drums"), 0.0)
    made.steer("4", "rock", negative="bass, vocals")
    made.run(6)
    assert made.timeline.target().rests == protocol.Rests(bass="negative prompt: bass")
    assert made.timeline.now(made.timeline.playout.committed).state.rests is not None


def test_words_are_no_conditions_for_a_model_without_any() -> None:
    made = Sim()
    made.run(3)
    made.steer("1", "rock, no drums")
    made.run(6)
    assert made.answers("1") == ["Scheduled", "Applied"]
    assert made.timeline.target().rests is None


def test_a_steered_prompt_opens_in_a_full_section() -> None:
    made = sim()
    made.run(10)
    made.steer("1", "hard rock")
    made.run(10)
    now = made.timeline.now(made.applied("1") + 4800)
    assert now.section == "chorus"
    assert now.chord is not None
    assert now.chord.endswith("5")


def test_the_form_continues_after_a_steer_of_other_fields() -> None:
    made = sim()
    made.run(21)
    made.steer("1", guidance=4.0, at="bar")
    made.run(15)
    form = made.timeline.score.form
    assert form is not None
    for seconds in range(1, 35, 2):
        now = made.timeline.now(seconds * 48_000)
        bar = int((now.beat + 1e-6) // 4)
        assert (now.section, now.section_bar) == (form.section(bar).name, bar - form.section(bar).start + 1)


def test_forms_can_be_chosen_and_left() -> None:
    made = sim("none")
    made.run(5)
    assert made.timeline.target().form == "none"
    for number, form in enumerate(FORMS):
        made.steer(f"{number}", form=form)
        made.run(6)
        assert made.timeline.target().form == form
        assert bool(made.timeline.now(made.timeline.playout.committed - 9600).section) == (form != "none")
    made.transport("reset")
    made.run(6)
    state = made.timeline.target()
    assert (state.form, state.steered) == ("none", False)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"chords": "Am F C G"}, "chords"),
        ({"parts": PartsChange(drums=0)}, "parts"),
        ({"energy": 0.5}, "energy"),
        ({"density": 0.5}, "density"),
        ({"brightness": 0.5}, "brightness"),
        ({"form": "song"}, "form"),
    ],
)
def test_a_model_without_conditions_rejects_them_by_name(fields: dict[str, object], field: str) -> None:
    made = Sim()
    made.run(3)
    made.steer("1", "other words", **fields)
    made.run(3)
    (reply,) = made.replies
    assert isinstance(reply, protocol.Rejected)
    assert (reply.code, reply.field) == ("bad_request", field)
    assert "the model tone" in reply.message
    assert made.timeline.target().prompts[0].text == "first"  # nothing has changed
    made.steer("2", chords=None, parts=None, energy=None, form="none")
    assert made.answers("2") == ["Scheduled", "Applied"]


@pytest.mark.parametrize("chords", ["H7", "Am /", "C D E F G / A / B", "Am " * 65])
def test_wrong_chords_are_rejected_and_the_music_goes_on(chords: str) -> None:
    made = sim()
    made.run(3)
    made.steer("1", chords=chords)
    made.run(3)
    (reply,) = made.replies
    assert isinstance(reply, protocol.Rejected)
    assert (reply.code, reply.field) == ("bad_request", "chords")


def test_chords_of_a_journey_are_planned_in_its_key_and_win_over_the_form() -> None:
    journey = Journey.from_dict(
        {"form": "song", "keyframe": [{"prompt": "pop", "chords": "Bm G D A", "key": 2, "stay": 40}]}
    )
    made = sim(None, journey)
    made.run(20)
    now = [made.timeline.now(1000 + bar * 96_000) for bar in range(6)]
    assert [each.chord for each in now] == ["Bm", "G", "D", "A", "Bm", "G"]
    assert now[0].section == "intro"
    assert now[0].state.chords == "Bm G D A"
    assert {bar.chords for job in made.jobs for bar in job.spec.plan} == {"Am", "F", "C", "G"}
    made.steer("1", key=0.0, at="bar")
    made.run(8)
    assert made.timeline.now(made.applied("1") + 4800).state.chords == "Am F C G"
    assert {bar.chords for job in made.jobs for bar in job.spec.plan} == {"Am", "F", "C", "G"}


def test_a_journey_with_chords_plays_without_them_on_a_model_of_words() -> None:
    journey = Journey.from_dict({"keyframe": [{"prompt": "pop", "chords": "Am F", "energy": 0.2}, {"prompt": "dub"}]})
    made = Sim(journey=journey)
    made.run(8)
    assert made.blocks
    assert all(job.spec.start.chords is None and job.spec.start.energy is None for job in made.jobs)
    state = made.timeline.target()
    assert (state.chords, state.energy, state.form) == (None, None, "none")
    assert state.form_reason == "the model tone takes words alone: chords, energy of the journey are left out"


def test_journeys_carry_their_form() -> None:
    journey = Journey.from_dict({"form": "dj", "keyframe": [{"prompt": "techno"}]})
    assert Journey.from_dict(journey.to_dict()) == journey
    assert Score.of(StationConfig(), INFO, journey).wanted_form == "dj"
    assert Score.of(StationConfig(form="ambient"), INFO, journey).wanted_form == "ambient"
    with pytest.raises(ParameterError, match="song, dj, ambient, none"):
        Journey.from_dict({"form": "opera", "keyframe": [{"prompt": "techno"}]})


def test_bars_of_three_beats_are_planned_too() -> None:
    made = sim(beats_per_bar=3)
    made.run(20)
    now = made.timeline.now(15 * 48_000)
    assert now.section_bar == int(now.beat // 3) % (now.section_bars or 1) + 1
    assert all(len(job.spec.plan) == 2 for job in made.jobs)


def test_the_form_follows_a_metre_that_changes() -> None:
    made = sim()
    made.run(14)
    before = made.timeline.now(12 * 48_000)
    made.steer("1", beats_per_bar=3)
    made.run(20)
    start = made.applied("1") + 2000
    heard = [made.timeline.now(start + n * 72_000) for n in range(10)]  # a bar of three at 120 bpm
    form = made.timeline.score.form
    assert form is not None
    bars = []
    for now in heard:
        assert now.state.beats_per_bar == 3
        section = next(each for each in (form.section(n) for n in range(40)) if each.name == now.section)
        bars.append(section.start + (now.section_bar or 0) - 1)
    assert bars == list(range(bars[0], bars[0] + 10))
    first = form.section(0).start + (before.section_bar or 0) - 1
    assert first < bars[0] <= first + 3


def test_a_plan_survives_the_log() -> None:
    made = sim()
    made.run(10)
    job = made.jobs[-1]
    again = msgspec.json.decode(msgspec.json.encode(job), type=type(job))
    assert again.spec.plan == job.spec.plan
    assert again.spec.bars(2, job.key) == job.spec.bars(2, job.key)


def test_names_agree_with_the_protocol() -> None:
    assert tuple(PartsChange.__struct_fields__) == PARTS == tuple(protocol.Parts.__struct_fields__)
    for form in FORMS:
        text = f'{{"type":"steer","id":"1","form":"{form}"}}'
        assert protocol.decode_client(text) == protocol.Steer(id="1", form=form)
    assert parse_bars("Am F C G")
    assert Info(model="x").conditions is False
