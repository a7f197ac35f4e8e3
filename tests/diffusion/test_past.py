"""The past of a take: which sound the next clip continues. What the network makes of it: ``test_model_renderer.py``."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from riffstream.diffusion.clip import Opening
from riffstream.diffusion.mini.family import MiniFamily
from riffstream.diffusion.past import EVOLVES, FULLER_DB, LATE, LATE_CHORDS, PHRASE, RENEWAL, SOUNDS, Past
from riffstream.diffusion.removal import without
from riffstream.journey.conditions import SIZE
from riffstream.journey.form import PlannedBar
from riffstream.journey.journey import ClipSpec, Keyframe
from riffstream.journey.prompts import PromptPart
from riffstream.spectrogram.mel import centre_frequencies, treble_db

MEL = torch.rand(2, 256, 512, generator=torch.Generator().manual_seed(2))


def spec(prompt: str, **parts: float) -> ClipSpec:
    keyframe = Keyframe.of(prompt, parts=parts or None)
    return ClipSpec(keyframe, keyframe, 0.0, 0)


@pytest.fixture(scope="module")
def family() -> MiniFamily:
    return MiniFamily.random(conditions=SIZE)


@pytest.fixture
def latents(family: MiniFamily) -> torch.Tensor:
    return torch.randn(3, *family.latent_shape(), generator=torch.Generator().manual_seed(1))


def test_sounds_return_with_their_parts_and_their_prompt(family: MiniFamily, latents: torch.Tensor) -> None:
    past = None
    for row, each in zip(latents, (spec("jazz"), spec("jazz", bass=0.0), spec("jazz", drums=0.0)), strict=True):
        past = Past.after(past, each, row, MEL, family)
    assert past is not None
    assert torch.equal(past.continuation(spec("jazz"), family)["recalled"], latents[0])
    assert torch.equal(past.continuation(spec("jazz", bass=0.0), family)["recalled"], latents[1])
    other = past.continuation(spec("techno"), family)
    assert torch.equal(other["recalled"], latents[2]), "words without a sound of their own continue the newest one"
    assert other["late"] == LATE
    same = past.continuation(spec("techno", drums=0.0), family)
    assert list(same) == ["previous"]
    assert torch.equal(same["previous"], latents[2])


def test_a_clip_goes_back_to_the_sound_with_which_its_music_began(family: MiniFamily, latents: torch.Tensor) -> None:
    opening = torch.ones(family.latent_shape())
    past = Past.after(None, spec("jazz"), latents[0], MEL, family, opening=Opening(opening, (5,)))
    for row in (*latents[1:], *latents):
        more = past.continuation(spec("jazz"), family)
        assert more["previous"] is past.latents
        assert more["origin"] is opening, "however many clips later"
        past = Past.after(past, spec("jazz"), row, MEL, family)
    # A steer of chords keeps it: its first clip is late, the later ones are plain.
    assert "origin" not in past.opening(spec("jazz"), family)
    past = Past.after(past, spec("jazz"), latents[0], MEL, family, steered=True)
    assert past.continuation(spec("jazz"), family)["origin"] is opening
    # Where the drums rest, the first clip without them is the origin; with them the opening sound comes back.
    resting = spec("jazz", drums=0.0)
    assert "origin" not in past.continuation(resting, family)
    past = Past.after(past, resting, latents[1], MEL, family)
    past = Past.after(past, resting, latents[2], MEL, family)
    assert torch.equal(past.continuation(resting, family)["origin"], latents[1])
    back = past.continuation(spec("jazz"), family)
    assert torch.equal(back["recalled"], latents[0])
    assert back["origin"] is opening
    # A new level is decided near noise too.
    assert "origin" not in past.continuation(levelled(energy=0.9), family)
    alone = Past.after(None, spec("jazz"), latents[0], MEL, family)
    assert torch.equal(alone.continuation(spec("jazz"), family)["origin"], latents[0]), "from noise: the first clip"


@pytest.mark.parametrize(("travel", "renewed"), [(4, [1, 2, 3, 4]), (16, [4, 8, 12, 16]), (3, [1, 2, 3])])
def test_on_the_way_to_other_words_the_origin_goes_along(family: MiniFamily, travel: int, renewed: list[int]) -> None:
    jazz, techno = Keyframe.of("jazz"), Keyframe.of("techno")
    past, new = None, []
    for clip in range(travel + 3):
        asked = ClipSpec(jazz, techno, clip / travel) if clip < travel else ClipSpec(techno, techno, 0.0)
        own = torch.full(family.latent_shape(), float(clip))
        if past is not None and "origin" not in past.continuation(asked, family):
            new.append(clip)
        past = Past.after(past, asked, own, MEL, family)
    assert new == renewed
    assert past is not None
    assert float(past.continuation(asked, family)["origin"][0, 0, 0]) == renewed[-1]


def test_another_metre_has_an_origin_of_its_own(family: MiniFamily) -> None:
    waltz, common = Keyframe.of("piano", beats_per_bar=3), Keyframe.of("piano", beats_per_bar=4)
    opening = torch.ones(family.latent_shape(384))
    past = Past.after(
        None, ClipSpec(waltz, waltz, 0.0), 0 * opening, MEL[..., :384], family, opening=Opening(opening, (5,))
    )
    asked = ClipSpec(waltz, common, 0.5)
    for number in range(3):
        own = torch.full(family.latent_shape(), float(number))
        past = Past.after(past, asked, own, MEL, family, steered=number == 0)
    assert not past.continuation(asked, family)["origin"].any(), "the first clip in 4/4"


def test_parts_that_return_in_another_metre_do_not_recall_its_beats(family: MiniFamily) -> None:
    full, resting = spec("piano"), spec("piano", drums=0.0)
    past = Past.after(None, full, torch.ones(family.latent_shape(384)), MEL[..., :384], family)
    past = Past.after(past, resting, torch.zeros(family.latent_shape()), MEL, family)
    more = past.continuation(full, family)
    assert more["recalled"] is past.latents
    assert more["late"] == LATE


def test_words_that_return_have_an_origin_of_their_own(family: MiniFamily) -> None:
    past = None
    stops = [Keyframe.of("jazz"), Keyframe.of("techno"), Keyframe.of("jazz"), Keyframe.of("jazz")]
    ways = [ClipSpec(a, b, k / 4) for a, b in pairwise(stops) for k in range(4)]
    for number, asked in enumerate(ways):
        past = Past.after(past, asked, torch.full(family.latent_shape(), float(number)), MEL, family)
    assert past is not None
    assert float(past.continuation(ways[-1], family)["origin"][0, 0, 0]) == 8, "not that of the first stop"


def test_music_does_not_fall_back_to_a_thin_beginning(family: MiniFamily, latents: torch.Tensor) -> None:
    """An opening sound may be an intro. The first clip with more treble is the origin from then on."""

    def clip(treble: float) -> torch.Tensor:
        mel = MEL.clone()
        mel[:, 128:] *= 10 ** (treble / 20)
        return mel

    opening, past = Opening(torch.ones(family.latent_shape()), (5,)), None
    origins = []
    for number, treble in enumerate((-40.0, -38.0, -33.0, 0.0, -10.0, 4.0, -60.0, 8.0)):
        own = torch.full(family.latent_shape(), float(number))
        past = Past.after(past, spec("jazz"), own, clip(treble), family, opening=None if number else opening)
        origins.append(float(past.continuation(spec("jazz"), family)["origin"][0, 0, 0]))
    assert origins == [1, 1, 1, 3, 3, 3, 3, 7]  # 30 dB below the clip nothing counts


def test_shares_of_a_mix_of_prompts_are_words_too(family: MiniFamily, latents: torch.Tensor) -> None:
    def mix(strings: float) -> ClipSpec:
        keyframe = Keyframe.of([PromptPart("piano", 1), PromptPart("strings", strings)])
        return ClipSpec(keyframe, keyframe, 0.0)

    past = Past.after(None, mix(1), latents[0], MEL, family)
    assert "origin" in past.continuation(mix(1.5), family)  # 0.6 of the words
    assert "origin" not in past.continuation(mix(3), family)  # 0.75


def test_the_memory_of_a_take_is_bounded(family: MiniFamily, latents: torch.Tensor) -> None:
    past = None
    for number in range(20):
        past = Past.after(past, spec(f"prompt {number}"), latents[0], MEL, family)
    assert past is not None
    assert [texts for (_, texts), _ in past.sounds] == [(f"prompt {k}",) * 2 for k in range(20 - SOUNDS, 20)]


def test_words_that_let_drums_rest_remove_them_like_a_level(family: MiniFamily, latents: torch.Tensor) -> None:
    said, asked = (Past.after(None, each, latents[0], MEL, family) for each in (spec("rock, no drums"), spec("rock")))
    assert (said.resting, asked.resting) == (frozenset({"drums"}), frozenset())
    by_words = asked.opening(spec("rock, no drums"), family)
    by_level = asked.opening(spec("rock", drums=0.0), family)
    assert torch.equal(by_words["recalled"], by_level["recalled"])
    plain = MiniFamily.random()
    assert Past.after(None, spec("rock, no drums"), latents[0], MEL, plain).resting == frozenset()
    assert list(asked.continuation(spec("rock, no drums"), plain)) == list(asked.continuation(spec("pop"), plain))


@pytest.mark.parametrize("parts", [("drums",), ("bass", "lead"), ("drums", "bass"), ("lead",), ()], ids=str)
def test_parts_that_creep_back_in_a_long_rest_are_removed_again(parts: tuple[str, ...], family: MiniFamily) -> None:
    asked = spec("jazz", **dict.fromkeys(parts, 0.0))
    removed = {*parts} & {"drums", "bass"}
    renewed = []
    past = Past.after(None, asked, torch.zeros(family.latent_shape()), MEL, family)
    for number in range(1, 8):
        more = past.continuation(asked, family)
        assert float(more["previous"][0, 0, 0]) == number - 1, "the join is that of the clip before"
        if "recalled" in more:
            renewed.append(number)
            assert torch.equal(more["recalled"], without(family, MEL, removed))
        past = Past.after(past, asked, torch.full(family.latent_shape(), float(number)), MEL, family)
    assert renewed == ([3, 6] if removed else [])


def levelled(**levels: float) -> ClipSpec:
    keyframe = Keyframe.of("jazz", **levels)
    return ClipSpec(keyframe, keyframe, 0.0, 0)


def test_levels_that_change_slowly_add_up(family: MiniFamily, latents: torch.Tensor) -> None:
    """The network keeps the level of the sound that it continues, so a long rise needs late sounds now and then."""
    past, late = None, []
    for step in range(9):
        asked = levelled(energy=0.3 + 0.05 * step)
        late.append(past is not None and "late" in past.continuation(asked, family))
        past = Past.after(past, asked, latents[0], MEL, family)
    assert late == [step > 0 and step % 3 == 0 for step in range(9)]


@pytest.mark.parametrize(
    ("before", "after", "inside", "steered"),
    [
        ({}, {}, False, False),
        ({"energy": 0.5}, {"energy": 0.52}, False, False),
        ({"energy": 0.5}, {"energy": 0.6}, False, True),
        ({"density": 0.5}, {"density": 0.65}, True, True),
        ({"brightness": 0.5}, {}, True, True),
        ({"energy": 0.5}, {"energy": 0.5, "density": 0.5}, True, True),
    ],
)
def test_a_sound_is_late_where_a_level_changes(
    before: dict[str, float],
    after: dict[str, float],
    inside: bool,
    steered: bool,
    family: MiniFamily,
    latents: torch.Tensor,
) -> None:
    past = Past.after(None, levelled(**before), latents[0], MEL, family)
    assert past.continuation(levelled(**after), family).get("late") == (LATE if inside else None)
    assert past.opening(levelled(**after), family)["late"] == (LATE if steered else LATE_CHORDS)


@pytest.mark.parametrize("parts", [{"drums"}, {"bass"}, {"drums", "bass"}], ids=lambda parts: "+".join(sorted(parts)))
def test_drums_and_bass_are_removed_from_a_sound_and_notes_stay(parts: set[str]) -> None:
    family = MiniFamily.load()
    mel = torch.full((2, 256, 512), 0.05)
    hertz = centre_frequencies(family.params)[1:-1]
    low, note = int((hertz - 80).abs().argmin()), int((hertz - 500).abs().argmin())
    mel[:, low : low + 2] = mel[:, note : note + 2] = 20.0
    mel[:, 150:, 32::64] = 20.0  # hits
    before = family.decode_mel(family.encode_mel(mel[None]))[0]
    after = family.decode_mel(without(family, mel, parts)[None])[0]

    def kept(bins: slice) -> float:
        return float(after[:, bins].square().mean() / before[:, bins].square().mean())

    assert kept(slice(note, note + 2)) > 0.7
    assert (kept(slice(170, 256)) < 0.4) == ("drums" in parts)
    assert (kept(slice(low, low + 2)) < 0.1) == ("bass" in parts)


def test_a_steered_take_opens_with_the_sound_and_without_a_join(family: MiniFamily, latents: torch.Tensor) -> None:
    past = Past.after(None, spec("jazz"), latents[0], MEL, family)
    same = past.opening(spec("jazz"), family)
    assert same.pop("recalled") is past.latents
    assert same == {"anew": True, "late": LATE_CHORDS}
    resting = past.opening(spec("jazz", drums=0.0), family)
    assert torch.equal(resting["recalled"], without(family, MEL, {"drums"}))
    assert "previous" not in resting


def test_a_stop_of_a_journey_begins_with_an_opening_sound(
    family: MiniFamily, latents: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    jazz, techno = Keyframe.of("jazz"), Keyframe.of("techno")
    starts, inside = (PlannedBar(section="intro", starts=True),), (PlannedBar(section="intro", starts=False),)
    past = Past.after(None, ClipSpec(jazz, jazz, 0.0), latents[0], MEL, family)
    past = Past.after(past, ClipSpec(jazz, techno, 0.75), latents[1], MEL, family)
    arrived = ClipSpec(techno, techno, 0.0, plan=starts)
    assert list(past.continuation(arrived, family)) == ["previous"], "a model without sounds"
    monkeypatch.setattr(family, "sounds", object())
    begun = past.continuation(arrived, family)
    assert sorted(begun) == ["opens", "previous"]
    assert begun["previous"] is past.latents
    for other in (
        ClipSpec(techno, techno, 0.0, plan=inside),
        ClipSpec(techno, techno, 0.0),
        ClipSpec(jazz, techno, 0.9, plan=starts),
        ClipSpec(jazz, jazz, 0.0, plan=starts),
    ):
        assert "opens" not in past.continuation(other, family), other
    after = Past.after(past, arrived, latents[2], MEL, family)
    assert sorted(after.continuation(arrived, family)) == ["origin", "previous"], "its own words are known then"


def evolves(past: Past | None, asked: ClipSpec, family: MiniFamily) -> tuple[int, ...] | None:
    """Sounds of the origin where it may evolve with the next clip."""
    assert past is not None
    more = past.continuation(asked, family)
    return more["evolves"].sounds if "evolves" in more else None


def played(
    past: Past | None, asked: list[ClipSpec], family: MiniFamily, opening: Opening | None = None, **more: bool
) -> tuple[Past, list[int]]:
    """The past after clips, the first with ``opening``, and the numbers of those that were due to evolve."""
    due = []
    for number, each in enumerate(asked):
        if past is not None and evolves(past, each, family) is not None:
            due.append(number)
        own = torch.full(family.latent_shape(), float(number))
        past = Past.after(past, each, own, MEL, family, opening=opening, **more)
        opening, more = None, {}
    assert past is not None
    return past, due


@pytest.fixture
def with_sounds(family: MiniFamily, monkeypatch: pytest.MonkeyPatch) -> MiniFamily:
    monkeypatch.setattr(family, "sounds", object())
    return family


def test_the_origin_evolves_after_some_clips(with_sounds: MiniFamily) -> None:
    family, asked = with_sounds, spec("jazz")
    shape = family.latent_shape()
    past, due = played(None, [asked] * EVOLVES, family, Opening(torch.ones(shape), (5,)))
    assert due == []
    assert evolves(past, asked, family) == (5,), "another sound than now"
    assert past.continuation(asked, family)["previous"] is past.latents, "the join is that of the clip before"
    # The clip has another origin from then on, and the count begins anew.
    new = Opening(2 * torch.ones(shape), (7,), evolved=True)
    past, due = played(past, [asked] * EVOLVES, family, new)
    assert due == [0]
    assert past.continuation(asked, family)["origin"] is new.latents
    assert evolves(past, asked, family) == (7,)
    # Where there is no other sound, the origin stays, and the next attempt is four clips later.
    past, due = played(past, [asked] * (2 * EVOLVES + 1), family)
    assert due == [0, EVOLVES, 2 * EVOLVES]
    assert past.continuation(asked, family)["origin"] is new.latents


def test_a_stream_from_noise_evolves_to_any_sound(with_sounds: MiniFamily) -> None:
    past, _ = played(None, [spec("jazz")] * EVOLVES, with_sounds)
    assert evolves(past, spec("jazz"), with_sounds) == ()


def test_no_origin_evolves_without_sounds(family: MiniFamily) -> None:
    assert family.sounds is None
    assert played(None, [spec("jazz")] * (3 * EVOLVES), family)[1] == []


@pytest.mark.parametrize("levels", [{}, {"energy": 0.9}, {"chords": "Am F"}, {"parts": {"lead": 0.0}}], ids=str)
def test_after_a_steer_the_origin_does_not_evolve_at_once(levels: dict[str, object], with_sounds: MiniFamily) -> None:
    family = with_sounds
    past, _ = played(None, [spec("jazz")] * (EVOLVES + 1), family)
    keyframe = Keyframe.of("jazz", **levels)
    asked = ClipSpec(keyframe, keyframe, 0.0)
    assert "evolves" not in past.opening(asked, family)
    past, due = played(past, [asked] * (EVOLVES + 1), family, steered=True)
    assert [number for number in due if number] == [EVOLVES]


def test_on_the_way_to_other_words_no_origin_evolves(with_sounds: MiniFamily) -> None:
    jazz, techno = Keyframe.of("jazz"), Keyframe.of("techno")
    way = [ClipSpec(jazz, techno, 0.19 * clip / EVOLVES) for clip in range(EVOLVES + 1)]
    past, due = played(None, way, with_sounds)
    assert due == []
    assert evolves(past, ClipSpec(jazz, jazz, 0.0), with_sounds) == ()


def test_the_origin_evolves_with_a_phrase_of_the_form(with_sounds: MiniFamily) -> None:
    def at(place: int) -> ClipSpec:
        keyframe = Keyframe.of("jazz")
        bars = (PlannedBar(section="verse", place=place), PlannedBar(section="verse", place=place + 1))
        return ClipSpec(keyframe, keyframe, 0.0, plan=bars)

    clips = [at(2 + 2 * clip) for clip in range(12)]
    _, due = played(None, clips, with_sounds)
    assert [clips[number].plan[0].place for number in due] == [2 * PHRASE, 3 * PHRASE]


def test_the_origin_evolves_in_a_long_rest_too(with_sounds: MiniFamily) -> None:
    """The removal of parts that creep back makes the clip the origin, and the count goes on."""
    family, asked = with_sounds, spec("jazz", drums=0.0)
    past, due = played(None, [asked] * EVOLVES, family, Opening(torch.ones(family.latent_shape()), (5,)))
    assert due == []
    assert evolves(past, asked, family) == (5,)
    past, due = played(past, [asked] * (EVOLVES + 1), family)
    assert due == [0, EVOLVES]
    # The first clip of a rest is no clip of a stream.
    past, _ = played(None, [spec("jazz")] * EVOLVES, family)
    assert evolves(past, asked, family) is None


def test_an_origin_with_much_less_treble_is_not_kept(with_sounds: MiniFamily) -> None:
    family, asked = with_sounds, spec("jazz")
    past, _ = played(None, [asked] * EVOLVES, family)
    more = past.continuation(asked, family)
    assert more["evolves"].treble_db == (treble_db(MEL) - FULLER_DB, treble_db(MEL) + FULLER_DB)
    origin = more["origin"]
    for decibels, kept in ((FULLER_DB - 1, False), (FULLER_DB + 1, True)):
        mel = MEL.clone()
        mel[:, 128:] *= 10 ** (-decibels / 20)
        new = Opening(torch.ones(family.latent_shape()), (7,), evolved=True)
        after = Past.after(past, asked, past.latents, mel, family, opening=new)
        assert after.continuation(asked, family)["origin"] is (origin if kept else new.latents)
        assert "evolves" not in after.continuation(asked, family), "the next attempt is later"


def test_nor_is_it_kept_in_a_long_rest(with_sounds: MiniFamily) -> None:
    """A clip from which parts are removed again is the origin otherwise."""
    family, asked, thin = with_sounds, spec("jazz", drums=0.0), MEL.clone()
    thin[:, 128:] *= 10 ** (-(FULLER_DB + 1) / 20)
    past, _ = played(None, [asked] * (EVOLVES * RENEWAL), family)
    assert "recalled" in past.continuation(asked, family), "the parts are removed again"
    assert evolves(past, asked, family) is not None
    origin = past.own.origin.latents
    new = Opening(torch.ones(family.latent_shape()), (7,), evolved=True)
    after = Past.after(past, asked, torch.zeros(family.latent_shape()), thin, family, opening=new)
    assert after.continuation(asked, family)["origin"] is origin


def test_the_parts_of_a_sound_are_no_model_after_a_change_of_levels(with_sounds: MiniFamily) -> None:
    """The origin is a clip then. The sound is still another one than the newest, while the words stay."""
    family, sound = with_sounds, Opening(torch.ones(with_sounds.latent_shape()), (5,))
    past, _ = played(None, [spec("jazz")] * EVOLVES, family, sound)
    next_one = past.continuation(spec("jazz"), family)["evolves"]
    assert (next_one.sounds, next_one.like) == ((5,), 5)
    for words, sounds in (("jazz", (5,)), ("techno", ())):
        keyframe = Keyframe.of(words, energy=0.9)
        louder = ClipSpec(keyframe, keyframe, 0.0)
        after, _ = played(past, [louder] * EVOLVES, family)
        next_one = after.continuation(louder, family)["evolves"]
        assert (next_one.sounds, next_one.like) == (sounds, None)
