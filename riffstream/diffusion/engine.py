"""The engine: many clips in progress, one evaluation of the network at a time.

Threading model
  One thread (the generator's, or the caller's) makes every call. Between two ticks anything may be submitted or
  cancelled; a tick is one evaluation of a batch, so nothing waits longer than that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from riffstream.diffusion.clip import Clip, ClipRequest
from riffstream.diffusion.family import Family, TextEmbedding
from riffstream.diffusion.ranges import check
from riffstream.diffusion.samplers import find, step
from riffstream.diffusion.seed_images import SeedImages, SeedSource
from riffstream.diffusion.slots import Preparer, Slot, Ticket, choose
from riffstream.diffusion.text import Curve, PromptEncoder
from riffstream.errors import ParameterError, RiffstreamError

__all__ = ["BUCKETS", "Engine", "Stats", "Ticket"]

BUCKETS = (1, 2, 4, 8, 16)  # batch sizes that compiled graphs are made for
RECOVERY = 200  # ticks without trouble after which a batch that memory had lowered is doubled again

T = TypeVar("T")


@dataclass(slots=True)
class Stats:
    """What the engine has done since it was made: counts, and seconds of the text and other preparation, the network,
    and the decoder."""

    ticks: int = 0
    rows: int = 0
    padded_rows: int = 0
    clips: int = 0
    failures: int = 0
    out_of_memory: int = 0
    prepare_s: float = 0.0
    denoise_s: float = 0.0
    decode_s: float = 0.0


class Engine:
    """Renders clips of one model, many at once.

    A clip depends on its request alone: neither the clips it shares batches with nor the order of submission change it
    by more than the rounding of the network's batched arithmetic (in float32 about 1e-5 of the latent, see
    docs/engine.md), and with one batch size by nothing at all.

    Args:
        family: the model.
        max_batch: rows of a batch, 1 to 256. A clip with guidance takes two rows.
        sampler, steps: for requests that name none; None: the family's.
        seeds: the seed library.
        files: whether seed images and masks may be paths of this machine.
        guidance_interval: the part of the way, from noise (0) to music (1), on which guidance is on (Kynkäänniemi et
            al. 2024, arXiv:2404.07724): (0.1, 0.8) saves 30 % of the second rows.
        overlap: for families that do not continue by themselves, the part of a clip, 0 to 0.75, that repeats the end of
            ``previous``.
        curve: how text embeddings move between two keyframes, ``lerp`` or ``slerp`` (see ``PromptEncoder.between``).
        pad: fill batches up to the sizes in :data:`BUCKETS`; None: on CUDA, where few shapes are fast shapes.

    Raises:
        ParameterError: an unknown sampler, or a value outside its range.
    """

    def __init__(
        self,
        family: Family,
        *,
        max_batch: int = 16,
        sampler: str | None = None,
        steps: int | None = None,
        seeds: SeedSource | None = None,
        files: bool = False,
        guidance_interval: tuple[float, float] = (0.0, 1.0),
        overlap: float = 0.25,
        curve: Curve = "lerp",
        pad: bool | None = None,
    ) -> None:
        if not 1 <= max_batch <= 256:
            raise ParameterError("max_batch", max_batch, "1 to 256")
        if not 0 <= guidance_interval[0] <= guidance_interval[1] <= 1:
            raise ParameterError("guidance_interval", guidance_interval, "two numbers, 0 <= from <= to <= 1")
        if not 0 <= overlap <= 0.75:
            raise ParameterError("overlap", overlap, "0 to 0.75")
        if curve not in ("lerp", "slerp"):
            raise ParameterError("curve", curve, "lerp or slerp")
        if steps is not None:
            check("steps", steps)
        find(sampler or family.defaults.sampler, family.schedule)
        self.family = family
        self.stats = Stats()
        self.seed_images = SeedImages(family, seeds, files=files)
        self.encoder = PromptEncoder(family)
        self._prepare = Preparer(
            family,
            self.encoder,
            self.seed_images,
            sampler=sampler,
            steps=steps,
            interval=guidance_interval,
            overlap=overlap,
            curve=curve,
        )
        self._pad = family.device.type == "cuda" if pad is None else pad
        self._max_batch = self._limit = max_batch
        self._decode_limit = max_batch
        self._calm = 0
        self._slots: dict[int, Slot] = {}
        self._count = 0

    @property
    def pending(self) -> int:
        """Clips submitted and not yet returned, cancelled or failed."""
        return len(self._slots)

    @property
    def batch_limit(self) -> int:
        """Rows of a batch at present: ``max_batch``, or less after the device ran out of memory."""
        return self._limit

    def submit(self, request: ClipRequest) -> Ticket:
        """Take a request: encode its text and seed image (or find them encoded) and queue it.

        Raises:
            RiffstreamError: a parameter out of range, an unknown name, an unreadable file; nothing is queued then.
        """
        begin = time.perf_counter()
        ticket = Ticket(self._count, request)
        self._count += 1
        try:
            with torch.no_grad():
                slot = self._prepare.slot(ticket)
        except torch.OutOfMemoryError:
            self.stats.out_of_memory += 1
            raise RiffstreamError(f"{self.family.device} has no memory left to prepare a clip") from None
        slot.seconds = time.perf_counter() - begin
        self.stats.prepare_s += slot.seconds
        self._slots[ticket.number] = slot
        return ticket

    def cancel(self, ticket: Ticket) -> bool:
        """Give up a clip between two of its steps. True if it was in progress."""
        slot = self._slots.pop(ticket.number, None)
        ticket.cancelled = slot is not None or ticket.cancelled
        return slot is not None

    @torch.no_grad()
    def tick(self) -> list[Clip]:
        """One evaluation of the network over a batch, and the clips that it finished, decoded.

        A clip that fails (no memory even for it alone, numbers that are not finite) is dropped with its ticket's
        ``error`` set; the others go on.
        """
        begin = time.perf_counter()
        unfinished = [slot for slot in self._slots.values() if not slot.finished]
        chosen = choose(unfinished, self._limit, fill=self._pad, buckets=self._buckets())
        if chosen:
            try:
                self._advance(chosen)
            except torch.OutOfMemoryError:
                self._fail(chosen, f"{self.family.device} has no memory left for a single clip")
            self._settle(chosen, begin)
        return self._collect()

    def render(self, request: ClipRequest) -> Clip:
        """Submit one clip and tick until it is there; whatever else is pending moves on as well.

        Raises:
            RiffstreamError: what ``submit`` raises, or why the clip failed.
        """
        ticket = self.submit(request)
        while not ticket.done:
            self.tick()
        if ticket.clip is None:
            raise ticket.error or RiffstreamError("the clip was cancelled")
        return ticket.clip

    def warm_up(self) -> None:
        """Run the model once, and the network at each batch size that will be used, so that no clip waits for a
        compiler."""
        self.family.warm_up()
        if not self._pad:
            return
        with torch.no_grad():
            text = self.encoder.encode("")
            x = torch.zeros(1, *self.family.latent_shape(), device=self.family.device)
            t = torch.ones(1, device=self.family.device)
            for size in self._buckets():
                self.family.denoise(x.expand(size, -1, -1, -1), t.expand(size), TextEmbedding.stack([text] * size))

    def _buckets(self) -> tuple[int, ...]:
        return (*(size for size in BUCKETS if size < self._limit), self._limit)

    def _advance(self, slots: Sequence[Slot]) -> None:
        """One step of each slot."""
        rows = [slot.schedule.rows[slot.position] for slot in slots]
        times = torch.tensor([row.time for row in rows], dtype=torch.float32, device=self.family.device)
        guided = [k for k, slot in enumerate(slots) if slot.guided]
        order = [*range(len(slots)), *guided]
        texts = [slot.cond for slot in slots] + [u for k in guided if (u := slots[k].uncond) is not None]
        x = torch.stack([slot.x for slot in slots])
        prediction = self._with_less_memory(lambda size: self._predict(slots, x, times, texts, order, size))
        merged = prediction[: len(slots)]
        if guided:
            index = torch.tensor(guided, device=x.device)
            scale = torch.tensor([slots[k].guidance for k in guided], device=x.device).view(-1, 1, 1, 1)
            uncond = prediction[len(slots) :]
            merged = merged.index_copy(0, index, uncond + scale * (merged[index] - uncond))
        noise = None
        if any(row.draws for row in rows):
            draws = [
                slot.stream.draw() if row.draws else torch.zeros(slot.x.shape)
                for slot, row in zip(slots, rows, strict=True)
            ]
            noise = torch.stack(draws).to(x.device)
        places = max(slot.memory.shape[0] for slot in slots)
        memory = torch.stack([_padded(slot.memory, places) for slot in slots])
        x, memory = step(x, merged, rows, memory, noise)
        for k, (slot, row) in enumerate(zip(slots, rows, strict=True)):
            slot.x, slot.memory = x[k], memory[k, : slot.memory.shape[0]]
            slot.evaluations += slot.rows
            slot.position += 1
            slot.keep(row.level, last=slot.finished)

    def _predict(
        self,
        slots: Sequence[Slot],
        x: Tensor,
        times: Tensor,
        texts: Sequence[TextEmbedding],
        order: Sequence[int],
        size: int,
    ) -> Tensor:
        """Predictions [len(order), C, h, w]: row r is slot ``order[r]`` under ``texts[r]``, ``size`` rows at a time."""
        parts = []
        for begin in range(0, len(order), size):
            rows = list(range(begin, min(begin + size, len(order))))
            count = len(rows)
            if self._pad:
                rows += [rows[-1]] * (min(b for b in self._buckets() if b >= count) - count)
                self.stats.padded_rows += len(rows) - count
            members = [order[row] for row in rows]
            index = torch.tensor(members, device=x.device)
            text = TextEmbedding.stack([texts[row] for row in rows])
            extra: dict[str, Tensor] = {}
            if any(slots[k].previous is not None for k in members):
                given = [slots[k].previous for k in members]
                extra["previous"] = torch.stack([x[0].new_zeros(x.shape[1:]) if p is None else p for p in given])
                extra["previous_mask"] = torch.tensor([p is not None for p in given], device=x.device)
            parts.append(self.family.denoise(x[index], times[index], text, **extra)[:count])
            self.stats.rows += count
        return torch.cat(parts)

    def _with_less_memory(self, run: Callable[[int], T]) -> T:
        """Run with as many rows as fit: each time memory runs out, the limit is halved and the run repeated."""
        while True:
            try:
                return run(self._limit)
            except torch.OutOfMemoryError:
                self.stats.out_of_memory += 1
                self._calm = 0
                if self._limit == 1:
                    raise
            # Outside the handler: there the traceback would keep the failed run's tensors alive.
            self._limit = max(1, self._limit // 2)
            _free_memory(self.family.device)

    def _settle(self, slots: Sequence[Slot], begin: float) -> None:
        """Account for the tick's time, and widen the batch again after a long calm."""
        if self.family.device.type == "cuda":
            torch.cuda.synchronize(self.family.device)  # else ticks would run ahead of the device and delay a cancel
        elapsed = time.perf_counter() - begin
        self.stats.ticks += 1
        self.stats.denoise_s += elapsed
        for slot in slots:
            slot.seconds += elapsed / len(slots)
        self._calm += 1
        if self._calm >= RECOVERY and self._limit < self._max_batch:
            self._limit = min(self._max_batch, 2 * self._limit)
            self._calm = 0

    def _collect(self) -> list[Clip]:
        """Decode what is finished, first come first."""
        finished = [slot for slot in self._slots.values() if slot.finished]
        clips: list[Clip] = []
        while finished:
            group = [slot for slot in finished if slot.joined.shape == finished[0].joined.shape][: self._decode_limit]
            begin = time.perf_counter()
            try:
                mels = self.family.decode_mel(torch.stack([slot.joined for slot in group])).float().cpu()
            except torch.OutOfMemoryError:
                self.stats.out_of_memory += 1
                if len(group) == 1:
                    self._fail(group, f"{self.family.device} has no memory left to decode a single clip")
                    finished.remove(group[0])
                self._decode_limit = max(1, len(group) // 2)
                _free_memory(self.family.device)
                continue
            elapsed = time.perf_counter() - begin
            self.stats.decode_s += elapsed
            for slot, mel in zip(group, mels, strict=True):
                finished.remove(slot)
                slot.seconds += elapsed / len(group)
                clip = self._clip(slot, mel)
                if clip is not None:
                    clips.append(clip)
        return clips

    def _clip(self, slot: Slot, mel: Tensor) -> Clip | None:
        ticket = slot.ticket
        if not bool(torch.isfinite(mel).all()):
            self._fail([slot], f"the model gave numbers that are not finite in {self.family.dtype}; try float32")
            return None
        del self._slots[ticket.number]
        lead = round(mel.shape[-1] * slot.context / slot.joined.shape[-1])
        mel = mel[..., lead : lead + (ticket.request.frames or self.family.frames)].contiguous()
        ticket.clip = Clip(ticket.request, mel, slot.x.clone(), slot.seconds, slot.evaluations, slot.overlap_frames)
        self.stats.clips += 1
        return ticket.clip

    def _fail(self, slots: Sequence[Slot], reason: str) -> None:
        for slot in slots:
            self._slots.pop(slot.ticket.number, None)
            slot.ticket.error = RiffstreamError(reason)
            self.stats.failures += 1


def _padded(memory: Tensor, places: int) -> Tensor:
    missing = places - memory.shape[0]
    return memory if missing == 0 else torch.cat([memory, memory.new_zeros(missing, *memory.shape[1:])])


def _free_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
