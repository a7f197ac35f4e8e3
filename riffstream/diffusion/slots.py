"""Slots: clips in progress, how they are prepared, and which of them go into the next batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from riffstream.diffusion.clip import Clip, ClipRequest
from riffstream.diffusion.family import Family, TextEmbedding
from riffstream.diffusion.masks import latent_mask, overlap_mask
from riffstream.diffusion.noise import NoiseStream
from riffstream.diffusion.samplers import Schedule, build
from riffstream.diffusion.schedules import CLEAN, Level
from riffstream.diffusion.seed_images import SeedImages
from riffstream.diffusion.text import Curve, PromptEncoder
from riffstream.errors import ParameterError, RiffstreamError
from riffstream.journey.conditions import lay_out
from riffstream.journey.keyframe import AUTO, CONDITIONED, NONE, Keyframe

__all__ = ["Preparer", "Slot", "Ticket", "choose"]

HELD = 4  # noise seeds that share a loop of the library, so that a stream does not hop among loops from clip to clip


@dataclass(slots=True, eq=False)
class Ticket:
    """A request's receipt.

    Attributes:
        number: counts up; of two requests with one deadline the earlier goes first.
        request: what was asked.
        clip: the result, once it is there.
        error: why there will be none.
        cancelled: whether ``Engine.cancel`` took it back.
    """

    number: int
    request: ClipRequest
    clip: Clip | None = None
    error: RiffstreamError | None = None
    cancelled: bool = False

    @property
    def done(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.clip is not None or self.error is not None or self.cancelled


@dataclass(slots=True, eq=False)
class Slot:
    """A clip in progress: all that makes it independent of the clips it shares batches with.

    Attributes:
        x: [C, h, w] float32, the latent at the noise level reached.
        memory: [K, C, h, w] float32, what its sampler remembers.
        noise: [C, h, w] its initial noise, with which kept regions are brought to each step's level.
        cond, uncond: text embeddings [1, S, D]; no ``uncond`` where guidance is off.
        context: columns of ``previous`` that are decoded with the clip.
        conditions: [columns, conditions] of its tokens' columns, of the branch with the text alone.
        kept: [C, h, w] clean latents of the kept region, with ``mask``.
        mask: [h, w] or [1, w], 1 where the clip is made anew.
        position: index into the schedule's rows.
        drawn: noise for the next step, where a batch failed after it was drawn.
    """

    ticket: Ticket
    schedule: Schedule
    x: Tensor
    memory: Tensor
    noise: Tensor
    stream: NoiseStream
    cond: TextEmbedding
    uncond: TextEmbedding | None
    guidance: float
    previous: Tensor | None = None
    context: int = 0
    conditions: Tensor | None = None
    kept: Tensor | None = None
    mask: Tensor | None = None
    overlap_frames: int = 0
    interval: tuple[float, float] = (0.0, 1.0)
    position: int = 0
    drawn: Tensor | None = None
    seconds: float = 0.0
    evaluations: int = 0
    order: tuple[bool, float, int] = field(init=False)

    def __post_init__(self) -> None:
        request = self.ticket.request
        self.order = (request.speculative, request.deadline, self.ticket.number)

    def draw(self) -> Tensor:
        """The noise of the next step; the same one until the step is taken."""
        if self.drawn is None:
            self.drawn = self.stream.draw()
        return self.drawn

    @property
    def finished(self) -> bool:
        """Whether all evaluations are done."""
        return self.position >= len(self.schedule.rows)

    @property
    def joined(self) -> Tensor:
        """[C, h, context + w] what is decoded: the end of the clip before, and the clip."""
        if self.previous is None or not self.context:
            return self.x
        return torch.cat([self.previous[..., -self.context :], self.x], -1)

    @property
    def guided(self) -> bool:
        """Whether the next evaluation is guided: two rows of a batch in place of one."""
        progress = self.position / max(1, len(self.schedule.rows))
        return self.uncond is not None and self.interval[0] <= progress < self.interval[1]

    @property
    def rows(self) -> int:
        """Rows that the next evaluation takes."""
        return 2 if self.guided else 1

    @property
    def kind(self) -> tuple[object, ...]:
        """Slots of one kind fit into one batch. Embeddings with a mask can be padded to each other's length."""
        length = self.cond.tokens.shape[1] if self.cond.mask is None else None
        return (*self.x.shape, length)

    def keep(self, level: Level, last: bool) -> None:
        """Put the seed image back into the kept region, at the noise level that ``x`` has just reached."""
        if self.mask is None or self.kept is None:
            return
        alpha, sigma = CLEAN if last else level
        self.x = torch.lerp(alpha * self.kept + sigma * self.noise, self.x, self.mask)


def choose(slots: Iterable[Slot], limit: int, *, fill: bool = False, buckets: tuple[int, ...] = ()) -> list[Slot]:
    """The slots for the next batch: earliest deadline first, all of the first one's kind.

    Speculative slots wait while any other slot is there; with ``fill`` they may take the rows that padding to the next
    bucket would waste.

    Args:
        slots: unfinished ones.
        limit: rows of a batch. The first slot is taken whatever its rows are.
    """
    waiting = sorted(slots, key=lambda slot: slot.order)
    if not waiting:
        return []
    first = waiting[0]
    taken = [first]
    rows = first.rows
    for slot in waiting[1:]:
        urgent = slot.order[0] == first.order[0]
        room = limit if urgent else min((b for b in buckets if b >= rows), default=rows) if fill else rows
        if slot.kind == first.kind and rows + slot.rows <= room:
            taken.append(slot)
            rows += slot.rows
    return taken


class Preparer:
    """Makes slots from requests: text, noise, seed image, mask, schedule.

    Args:
        family: the model.
        encoder, seeds: with their caches.
        sampler, steps: for requests that name none; None: the family's.
        interval: the part of the way, from noise (0) to music (1), on which guidance is on.
        overlap: for families that do not continue by themselves, the part of a clip that repeats the clip before.
        curve: of the text embeddings between two keyframes.
    """

    def __init__(
        self,
        family: Family,
        encoder: PromptEncoder,
        seeds: SeedImages,
        *,
        sampler: str | None,
        steps: int | None,
        interval: tuple[float, float],
        overlap: float,
        curve: Curve,
    ) -> None:
        self.family, self.encoder, self.seeds = family, encoder, seeds
        self.sampler = sampler or family.defaults.sampler
        self.steps = steps or family.defaults.steps
        self.interval = interval
        self.overlap = overlap
        self.curve = curve

    def slot(self, ticket: Ticket) -> Slot:
        """Prepare a request.

        Raises:
            RiffstreamError: a parameter out of range, an unknown name, an unreadable file.
        """
        request, family = ticket.request, self.family
        spec, device = request.spec, family.device
        shape = family.latent_shape(request.frames)
        clean = self._seed_latents(request)
        default = family.defaults.denoising
        denoising = 1.0
        if clean is not None:
            usual = family.defaults.seed_image
            denoising = spec.denoising(default, seeded=request.seed_image is not None, seed_image=usual)
        sampler, steps = request.sampler or self.sampler, request.steps or self.steps
        schedule = build(family.schedule, sampler, steps, denoising)
        stream = NoiseStream(spec.start.seed, spec.end.seed, spec.alpha, shape, limit=family.noise_limit)
        noise = stream.draw().to(device)
        alpha, sigma = schedule.start
        x = noise if clean is None else alpha * clean + sigma * noise
        guidance = spec.guidance(family.defaults.guidance)
        negatives = (spec.start.negative, spec.end.negative)
        text = self.encoder.between(spec.start.prompts, spec.end.prompts, spec.alpha, negatives, curve=self.curve)
        slot = Slot(
            ticket,
            schedule,
            x,
            torch.zeros(schedule.sampler.memory, *shape, device=device),
            noise,
            stream,
            text.cond,
            text.uncond if guidance > 1 and request.guided else None,
            guidance,
            conditions=self._conditions(request),
            interval=self.interval,
        )
        self._mask(slot, request, clean)
        self._continue(slot, request, clean)
        return slot

    def _seed_latents(self, request: ClipRequest) -> Tensor | None:
        """[C, h, w] of the seed image at alpha: between two seed images the latents are mixed, which the ear takes for
        a crossfade of two loops in one tempo."""
        spec = request.spec

        def encode(seed: object) -> Tensor:
            return self.seeds.latents(seed, frames=request.frames, bpm=spec.bpm)  # type: ignore[arg-type]

        if request.seed_image is not None:
            return encode(request.seed_image)
        named = [self._seed_name(keyframe, self._beats(request)) for keyframe in (spec.start, spec.end)]
        names = [name for name in named if name is not None]
        if len(names) == 2 and names[0] != names[1] and 0 < spec.alpha < 1:
            return torch.lerp(encode(names[0]), encode(names[1]), spec.alpha)
        if not names:
            return None
        return encode(names[-1] if spec.alpha == 1 else names[0])

    def _seed_name(self, keyframe: Keyframe, beats: float) -> str | None:
        """What a keyframe starts from, ``auto`` resolved; None: noise alone."""
        name = keyframe.seed_image or self.family.defaults.seed_image
        if name == AUTO:
            vector = F.normalize(self.encoder.encode(keyframe.prompts).pooled()[0], dim=-1)
            return self.seeds.nearest(vector, keyframe.seed // HELD, beats=beats)
        return None if name == NONE else name

    def _mask(self, slot: Slot, request: ClipRequest, clean: Tensor | None) -> None:
        if request.mask is None:
            return
        if clean is None:
            raise ParameterError("mask", request.mask, "nothing without a seed image: there is nothing to keep")
        size = (int(clean.shape[1]), int(clean.shape[2]))
        mask = latent_mask(
            request.mask, size, low_first=self.family.low_first, beats=self._beats(request), files=self.seeds.files
        )
        slot.mask, slot.kept = mask.to(clean.device), clean
        slot.keep(slot.schedule.start, last=slot.finished)

    def _conditions(self, request: ClipRequest) -> Tensor | None:
        """What the request, or else its keyframes, ask of each column of tokens."""
        family, spec = self.family, request.spec
        plans = spec.bars(family.bars, spec.key if request.key is None else request.key)
        if request.conditions is None and plans is None:
            return None
        if not family.conditions:
            asked = [name for name in CONDITIONED for k in (spec.start, spec.end) if getattr(k, name) is not None]
            field = asked[0] if request.conditions is None and asked else "conditions"
            value = getattr(spec.start, field, None) or getattr(spec.end, field, None)
            raise ParameterError(field, value, "nothing with this model: it takes words alone")
        width = family.condition_columns * (request.frames or family.frames) // family.frames
        if request.conditions is None and plans is not None:
            numbers = torch.from_numpy(lay_out(plans, width, round(self._beats(request) / family.bars)))
        else:
            numbers = torch.as_tensor(request.conditions, dtype=torch.float32)
            if tuple(numbers.shape) != (width, family.conditions):
                raise ParameterError("conditions", tuple(numbers.shape), f"shape ({width}, {family.conditions})")
        return numbers.to(family.device)

    def _beats(self, request: ClipRequest) -> float:
        frames = request.frames or self.family.frames
        if self.family.beats is not None:
            return self.family.beats * frames / self.family.frames
        params, bpm = self.family.params, request.spec.bpm
        return 8.0 if bpm is None else frames * params.hop() / params.sample_rate * bpm / 60

    def _continue(self, slot: Slot, request: ClipRequest, clean: Tensor | None) -> None:
        """Condition the clip on the one before it: through the network where it can, else by outpainting.

        Outpainting: the end of the clip before becomes the beginning of this one and is kept; the rest grows out of it.
        A seed image is turned by as much, so that its beat goes on where the clip before has left it.
        """
        before = request.previous
        if before is None:
            return
        shape = tuple(slot.x.shape)
        if before.ndim != 3 or tuple(before.shape[:2]) != shape[:2] or before.shape[2] == 0:
            raise ParameterError("previous", f"latents {list(before.shape)}", f"latents {list(shape)} with this model")
        before = before.to(slot.x.device, torch.float32)
        if self.family.continues:
            slot.previous = before.repeat(1, 1, -(-shape[2] // before.shape[2]))[..., -shape[2] :]
            slot.context = min(self.family.context, shape[2])
            return
        width = shape[2]
        columns = min(max(1, round(self.overlap * width)), before.shape[2], width - 1)
        if columns < 1 or slot.finished:
            return
        base = torch.zeros_like(slot.x) if clean is None else clean.roll(columns, -1)
        kept = torch.cat([before[..., -columns:], base[..., columns:]], -1)
        if clean is not None:
            alpha, sigma = slot.schedule.start
            slot.x = alpha * kept + sigma * slot.noise
        mask = overlap_mask(width, columns).to(slot.x.device)
        slot.mask = mask if slot.mask is None else torch.minimum(slot.mask.roll(columns, -1), mask)
        slot.kept = kept
        slot.keep(slot.schedule.start, last=False)
        frames = request.frames or self.family.frames
        slot.overlap_frames = round(columns * frames / width)
