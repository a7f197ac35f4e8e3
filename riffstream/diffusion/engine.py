"""The engine: many clips in progress, one evaluation of the network at a time.

Threading model
  One thread (the generator's, or the caller's) makes every call. Requests may be submitted or cancelled between two
  ticks. A tick is one evaluation of a batch, or the tries of a clip, the longest time that a call has to wait.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from riffstream.diffusion.batch_limit import BatchLimit, free_memory
from riffstream.diffusion.clip import Clip, ClipRequest
from riffstream.diffusion.family import Family
from riffstream.diffusion.restoring import restored
from riffstream.diffusion.samplers import find
from riffstream.diffusion.seed_images import SeedImages, SeedSource
from riffstream.diffusion.slots import Preparer, Slot, Ticket, choose
from riffstream.diffusion.stats import Stats
from riffstream.diffusion.stepper import Stepper
from riffstream.diffusion.text import PromptEncoder
from riffstream.errors import ParameterError, RiffstreamError, device_lost, out_of_memory
from riffstream.ranges import check

__all__ = ["Engine"]


class Engine:
    """Renderer of many clips of one model at once.

    A clip depends on its request only. Other clips in its batches and the order of submission change it by no more than
    the rounding of batched arithmetic (in float32 about 1e-5 of the latent, see docs/engine.md), and not at all with a
    constant batch size.

    Args:
        family: the model.
        max_batch: rows of a batch, 1 to 256. A clip with guidance takes two rows.
        sampler, steps: defaults for requests without them; None: the family's.
        seeds: the seed library.
        files: True allows paths of this machine as seed images and masks.
        overlap: for families without native continuation, the part of a clip, 0 to 0.75, that repeats the end of
            ``previous``.
        pad: True pads batches to the sizes of ``batch_limit.BUCKETS``; None: only on CUDA, where a small set of shapes
            is fast.

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
        overlap: float = 0.25,
        pad: bool | None = None,
    ) -> None:
        if not 1 <= max_batch <= 256:
            raise ParameterError("max_batch", max_batch, "1 to 256")
        if not 0 <= overlap <= 0.75:
            raise ParameterError("overlap", overlap, "0 to 0.75")
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
            overlap=overlap,
        )
        self._pad = family.device.type == "cuda" if pad is None else pad
        self._limit = BatchLimit(max_batch, family.device, self.stats)
        self._stepper = Stepper(family, self._limit, self.stats, pad=self._pad)
        self._decode_limit = max_batch
        self._slots: dict[int, Slot] = {}
        self._count = 0

    @property
    def pending(self) -> int:
        """Number of clips in progress: submitted and not yet returned, cancelled or failed."""
        return len(self._slots)

    def submit(self, request: ClipRequest) -> Ticket:
        """Queue a request after encoding its text and seed image, or finding them in the cache.

        Raises:
            RiffstreamError: a parameter out of range, an unknown name or an unreadable file. The request is not queued.
        """
        begin = time.perf_counter()
        ticket = Ticket(self._count, request)
        self._count += 1
        try:
            with torch.no_grad():
                slot = self._prepare.slot(ticket)
        except Exception as error:
            if not out_of_memory(error):
                raise
            self.stats.out_of_memory += 1
            raise RiffstreamError(f"{self.family.device} has no memory left to prepare a clip") from None
        slot.seconds = slot.prepare_s = time.perf_counter() - begin
        self.stats.prepare_s += slot.seconds
        self._slots[ticket.number] = slot
        return ticket

    def cancel(self, ticket: Ticket) -> bool:
        """Cancel a clip between two of its steps. True if it was in progress."""
        slot = self._slots.pop(ticket.number, None)
        ticket.cancelled = slot is not None or ticket.cancelled
        return slot is not None

    @torch.no_grad()
    def tick(self) -> list[Clip]:
        """Evaluate the network once for a batch; return the finished clips, decoded.

        A clip that fails (not enough memory for it alone, values that are not finite, any exception) is dropped and its
        ticket's ``error`` is set. The other clips continue.

        Raises:
            Exception: the device no longer works (see ``errors.device_lost``).
        """
        begin = time.perf_counter()
        unfinished = [slot for slot in self._slots.values() if not slot.finished]
        chosen = choose(unfinished, self._limit.rows, fill=self._pad, buckets=self._limit.buckets())
        if chosen:
            self._step(chosen)
            self._settle(chosen, begin)
        return self._collect()

    def render(self, request: ClipRequest) -> Clip:
        """Submit one clip and tick until it is finished; other pending clips advance too.

        Raises:
            RiffstreamError: from ``submit``, or the reason of the clip's failure.
        """
        ticket = self.submit(request)
        while not ticket.done:
            self.tick()
        if ticket.clip is None:
            raise ticket.error or RiffstreamError("the clip was cancelled")
        return ticket.clip

    def warm_up(self) -> None:
        """Run the model once, and the network once at each batch size, so that no clip waits for compilation."""
        self.family.warm_up()
        if self._pad:
            with torch.no_grad():
                self._stepper.warm_up(self.encoder.encode(""))

    def _step(self, slots: Sequence[Slot]) -> None:
        """Step all slots. If the batch fails, step them one by one, so that only the faulty clip is lost."""
        positions = [slot.position for slot in slots]
        try:
            self._stepper.step(slots)
        except Exception as error:
            if len(slots) == 1:
                self._fail_for(slots, error, "for a single clip")
                return
            if device_lost(error) and not out_of_memory(error):
                raise
        else:
            return
        # Outside the handler, where the traceback would keep the failed batch's tensors alive.
        free_memory(self.family.device)
        for slot, position in zip(slots, positions, strict=True):
            if slot.position == position:
                self._step([slot])

    def _settle(self, slots: Sequence[Slot], begin: float) -> None:
        """Record the tick's time, and raise the batch limit after a long time without memory errors."""
        if self.family.device.type == "cuda":
            torch.cuda.synchronize(self.family.device)  # otherwise ticks run ahead of the device and delay a cancel
        elapsed = time.perf_counter() - begin
        self.stats.ticks += 1
        self.stats.denoise_s += elapsed
        for slot in slots:
            slot.seconds += elapsed / len(slots)
        self._limit.settle()

    def _collect(self) -> list[Clip]:
        """Decode the finished clips in order of submission."""
        finished = [slot for slot in self._slots.values() if slot.finished]
        clips: list[Clip] = []
        single = False  # True after a group failed: decode one by one to find the faulty clip
        while finished:
            limit = 1 if single else self._decode_limit
            window = self._window(finished[0])
            shape = finished[0].joined.shape
            group = [slot for slot in finished if slot.joined.shape == shape and self._window(slot) == window][:limit]
            begin = time.perf_counter()
            try:
                joined = torch.stack([slot.joined[..., window[0] : window[1]] for slot in group])
                decoded = self.family.decode_mel(joined).float()
                mels = [self._restored(slot, mel, window).cpu() for slot, mel in zip(group, decoded, strict=True)]
            except Exception as error:
                if out_of_memory(error):
                    self.stats.out_of_memory += 1
                    self._decode_limit = max(1, len(group) // 2)
                if len(group) == 1:
                    self._fail_for(group, error, "to decode a single clip")
                    finished.remove(group[0])
                elif not out_of_memory(error):
                    single = True
                free_memory(self.family.device)
                continue
            elapsed = time.perf_counter() - begin
            self.stats.decode_s += elapsed
            for slot, mel in zip(group, mels, strict=True):
                finished.remove(slot)
                slot.decode_s = elapsed / len(group)
                slot.seconds += slot.decode_s
                clip = self._clip(slot, mel)
                if clip is not None:
                    clips.append(clip)
        return clips

    def _restored(self, slot: Slot, mel: Tensor, window: tuple[int, int]) -> Tensor:
        return mel if slot.seed is None else restored(self.family, mel, slot.seed, slot.x, slot.lead, window)

    def _window(self, slot: Slot) -> tuple[int, int]:
        """First and last column of the joined latents to decode: the request's span and what influences it."""
        span, width, context = slot.ticket.request.span, slot.joined.shape[-1], self.family.context
        if span is None or not context:
            return 0, width
        per_column = (slot.ticket.request.frames or self.family.frames) / slot.x.shape[-1]
        first = slot.context + math.floor(span[0] / per_column) - context
        last = slot.context + math.ceil(span[1] / per_column) + context
        return max(0, first), min(width, last)

    def _clip(self, slot: Slot, mel: Tensor) -> Clip | None:
        ticket = slot.ticket
        if not bool(torch.isfinite(mel).all()):
            self._fail([slot], f"the model gave numbers that are not finite in {self.family.dtype}; try float32")
            return None
        del self._slots[ticket.number]
        first, last = self._window(slot)
        frames = ticket.request.frames or self.family.frames
        lead = round(mel.shape[-1] * (slot.context - first) / (last - first))
        begin, end = ticket.request.span or (0, frames)
        mel = mel[..., lead + begin : lead + min(end, frames)].contiguous()
        ticket.clip = Clip(
            ticket.request,
            mel,
            slot.x.clone(),
            slot.seconds,
            slot.evaluations,
            slot.overlap_frames,
            slot.prepare_s,
            slot.decode_s,
            slot.opening,
            slot.turn,
        )
        self.stats.clips += 1
        return ticket.clip

    def _fail_for(self, slots: Sequence[Slot], error: Exception, what: str) -> None:
        """Drop clips because of an exception; raise it if the device is lost."""
        if out_of_memory(error):
            self._fail(slots, f"{self.family.device} has no memory left {what}")
        elif device_lost(error):
            raise error
        elif isinstance(error, RiffstreamError):
            self._fail(slots, str(error))
        else:
            self._fail(slots, f"the clip could not be made: {type(error).__name__}", cause=error)

    def _fail(self, slots: Sequence[Slot], reason: str, *, cause: Exception | None = None) -> None:
        for slot in slots:
            self._slots.pop(slot.ticket.number, None)
            slot.ticket.error = RiffstreamError(reason)
            slot.ticket.error.__cause__ = cause
            self.stats.failures += 1
