"""Slots (clips in progress): their preparation, and the choice of the next batch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from riffstream.diffusion.clip import NEAR_NOISE, Clip, ClipRequest, Opening
from riffstream.diffusion.family import Family, TextEmbedding
from riffstream.diffusion.masks import latent_mask, overlap_mask
from riffstream.diffusion.noise import NoiseStream
from riffstream.diffusion.openings import Openings, direction
from riffstream.diffusion.restoring import mixed
from riffstream.diffusion.samplers import Schedule, build
from riffstream.diffusion.schedules import CLEAN, Level
from riffstream.diffusion.seed_clip import SeedClip
from riffstream.diffusion.seed_images import SeedImages
from riffstream.diffusion.text import PromptEncoder
from riffstream.errors import ParameterError, RiffstreamError
from riffstream.journey.conditions import CHORD, PARTS_GIVEN, Levels, lay_out
from riffstream.journey.keyframe import AUTO, CONDITIONED, NONE, Keyframe

__all__ = ["Preparer", "Slot", "Ticket", "choose"]

EVOLVING = 0.7  # time above which a new origin is continued in the clip that evolves to it: three of eight steps
JUDGED = [CHORD.stop - 1, *range(PARTS_GIVEN.start, PARTS_GIVEN.stop)]  # flags of the conditions that an ear judges
HELD = 8  # number of consecutive noise seeds with the same library loop, so that the loop does not change every clip


@dataclass(slots=True, eq=False)
class Ticket:
    """State of a submitted request.

    Attributes:
        number: sequence number; among equal deadlines the lower number goes first.
        request: the request.
        clip: the result, when finished.
        error: reason of a failure.
        cancelled: True after ``Engine.cancel``.
    """

    number: int
    request: ClipRequest
    clip: Clip | None = None
    error: RiffstreamError | None = None
    cancelled: bool = False

    @property
    def done(self) -> bool:
        """Whether the request is finished, failed or cancelled."""
        return self.clip is not None or self.error is not None or self.cancelled


@dataclass(slots=True, eq=False)
class Slot:
    """A clip in progress, with all of its own state.

    Attributes:
        x: [C, h, w] float32, latent at the current noise level.
        memory: [K, C, h, w] float32, memory of its sampler.
        noise: [C, h, w], initial noise, also added to kept regions at each step's level.
        cond: text embedding [1, S, D].
        uncond: negative text embedding [1, S, D]; None without guidance.
        above: the model's time above which steps are guided; None: all steps are.
        previous: [C, h, w], latents of the previous clip for the network; None: it sees none.
        late: time above which ``previous`` is hidden.
        origin: [C, h, w], latents in place of ``previous`` at times above ``NEAR_NOISE`` (a new one: above
            ``EVOLVING``), except in the last evaluation; None: nothing replaces it.
        opening: the opening sound with which the clip begins, or to which its origin evolves; None: neither.
        lead: [C, h, context], end of the previous clip, which is decoded with the clip; None: nothing is.
        seed: the seed image; None: there is none.
        conditions: [columns, conditions], for the conditional branch only.
        kept: [C, h, w] clean latents of the kept region, with ``mask``.
        mask: [h, w] or [1, w], 1 for repainted cells.
        others: the clip with other noise, and with another opening sound if it has one, which its first step tries as
            well.
        turn: which of these the clip is, 0 for its own noise and sound.
        words: sentence vector [D] of the words, of length 1, for the choice among these; None: no words.
        position: index of the next row in the schedule.
        drawn: noise of the next step, kept if a batch fails after the draw.
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
    above: float | None = None
    previous: Tensor | None = None
    late: float = math.inf
    origin: Tensor | None = None
    opening: Opening | None = None
    lead: Tensor | None = None
    conditions: Tensor | None = None
    seed: SeedClip | None = None
    kept: Tensor | None = None
    mask: Tensor | None = None
    others: tuple[Slot, ...] = ()
    turn: int = 0
    words: Tensor | None = None
    overlap_frames: int = 0
    position: int = 0
    drawn: Tensor | None = None
    seconds: float = 0.0
    prepare_s: float = 0.0
    decode_s: float = 0.0
    evaluations: int = 0
    order: tuple[bool, float, int] = field(init=False)

    def __post_init__(self) -> None:
        request = self.ticket.request
        self.order = (request.speculative, request.deadline, self.ticket.number)

    def draw(self) -> Tensor:
        """Noise of the next step; repeated calls return the same noise until the step is done."""
        if self.drawn is None:
            self.drawn = self.stream.draw()
        return self.drawn

    @property
    def seen(self) -> Tensor | None:
        """Latents of the earlier clip that the network sees in the next step; None: it sees none."""
        time = self.schedule.rows[self.position].time
        if time > self.late:
            return None
        # The last evaluation joins the clip to the one before, also where it is the only one.
        evolves = self.opening is not None and self.opening.evolved
        near_noise = time > (EVOLVING if evolves else NEAR_NOISE) and self.position + 1 < len(self.schedule.rows)
        return self.origin if self.origin is not None and near_noise else self.previous

    @property
    def finished(self) -> bool:
        """Whether all evaluations are done."""
        return self.position >= len(self.schedule.rows)

    @property
    def joined(self) -> Tensor:
        """Latents to decode, [C, h, context + w]: the end of the previous clip, and the clip."""
        return self.x if self.lead is None else torch.cat([self.lead, self.x], -1)

    @property
    def context(self) -> int:
        """Number of columns of the previous clip that are decoded with the clip."""
        return 0 if self.lead is None else self.lead.shape[-1]

    @property
    def guided(self) -> bool:
        """Whether the next evaluation is guided (two rows of a batch)."""
        if self.uncond is None or self.finished:
            return False
        return self.above is None or self.schedule.rows[self.position].time > self.above

    @property
    def rows(self) -> int:
        """Number of batch rows of the next evaluation."""
        if self.others:
            return 1 + len(self.others)
        return 2 if self.guided else 1

    @property
    def kind(self) -> tuple[object, ...]:
        """Key of slots that fit into one batch. Embeddings with a mask can be padded to a common length. A slot that
        tries noises is alone: the rounding of a batch could change the choice."""
        length = self.cond.tokens.shape[1] if self.cond.mask is None else None
        return (*self.x.shape, length, self.ticket.number if self.others else None)

    def take(self, other: Slot) -> None:
        """Go on with one of ``others``."""
        self.x, self.noise, self.opening, self.previous = other.x, other.noise, other.opening, other.previous
        self.turn, self.others = other.turn, ()

    def keep(self, level: Level, last: bool) -> None:
        """Restore the seed image in the kept region at the current noise level of ``x``."""
        if self.mask is None or self.kept is None:
            return
        alpha, sigma = CLEAN if last else level
        self.x = torch.lerp(alpha * self.kept + sigma * self.noise, self.x, self.mask)


def choose(slots: Iterable[Slot], limit: int, *, fill: bool = False, buckets: tuple[int, ...] = ()) -> list[Slot]:
    """Choose the slots of the next batch: earliest deadline first, all of the first slot's kind.

    Speculative slots wait for all other slots; with ``fill`` they may use the padding rows up to the next bucket.

    Args:
        slots: unfinished slots.
        limit: maximum rows of a batch; the first slot is chosen in any case.
        fill: True lets speculative slots replace padding.
        buckets: batch sizes that padding leads to.
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
    """Preparation of slots from requests: text, noise, seed image, mask, schedule.

    Args:
        family: the model.
        encoder: prompt encoder with its cache.
        seeds: seed image encoder with its cache.
        sampler, steps: defaults for requests without them; None: the family's.
        overlap: for families without native continuation, the part of a clip that repeats the previous clip.
    """

    def __init__(
        self,
        family: Family,
        encoder: PromptEncoder,
        seeds: SeedImages,
        *,
        sampler: str | None,
        steps: int | None,
        overlap: float,
    ) -> None:
        self.family, self.encoder, self.seeds = family, encoder, seeds
        self.sampler = sampler or family.defaults.sampler
        self.steps = steps or family.defaults.steps
        self.overlap = overlap
        self._openings = Openings(family, encoder)

    def slot(self, ticket: Ticket) -> Slot:
        """Prepare a request.

        Raises:
            RiffstreamError: a parameter out of range, an unknown name, an unreadable file.
        """
        request, family = ticket.request, self.family
        spec, device = request.spec, family.device
        shape = family.latent_shape(request.frames)
        conditions = self._conditions(request)
        seed = self._seed_clip(request, conditions)
        clean = None if seed is None else seed.latents
        default = family.defaults.denoising
        denoising = 1.0
        if clean is not None:
            usual = family.defaults.seed_image
            denoising = spec.denoising(default, seeded=request.seed_image is not None, seed_image=usual)
        sampler, steps = request.sampler or self.sampler, request.steps or self.steps
        schedule = build(family.schedule, sampler, steps, family.start_time(denoising))
        stream = NoiseStream(spec.start.seed, spec.end.seed, spec.alpha, shape, limit=family.noise_limit)
        noise = stream.draw().to(device)
        alpha, sigma = schedule.start
        x = noise if clean is None else alpha * clean + sigma * noise
        guidance = spec.guidance(family.defaults.guidance)
        negatives = (spec.start.negative, spec.end.negative)
        text = self.encoder.between(spec.start.prompts, spec.end.prompts, spec.alpha, negatives)
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
            family.defaults.above,
            conditions=conditions,
            # At the full distance nothing is left of the seed image, except behind a mask.
            seed=seed if denoising < 1 or request.mask is not None else None,
        )
        self._mask(slot, request, clean)
        self._continue(slot, request, clean)
        if family.continues and clean is None and slot.previous is None:
            lean = self.encoder.between(spec.start.prompts, spec.end.prompts, spec.alpha, negatives, lean=True)
            slot.cond = lean.cond
        if clean is None:
            others = self._others(slot, text.cond)
            if request.turn is None:
                slot.others = others
            elif others and request.turn > len(others):
                raise ParameterError("turn", request.turn, f"0 to {len(others)} with this model")
            elif others and request.turn > 0:
                slot.take(others[request.turn - 1])
        return slot

    def _others(self, slot: Slot, text: TextEmbedding) -> tuple[Slot, ...]:
        """The clip with other noises and opening sounds, for models with an ear, where the first step decides: where
        music begins, or its parts or levels change, or resting parts are removed again. Elsewhere the clip before has
        decided."""
        family, request = self.family, slot.ticket.request
        begins = slot.previous is None or (slot.opening is not None and not slot.opening.evolved)
        if family.ear is None or not (begins or request.anew):
            return ()
        shares = ((request.spec.start, 1 - request.spec.alpha), (request.spec.end, request.spec.alpha))
        worded = any(part.text.strip() for keyframe, share in shares if share > 0 for part in keyframe.prompts)
        if worded and slot.previous is None:  # elsewhere a sound has the style and the instruments of the words
            slot.words = F.normalize(text.pooled()[0].float(), dim=-1)
        asked = slot.conditions is not None and bool(slot.conditions[:, JUDGED].any())
        if slot.words is None and not asked:
            return ()
        others: list[Slot] = []
        openings = [] if slot.opening is None or not begins else [slot.opening]
        for turn in range(1, family.defaults.tries):
            noise = slot.stream.draw().to(slot.x.device)
            other = replace(slot, x=noise, noise=noise, turn=turn)
            if openings and request.turn in (None, turn):
                beats = self._beats(request)
                found = self._openings.find(request, beats, slot.conditions, turn=turn, known=openings)
                opening = openings[0] if found is None else found
                other.opening, other.previous = opening, _fitted(opening.latents, slot.x.shape[2])
                openings.append(opening)
            others.append(other)
        return tuple(others)

    def _seed_clip(self, request: ClipRequest, conditions: Tensor | None) -> SeedClip | None:
        """Seed image at alpha. Mixed latents sound like a crossfade of two loops at one tempo."""
        spec = request.spec
        asked = None if conditions is None else Levels.of(conditions.cpu().numpy())
        first = self._first_frame(request)

        def encode(seed: object) -> SeedClip:
            return self.seeds.clip(seed, frames=request.frames, bpm=spec.bpm, first=first)  # type: ignore[arg-type]

        if request.seed_image is not None:
            return encode(request.seed_image)
        named = [self._seed_name(keyframe, self._beats(request), asked) for keyframe in (spec.start, spec.end)]
        names = [name for name in named if name is not None]
        if len(names) == 2 and names[0] != names[1] and 0 < spec.alpha < 1:
            return mixed(self.family, encode(names[0]), encode(names[1]), spec.alpha)
        if not names:
            return None
        return encode(names[-1] if spec.alpha == 1 else names[0])

    def _first_frame(self, request: ClipRequest) -> int:
        """Frames from the beginning of the music to the clip's first frame, for recordings as seed images.

        Without native continuation, clips advance by their part behind the overlap, and :meth:`_continue` rotates the
        seed image by the overlap. A clip without a previous one has the overlap in front, which nobody plays.
        """
        place = request.spec.index if request.spec.place is None else request.spec.place
        frames = request.frames or self.family.frames
        if self.family.continues:
            return round(place * self.family.frames)  # a place counts clips of the model's own size
        width = self.family.latent_shape(request.frames)[2]
        lead = round(min(max(1, round(self.overlap * width)), max(1, width - 1)) * frames / width)
        return round(place * (frames - lead)) - (lead if request.previous is None else 0)

    def _seed_name(self, keyframe: Keyframe, beats: float, asked: Levels | None) -> str | None:
        """Name of a keyframe's seed image with ``auto`` resolved; None: noise only."""
        name = keyframe.seed_image or self.family.defaults.seed_image
        if name == AUTO:
            return self.seeds.nearest(
                direction(self.encoder, keyframe), keyframe.seed // HELD, beats=beats, asked=asked
            )
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
        """Conditions of each column of tokens, from the request or else from its keyframes."""
        family, spec = self.family, request.spec
        key = spec.key if request.key is None else request.key
        plans = spec.bars(family.bars, key, words=bool(family.conditions))
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
        """Continue the previous clip: through the network if it supports this, else by outpainting.

        In outpainting the end of the previous clip becomes the kept beginning of this one. A seed image is rotated by
        the same length, so that its beat stays in phase.
        """
        before = _usable("previous", request.previous, slot.x)
        width = slot.x.shape[2]
        if self.family.continues:
            sound, late = before, request.late
            if request.anew:
                sound = _usable("recalled", request.recalled, slot.x)
            origin = _usable("origin", request.origin, slot.x)
            if clean is None and (request.opens or (sound is None and before is None)):
                slot.opening = self._openings.find(request, self._beats(request), slot.conditions)
                if slot.opening is not None:
                    sound, late, origin = slot.opening.latents, math.inf, None
            slot.late = late
            # A seed image has the instruments and parts of the clip, and another metre has other beats.
            if clean is None and sound is not None and late == math.inf and slot.opening is None:
                if request.evolves is not None and sound.shape[2] == width:
                    slot.opening = self._openings.find(
                        request, self._beats(request), slot.conditions, next_of=request.evolves
                    )
                    origin = origin if slot.opening is None else slot.opening.latents
                if origin is not None and origin.shape[2] == width:
                    slot.origin = origin
            slot.previous = None if sound is None else _fitted(sound, width)
            if before is not None and self.family.context:
                slot.lead = _fitted(before, width)[..., -self.family.context :]
            return
        if before is None:
            return
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


def _usable(name: str, latents: Tensor | None, x: Tensor) -> Tensor | None:
    """Latents [C, h, w] in the type of the clip's ``x``. Raises ParameterError unless they are of the same model."""
    if latents is None:
        return None
    if latents.ndim != 3 or latents.shape[:2] != x.shape[:2] or latents.shape[2] == 0:
        raise ParameterError(name, f"latents {list(latents.shape)}", f"latents {list(x.shape)} with this model")
    return latents.to(x.device, torch.float32)


def _fitted(latents: Tensor, width: int) -> Tensor:
    """The last ``width`` columns of latents [C, h, w], repeated if they are too few."""
    return latents.repeat(1, 1, -(-width // latents.shape[2]))[..., -width:]
