"""An encoder that fails: replaced where that helps, else an error to those who wait for it, and no flood in the log."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from riffstream.audio.encoders import Encoder, make_encoder
from riffstream.protocol import SAMPLE_RATE, Flags
from riffstream.station import outlet as module
from riffstream.station.block import Block
from riffstream.station.outlet import BEHIND_S, Chunk, EncoderError, Outlet, StationEndedError
from tests.conftest import PATIENCE_S

SIZE = 4800


def block(number: int) -> Block:
    return Block(number * SIZE, np.full((SIZE, 2), 0.1, np.float32), 0, False)


class Broken:
    """Stands for ``make_encoder``: makes ``good`` encoders, which fail at a block of NaN, then none."""

    def __init__(self, good: int = 0) -> None:
        self.good = good
        self.asked = 0

    def __call__(self, codec: str, **options: Any) -> Encoder:
        self.asked += 1
        if self.good <= 0:
            raise OSError(f"no encoder for {codec}")
        self.good -= 1
        encoder = make_encoder(codec, **options)
        push: Callable[[Any], Any] = encoder.push

        def strict(pcm: Any) -> Any:
            if not np.isfinite(pcm).all():
                raise ValueError("not finite")
            return push(pcm)

        encoder.push = strict  # type: ignore[method-assign]
        return encoder


class Heard(list[Chunk | None]):
    """What a taker got; the last is None where the outlet ended by itself."""

    @property
    def chunks(self) -> list[Chunk]:
        return [chunk for chunk in self if chunk is not None]


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not check():
            await asyncio.sleep(0.005)


async def test_an_encoder_that_cannot_be_made_is_an_error_and_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = Broken()
    monkeypatch.setattr(module, "make_encoder", broken)
    outlet = Outlet("mp3", lambda: [block(n) for n in range(50)])
    with pytest.raises(EncoderError, match="encoder for mp3 is not available") as caught:
        await asyncio.wait_for(outlet.start(Heard().append), PATIENCE_S)
    assert 0 < caught.value.retry_s <= module.RETRY_S
    for number in range(50):
        outlet.push(block(number))
    for _ in range(10):  # those who come meanwhile are answered without another try
        with pytest.raises(EncoderError):
            await outlet.start(Heard().append)
    assert (outlet.running, broken.asked) == (False, 1)
    (record,) = caplog.records
    assert record.getMessage() == "encoder mp3 cannot run, next try in 1 s at the earliest: OSError: no encoder for mp3"
    outlet.close()


async def test_waits_double_and_end_with_the_first_sound(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = Broken()
    monkeypatch.setattr(module, "make_encoder", broken)
    monkeypatch.setattr(module, "RETRY_S", 0.02)
    monkeypatch.setattr(module, "RETRY_MAX_S", 0.05)
    outlet = Outlet("pcm_s16", lambda: [block(n) for n in range(3)])
    waits = []
    for _ in range(4):
        with pytest.raises(EncoderError) as caught:
            await outlet.start(Heard().append)
        waits.append(caught.value.retry_s)
        await asyncio.sleep(0.06)
    assert broken.asked == len(caplog.records) == 4
    assert "0.02 s" in caplog.messages[0]
    assert "0.04 s" in caplog.messages[1]
    assert "0.05 s" in caplog.messages[3]
    broken.good = 1
    heard = Heard()
    await outlet.start(heard.append)
    assert len(heard.chunks) == 3
    assert outlet.running
    outlet.close()


async def test_a_block_that_fails_costs_one_encoder_and_no_listener(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "make_encoder", Broken(good=2))
    outlet = Outlet("pcm_s16", lambda: [block(0)])
    heard = Heard()
    await outlet.start(heard.append)
    poison = Block(SIZE, np.full((SIZE, 2), np.nan, np.float32), 0, False)
    for each in (poison, block(2), block(3)):
        outlet.push(each)
    await until(lambda: len(heard) == 3)
    assert [chunk.sample_pos for chunk in heard.chunks] == [0, 2 * SIZE, 3 * SIZE]
    assert [bool(chunk.flags & Flags.DISCONTINUITY) for chunk in heard.chunks] == [False, True, False]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == "encoder pcm_s16 failed and is replaced: ValueError: not finite"
    outlet.close()


async def test_the_taker_of_an_encoder_that_is_lost_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "make_encoder", Broken(good=1))
    outlet = Outlet("pcm_s16", lambda: [block(0)])
    heard = Heard()
    await outlet.start(heard.append)
    for each in (Block(SIZE, np.full((SIZE, 2), np.nan, np.float32), 0, False), block(2)):
        outlet.push(each)
    await until(lambda: heard[1:] == [None])
    assert (outlet.running, outlet.closed) == (False, False)
    outlet.close()


async def test_an_encoder_that_is_behind_loses_the_oldest_audio_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    go, held = threading.Event(), threading.Event()

    def slow(codec: str, **options: Any) -> Encoder:
        encoder = make_encoder(codec, **options)
        push: Callable[[Any], Any] = encoder.push

        def pushed(pcm: Any) -> Any:
            held.set()
            go.wait(20)
            return push(pcm)

        encoder.push = pushed  # type: ignore[method-assign]
        return encoder

    monkeypatch.setattr(module, "make_encoder", slow)
    outlet = Outlet("pcm_s16", list)
    heard = Heard()
    await asyncio.wait_for(outlet.start(heard.append), PATIENCE_S)
    outlet.push(block(0))
    await until(held.is_set)
    for number in range(1, 500):  # 50 s
        outlet.push(block(number))
    assert outlet._queue is not None
    assert outlet._queue.qsize() * SIZE <= (BEHIND_S + 0.2) * SAMPLE_RATE
    go.set()
    await until(lambda: bool(heard) and heard.chunks[-1].sample_pos == 499 * SIZE)
    chunks = heard.chunks
    assert sum(chunk.n_samples for chunk in chunks) < (BEHIND_S + 1) * SAMPLE_RATE
    assert [bool(chunk.flags & Flags.DISCONTINUITY) for chunk in chunks[:3]] == [False, True, False]
    outlet.close()


async def test_a_thread_that_cannot_be_started_is_tried_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.05)
    outlet = Outlet("pcm_s16", lambda: [block(0)])

    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        with pytest.raises(EncoderError):
            await outlet.start(Heard().append)
    assert not outlet.running
    await asyncio.sleep(0.06)
    heard = Heard()
    await asyncio.wait_for(outlet.start(heard.append), PATIENCE_S)
    assert heard
    outlet.close()


async def test_closing_tells_the_taker_once_and_ends_a_start_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    outlet, opening = Outlet("pcm_s16", list), Outlet("pcm_s16", lambda: [block(0)])
    heard = Heard()
    await asyncio.wait_for(outlet.start(heard.append), PATIENCE_S)
    waiting = asyncio.create_task(opening.start(Heard().append))
    await asyncio.sleep(0)
    for each in (outlet, opening):
        each.close()
        each.close()
        each.push(block(0))
        assert (each.running, each.closed) == (False, True)
    assert heard == [None]
    for ended in (waiting, outlet.start(heard.append)):
        with pytest.raises(StationEndedError):
            await asyncio.wait_for(ended, PATIENCE_S)
    assert heard == [None]


async def test_a_start_that_is_given_up_leaves_no_encoder() -> None:
    outlet = Outlet("pcm_s16", lambda: [block(n) for n in range(50)])
    given_up = Heard()
    waiting = asyncio.create_task(outlet.start(given_up.append))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert not outlet.running
    taken = len(given_up)  # what came before the cancellation
    heard = Heard()
    await asyncio.wait_for(outlet.start(heard.append), PATIENCE_S)
    assert (len(given_up), len(heard)) == (taken, 50)
    outlet.close()


async def test_each_run_begins_with_the_recent_past_and_ends_when_stopped() -> None:
    recent = [block(0), block(1)]
    outlet = Outlet("pcm_s16", lambda: recent)
    one, two = Heard(), Heard()
    await outlet.start(one.append)
    with pytest.raises(RuntimeError, match="the encoder for pcm_s16 runs already"):
        await outlet.start(two.append)
    outlet.push(block(2))
    outlet.stop()
    outlet.stop()
    outlet.push(block(3))
    recent = [block(n) for n in range(2, 6)]
    await outlet.start(two.append)
    assert [chunk.sample_pos // SIZE for chunk in one.chunks] in ([0, 1], [0, 1, 2])
    assert [chunk.sample_pos // SIZE for chunk in two.chunks] == [2, 3, 4, 5]
    assert not any(chunk.flags & Flags.DISCONTINUITY for chunk in (*one.chunks, *two.chunks))
    outlet.close()
    assert (None in one, two[-1]) == (False, None)


async def test_a_taker_that_fails_stops_neither_the_encoder_nor_the_end(caplog: pytest.LogCaptureFixture) -> None:
    outlet = Outlet("pcm_s16", lambda: [block(0)])
    heard = Heard()

    def broken(chunk: Chunk | None) -> None:
        heard.append(chunk)
        raise RuntimeError("a fault")

    await outlet.start(broken)
    outlet.push(block(1))
    await until(lambda: len(heard) == 2)
    outlet.close()
    assert heard[-1] is None
    assert caplog.messages == ["the taker of pcm_s16 failed"] * 3


async def test_opus_that_begins_with_the_station_lies_where_its_place_says() -> None:
    outlet = Outlet("opus", lambda: [block(number) for number in range(5)])
    heard = Heard()
    await outlet.start(heard.append)
    chunks = heard.chunks
    assert chunks[0].sample_pos >= 0
    for before, after in itertools.pairwise(chunks):
        assert after.sample_pos == before.sample_pos + before.n_samples
    last = chunks[-1]
    assert 5 * SIZE - 4 * 960 < last.sample_pos + last.n_samples <= 5 * SIZE
    outlet.close()
