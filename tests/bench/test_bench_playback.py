"""The bench's listener: when it begins, what an underrun costs, and that it does not cost it for ever after."""

from __future__ import annotations

import pytest

from riffstream.bench.playback import Playback

FRAME = 4800


def live(playback: Playback, begin: int, end: int, *, late_s: float = 0.0) -> None:
    """Frames ``begin`` to ``end``, each as it is due and so many seconds later."""
    for n in range(begin, end):
        playback.receive(n * 0.1 + late_s, n * FRAME, FRAME)


def joined() -> Playback:
    """After the burst of 300 ms that a server begins with."""
    playback = Playback()
    for n in range(3):
        playback.receive(0.2, n * FRAME, FRAME)
    return playback


def latency(playback: Playback, n: int) -> float:
    """Seconds from when frame ``n`` is due to when it is heard."""
    return playback.audible_at(n * FRAME) - n * 0.1


def test_playing_begins_when_the_buffer_is_there_and_the_surplus_melts() -> None:
    playback = joined()
    assert playback.audible_at(0) == pytest.approx(0.2)
    live(playback, 3, 400)
    assert latency(playback, 400) == pytest.approx(0.17, abs=0.01)  # 220 ms on average, half a frame behind the first
    assert playback.underruns == playback.skips == 0
    assert playback.received == 400 * FRAME


def test_a_calm_line_with_short_frames_shrinks_the_buffer() -> None:
    playback = Playback()
    frame = 1920
    for n in range(6):
        playback.receive(0.24, n * frame, frame)
    for n in range(6, 1000):
        playback.receive(n * 0.04 + 0.01 * (n % 2), n * frame, frame)
    assert playback.underruns == playback.skips == 0
    assert playback.target_s < 0.1
    mean = (playback.edge - playback.position(40.0)) / 48_000 - 0.02
    assert mean < 0.12


def test_a_late_frame_keeps_the_buffer_for_a_minute() -> None:
    playback = joined()
    for n in range(3, 900):
        playback.receive(n * 0.1 + 0.09 * (n % 50 == 0), n * FRAME, FRAME)
    assert playback.underruns == 0
    assert playback.target_s > 0.2


def test_without_a_burst_it_waits_for_200_ms() -> None:
    playback = Playback()
    playback.receive(5.0, 48_000, FRAME)
    assert playback.audible_at(48_000) == pytest.approx(5.1)
    playback.receive(5.1, 48_000 + FRAME, FRAME)
    assert playback.audible_at(48_000) == pytest.approx(5.1)
    assert playback.position(5.2) == pytest.approx(48_000 + FRAME)


@pytest.mark.parametrize("stall_s", [0.4, 0.6])
def test_a_short_stall_is_caught_up_with(stall_s: float) -> None:
    playback = joined()
    live(playback, 3, 100)
    before = latency(playback, 99)
    late = 100 + round(10 * stall_s)
    for n in range(100, late):
        playback.receive(late * 0.1, n * FRAME, FRAME)
    assert playback.underruns == 1
    live(playback, late, late + 1)
    assert latency(playback, late) < before + stall_s
    live(playback, late + 1, late + 600)
    assert latency(playback, late + 600) < before + 0.15  # the buffer is half as large again, and falls slowly
    live(playback, late + 600, late + 4000)
    assert latency(playback, late + 4000) < before + 0.02
    assert (playback.underruns, playback.skips) == (1, 0)


def test_after_a_long_stall_it_skips_to_live() -> None:
    playback = joined()
    live(playback, 3, 100)
    before = latency(playback, 99)
    for n in range(100, 150):
        playback.receive(15.0, n * FRAME, FRAME)
    live(playback, 150, 160)
    assert playback.underruns == 1
    assert playback.skips >= 1
    assert latency(playback, 160) < before + 0.75


def test_a_gap_is_no_underrun() -> None:
    playback = joined()
    live(playback, 3, 20)
    playback.receive(2.0, 60 * FRAME, FRAME, discontinuity=True)
    playback.receive(2.1, 61 * FRAME, FRAME)
    assert playback.underruns == 0
    assert playback.audible_at(60 * FRAME) == pytest.approx(2.1)
