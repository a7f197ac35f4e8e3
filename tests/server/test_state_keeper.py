"""Limits of the saved state."""

from __future__ import annotations

import msgspec
import pytest

from riffstream.server import state_keeper
from riffstream.station.saving import saved
from tests.station.test_saved import played


def test_the_last_audio_of_all_stations_fits_into_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_keeper, "MOST_RECENT", 250)
    state = saved(played().timeline)
    assert state is not None
    states = {name: msgspec.structs.replace(state, recent=bytes(100)) for name in ("a", "b", "c", "d")}
    kept = state_keeper._bounded(states)
    assert [len(each.recent) for each in kept.values()] == [100, 100, 0, 0]
    assert [each.place for each in kept.values()] == [state.place] * 4
