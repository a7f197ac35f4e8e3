"""The desk on the command line."""

from __future__ import annotations

import pytest

from riffstream.commands.rendering.mix import desk
from riffstream.errors import ParameterError
from riffstream.protocol import Mix


def test_settings_are_read_with_spaces_or_commas() -> None:
    assert desk([]) is None
    assert desk(["drums=-60", "filter=-0.5,mute=bass", "mute=drums"]) == Mix(
        drums=-60.0, filter=-0.5, mute=("bass", "drums")
    )


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("volume=1", "mix must be NAME=VALUE with a name of drums, tonal"),
        ("low", "NAME=VALUE"),
        ("low=13", "mix.low"),
        ("low=loud", "mix.low"),
        ("tilt=nan", "mix.tilt"),
        ("mute=piano", "drums, bass"),
        ("hold=true", "NAME=VALUE"),
    ],
)
def test_bad_settings_name_the_field_and_what_is_allowed(given: str, says: str) -> None:
    with pytest.raises(ParameterError) as caught:
        desk([given])
    assert says.removeprefix("mix must be ") in str(caught.value)
