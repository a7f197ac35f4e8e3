"""One evaluation of the network for a batch of slots, followed by each slot's own sampler step.

A slot with guidance has two rows in the batch, with and without its text; other slots have one. The first step of a
clip may try several noises, each in a row of its own; the clip goes on with the one that the model's ear chooses.

Threading model
  One thread makes every call (the engine's). All state between steps is in the slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from riffstream.diffusion.batch_limit import BatchLimit
from riffstream.diffusion.family import Family, TextEmbedding
from riffstream.diffusion.samplers import step
from riffstream.diffusion.slots import Slot
from riffstream.diffusion.stats import Stats

__all__ = ["Stepper"]


class Stepper:
    """Executor of denoising steps for batches of slots.

    Args:
        family: the model.
        limit: limit on the rows of a batch, lowered when memory runs out.
        stats: counters of rows.
        pad: True pads batches to the limit's buckets.
    """

    def __init__(self, family: Family, limit: BatchLimit, stats: Stats, *, pad: bool) -> None:
        self._family = family
        self._limit = limit
        self._stats = stats
        self._pad = pad

    @torch.no_grad()
    def warm_up(self, text: TextEmbedding) -> None:
        """Run the network once at each batch size, with any one prompt ``text``.

        Raises:
            Exception: one row does not fit into memory (see ``errors.out_of_memory``).
        """
        x = torch.zeros(1, *self._family.latent_shape(), device=self._family.device)
        t = torch.ones(1, device=self._family.device)
        warm: set[int] = set()

        def run(rows: int) -> None:
            for size in reversed(self._limit.buckets()):  # if the largest fits, the others do too
                if size not in warm:
                    self._family.denoise(x.expand(size, -1, -1, -1), t.expand(size), TextEmbedding.stack([text] * size))
                    warm.add(size)

        self._limit.fit(run)

    @torch.no_grad()
    def step(self, slots: Sequence[Slot]) -> None:
        """Advance each slot by one step; all slots are of one kind.

        Raises:
            Exception: one row does not fit into memory (see ``errors.out_of_memory``).
        """
        if slots[0].others:
            self._advance(slots, self._choose(slots[0]))
            return
        rows = [slot.schedule.rows[slot.position] for slot in slots]
        times = torch.tensor([row.time for row in rows], dtype=torch.float32, device=self._family.device)
        guided = [k for k, slot in enumerate(slots) if slot.guided]
        order = [*range(len(slots)), *guided]
        texts = [slot.cond for slot in slots] + [u for k in guided if (u := slots[k].uncond) is not None]
        x = torch.stack([slot.x for slot in slots])
        prediction = self._limit.fit(lambda size: self._predict(slots, x, times, texts, order, size))
        merged = prediction[: len(slots)]
        if guided:
            index = torch.tensor(guided, device=x.device)
            scale = torch.tensor([slots[k].guidance for k in guided], device=x.device).view(-1, 1, 1, 1)
            uncond = prediction[len(slots) :]
            merged = merged.index_copy(0, index, uncond + scale * (merged[index] - uncond))
        for slot in slots:
            slot.evaluations += slot.rows
        self._advance(slots, merged)

    def _choose(self, slot: Slot) -> Tensor:
        """Go on with the try whose first estimate fits best; returns its prediction [1, C, h, w], guided if it is."""
        ear, time, tried = self._family.ear, slot.schedule.rows[0].time, [slot, *slot.others]
        assert ear is not None
        x = torch.stack([each.x for each in tried])
        times = torch.full((len(x),), time, dtype=torch.float32, device=x.device)
        texts, order = [slot.cond] * len(x), range(len(x))
        prediction = self._limit.fit(lambda size: self._predict(tried, x, times, texts, order, size))
        best = int(ear.fit(x - time * prediction, slot.words, slot.conditions).argmax())
        slot.take(tried[best])
        slot.evaluations += len(tried)
        prediction = prediction[best : best + 1]
        if slot.guided and slot.uncond is not None:
            plain = [replace(slot, conditions=None)]
            uncond = self._predict(plain, slot.x[None], times[:1], [slot.uncond], [0], 1)
            prediction = uncond + slot.guidance * (prediction - uncond)
            slot.evaluations += 1
        return prediction

    def _advance(self, slots: Sequence[Slot], merged: Tensor) -> None:
        """Sampler steps with predictions [len(slots), C, h, w]."""
        rows = [slot.schedule.rows[slot.position] for slot in slots]
        x = torch.stack([slot.x for slot in slots])
        noise = None
        if any(row.draws for row in rows):
            draws = [
                slot.draw() if row.draws else torch.zeros(slot.x.shape) for slot, row in zip(slots, rows, strict=True)
            ]
            noise = torch.stack(draws).to(x.device)
        places = max(slot.memory.shape[0] for slot in slots)
        memory = torch.stack([_padded(slot.memory, places) for slot in slots])
        x, memory = step(x, merged, rows, memory, noise)
        for k, (slot, row) in enumerate(zip(slots, rows, strict=True)):
            slot.x, slot.memory = x[k], memory[k, : slot.memory.shape[0]]
            slot.position += 1
            slot.drawn = None
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
        if all(slot.ticket is slots[0].ticket for slot in slots) and self._family.exact_alone:
            size = 1
        for begin in range(0, len(order), size):
            rows = list(range(begin, min(begin + size, len(order))))
            count = len(rows)
            if self._pad:
                rows += [rows[-1]] * (min(b for b in self._limit.buckets() if b >= count) - count)
                self._stats.padded_rows += len(rows) - count
            members = [order[row] for row in rows]
            index = torch.tensor(members, device=x.device)
            text = TextEmbedding.stack([texts[row] for row in rows])
            extra: dict[str, Tensor] = {}
            given = [slots[k].seen for k in members]
            if any(each is not None for each in given):
                extra["previous"] = torch.stack([x[0].new_zeros(x.shape[1:]) if p is None else p for p in given])
                extra["previous_mask"] = torch.tensor([p is not None for p in given], device=x.device)
            asked = [slots[k].conditions if row < len(slots) else None for row, k in zip(rows, members, strict=True)]
            if (like := next((each for each in asked if each is not None), None)) is not None:
                # The second row of a guided clip has neither text nor conditions.
                extra["conditions"] = torch.stack([torch.zeros_like(like) if c is None else c for c in asked])
            parts.append(self._family.denoise(x[index], times[index], text, **extra)[:count])
            self._stats.rows += count
        return torch.cat(parts)


def _padded(memory: Tensor, places: int) -> Tensor:
    missing = places - memory.shape[0]
    return memory if missing == 0 else torch.cat([memory, memory.new_zeros(missing, *memory.shape[1:])])
