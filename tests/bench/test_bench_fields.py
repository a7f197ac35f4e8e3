"""Every field is steered, on a real server with the test tone."""

from __future__ import annotations

import pytest

from riffstream.bench.live import FIELDS, change, field_delays, serving
from riffstream.client.requests import steer_message
from riffstream.protocol import MixChange


def test_each_field_has_a_steer_and_the_way_back() -> None:
    assert {field.removeprefix("mix.") for field in FIELDS if field.startswith("mix.")} == set(
        MixChange.__struct_fields__
    ) - {"ramp_s"}
    for field in FIELDS:
        there, back = (change(field, n) for n in (0, 1))
        assert there != back
        for arguments in (there, back):
            steer_message("x", arguments.pop("prompt", None), arguments)


@pytest.mark.slow
async def test_the_delay_of_each_field_is_measured() -> None:
    async with serving(["--model", "tone"]) as (url, _):
        found = await field_delays(url, 1, 1.5)
    assert tuple(found) == FIELDS
    for field, delays in found.items():
        assert (len(delays.seconds), delays.failed) == (1, 0), field
        assert 0 < delays.seconds[0] < 10, field
