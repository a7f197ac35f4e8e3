"""The benchmark of outlets against the real server, with few listeners."""

from __future__ import annotations

import pytest

from riffstream.bench.outlets import measure_outlets


@pytest.mark.slow
def test_listeners_and_players_get_audio_and_the_server_reports_its_time() -> None:
    found = measure_outlets(3, 4.0)
    assert found.listeners == 3
    assert 100 < found.mp3_kbit_s < 250  # 128 kbit/s, and the burst
    assert found.hls_players == 24
    assert 0 < found.hls_encoders_percent < 100
    assert 0 < found.hls_origin_percent < 50
