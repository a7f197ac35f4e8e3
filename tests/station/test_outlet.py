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
from riffstream.station.outlet import BEHIND_S, Chunk, EncoderError, Outlet

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


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not check():
            await asyncio.sleep(0.005)


async def test_an_encoder_that_cannot_be_made_is_an_error_and_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = Broken()
    monkeypatch.setattr(module, "make_encoder", broken)
    outlet = Outlet("mp3", lambda: [block(n) for n in range(50)])
    with pytest.raises(EncoderError, match="encoder for mp3 does not run") as caught:
        await asyncio.wait_for(outlet.started(), 5)
    assert 0 < caught.value.retry_s <= module.RETRY_S
    for number in range(50):
        outlet.push(block(number))
    for _ in range(10):  # those who come meanwhile are answered without another try
        with pytest.raises(EncoderError):
            await outlet.started()
    ended: list[Chunk | None] = []
    outlet.attach(ended.append)
    await until(lambda: bool(ended))
    assert (ended, outlet.running, broken.asked) == ([None], False, 1)
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
            await outlet.started()
        waits.append(caught.value.retry_s)
        await asyncio.sleep(0.06)
    assert broken.asked == len(caplog.records) == 4
    assert "0.02 s" in caplog.messages[0]
    assert "0.04 s" in caplog.messages[1]
    assert "0.05 s" in caplog.messages[3]
    broken.good = 1
    await outlet.started()
    assert len(outlet.burst(1)) == 3
    assert outlet.running
    outlet.close()


async def test_a_block_that_fails_costs_one_encoder_and_no_listener(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "make_encoder", Broken(good=2))
    outlet = Outlet("pcm_s16", lambda: [block(0)])
    await outlet.started()
    heard: list[Chunk | None] = []
    outlet.attach(heard.append)
    poison = Block(SIZE, np.full((SIZE, 2), np.nan, np.float32), 0, False)
    for each in (poison, block(2), block(3)):
        outlet.push(each)
    await until(lambda: len(heard) == 2)
    assert [chunk.sample_pos for chunk in heard if chunk is not None] == [2 * SIZE, 3 * SIZE]
    assert [bool(chunk.flags & Flags.DISCONTINUITY) for chunk in heard if chunk is not None] == [True, False]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == "encoder pcm_s16 failed, a new one takes over: ValueError: not finite"
    outlet.close()


async def test_listeners_of_an_encoder_that_is_lost_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "make_encoder", Broken(good=1))
    outlet = Outlet("pcm_s16", lambda: [block(0)])
    await outlet.started()
    heard: list[Chunk | None] = []
    outlet.attach(heard.append)
    for each in (Block(SIZE, np.full((SIZE, 2), np.nan, np.float32), 0, False), block(2)):
        outlet.push(each)
    await until(lambda: heard == [None])
    assert (outlet.sinks, outlet.running, outlet.closed) == (0, False, False)
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
    await asyncio.wait_for(outlet.started(), 5)
    heard: list[Chunk | None] = []
    outlet.attach(heard.append)
    outlet.push(block(0))
    await until(held.is_set)
    for number in range(1, 500):  # 50 s
        outlet.push(block(number))
    assert outlet._queue is not None
    assert outlet._queue.qsize() * SIZE <= (BEHIND_S + 0.2) * SAMPLE_RATE
    go.set()
    await until(lambda: bool(heard) and heard[-1] is not None and heard[-1].sample_pos == 499 * SIZE)
    chunks = [chunk for chunk in heard if chunk is not None]
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
            await outlet.started()
    assert not outlet.running
    await asyncio.sleep(0.06)
    await asyncio.wait_for(outlet.started(), 5)
    assert outlet.burst(1.0)
    outlet.close()


async def test_closing_tells_everybody_once() -> None:
    outlet = Outlet("pcm_s16", list)
    told: list[Chunk | None] = []
    outlet.attach(told.append)
    waiting = asyncio.create_task(outlet.started())
    await asyncio.sleep(0)
    outlet.close()
    outlet.close()
    await asyncio.wait_for(waiting, 5)
    assert told == [None]
    outlet.attach(told.append)
    await asyncio.sleep(0)
    assert told == [None, None]
    outlet.push(block(0))
    assert not outlet.running


async def test_opus_that_begins_with_the_station_lies_where_its_place_says() -> None:
    outlet = Outlet("opus", lambda: [block(number) for number in range(5)])
    await outlet.started()
    chunks = outlet.burst(1.0)
    assert chunks[0].sample_pos >= 0
    for before, after in itertools.pairwise(chunks):
        assert after.sample_pos == before.sample_pos + before.n_samples
    last = chunks[-1]
    assert 5 * SIZE - 4 * 960 < last.sample_pos + last.n_samples <= 5 * SIZE
    outlet.close()
