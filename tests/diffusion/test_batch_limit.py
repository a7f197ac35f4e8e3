"""The limit by itself: halved by running out of memory, doubled by a long calm."""

from __future__ import annotations

import pytest
import torch

from riffstream.diffusion.batch_limit import RECOVERY, BatchLimit
from riffstream.diffusion.stats import Stats


class Device:
    """Holds ``room`` rows."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.tried: list[int] = []

    def run(self, rows: int) -> str:
        self.tried.append(rows)
        if rows > self.room:
            raise torch.OutOfMemoryError("injected")
        return f"{rows} rows"


def make(most: int) -> tuple[BatchLimit, Stats]:
    stats = Stats()
    return BatchLimit(most, torch.device("cpu"), stats), stats


def test_it_is_halved_until_the_batch_fits() -> None:
    limit, stats = make(16)
    device = Device(3)
    assert limit.fit(device.run) == "2 rows"
    assert (device.tried, limit.rows, stats.out_of_memory) == ([16, 8, 4, 2], 2, 3)
    limit.fit(device.run)
    assert device.tried[4:] == [2]


def test_where_not_even_one_row_fits_it_gives_up() -> None:
    limit, stats = make(3)
    with pytest.raises(torch.OutOfMemoryError):
        limit.fit(Device(0).run)
    assert (limit.rows, stats.out_of_memory) == (1, 2)


def test_it_is_doubled_after_a_calm_that_running_out_begins_anew() -> None:
    limit, _ = make(6)
    device = Device(2)
    limit.fit(device.run)
    assert limit.rows == 1  # 6, 3, 1
    for _ in range(RECOVERY - 1):
        limit.settle()
    device.room = 0
    with pytest.raises(torch.OutOfMemoryError):
        limit.fit(device.run)
    limit.settle()
    assert limit.rows == 1
    rows = []
    for _ in range(4 * RECOVERY):
        limit.settle()
        rows.append(limit.rows)
    assert sorted(set(rows)) == [1, 2, 4, 6]
    assert rows == sorted(rows)


@pytest.mark.parametrize(
    ("most", "buckets"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (16, (1, 2, 4, 8, 16)), (20, (1, 2, 4, 8, 16, 20))]
)
def test_buckets_end_with_the_limit(most: int, buckets: tuple[int, ...]) -> None:
    assert make(most)[0].buckets() == buckets
