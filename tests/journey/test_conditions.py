"""Conditions from keyframes to the network: their layout, what is refused, and clips with and without them together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from riffstream.diffusion.clip import ClipRequest
from riffstream.diffusion.engine import Engine
from riffstream.diffusion.mini.denoiser import Denoiser, DenoiserConfig
from riffstream.diffusion.mini.family import WEIGHTS, MiniFamily
from riffstream.diffusion.mini.files import load_module, read_config, read_tensors
from riffstream.errors import CheckpointError, ParameterError
from riffstream.journey import conditions as layout
from riffstream.journey.chords import Chord
from riffstream.journey.conditions import SIZE, BarPlan, lay_out
from riffstream.journey.form import PlannedBar
from riffstream.journey.journey import ClipSpec, Journey, Keyframe


def _given(numbers: np.ndarray) -> set[str]:
    flags = {"chord": layout.CHORD, "density": layout.DENSITY, "energy": layout.ENERGY,
             "brightness": layout.BRIGHTNESS, "form": layout.FORM}  # fmt: skip
    found = {name for name, where in flags.items() if numbers[:, where.stop - 1].any()}
    parts = numbers[:, layout.PARTS_GIVEN].any(0)
    return found | {part for part, given in zip(layout.PARTS, parts, strict=True) if given}


def test_a_bar_lies_on_its_columns() -> None:
    first = BarPlan([Chord.parse("Am"), Chord.parse("F/C")], parts={"drums": 0.0, "pad": 0.5})
    numbers = lay_out([first, BarPlan(density=0.25, starts=True, ends=False, fill=True)], 16, 4)
    assert numbers.shape == (16, SIZE)
    assert numbers.dtype == np.float32
    assert np.flatnonzero(numbers[0, :12]).tolist() == [0, 4, 9]
    assert np.flatnonzero(numbers[3, 12:24]).tolist() == [9]
    assert np.flatnonzero(numbers[4, :12]).tolist() == [0, 5, 9]
    assert np.flatnonzero(numbers[7, 12:24]).tolist() == [0]
    assert _given(numbers[:8]) == {"chord", "drums", "pad"}
    assert _given(numbers[8:]) == {"density", "form"}
    assert numbers[0, layout.PARTS_LEVEL].tolist() == [0, 0, 0, 0.5, 0, 0]
    assert numbers[8:, layout.FORM].T.tolist() == [[1, 1] + 6 * [0], 8 * [0], 6 * [0] + [1, 1], 8 * [1]]


def test_nothing_asked_is_all_zeros() -> None:
    assert not lay_out([BarPlan(), BarPlan()], 12, 3).any()
    assert not BarPlan([None]).numbers(8, 4).any()


def _spec(alpha: float = 0.0, index: int = 0, **fields: object) -> ClipSpec:
    keyframe = Keyframe.of("piano", **fields)
    return ClipSpec(keyframe, keyframe, alpha, index)


def test_the_row_of_chords_goes_on_from_clip_to_clip() -> None:
    spec = Journey.single("piano", chords="Am F C")
    symbols = []
    for index in range(3):
        plans = spec.clip(index).bars(2, 0)
        assert plans is not None
        symbols += [plan.chords[0].symbol for plan in plans if plan.chords[0] is not None]
    assert symbols == ["Am", "F", "C", "Am", "F", "C"]


def test_chords_are_meant_as_they_sound() -> None:
    """In D major (two semitones up) a D is the model's C."""
    plans = _spec(chords="D G/B").bars(2, 2.0)
    assert plans is not None
    assert [(plan.chords[0].root, plan.chords[0].bass) for plan in plans if plan.chords[0]] == [(0, 0), (5, 9)]


def test_between_keyframes_levels_move_and_chords_change_half_way() -> None:
    start = Keyframe.of("a", chords="C", parts={"drums": 0, "pad": 1}, energy=0.2)
    end = Keyframe.of("b", chords="F", parts={"drums": 1}, energy=0.6, density=1)
    early, late = (ClipSpec(start, end, alpha).bars(1, 0) for alpha in (0.25, 0.75))
    assert early is not None
    assert late is not None
    assert (early[0].chords[0], late[0].chords[0]) == (Chord.parse("C"), Chord.parse("F"))
    assert early[0].parts == {"drums": 0.25, "pad": 1}
    assert late[0].parts == {"drums": 0.75}
    assert early[0].energy == pytest.approx(0.3)
    assert (early[0].density, late[0].density) == (None, 1)
    assert _spec().bars(2, 0) is None


def test_a_clip_tells_the_parts_that_rest_at_both_ends() -> None:
    rests, plays = PlannedBar(parts=(("drums", 0.0),)), PlannedBar(energy=0.5)
    none, drums = frozenset[str](), frozenset({"drums"})
    assert replace(_spec(), plan=(rests, plays)).resting(2) == (drums, none)
    assert replace(_spec(), plan=(plays, rests)).resting(2) == (none, drums)
    assert _spec().resting(2) == (none, none)
    assert _spec(parts={"drums": 0.1, "bass": 0.5}).resting(2) == (drums, drums)
    assert replace(_spec(parts={"drums": 0.5}), plan=(rests, rests)).resting(2) == (none, none), "keyframes come first"


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"chords": "Am Hx"}, "chords"),
        ({"parts": {"drumz": 0}}, "parts"),
        ({"parts": {"drums": 2}}, "parts.drums"),
        ({"parts": "drums"}, "parts"),
        ({"energy": 1.5}, "energy"),
        ({"density": -1}, "density"),
        ({"brightness": "high"}, "brightness"),
    ],
)
def test_bad_fields_are_named(given: dict[str, object], field: str) -> None:
    with pytest.raises(ParameterError) as error:
        Keyframe.of("piano", **given)
    assert error.value.field == field


def test_keyframes_survive_json_and_toml() -> None:
    keyframe = Keyframe.of("piano", chords="Am F", parts={"lead": 0.5, "drums": 0}, energy=0.5, brightness=1)
    plain = keyframe.to_dict()
    assert plain["parts"] == {"drums": 0, "lead": 0.5}
    assert Keyframe.from_dict(plain) == keyframe
    assert hash(keyframe) == hash(Keyframe.from_dict(plain))
    table = {"keyframe": [{"prompt": "piano", "chords": "Am F", "parts": {"drums": 0}, "density": 0.2}]}
    assert Journey.from_dict(table).stops[0].keyframe.parts == (("drums", 0.0),)


def test_a_model_without_conditions_refuses_them_by_name() -> None:
    engine = Engine(MiniFamily.random())
    for fields, field in (({"chords": "Am F"}, "chords"), ({"energy": 0.4}, "energy")):
        with pytest.raises(ParameterError, match="words alone") as error:
            engine.submit(ClipRequest(_spec(**fields)))
        assert error.value.field == field
    with pytest.raises(ParameterError, match="conditions"):
        engine.submit(ClipRequest(_spec(), conditions=np.zeros((16, SIZE), np.float32)))


@pytest.fixture(scope="module")
def conducted() -> MiniFamily:
    return MiniFamily.random(conditions=SIZE)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_clips_with_and_without_conditions_share_a_batch(conducted: MiniFamily, guidance: float) -> None:
    plain = ClipRequest(_spec(guidance=guidance), steps=3)
    asked = ClipRequest(_spec(guidance=guidance, chords="F / G C", parts={"drums": 0}), steps=3)
    alone = [Engine(conducted).render(request).latents for request in (plain, asked)]
    engine = Engine(conducted)
    tickets = [engine.submit(request) for request in (asked, plain)]
    while engine.pending:
        engine.tick()
    together = [ticket.clip.latents for ticket in reversed(tickets) if ticket.clip is not None]
    for one, both in zip(alone, together, strict=True):
        assert torch.allclose(one, both, atol=1e-5)
    assert (alone[0] - alone[1]).abs().max() > 1e-2


def test_a_request_s_own_conditions_stand_in_for_the_keyframes(conducted: MiniFamily) -> None:
    spec = _spec(chords="F G")
    plans = spec.bars(2, 0)
    assert plans is not None
    numbers = lay_out(plans, 16, 4)
    engine = Engine(conducted, steps=2)
    by_keyframe = engine.render(ClipRequest(spec)).latents
    by_request = engine.render(ClipRequest(_spec(), conditions=numbers)).latents
    assert torch.equal(by_keyframe, by_request)
    with pytest.raises(ParameterError, match="conditions"):
        engine.submit(ClipRequest(_spec(), conditions=numbers[:12]))


def test_words_are_the_same_condition_as_a_level(conducted: MiniFamily) -> None:
    engine = Engine(conducted, steps=2)
    said = Keyframe.of("piano, no drums", seed=3)
    asked = replace(said, parts={"drums": 0.0})
    by_words, by_level = (engine.render(ClipRequest(ClipSpec(k, k, 0.0))).latents for k in (said, asked))
    assert torch.equal(by_words, by_level)
    loud = replace(said, parts={"drums": 1.0})
    assert not torch.equal(by_words, engine.render(ClipRequest(ClipSpec(loud, loud, 0.0))).latents)


@pytest.mark.parametrize(("conditions", "prompt"), [(0, "piano, no drums"), (SIZE, "piano with soft drums")])
def test_without_conditions_and_without_such_words_no_bit_changes(
    conditions: int, prompt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(MiniFamily.random(conditions=conditions), steps=2)
    keyframe = Keyframe.of(prompt, seed=3, negative="" if conditions else "drums")
    request = ClipRequest(ClipSpec(keyframe, keyframe, 0.0))
    now = engine.render(request).latents
    monkeypatch.setattr(Keyframe, "rests", ())
    assert torch.equal(now, engine.render(request).latents)


def test_waltzes_have_twelve_columns(conducted: MiniFamily) -> None:
    engine = Engine(conducted, steps=2)
    asked = engine.render(ClipRequest(_spec(chords="F G"), frames=384)).latents
    plain = engine.render(ClipRequest(_spec(), frames=384)).latents
    assert asked.shape[-1] == 24
    assert not torch.equal(asked, plain)


def test_the_sounding_key_of_a_request_moves_its_chords(conducted: MiniFamily) -> None:
    engine = Engine(conducted, steps=2)
    here = engine.render(ClipRequest(_spec(chords="C F"))).latents
    moved = engine.render(ClipRequest(_spec(chords="D G"), key=2.0)).latents
    assert torch.equal(here, moved)


def _small(**change: int) -> Denoiser:
    torch.manual_seed(0)
    sizes = {"channels": 4, "width": 16, "layers": 2, "heads": 2, "mlp": 32, "text_width": 16, "context": 2}
    denoiser = Denoiser(DenoiserConfig(**{**sizes, **change}))
    for parameter in denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return denoiser.eval()


def test_a_model_that_learns_conditions_begins_as_it_was() -> None:
    plain = _small()
    grown = plain.with_conditions(SIZE).eval()
    x, t, tokens = torch.randn(2, 4, 16, 32), torch.rand(2), torch.randn(2, 5, 16)
    with torch.no_grad():
        before = plain(x, t, tokens)
        assert torch.equal(before, grown(x, t, tokens))
        assert torch.equal(before, grown(x, t, tokens, conditions=torch.rand(2, 16, SIZE)))
        torch.nn.init.normal_(grown.conditions_in.weight)
        assert torch.equal(before, grown(x, t, tokens, conditions=torch.zeros(2, 16, SIZE)))
        assert not torch.allclose(before, grown(x, t, tokens, conditions=torch.rand(2, 16, SIZE)))
        assert torch.equal(before, grown.with_conditions(0).eval()(x, t, tokens))
    assert grown.with_conditions(0).config == plain.config


def test_a_saved_model_keeps_its_conditions(tmp_path: Path, conducted: MiniFamily) -> None:
    conducted.save(tmp_path)
    config = read_config(tmp_path / "denoiser", DenoiserConfig)
    assert config.conditions == SIZE
    again = Denoiser(config)
    load_module(again, read_tensors(tmp_path / "denoiser" / WEIGHTS), "denoiser")
    own = conducted.denoiser.conditions_in.weight
    assert torch.allclose(again.conditions_in.weight, own, atol=float(own.abs().max()) / 127)


def test_another_version_s_conditions_are_refused() -> None:
    with pytest.raises(CheckpointError, match="conditions"):
        MiniFamily.random(conditions=SIZE + 1)
