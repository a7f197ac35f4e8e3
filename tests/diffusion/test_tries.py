"""First steps that try several noises: which clips do, what they cost, and that the chosen one goes on."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from riffstream.diffusion.clip import ClipRequest
from riffstream.diffusion.engine import Engine
from riffstream.diffusion.family import TextEmbedding
from riffstream.diffusion.mini.family import MiniFamily
from riffstream.diffusion.past import Past
from riffstream.errors import ParameterError
from riffstream.journey.conditions import SIZE
from riffstream.journey.journey import ClipSpec, Keyframe

STEPS, TRIES = 2, 4
PARTS = {"drums": 0.0}


class FakeEar:
    """An ear that prefers one try."""

    identity = "fake"

    def __init__(self, best: int) -> None:
        self.best = best
        self.heard: list[tuple[Tensor, Tensor | None, Tensor | None]] = []

    def fit(self, clips: Tensor, vector: Tensor | None, conditions: Tensor | None) -> Tensor:
        self.heard.append((clips, vector, conditions))
        return -(torch.arange(len(clips)) - self.best).abs().float()


@pytest.fixture
def family() -> MiniFamily:
    return MiniFamily.random(conditions=SIZE)


@pytest.fixture(scope="module")
def shipped() -> MiniFamily:
    return MiniFamily.load(dtype=torch.float32)


def request(prompt: str = "slow piano", seed: int = 1, **rest: Any) -> ClipRequest:
    given = {name: rest.pop(name) for name in ("parts", "guidance", "energy") if name in rest}
    keyframe = Keyframe.of(prompt, seed=seed, **given)
    return ClipRequest(ClipSpec(keyframe, keyframe, 0.0), **rest)


def hearing(family: MiniFamily, best: int) -> FakeEar:
    family.ear = ear = FakeEar(best)
    return ear


def test_the_first_try_is_the_clip_without_an_ear(family: MiniFamily) -> None:
    plain = Engine(family, steps=STEPS).render(request())
    ear = hearing(family, 0)
    clip = Engine(family, steps=STEPS).render(request())
    assert torch.equal(clip.latents, plain.latents)
    assert (plain.evaluations, clip.evaluations) == (STEPS, STEPS + TRIES - 1)
    ((clips, vector, conditions),) = ear.heard
    assert clips.shape == (TRIES, *family.latent_shape())
    assert vector is not None
    assert float(vector.norm()) == pytest.approx(1, abs=1e-5)
    assert conditions is None


def test_the_chosen_try_goes_on(family: MiniFamily) -> None:
    made = []
    for best in range(TRIES):
        hearing(family, best)
        made.append(Engine(family, steps=STEPS).render(request(parts=PARTS)).latents)
    assert all(not torch.allclose(one, other, atol=1e-2) for one, other in pairwise(made))


def test_the_ear_gets_the_first_estimates(family: MiniFamily) -> None:
    """With a single step the estimate of the chosen noise is the clip."""
    ear = hearing(family, 2)
    clip = Engine(family, steps=1).render(request())
    torch.testing.assert_close(ear.heard[0][0][2], clip.latents, atol=1e-5, rtol=1e-5)


def test_the_choice_does_not_depend_on_the_other_clips(shipped: MiniFamily) -> None:
    requests = [request(prompt, seed, parts=PARTS) for seed, prompt in enumerate(("techno", "slow piano", "waltz"))]
    alone = [Engine(shipped).render(each).latents for each in requests]
    engine, together = Engine(shipped), {}
    for each in requests:
        engine.submit(each)
    while engine.pending:
        together |= {id(clip.request): clip.latents for clip in engine.tick()}
    for each, latents in zip(requests, alone, strict=True):
        torch.testing.assert_close(together[id(each)], latents, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize(("guidance", "evaluations"), [(1.0, STEPS + TRIES - 1), (3.0, 2 * STEPS + TRIES - 1)])
def test_a_guided_clip_chooses_first(family: MiniFamily, guidance: float, evaluations: int) -> None:
    plain = Engine(family, steps=STEPS).render(request(guidance=guidance))
    hearing(family, 0)
    clip = Engine(family, steps=STEPS).render(request(guidance=guidance))
    assert clip.evaluations == evaluations
    assert torch.equal(clip.latents, plain.latents)


def test_a_draft_tells_its_clip_the_try(family: MiniFamily) -> None:
    """The clip is the same, without further tries, and other clips with the number of a try are refused."""
    hearing(family, 2)
    chosen = Engine(family, steps=STEPS).render(request(parts=PARTS))
    ear = hearing(family, 1)
    again = Engine(family, steps=STEPS).render(request(parts=PARTS, turn=chosen.turn))
    assert (chosen.turn, again.turn) == (2, 2)
    assert torch.equal(again.latents, chosen.latents)
    assert (again.evaluations, ear.heard) == (STEPS, [])
    with pytest.raises(ParameterError, match="turn"):
        request(turn=-1)
    with pytest.raises(ParameterError, match="turn is 4; allowed: 0 to 3"):
        Engine(family, steps=STEPS).submit(request(turn=TRIES))


def test_clips_that_go_on_do_not_try(family: MiniFamily) -> None:
    ear = hearing(family, 1)
    engine = Engine(family, steps=STEPS)
    first = engine.render(request(parts=PARTS))
    assert len(ear.heard) == 1
    assert engine.render(request(parts=PARTS, previous=first.latents)).evaluations == STEPS
    changed = {"anew": True, "recalled": first.latents, "late": 0.8, "previous": first.latents}
    assert engine.render(request(parts=PARTS, **changed)).evaluations == STEPS + TRIES - 1
    assert ear.heard[-1][1] is None, "the sound has the style of the words"
    assert engine.render(request(energy=0.3, **changed)).evaluations == STEPS, "levels do not count"
    assert engine.render(request(**changed)).evaluations == STEPS, "nothing is asked"
    assert engine.render(request("", previous=None)).evaluations == STEPS, "nothing is asked"


def test_a_seed_image_does_not_try(family: MiniFamily) -> None:
    hearing(family, 1)
    seeded = request(parts=PARTS, seed_image=torch.zeros(family.latent_shape()))
    assert Engine(family, steps=STEPS).render(seeded).evaluations == STEPS


def test_each_try_may_open_with_another_sound(shipped: MiniFamily, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clip goes on with the sound of its try: the network continues it, and it is the origin of later clips."""
    opened, continued = set(), []
    denoise = shipped.denoise

    def spy(x: Tensor, t: Tensor, text: TextEmbedding, **extra: Any) -> Tensor:
        continued.append(extra["previous"])
        return denoise(x, t, text, **extra)

    monkeypatch.setattr(shipped, "denoise", spy)
    for best in range(TRIES):
        monkeypatch.setattr(shipped, "ear", FakeEar(best))
        clip = Engine(shipped, steps=STEPS).render(request("warm pads", parts={"lead": 0.0}))
        assert clip.opening is not None
        opened.add(clip.opening.sounds)
        assert torch.equal(continued[-1][0], clip.opening.latents)
        past = Past.after(None, clip.request.spec, clip.latents, clip.mel, shipped, opening=clip.opening)
        assert torch.equal(past.own.origin.latents, clip.opening.latents)
        again = Engine(shipped, steps=STEPS).render(request("warm pads", parts={"lead": 0.0}, turn=best))
        assert torch.equal(again.latents, clip.latents)
    assert len(opened) > 1
