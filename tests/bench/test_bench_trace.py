"""The trace of a steer: its stages add up to what the listener waits."""

from __future__ import annotations

import pytest

from riffstream.bench.live import serving
from riffstream.bench.stream import _trace_page
from riffstream.bench.trace import KINDS, STAGES, Trace, trace


async def test_the_stages_of_a_steer_add_up_to_its_delay() -> None:
    async with serving(["--model", "tone"]) as (url, _):
        traces, underruns = await trace(url, 2, 0.7, settle_s=1.0)
    assert underruns >= 0
    for kind in KINDS:
        found = traces[kind]
        assert (len(found.total), found.failed) == (2, 0)
        for n, total in enumerate(found.total):
            assert sum(found.stages[name][n] for name in STAGES) == pytest.approx(total, abs=1e-6)
            assert 0 < total < 10
            assert found.stages["buffer"][n] > 0


def test_the_page_has_a_row_for_each_stage() -> None:
    one = Trace({name: [0.01, 0.03] for name in STAGES}, [0.1, 0.4])
    found = {"kinds": {"prompt": one.to_dict(), "key": Trace().to_dict()}, "underruns": 0}
    rows = [line.split("|") for line in _trace_page(found).splitlines() if line.startswith("|")]
    cells = {row[1].strip(): row[2].strip() for row in rows}
    assert all(cells[text] == "20" for text in STAGES.values())
    assert (cells["to the ear, p50"], cells["p95"]) == ("250", "400")
