"""The names that ``import riffstream`` offers."""

from __future__ import annotations

import pytest

import riffstream


def test_public_names() -> None:
    assert riffstream.__all__ == ["Checkpoint", "Journey", "Keyframe", "SpectrogramParams", "Vocoder", "connect"]
    assert set(riffstream.__all__) <= set(dir(riffstream))


@pytest.mark.parametrize("name", riffstream.__all__)
def test_each_name_loads_and_says_what_it_is(name: str) -> None:
    assert getattr(riffstream, name).__doc__


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Station'"):
        _ = riffstream.Station
