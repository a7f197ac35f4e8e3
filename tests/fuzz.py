"""Random input for everything that reads what others wrote.

``python -m tests.fuzz --count 1000000`` tries that many inputs in this process; ``--seed`` chooses others, ``--only``
some readers. Each input is determined by the seed, its reader and its number, so a failure can be repeated. Messages to
the sockets of a real server are tried by ``FUZZ_MESSAGES=100000 python -m pytest tests/server/test_fuzz.py``.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import random
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from riffstream import protocol
from riffstream.config import Config, StationConfig
from riffstream.errors import RiffstreamError
from riffstream.generator.messages import Info
from riffstream.journey.chords import parse_bars
from riffstream.journey.inference_input import InferenceInput, PayloadError
from riffstream.journey.journey import Journey
from riffstream.journey.pace import read_pace
from riffstream.journey.wander import wander
from riffstream.server.access import Access, authorization_token
from riffstream.server.blocklist import BlockList
from riffstream.server.origins import normal_origin
from riffstream.server.state_file import FORMAT, VERSION, read_state
from riffstream.server.tokens import SignedTokens
from riffstream.station.saved import SavedStation, continued
from riffstream.station.saving import saved
from riffstream.station.score import Score
from riffstream.text_files import parse_json, parse_toml
from tests.server.test_fuzz import valid
from tests.server.test_hostile import nonsense
from tests.station.sim import Sim

__all__ = ["READERS", "FuzzError", "main", "run"]

Case = Callable[[random.Random], None]
KEY = "k" * 64
VALUES: list[Any] = [
    None, True, False, -1, 0, 1, 3, 4.5, 1e308, -1e308, 2**53, 2**64, "", "auto", "none", "a", "x" * 400, "\0",
    "../../etc/passwd", "\u202e", "🎷", [], [[]], {}, {"a": {}}, ["a"], [1, 2], {"text": "a"}, [{"text": "a"}],
]  # fmt: skip


def value(rng: random.Random, depth: int = 2) -> Any:
    """A JSON value."""
    kind = rng.random()
    if depth and kind < 0.15:
        return [value(rng, depth - 1) for _ in range(rng.randrange(4))]
    if depth and kind < 0.3:
        return {text(rng): value(rng, depth - 1) for _ in range(rng.randrange(4))}
    if kind < 0.5:
        return rng.uniform(-1000, 1000) if kind < 0.4 else rng.randrange(-(2**33), 2**33)
    return rng.choice(VALUES)


def text(rng: random.Random, most: int = 12) -> str:
    """A short text from all of Unicode, with a share of syntax."""
    pools = ("abcdefgh ABC", "0123456789.-+eE", "\"'\\[]{}:=,#/%&;<>\r\n\t\0", "éßñ日本の\u0301\u200d\u202e🎷")
    return "".join(rng.choice(rng.choice(pools)) for _ in range(rng.randrange(most)))


def changed(rng: random.Random, given: Any) -> Any:
    """A JSON value with one part replaced, removed or added; a fifth stay as they are."""
    return given if rng.random() < 0.2 else _changed(rng, given)


def _changed(rng: random.Random, given: Any) -> Any:
    if isinstance(given, dict) and given and rng.random() < 0.9:
        name = rng.choice(sorted(given))
        rest = {key: each for key, each in given.items() if key != name}
        kind = rng.random()
        if kind < 0.1:
            return rest
        return {**rest, (text(rng) if kind < 0.2 else name): _changed(rng, given[name])}
    if isinstance(given, list) and given and rng.random() < 0.9:
        at = rng.randrange(len(given))
        return [*given[:at], _changed(rng, given[at]), *given[at + 1 :]]
    return value(rng)


def damaged(rng: random.Random, data: bytes) -> bytes:
    """Bytes with up to three places overwritten, cut out or inserted."""
    for _ in range(rng.choice([0, 0, 1, 1, 2, 3])):
        at = rng.randrange(len(data) + 1)
        length = rng.choice([0, 1, 1, 2, 8, 100])
        data = data[:at] + rng.randbytes(rng.choice([0, 1, 1, 2, 8])) + data[at + length :]
    return data


# -- readers --------------------------------------------------------------------------------------------------------


def client_messages(rng: random.Random) -> None:
    given = nonsense(rng) if rng.random() < 0.5 else valid(rng)
    data = given if isinstance(given, bytes) else given.encode(errors="replace")
    protocol.decode_client(damaged(rng, data) if rng.random() < 0.3 else data)


def server_messages(rng: random.Random) -> None:
    now = {"type": "now", "rev": 1, "sample_pos": 2, "state": {"prompts": [{"text": "a"}]}, "alpha": 0.5, "clip": 1}
    protocol.decode_server(damaged(rng, json.dumps(changed(rng, now)).encode()).decode(errors="replace"))


def audio_frames(rng: random.Random) -> None:
    packets = protocol.join_packets([rng.randbytes(rng.randrange(1, 40)) for _ in range(rng.randrange(1, 4))])
    frame = protocol.AudioFrame(1, 48_000, 960, 3, packets, protocol.Codec.OPUS)
    read = protocol.unpack_frame(damaged(rng, protocol.pack_frame(frame)))
    protocol.split_packets(read.payload)


@functools.cache
def default_config() -> dict[str, Any]:
    plain: dict[str, Any] = Config().to_dict()
    return plain


def configurations(rng: random.Random) -> None:
    given = changed(rng, default_config())
    config = Config.from_dict(given if isinstance(given, dict) else {"server": given})  # a file is a table
    config.public_dict()


def toml_and_json(rng: random.Random) -> None:
    source = b'[stations.main]\nprompts = ["a", "b"]\nbpm = 100.0\n[server]\nport = 80 # x\n'
    parse_toml(damaged(rng, source).decode(errors="replace"))
    parse_json(damaged(rng, b'{"keyframe": [{"prompt": "a", "seed": 1}]}').decode(errors="replace"))


@functools.cache
def journey() -> dict[str, Any]:
    return wander(3, stops=3).to_dict()


def journeys(rng: random.Random) -> None:
    given = changed(rng, journey())
    made = Journey.from_dict(given if isinstance(given, dict) else {"keyframe": given})
    made.clip(rng.randrange(10_000))
    Journey.from_dict(made.to_dict())


def riffusion_inputs(rng: random.Random) -> None:
    part = {"prompt": "a", "seed": 1, "denoising": 0.7, "guidance": 7.0}
    payload = {"start": part, "end": part, "alpha": 0.5, "num_inference_steps": 50, "seed_image_id": "og_beat"}
    InferenceInput.from_payload(changed(rng, payload))


def chords(rng: random.Random) -> None:
    symbols = ("Am", "F", "C/G", "Bb", "%", "N", "|", "Cmaj7", "sus", "x" * 40, "\u266d", text(rng))
    parse_bars(" ".join(rng.choice(symbols) for _ in range(rng.randrange(20))))


def prompt_words(rng: random.Random) -> None:
    given = " ".join(rng.choice(["slow", "waltz", "3/4", "bpm", "120", "1e9", text(rng)]) for _ in range(6))
    read_pace(given)
    BlockList(["bad", "bad word", "ba*", "坏话"]).blocks(given)


def tokens_and_origins(rng: random.Random) -> None:
    signed = SignedTokens([KEY])
    token = damaged(rng, _token(signed).encode()).decode(errors="replace")
    Access(dj_token="t", signing_keys=[KEY]).grant(token, text(rng, 40), text(rng, 40), "main")
    authorization_token(rng.choice(["Bearer ", "Basic ", ""]) + text(rng, 60))
    normal_origin(rng.choice(["http://", "https://", "", "null"]) + text(rng, 40))


@functools.cache
def _token(signed: SignedTokens) -> str:
    from riffstream.server.roles import Role

    return signed.issue(Role.DJ, seconds=1000, station="main")


@functools.cache
def state() -> dict[str, Any]:
    sim = Sim(journey=wander(3, stops=3))
    sim.run(3)
    sim.steer("s", "rain", bpm=99.0, key=2.0, ramp_s=20.0)
    sim.steer("w", "thunder", mix=protocol.MixChange(low=-6.0), bar=20)
    sim.run(3)
    made: dict[str, Any] = msgspec.to_builtins(saved(sim.timeline))
    return made


@functools.cache
def fresh_score() -> Score:
    return Score.of(StationConfig(), Info(model="tone", conditions=True, drift=4), wander(3, stops=3))


FILE = Path(tempfile.gettempdir()) / f"riffstream-fuzz-{random.SystemRandom().randrange(2**40):x}.json"


def saved_states(rng: random.Random) -> None:
    body = json.dumps({"clean": True, "stations": {"main": changed(rng, state())}, "fanouts": {}}).encode()
    if rng.random() < 0.5:
        body = damaged(rng, body)
    head = {"format": FORMAT, "version": VERSION, "sha256": hashlib.sha256(body).hexdigest()}
    data = json.dumps(head).encode() + b"\n" + body + b"\n"
    FILE.write_bytes(damaged(rng, data) if rng.random() < 0.2 else data)
    read = read_state(FILE)
    assert read is not None
    for station in read.stations.values():
        assert isinstance(station, SavedStation)
        start = continued(station.after(rng.choice([0, 144_000])), fresh_score())
        start.score.state(start.score.spec(start.opening.index, start.opening.clip_beat), start.opening.beat)


def steers(rng: random.Random) -> None:
    """A whole station, which must play on."""
    sim = Sim(journey=Journey.single("a"))
    sim.run(1)
    for number in range(4):
        try:
            message = protocol.decode_client(valid(rng))
        except protocol.ProtocolError:
            continue
        if isinstance(message, protocol.Steer):
            sim.timeline.steer(msgspec.structs.replace(message, id=str(number)), sim.replies.append, sim.time)
        elif isinstance(message, protocol.Transport):
            sim.timeline.transport(message, sim.replies.append, sim.time)
        sim.run(0.5)
    assert sim.blocks, "it plays"


def checkpoint_headers(rng: random.Random) -> None:
    from riffstream.diffusion.sd.parts import read_header

    tensor = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
    head = json.dumps(changed(rng, {"__metadata__": {"a": "b"}, "w": tensor})).encode()
    size = len(head) if rng.random() < 0.7 else rng.choice([0, 1, 2**31, 2**63, rng.randrange(1000)])
    FILE.write_bytes(damaged(rng, size.to_bytes(8, "little") + head + bytes(16)))
    read_header(FILE)


# Shares of the inputs: the slow ones get few.
READERS: dict[str, tuple[Case, float]] = {
    "client messages": (client_messages, 20),
    "server messages": (server_messages, 10),
    "audio frames": (audio_frames, 15),
    "configurations": (configurations, 4),
    "TOML and JSON": (toml_and_json, 10),
    "journeys": (journeys, 8),
    "Riffusion's inputs": (riffusion_inputs, 8),
    "chords": (chords, 8),
    "words of prompts": (prompt_words, 8),
    "tokens and origins": (tokens_and_origins, 5),
    "saved states": (saved_states, 3),
    "steers of a station": (steers, 0.02),
    "headers of checkpoints": (checkpoint_headers, 2),
}


class FuzzError(Exception):
    """An input that a reader did not refuse properly."""


def run(
    count: int,
    seed: int,
    only: tuple[str, ...] = (),
    report: Callable[[str, int, int], None] = lambda name, n, refused: None,
) -> dict[str, tuple[int, int]]:
    """Try ``count`` inputs; return for each reader how many it has got and how many it has refused.

    Raises:
        FuzzError: an exception other than :class:`RiffstreamError`, or an input that took 2 s.
    """
    chosen = {name: READERS[name] for name in only or READERS}
    whole = sum(share for _, share in chosen.values())
    found = {}
    try:
        for name, (case, share) in chosen.items():
            n, refused = max(1, round(count * share / whole)), 0
            for number in range(n):
                began = time.process_time()
                try:
                    case(random.Random(f"{seed}:{name}:{number}"))
                except (RiffstreamError, PayloadError):
                    refused += 1
                except Exception as error:
                    raise FuzzError(f"{name}, seed {seed}, number {number}: {traceback.format_exc()}") from error
                if time.process_time() - began > 2:
                    raise FuzzError(f"{name}, seed {seed}, number {number}: {time.process_time() - began:.1f} s")
            found[name] = (n, refused)
            report(name, n, refused)
    finally:
        FILE.unlink(missing_ok=True)
    return found


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", action="append", default=[], choices=sorted(READERS))
    args = parser.parse_args(arguments)
    began = time.monotonic()
    try:
        print(f"{'reader':24}{'inputs':>10}{'refused':>10}")
        found = run(
            args.count,
            args.seed,
            tuple(args.only),
            lambda name, n, refused: print(f"{name:24}{n:>10}{refused:>10}", flush=True),
        )
    except FuzzError as failure:
        print(failure, file=sys.stderr)
        return 1
    kept_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{sum(n for n, _ in found.values())} inputs in {time.monotonic() - began:.0f} s, at most {kept_mb:.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
