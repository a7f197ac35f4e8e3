"""The engine: what a clip depends on and what it does not, who goes first, and what happens when memory runs out.

Tolerance of "does not depend on its batch-mates": 1e-5 of the latent in float32. Batched matrix products of different
sizes round differently; with one batch size the clips are equal bit by bit.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from riffstream.diffusion.batch_limit import RECOVERY
from riffstream.diffusion.clip import NEAR_NOISE, Clip, ClipRequest
from riffstream.diffusion.engine import Engine
from riffstream.diffusion.masks import named_mask
from riffstream.diffusion.mini.family import MiniFamily
from riffstream.diffusion.slots import Ticket
from riffstream.errors import ParameterError, RiffstreamError
from riffstream.journey.journey import ClipSpec, Journey, Keyframe, PromptPart
from tests.diffusion.tiny_family import GaussianFamily, TinyFamily


def spec(prompt: str = "slow piano", seed: int = 1, **rest: object) -> ClipSpec:
    keyframe = Keyframe.of(prompt, seed=seed, **rest)
    return ClipSpec(keyframe, keyframe, 0.0)


def drain(engine: Engine) -> list[Clip]:
    clips: list[Clip] = []
    while engine.pending:
        clips += engine.tick()
    return clips


def far(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


def varied_requests() -> list[ClipRequest]:
    loop = torch.linspace(-1, 1, 8).expand(4, 4, 8)
    return [
        ClipRequest(spec("jazz", 1)),
        ClipRequest(spec("rock guitar", 2), steps=3, sampler="unipc"),
        ClipRequest(spec("techno", 3, guidance=1), sampler="heun"),
        ClipRequest(ClipSpec(Keyframe.of("a", seed=4), Keyframe.of("b c", seed=5), 0.4), sampler="lcm"),
        ClipRequest(spec("bells", 6, denoising=0.5), seed_image=loop, mask="top_half"),
        ClipRequest(spec("bells", 7, negative="noise"), previous=loop, sampler="dpm++"),
        ClipRequest(spec("choir", 8), frames=64),
    ]


def test_a_clip_is_its_request_and_nothing_else() -> None:
    alone = [Engine(TinyFamily()).render(request) for request in varied_requests()]
    engine = Engine(TinyFamily())
    tickets = [engine.submit(request) for request in reversed(varied_requests())][::-1]
    drain(engine)
    for number, (ticket, clip) in enumerate(zip(tickets, alone, strict=True)):
        assert ticket.clip is not None
        assert far(ticket.clip.latents, clip.latents) < 1e-5 * float(clip.latents.abs().max()), number
        assert ticket.clip.mel.shape == (1, 32, clip.request.frames or 128)
        assert ticket.clip.evaluations == clip.evaluations


def test_with_one_batch_size_batch_mates_change_no_bit() -> None:
    """Padded to 16 rows whatever is in progress, one bucket for all."""

    def engine() -> Engine:
        made = Engine(TinyFamily(), pad=True)
        made._limit.buckets = lambda: (16,)  # type: ignore[method-assign]
        return made

    requests = varied_requests()[:6]
    crowd = engine()
    tickets = [crowd.submit(request) for request in requests]
    drain(crowd)
    for ticket, request in zip(tickets, requests, strict=True):
        assert ticket.clip is not None
        assert torch.equal(ticket.clip.latents, engine().render(request).latents)


def test_the_same_seed_gives_the_same_clip_and_another_seed_another() -> None:
    first, again = (Engine(TinyFamily()).render(ClipRequest(spec(seed=9))).mel for _ in range(2))
    assert torch.equal(first, again)
    assert far(first, Engine(TinyFamily()).render(ClipRequest(spec(seed=10))).mel) > 0.1


def test_a_journey_moves_smoothly_from_clip_to_clip() -> None:
    journey = Journey.visit(["slow piano", "rock guitar"], 4, 4, seed=3, drift=4)
    engine = Engine(TinyFamily(), steps=4)
    walk = [engine.render(ClipRequest(journey.clip(i))).latents for i in range(13)]
    near = max(far(a, b) for a, b in itertools.pairwise(walk))
    unrelated = far(walk[0], engine.render(ClipRequest(spec("techno", 99))).latents)
    assert near < unrelated
    assert min(far(a, b) for a, b in itertools.pairwise(walk)) > 0


def test_prompt_mixes_negatives_and_guidance_all_matter() -> None:
    engine = Engine(TinyFamily(), steps=3)

    def latents(**rest: object) -> Tensor:
        return engine.render(ClipRequest(replace(spec(), **rest))).latents

    base = latents()
    mixed = Keyframe((PromptPart("slow piano", 2), PromptPart("rock", 1)), seed=1)
    for other in (
        latents(start=mixed, end=mixed),
        latents(start=Keyframe.of("slow piano", seed=1, negative="noise"), end=Keyframe.of("slow piano", seed=1)),
        latents(start=Keyframe.of("slow piano", seed=1, guidance=8), end=Keyframe.of("slow piano", seed=1)),
        latents(alpha=0.5, end=Keyframe.of("rock", seed=1)),
    ):
        assert far(base, other) > 1e-4


def test_guidance_takes_a_second_row_only_where_it_is_on() -> None:
    family = TinyFamily()
    assert Engine(family).render(ClipRequest(spec(guidance=4))).evaluations == 12
    assert Engine(family).render(ClipRequest(spec(guidance=1))).evaluations == 6
    assert Engine(family).render(ClipRequest(spec(guidance=4), guided=False)).evaluations == 6
    off = Engine(family).render(ClipRequest(spec(guidance=1))).latents
    weak = Engine(family).render(ClipRequest(spec(guidance=1.0001))).latents
    assert far(off, weak) < 1e-3, "guidance fades in continuously from 1"


def test_guidance_above_a_time_takes_second_rows_there_only() -> None:
    family = MiniFamily.random()
    plain, everywhere = (Engine(family).render(ClipRequest(spec(guidance=g))) for g in (1, 3))
    assert (plain.evaluations, everywhere.evaluations) == (8, 16)
    family.defaults = replace(family.defaults, above=0.45)
    early = Engine(family).render(ClipRequest(spec(guidance=3)))
    assert early.evaluations == 8 + 5, "t = 1, 0.875, 0.75, 0.625 and 0.5"
    assert far(early.latents, plain.latents) > 1e-3
    assert far(early.latents, everywhere.latents) > 1e-3
    family.defaults = replace(family.defaults, above=1.0)
    assert torch.equal(Engine(family).render(ClipRequest(spec(guidance=3))).latents, plain.latents)


def test_guidance_against_its_formula() -> None:
    """One Euler step from t = 1 to 0: x - (u + g (c - u))."""
    family = TinyFamily()
    clip = Engine(family, steps=1).render(ClipRequest(spec("jazz", 5, guidance=2.5, negative="noise")))
    x = torch.randn(4, 4, 8, generator=torch.Generator().manual_seed(5))[None]
    cond, uncond = (family.denoise(x, torch.ones(1), family.encode_text([text])) for text in ("jazz", "noise"))
    assert far(clip.latents, (x - (uncond + 2.5 * (cond - uncond)))[0]) < 1e-5


def test_rows_are_packed_not_pairs() -> None:
    family = TinyFamily()
    engine = Engine(family, max_batch=4)
    for seed, guidance in enumerate((4, 1, 1, 4)):
        engine.submit(ClipRequest(spec(seed=seed, guidance=guidance)))
    engine.tick()
    assert family.calls == [4], "two rows of the first, one each of the second and the third"


def test_the_earliest_deadline_goes_first_and_speculation_gives_way() -> None:
    engine = Engine(TinyFamily(guidance=1.0), max_batch=1, steps=2)
    names = {"late": 9.0, "soon": 1.0, "whenever": math.inf}
    for name, deadline in names.items():
        engine.submit(ClipRequest(spec(), deadline=deadline, station=name))
    engine.submit(ClipRequest(spec(), deadline=0.0, speculative=True, station="guess"))
    assert [clip.request.station for clip in drain(engine)] == ["soon", "late", "whenever", "guess"]


def test_a_new_urgent_clip_overtakes_between_two_steps() -> None:
    engine = Engine(TinyFamily(guidance=1.0), max_batch=1, steps=4)
    engine.submit(ClipRequest(spec(), deadline=5.0, station="first"))
    engine.tick()
    engine.submit(ClipRequest(spec(), deadline=1.0, station="urgent"))
    assert [clip.request.station for clip in drain(engine)] == ["urgent", "first"]


def test_speculation_rides_in_rows_that_padding_would_waste() -> None:
    family = TinyFamily(guidance=1.0)
    engine = Engine(family, pad=True, steps=2)
    for station in "abc":
        engine.submit(ClipRequest(spec(), station=station))
    engine.submit(ClipRequest(spec(), speculative=True, station="guess"))
    engine.submit(ClipRequest(spec(), speculative=True, station="second guess"))
    engine.tick()
    assert family.calls == [4]
    assert engine.stats.padded_rows == 0
    done = [clip.request.station for clip in engine.tick()]
    assert done == ["a", "b", "c", "guess"]


def test_padding_goes_up_to_the_next_bucket() -> None:
    family = TinyFamily(guidance=1.0)
    engine = Engine(family, pad=True, steps=1)
    for seed in range(5):
        engine.submit(ClipRequest(spec(seed=seed)))
    engine.tick()
    assert (family.calls, engine.stats.rows, engine.stats.padded_rows) == ([8], 5, 3)


def test_cancelled_clips_stop_between_steps() -> None:
    family = TinyFamily(guidance=1.0)
    engine = Engine(family, steps=4)
    ticket = engine.submit(ClipRequest(spec()))
    engine.tick()
    assert engine.cancel(ticket)
    assert not engine.cancel(ticket)
    assert (engine.pending, ticket.done, ticket.cancelled, engine.tick()) == (0, True, True, [])
    assert len(family.calls) == 1


def test_text_and_seed_images_are_encoded_once() -> None:
    family = TinyFamily()
    engine = Engine(family, steps=1)
    picture = np.full((32, 128, 3), 90, np.uint8)
    for seed in range(3):
        engine.render(ClipRequest(spec("jazz", seed), seed_image=picture.copy()))
    assert family.texts == 2, "the prompt and the empty one"
    assert family.encoded == 1


def test_denoising_goes_from_the_seed_image_to_all_new() -> None:
    family = GaussianFamily()
    engine = Engine(family, steps=40)
    loop = torch.zeros(4, 4, 8)

    def mean(denoising: float) -> float:
        return float(engine.render(ClipRequest(spec(denoising=denoising), seed_image=loop)).latents.mean())

    untouched = engine.render(ClipRequest(spec(denoising=0.0), seed_image=loop))
    assert torch.equal(untouched.latents, loop)
    assert untouched.evaluations == 0
    means = [mean(d) for d in (0.1, 0.4, 0.7, 1.0)]
    assert means == sorted(means)
    assert means[0] < 0.4
    assert means[-1] == pytest.approx(family.mean, abs=0.1)


def test_text_to_clip_ends_in_the_music_the_model_knows() -> None:
    """The exact denoiser maps noise z to mean + spread z: the whole chain, sampler included, has a known answer."""
    family = GaussianFamily()
    clip = Engine(family, steps=200).render(ClipRequest(spec(seed=12)))
    z = torch.randn(4, 4, 8, generator=torch.Generator().manual_seed(12))
    assert far(clip.latents, family.mean + family.spread * z) < 0.05


@pytest.mark.parametrize("kind", ["flow", "ddpm"])
@pytest.mark.parametrize("sampler", ["euler", "heun", "dpm++", "unipc", "lcm", "ddim", "pndm", "euler_a"])
def test_the_kept_region_comes_out_clean_and_is_seen_at_the_right_noise_level(kind: str, sampler: str) -> None:
    family = TinyFamily(kind)
    if kind == "flow" and sampler in ("ddim", "pndm", "euler_a"):
        with pytest.raises(ParameterError, match="sampler"):
            Engine(family, sampler=sampler)
        return
    seen: list[tuple[float, Tensor]] = []
    denoise = family.denoise

    def watch(x: Tensor, t: Tensor, text: object, **rest: object) -> Tensor:
        seen.append((float(t[0]), x[0].clone()))
        return denoise(x, t, text, **rest)  # type: ignore[arg-type]

    family.denoise = watch  # type: ignore[method-assign]
    loop = torch.full((4, 4, 8), 2.0)
    engine = Engine(family, sampler=sampler, steps=8)
    clip = engine.render(ClipRequest(spec(seed=3, denoising=0.75, guidance=1), seed_image=loop, mask="right_half"))
    assert torch.equal(clip.latents[..., :4], loop[..., :4]), "kept as it was, to the bit"
    assert far(clip.latents[..., 4:], loop[..., 4:]) > 0.1
    noise = torch.randn(4, 4, 8, generator=torch.Generator().manual_seed(3))[..., :4]
    table = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000).square(), 0).sqrt()
    for t, x in seen:
        alpha = 1 - t if kind == "flow" else float(np.interp(t, np.arange(1000), table))
        sigma = t if kind == "flow" else math.sqrt(1 - alpha**2)
        assert far(x[..., :4], alpha * 2.0 + sigma * noise) < 2e-3, f"t={t}"


def test_soft_masks_blend() -> None:
    loop = torch.full((4, 4, 8), 2.0)
    engine = Engine(GaussianFamily(), steps=8)
    halves = [
        engine.render(ClipRequest(spec(denoising=0.9), seed_image=loop, mask=np.full((8, 8), m))).latents.mean()
        for m in (0.0, 0.5, 1.0)
    ]
    assert halves[0] > halves[1] > halves[2]


def test_seed_images_cross_over_between_keyframes() -> None:
    class Library:
        def load(self, name: str, family: object) -> Tensor | None:
            return {"low": torch.zeros(4, 4, 4), "high": torch.full((4, 4, 16), 4.0)}.get(name)

    engine = Engine(GaussianFamily(), seeds=Library())
    low = Keyframe.of("a", seed_image="low", denoising=0)
    high = Keyframe.of("a", seed_image="high", denoising=0)
    for alpha in (0.0, 0.25, 1.0):
        assert far(engine.render(ClipRequest(ClipSpec(low, high, alpha))).latents, torch.tensor(4 * alpha)) < 1e-6
    none = Keyframe.of("a")
    assert engine.render(ClipRequest(ClipSpec(low, none, 1.0))).evaluations == 6, "all new at the end without one"
    with pytest.raises(ParameterError, match="seed_image is 'lwo'"):
        engine.submit(ClipRequest(spec(seed_image="lwo")))


def test_continuation_through_the_network() -> None:
    family = TinyFamily()
    engine = Engine(family)
    before = engine.render(ClipRequest(spec(seed=1))).latents
    plain, following = (engine.render(ClipRequest(spec(seed=2), previous=p)) for p in (None, before))
    assert far(plain.latents, following.latents) > 1e-3
    assert following.overlap_frames == 0
    longer = torch.cat([torch.zeros(4, 4, 8), before], -1)
    assert torch.equal(engine.render(ClipRequest(spec(seed=2), previous=longer)).latents, following.latents)


def test_a_late_sound_is_hidden_near_noise() -> None:
    """Parts are decided there. A sound needs no previous clip; the network sees it from a time on."""
    family = TinyFamily()
    seen: list[tuple[float, bool]] = []
    denoise = family.denoise

    def told(x: torch.Tensor, t: torch.Tensor, *rest: object, **more: object) -> torch.Tensor:
        seen.append((float(t[0]), more.get("previous") is not None))
        return denoise(x, t, *rest, **more)  # type: ignore[arg-type]

    family.denoise = told  # type: ignore[method-assign]
    engine = Engine(family, steps=8)
    sound = engine.render(ClipRequest(spec(seed=1))).latents
    for late in (math.inf, 0.9, 0.8):
        seen.clear()
        engine.render(ClipRequest(spec(seed=2), anew=True, recalled=sound, late=late))
        assert [shown for _, shown in seen] == [time <= late for time, _ in seen]
        assert len(seen) == 8
    with pytest.raises(ParameterError, match="recalled is 'latents"):
        engine.submit(ClipRequest(spec(), anew=True, recalled=torch.zeros(3, 4, 8)))


def test_steps_near_noise_continue_the_origin() -> None:
    """Instruments are decided there, so they stay those of the beginning; later steps join the clip to the last one."""
    family = TinyFamily()
    seen: list[tuple[float, float]] = []
    denoise = family.denoise

    def told(x: torch.Tensor, t: torch.Tensor, *rest: object, **more: Any) -> torch.Tensor:
        shown = more.get("previous")
        seen.append((float(t[0]), math.nan if shown is None else float(shown.mean())))
        return denoise(x, t, *rest, **more)  # type: ignore[arg-type]

    family.denoise = told  # type: ignore[method-assign]
    engine = Engine(family, steps=8)
    ones = torch.ones_like(engine.render(ClipRequest(spec(seed=1))).latents)
    for more, last in (
        ({"previous": 2 * ones}, 2.0),
        ({"previous": 2 * ones, "anew": True, "recalled": 3 * ones}, 3.0),
    ):
        seen.clear()
        engine.render(ClipRequest(spec(seed=2), origin=ones, **more))
        assert [level for _, level in seen] == [1.0 if time > NEAR_NOISE else last for time, _ in seen]
        assert [level for _, level in seen].count(1.0) == 2
    seen.clear()  # a late sound is hidden near noise, and so is the origin; without a sound there is none
    engine.render(ClipRequest(spec(seed=2), origin=ones, anew=True, recalled=ones, late=0.8))
    engine.render(ClipRequest(spec(seed=2), origin=ones))
    assert [math.isnan(level) for _, level in seen] == [True, True, *[False] * 6, *[True] * 8]
    with pytest.raises(ParameterError, match="origin is 'latents"):
        engine.submit(ClipRequest(spec(), previous=ones, origin=torch.zeros(3, 4, 8)))
    for more in (
        {"seed_image": ones, "steps": 8},  # a cover follows its song, not its own first clip
        {"origin": ones[..., : ones.shape[2] * 3 // 4]},  # of a clip in 3/4
        {"steps": 1},  # the only step joins the clip
    ):
        seen.clear()
        request: dict[str, Any] = {"previous": 2 * ones, "origin": ones, **more}
        engine.render(ClipRequest(replace(spec(seed=2), start=Keyframe.of("x", denoising=0.95)), **request))
        assert seen, more
        assert seen[0][0] > NEAR_NOISE, more
        assert {level for _, level in seen} == {2.0}, more


@pytest.mark.parametrize("seeded", [False, True])
def test_continuation_by_outpainting(seeded: bool) -> None:
    """For a family that cannot see the clip before: its end is this clip's beginning, and the rest grows out of it."""
    engine = Engine(TinyFamily("ddpm", continues=False), overlap=0.25)
    before = engine.render(ClipRequest(spec(seed=1))).latents
    loop = torch.linspace(-1, 1, 8).expand(4, 4, 8) if seeded else None
    clip = engine.render(ClipRequest(spec(seed=2), previous=before, seed_image=loop))
    assert clip.overlap_frames == 32
    assert torch.equal(clip.latents[..., :1], before[..., -2:-1]), "kept; the second column is half new"
    other = engine.render(ClipRequest(spec(seed=2), previous=-before, seed_image=loop))
    assert far(clip.latents[..., 2:], other.latents[..., 2:]) > 1e-3, "what follows has heard what went before"
    if seeded:
        still = spec(seed=2, denoising=0.05)
        rolled = Engine(GaussianFamily(), steps=20).render(ClipRequest(still, previous=before, seed_image=loop)).latents
        assert loop is not None
        assert float((rolled[..., 2:] - loop[..., :6]).abs().mean()) < 0.3, "the seed's beat goes on after the overlap"


class ShortOfMemory(TinyFamily):
    """Raises as CUDA does above a batch size."""

    room = 3

    def denoise(self, x: Tensor, t: Tensor, text: object, **rest: object) -> Tensor:  # type: ignore[override]
        if len(x) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory (injected)")
        return super().denoise(x, t, text, **rest)  # type: ignore[arg-type]

    def decode_mel(self, latents: Tensor) -> Tensor:
        if len(latents) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory (injected)")
        return super().decode_mel(latents)


def test_running_out_of_memory_lowers_the_batch_and_goes_on() -> None:
    family = ShortOfMemory()
    engine, plenty = Engine(family, steps=2), Engine(TinyFamily(), steps=2)
    tickets = [engine.submit(ClipRequest(spec(seed=seed))) for seed in range(5)]
    assert len(drain(engine)) == 5
    assert max(family.calls) == 2
    assert engine.stats.out_of_memory > 0
    assert engine.stats.failures == 0
    for ticket in tickets:
        assert ticket.clip is not None
        assert far(ticket.clip.latents, plenty.render(ticket.request).latents) < 1e-5


def test_the_batch_recovers_after_a_calm() -> None:
    family = ShortOfMemory()
    engine = Engine(family, steps=RECOVERY // 2 + 1, max_batch=4)
    engine.submit(ClipRequest(spec()))
    engine.submit(ClipRequest(spec()))
    engine.tick()
    assert set(family.calls) == {2}
    family.room = 100
    drain(engine)
    assert set(family.calls) == {2}
    engine.submit(ClipRequest(spec()))
    engine.submit(ClipRequest(spec()))
    engine.tick()
    assert family.calls[-1] == 4


def test_a_clip_too_large_by_itself_fails_alone() -> None:
    family = ShortOfMemory()
    family.room = 0
    engine = Engine(family, steps=2)
    ticket = engine.submit(ClipRequest(spec()))
    engine.tick()
    assert ticket.done
    assert engine.pending == 0
    assert isinstance(ticket.error, RiffstreamError)
    assert "no memory left" in str(ticket.error)
    family.room = 3
    assert engine.render(ClipRequest(spec())).evaluations == 4
    family.decode_mel = lambda latents: (_ for _ in ()).throw(torch.OutOfMemoryError("injected"))  # type: ignore[method-assign]
    with pytest.raises(RiffstreamError, match="decode a single clip"):
        engine.render(ClipRequest(spec()))


class Particular(TinyFamily):
    """Raises where a batch has a certain row: one clip of a batch is at fault."""

    def __init__(self, error: Exception, where: str) -> None:
        super().__init__()
        self.error, self.where = error, where
        self.bad: list[Tensor] = []

    def denoise(self, x: Tensor, t: Tensor, text: object, **rest: object) -> Tensor:  # type: ignore[override]
        if self.where == "denoise" and any(torch.equal(row, bad) for row in x for bad in self.bad):
            raise self.error
        return super().denoise(x, t, text, **rest)  # type: ignore[arg-type]

    def decode_mel(self, latents: Tensor) -> Tensor:
        if self.where == "decode" and any(torch.equal(row, bad) for row in latents for bad in self.bad):
            raise self.error
        return super().decode_mel(latents)


@pytest.mark.parametrize("sampler", ["euler", "lcm"])
@pytest.mark.parametrize("where", ["denoise", "decode"])
@pytest.mark.parametrize("error", [ValueError("odd"), torch.OutOfMemoryError("injected")])
@pytest.mark.parametrize("place", [0, 2])
def test_only_the_clip_that_raises_fails(sampler: str, where: str, error: Exception, place: int) -> None:
    family = Particular(error, where)
    engine, alone = Engine(family, steps=2, sampler=sampler), Engine(TinyFamily(), steps=2, sampler=sampler)
    expected = [alone.render(ClipRequest(spec(seed=seed))).latents for seed in range(3)]
    tickets = [engine.submit(ClipRequest(spec(seed=seed))) for seed in range(3)]
    family.bad = [engine._slots[tickets[place].number].x] if where == "denoise" else [expected[place]]
    drain(engine)
    assert engine.pending == 0
    for number, ticket in enumerate(tickets):
        if number == place:
            assert ticket.error is not None
            words = "no memory left" if isinstance(error, torch.OutOfMemoryError) else "could not be made: ValueError"
            assert words in str(ticket.error)
        else:
            assert ticket.clip is not None, (number, ticket.error)
            assert far(ticket.clip.latents, expected[number]) < 1e-5


def test_a_device_that_is_lost_is_no_clips_fault() -> None:
    family = Particular(RuntimeError("CUDA error: an illegal memory access was encountered"), "denoise")
    engine = Engine(family, steps=2)
    tickets = [engine.submit(ClipRequest(spec(seed=seed))) for seed in range(2)]
    family.bad = [engine._slots[0].x]
    with pytest.raises(RuntimeError, match="CUDA error"):
        engine.tick()
    assert all(ticket.error is None for ticket in tickets)


class Exact(ShortOfMemory):
    """Remembers the sizes of its batches."""

    def denoise(self, x: Tensor, t: Tensor, text: object, **rest: object) -> Tensor:  # type: ignore[override]
        self.sizes.append(len(x))
        return super().denoise(x, t, text, **rest)

    sizes: ClassVar[list[int]] = []


def test_warming_up_finds_the_batch_that_fits() -> None:
    family = Exact()
    engine = Engine(family, steps=2, pad=True)
    engine.warm_up()
    assert engine.stats.out_of_memory == 3
    assert family.sizes == [16, 8, 4, 2, 1]
    engine.submit(ClipRequest(spec(guidance=4)))
    engine.submit(ClipRequest(spec(guidance=4)))
    drain(engine)
    assert max(family.sizes[5:]) == 2
    family.room = 0
    with pytest.raises(torch.OutOfMemoryError):
        Engine(family, steps=2, pad=True).warm_up()


def test_numbers_that_are_not_finite_fail_the_clip_with_advice() -> None:
    family = TinyFamily()
    family.decode_mel = lambda latents: torch.full((1, 1, 32, 128), math.nan)  # type: ignore[method-assign]
    with pytest.raises(RiffstreamError, match=r"not finite.*float32"):
        Engine(family, steps=1).render(ClipRequest(spec()))


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = Engine(TinyFamily())
    yield made
    assert made.pending == 0, "a refused request queues nothing"


def test_bad_requests_name_the_parameter(engine: Engine) -> None:
    good = spec()
    cases: list[tuple[dict[str, object], str]] = [
        ({"sampler": "eular"}, "did you mean 'euler'"),
        ({"mask": "top_half"}, "mask .* without a seed image"),
        ({"mask": "middle", "seed_image": torch.zeros(4, 4, 8)}, "mask is 'middle'"),
        ({"seed_image": torch.zeros(3, 4, 8)}, r"seed_image is 'latents \[3, 4, 8\]'"),
        ({"seed_image": np.zeros((32, 128), np.uint8)}, "seed_image"),
        ({"seed_image": "/etc/hostname"}, "a name in the seed library"),
        ({"previous": torch.zeros(4, 5, 8)}, "previous"),
    ]
    for rest, message in cases:
        with pytest.raises(ParameterError, match=message):
            engine.submit(ClipRequest(good, **rest))  # type: ignore[arg-type]
    for name, value in (("steps", 0), ("steps", 2000), ("frames", 1)):
        with pytest.raises(ParameterError, match=name):
            ClipRequest(good, **{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "rest",
    [
        {"max_batch": 0},
        {"steps": 0},
        {"sampler": "pndm"},
        {"overlap": 0.9},
    ],
)
def test_bad_engines_name_the_parameter(rest: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match=next(iter(rest))):
        Engine(TinyFamily(), **rest)  # type: ignore[arg-type]


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.integers(0, 3), st.sampled_from([1.0, 3.0]), st.booleans()),
        st.tuples(st.just("tick")),
        st.tuples(st.just("cancel"), st.integers(0, 9)),
    ),
    max_size=25,
)


@given(OPERATIONS, st.booleans())
@settings(max_examples=40, deadline=None)
def test_whatever_comes_between_every_clip_arrives_once_and_is_right(operations: list[tuple], pad: bool) -> None:
    engine = Engine(TinyFamily(), max_batch=4, pad=pad, steps=2)
    tickets: list[Ticket] = []
    clips: list[Clip] = []
    for name, *rest in operations:
        if name == "submit":
            seed, guidance, speculative = rest
            request = ClipRequest(spec(seed=seed, guidance=guidance), speculative=speculative, deadline=float(seed))
            tickets.append(engine.submit(request))
        elif name == "tick":
            clips += engine.tick()
        elif rest[0] < len(tickets):
            engine.cancel(tickets[rest[0]])
    clips += drain(engine)
    wanted = [ticket for ticket in tickets if not ticket.cancelled]
    assert all(ticket.done for ticket in tickets)
    assert len(clips) == len(wanted) == engine.stats.clips
    assert {id(ticket.clip) for ticket in wanted} == {id(clip) for clip in clips}
    for ticket in wanted:
        guidance = ticket.request.spec.start.guidance
        assert ticket.clip is not None
        assert ticket.clip.evaluations == (2 if guidance == 1 else 4)
        alone = Engine(TinyFamily(), steps=2).render(ticket.request)
        assert far(ticket.clip.latents, alone.latents) < 1e-5


def test_warm_up_runs_every_batch_size_where_batches_are_padded() -> None:
    family = TinyFamily()
    Engine(family, pad=True, max_batch=6).warm_up()
    assert family.calls == [6, 4, 2, 1]
    family.calls.clear()
    Engine(family, pad=False).warm_up()
    assert family.calls == []


def test_beat_lines_follow_the_tempo_where_the_clip_has_no_fixed_beats() -> None:
    family = TinyFamily("ddpm")
    family.beats = None
    engine, loop = Engine(family, steps=2), torch.zeros(4, 4, 8)

    def lines(bpm: float | None) -> Tensor:
        request = ClipRequest(spec(bpm=bpm, guidance=1), seed_image=loop, mask="beat_lines")
        mask = engine._prepare.slot(Ticket(0, request)).mask
        assert mask is not None
        return mask

    minutes = family.frames * family.params.hop() / family.params.sample_rate / 60
    assert torch.equal(lines(None), named_mask("beat_lines", (4, 8), beats=8)), "eight beats unless a tempo is named"
    assert torch.equal(lines(120), named_mask("beat_lines", (4, 8), beats=120 * minutes))
    assert not torch.equal(lines(120), lines(None))
