"""A sample of ``python -m tests.fuzz``."""

from __future__ import annotations

import pytest

from tests.fuzz import READERS, run


@pytest.mark.parametrize("name", sorted(READERS))
def test_random_input_is_read_or_refused(name: str) -> None:
    _, share = READERS[name]
    ((n, refused),) = run(max(3, round(20 * share)), 7, (name,)).values()
    assert refused < n or n < 20, "some inputs must be good enough to be read"
