"""Golden vectors of the wire protocol, for every client: ``python -m tests.protocol_vectors`` writes the file.

``messages``: JSON texts with their direction; a client must read them, and write the same values. ``frames``: binary
frames as hex, with the fields that they hold. ``rejected``: texts that a server must refuse, with the code and field.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from riffstream import protocol
from riffstream.protocol import AudioFrame, Codec, Flags

FILE = Path(__file__).parent / "data" / "protocol_vectors.json"

STATE = protocol.State(
    prompts=(protocol.Prompt(text="bossa nova", weight=0.75), protocol.Prompt(text="rain 🌧", weight=0.25)),
    negative="drums",
    seed=42,
    seed_image="og_beat",
    denoising=0.6,
    guidance=4.0,
    bpm=118.5,
    key=-2.0,
    form="song",
    chords="Am F / G C",
    parts=protocol.Parts(drums=0.0, pad=0.5),
    rests=protocol.Rests(bass="no bass"),
    energy=0.25,
    mix=protocol.Mix(drums=-60.0, filter=-0.5, hold=True, solo=("bass",)),
    steered=True,
)

CLIENT: list[protocol.ClientMessage] = [
    protocol.Hello(v=1, codecs=("opus", "pcm_s16"), steer=True),
    protocol.Hello(v=1, token="secret", resume=protocol.Resume(session="s1", last_seq=4294967295)),
    protocol.Hello(v=1, resume=protocol.Resume(session="e.s1", last_seq=7, sample_pos=480000)),
    protocol.Hello(v=1, codecs=("pcm_s16",), burst_ms=15000, relay="server-1"),
    protocol.Steer(id="1", prompts=(protocol.Prompt(text="jazz"), protocol.Prompt(text="café", weight=0.5)), at="bar"),
    protocol.Steer(id="2", bpm=90.0, key=3.0, ramp_s=8.0, if_rev=7),
    protocol.Steer(id="5", bpm="auto"),
    protocol.Steer(id="6", form="dj", chords="Am F C G", parts=protocol.PartsChange(drums=0.0, lead=None), energy=0.75),
    protocol.Steer(id="7", form=None, chords=None, parts=None, density=0.5, brightness=None),
    protocol.Steer(id="8", mix=protocol.MixChange(low=-12.5, fade=True, mute=("drums",), width=None, ramp_s=4.0)),
    protocol.Steer(id="9", mix=None),
    protocol.Steer(id="10", beats_per_bar=3),
    protocol.Steer(id="11", beats_per_bar="auto"),
    protocol.Steer(id="19", prompts=(protocol.Prompt(text="church bells"),), bar=48),
    protocol.Steer(id="3", bpm=None, seed_image=None, prompts=None),
    protocol.Transport(id="4", op="skip"),
    protocol.Queue(id="12", op="add", prompts=(protocol.Prompt(text="church bells"),), bars=16, bpm=90.0, to=0),
    protocol.Queue(id="13", op="edit", item="q1", ramp_bars=4, bpm=None),
    protocol.Queue(id="14", op="loop", loop=True),
    protocol.Request(id="15", op="suggest", text="church bells"),
    protocol.Request(id="16", op="vote", item="r1"),
    protocol.Request(id="17", op="take", item="r1", play="now"),
    protocol.Request(id="18", op="react", reaction="heart"),
    protocol.Input(id="6", codec="opus", channels=1, strength=0.75, takeover=True),
    protocol.Input(id="7", action="stop"),
    protocol.Clock(t0=123456.75),
    protocol.Stats(buffer_ms=203.5, underruns=0, played=480000),
    protocol.Bye(reason="closed"),
]

SERVER: list[protocol.ServerMessage] = [
    protocol.Welcome(
        v=1,
        session="s1",
        role="dj",
        station="main",
        sample_rate=48000,
        channels=2,
        codec="opus",
        frame_ms=100,
        sample_pos=9007199254740991,
        rev=3,
        state=STATE,
        limits=protocol.Limits(),
        caps=protocol.Caps(model="mini", beats_per_clip=8.0, bpm=110.0, seed_image="auto", denoising=0.9, guidance=1.0),
    ),
    protocol.Scheduled(id="1", rev=4, audible_at=1000000, audible_in_ms=812.5),
    protocol.Scheduled(
        id="2",
        rev=5,
        audible_at=1000000,
        audible_in_ms=812.5,
        bpm=96.3,
        bpm_reason="minuet: 80 to 116 bpm",
        beats_per_bar=3,
        beats_per_bar_reason="minuet: 3 beats to the bar",
        likeness=protocol.Likeness(text="minuet", style="baroque", score=0.61),
    ),
    protocol.Scheduled(id="19", rev=5, audible_at=1000000, audible_in_ms=812.5, bar=48),
    protocol.Applied(id="1", rev=4, audible_at=999360),
    protocol.Applied(id="19", rev=5, audible_at=1000000, bar=49),
    protocol.Superseded(id="1", by="2"),
    protocol.Rejected(id="9", code="bad_request", message="bpm: no", field="bpm"),
    protocol.Rejected(code="rate_limited", message="slow down", retry_after_ms=1500),
    protocol.Now(rev=4, sample_pos=1000000, state=STATE, alpha=0.5, clip=17, beat=41.25, bar=10, bar_beat=1.25),
    protocol.Now(
        rev=4,
        sample_pos=1000000,
        state=STATE,
        alpha=0.5,
        clip=17,
        beat=41.25,
        chord="Am7",
        section="build",
        section_bar=3,
        section_bars=8,
        coming=(
            protocol.Coming(by="steer", at=1240000, prompts=(protocol.Prompt(text="church bells"),)),
            protocol.Coming(section="full", at=1480000),
            protocol.Coming(section="break", at=3400000),
            protocol.Coming(by="journey", at=3400000, prompts=(protocol.Prompt(text="house"),), alone_at=4100000),
        ),
    ),
    protocol.Event(kind="underrun", sample_pos=5, rev=4),
    protocol.Event(kind="listeners", listeners=12),
    protocol.Event(kind="input", reason="live"),
    protocol.InputState(status="live", id="6", level_db=-18.5),
    protocol.InputState(status="ended", reason="no audio for 15 s"),
    protocol.QueueState(queue=protocol.QueueList(loop=True)),
    protocol.QueueState(
        id="12",
        queue=protocol.QueueList(
            items=(protocol.QueueItem(id="q2", prompts=(protocol.Prompt(text="rain 🌧"),), ramp_bars=2),),
            playing=protocol.QueueItem(id="q1", prompts=(protocol.Prompt(text="church bells"),), bars=16, bpm=90.0),
            until=128.0,
        ),
    ),
    protocol.RequestsState(
        id="15",
        requests=protocol.RequestList(
            items=(protocol.RequestItem(id="r1", text="church bells", votes=3),), reactions=protocol.Reactions(fire=2)
        ),
    ),
    protocol.ClockReply(t0=123456.75, t1=5000.25, t2=5000.5, sample_pos=240000),
    protocol.Bye(reason="restart", reconnect_ms=500),
]

FRAMES = [
    AudioFrame(0, 0, 960, 0, protocol.join_packets([b"\xfc\xff\xfe"])),
    AudioFrame(7, 48000, 1920, 3, protocol.join_packets([b"\x01" * 300, b""]), flags=Flags.DISCONTINUITY),
    AudioFrame(
        4294967295,
        9007199254740991,
        2,
        4294967295,
        b"\x00\x80\xff\x7f\x01\x00\xff\xff",
        codec=Codec.PCM_S16,
        flags=Flags.SILENCE,
    ),
]

REJECTED = [
    ("{", "bad_request", None),
    ("[]", "bad_request", None),
    ('{"type":"dance","id":"a"}', "bad_request", "type"),
    ('{"id":"a"}', "bad_request", "type"),
    ('{"type":"steer"}', "bad_request", "id"),
    ('{"type":"steer","id":""}', "bad_request", "id"),
    ('{"type":"steer","id":"a","bpm":39}', "bad_request", "bpm"),
    ('{"type":"steer","id":"a","key":"C"}', "bad_request", "key"),
    ('{"type":"steer","id":"a","denoising":1.5}', "bad_request", "denoising"),
    ('{"type":"steer","id":"a","at":"now"}', "bad_request", "at"),
    ('{"type":"steer","id":"a","bar":-1}', "bad_request", "bar"),
    ('{"type":"steer","id":"a","bar":12.5}', "bad_request", "bar"),
    ('{"type":"steer","id":"a","mix":{"low":13}}', "bad_request", "mix.low"),
    ('{"type":"steer","id":"a","mix":{"hold":1}}', "bad_request", "mix.hold"),
    ('{"type":"steer","id":"a","mix":{"solo":["piano"]}}', "bad_request", "mix.solo[0]"),
    ('{"type":"steer","id":"a","mix":{"volume":1}}', "bad_request", "mix"),
    ('{"type":"steer","id":"a","prompts":[]}', "bad_request", "prompts"),
    ('{"type":"steer","id":"a","prompts":[{"text":"x","weight":11}]}', "bad_request", "prompts[0].weight"),
    ('{"type":"steer","id":"a","prompts":[{"text":"x","weight":0}]}', "bad_request", "prompts"),
    ('{"type":"steer","id":"a","prompts":[{"text":"\\u0007\\u202e"}]}', "prompt_rejected", "prompts[0].text"),
    (json.dumps({"type": "steer", "id": "a", "prompts": [{"text": "x" * 301}]}), "prompt_rejected", "prompts[0].text"),
    ('{"type":"transport","id":"a","op":"rewind"}', "bad_request", "op"),
    ('{"type":"queue","id":"a","op":"rewind"}', "bad_request", "op"),
    ('{"type":"queue","id":"a","op":"add","bars":0}', "bad_request", "bars"),
    ('{"type":"queue","id":"a","op":"move","item":"q1","to":-1}', "bad_request", "to"),
    ('{"type":"request","id":"a","op":"rewind"}', "bad_request", "op"),
    ('{"type":"request","id":"a","op":"react","reaction":"tomato"}', "bad_request", "reaction"),
    ('{"type":"request","id":"a","op":"take","item":"r1","play":"later"}', "bad_request", "play"),
    ('{"type":"input","id":"a","strength":1}', "bad_request", "strength"),
    ('{"type":"input","id":"a","channels":3}', "bad_request", "channels"),
]


def vectors() -> dict[str, Any]:
    """All vectors as plain values."""
    return {
        "protocol": protocol.SUBPROTOCOL,
        "messages": [{"from": "client", "json": json.loads(protocol.encode(message))} for message in CLIENT]
        + [{"from": "server", "json": json.loads(protocol.encode(message))} for message in SERVER],
        "frames": [
            {
                "hex": protocol.pack_frame(frame).hex(),
                "seq": frame.seq,
                "sample_pos": frame.sample_pos,
                "n_samples": frame.n_samples,
                "rev": frame.rev,
                "kind": int(frame.kind),
                "codec": frame.codec.name.lower(),
                "discontinuity": bool(frame.flags & Flags.DISCONTINUITY),
                "silence": bool(frame.flags & Flags.SILENCE),
                "packets": [part.hex() for part in protocol.split_packets(frame.payload)]
                if frame.codec is Codec.OPUS
                else [frame.payload.hex()],
            }
            for frame in FRAMES
        ],
        "rejected": [{"text": text, "code": code, "field": field} for text, code, field in REJECTED],
    }


def text() -> str:
    """The file's content."""
    return json.dumps(vectors(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
