"""The ring of committed audio, written by one thread and read by others."""

from __future__ import annotations

import threading

import numpy as np

from riffstream.station.ring import PcmRing


def ramp(start: int, n: int) -> np.ndarray:
    """Samples that say where they are."""
    values = ((np.arange(start, start + n) % 60_000) - 30_000) / 32767
    return np.repeat(values.astype(np.float32)[:, None], 2, axis=1)


def place(pcm: np.ndarray) -> np.ndarray:
    return np.rint(pcm[:, 0] * 32767).astype(int) + 30_000


def test_it_holds_the_newest_samples() -> None:
    ring = PcmRing(1000)
    for start in range(0, 5000, 130):
        ring.push(ramp(start, 130))
    assert (ring.end - ring.begin, ring.end) == (1000, 5070)
    assert place(ring.read(0, 10_000)).tolist() == list(range(4070, 5070))
    assert place(ring.read(4500, 4600)).tolist() == list(range(4500, 4600))
    assert len(ring.read(100, 200)) == 0
    assert len(ring.read(6000, 7000)) == 0


def test_blocks_end_at_the_newest_sample() -> None:
    ring = PcmRing(1000)
    ring.push(ramp(0, 950))
    blocks = ring.blocks(1.0, 100, 7)
    assert [block.pos for block in blocks] == list(range(50, 950, 100))
    assert {block.rev for block in blocks} == {7}


def test_what_is_overwritten_while_a_thread_reads_is_left_out() -> None:
    size, step = 20_000, 700
    ring, stop = PcmRing(size), threading.Event()
    faults: list[str] = []
    lengths: list[int] = []

    def read() -> None:
        while not stop.is_set():
            end = ring.end
            found = place(ring.read(end - size, end))
            lengths.append(len(found))
            expected = np.arange(end - len(found), end) % 60_000
            if not np.array_equal(found, expected):
                faults.append(f"at {end}: {len(found)} samples")

    ring.push(ramp(0, size))
    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    start = size
    while len(lengths) < 2000 and not faults:
        ring.push(ramp(start, step))
        start += step
    stop.set()
    for reader in readers:
        reader.join()
    assert not faults
    assert max(lengths) == size
