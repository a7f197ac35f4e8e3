"""Every message of the protocol, with its fields and their ranges.

Text frames are JSON objects ``{"type": ..., ...}``. Unknown types are answered with ``rejected``; unknown fields are
ignored, so that either side may be newer.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, get_args

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from riffstream.errors import RiffstreamError
from riffstream.protocol.abilities import Caps, Limits
from riffstream.protocol.base import Id, Message
from riffstream.protocol.coming import Coming
from riffstream.protocol.form import Chords, FormName, Level, Parts, PartsChange, Rests
from riffstream.protocol.mix import Mix, MixChange
from riffstream.protocol.prompt import Prompt
from riffstream.protocol.queue import Bars, ItemId, Prompts, QueueBpm, QueueList, QueueOp, RampBars
from riffstream.protocol.requests import Request, RequestList, RequestsState
from riffstream.ranges import RANGES

VERSION: Final = 1
OLDEST_VERSION: Final = 1
SUBPROTOCOL: Final = "riffstream.v1"
SAMPLE_RATE: Final = 48_000
BARS_AHEAD: Final = 64  # how far ahead a change may name its bar
BURST_MS: Final = 30_000  # longest burst that a client can request: what a server keeps of each codec
CHANNELS: Final = 2

# Numbers of a steer; ``welcome.limits`` sends their ranges to clients.
NUMBERS: Final = ("weight", "seed", "denoising", "guidance", "bpm", "beats_per_bar", "key", "ramp_s")

Code = Literal[
    "bad_request",
    "unauthorised",
    "forbidden",
    "rate_limited",
    "busy",
    "stale_rev",
    "prompt_rejected",
    "unsupported_version",
    "internal",
]
Role = Literal["listener", "dj", "owner"]
At = Literal["asap", "beat", "bar", "clip"]
Op = Literal["pause", "resume", "reset", "skip"]
CodecName = Literal["opus", "pcm_s16"]
InputAction = Literal["start", "stop"]
InputStatus = Literal["live", "quiet", "noise", "ended"]

Rev = Annotated[int, Meta(ge=0, le=2**53)]
SamplePos = Annotated[int, Meta(ge=0, le=2**53)]
BarNumber = Annotated[int, Meta(ge=0, le=2**53)]
Seed = Annotated[int, RANGES["seed"].meta]
Denoising = Annotated[float, RANGES["denoising"].meta]
Guidance = Annotated[float, RANGES["guidance"].meta]
Bpm = Annotated[float, RANGES["bpm"].meta] | Literal["auto"]
BeatsPerBar = Annotated[int, RANGES["beats_per_bar"].meta] | Literal["auto"]
Key = Annotated[float, RANGES["key"].meta]
RampS = Annotated[float, RANGES["ramp_s"].meta]
Strength = Annotated[float, RANGES["strength"].meta]
SeedImage = Annotated[str, Meta(min_length=1, max_length=200)]


class ProtocolError(RiffstreamError):
    """A message that cannot be accepted.

    Attributes:
        code: one of :data:`Code`.
        message: one line for users.
        field: path of the invalid field (``prompts[0].weight``), or None.
        id: id of the request, or "" if it could not be read.
        retry_after_ms: delay after which a repeat may succeed, or None.
    """

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        field: str | None = None,
        id: str = "",  # noqa: A002  (the wire's name)
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code: Code = code
        self.message = message
        self.field = field
        self.id = id
        self.retry_after_ms = retry_after_ms

    def reply(self, id: str | None = None) -> Rejected:  # noqa: A002  (the wire's name)
        """The ``rejected`` message for the sender."""
        return Rejected(
            id=self.id if id is None else id,
            code=self.code,
            message=self.message,
            field=self.field,
            retry_after_ms=self.retry_after_ms,
        )


class Likeness(Struct, frozen=True, kw_only=True):
    """How near a prompt is to a style that the model knows: ``score`` is 0 to 1. Below 0.38 its words are unknown."""

    text: str
    style: str
    score: float


class State(Struct, frozen=True, kw_only=True):
    """The music of a station. Every field is always present; null is the model's default. ``bpm_reason`` and
    ``beats_per_bar_reason``: the words that determined the tempo and the metre; null for a number that was set.
    ``form``: the planner at work; ``form_reason`` says why it is none although another one was chosen. ``chords`` (in
    the sounding key), ``parts``, ``energy``, ``density`` and ``brightness`` are given by people; null: left to the plan
    and the words. ``rests``: parts that the words of the prompts let rest, null without any; a level in ``parts`` comes
    first. ``likeness``: the prompt that the model knows least; null until its first clip, and for models
    without named styles."""

    prompts: tuple[Prompt, ...]
    negative: str = ""
    seed: int = 0
    seed_image: str | None = None
    denoising: float | None = None
    guidance: float | None = None
    bpm: float | None = None
    bpm_reason: str | None = None
    beats_per_bar: int = 4
    beats_per_bar_reason: str | None = None
    likeness: Likeness | None = None
    key: float = 0.0
    form: FormName = "none"
    form_reason: str | None = None
    chords: str | None = None
    parts: Parts | None = None
    rests: Rests | None = None
    energy: float | None = None
    density: float | None = None
    brightness: float | None = None
    mix: Mix = Mix()
    paused: bool = False
    steered: bool = False  # False: on the station's default journey


class Resume(Struct, frozen=True, kw_only=True):
    """Request for the missed audio: the ``session`` of an earlier ``welcome`` and the last received frame.
    ``sample_pos``, the end of the last received audio, lets another server of the same station (a relay, a worker)
    continue there; its frames may be numbered differently."""

    session: Annotated[str, Meta(min_length=1, max_length=64)]
    last_seq: Annotated[int, Meta(ge=0, le=2**32 - 1)]
    sample_pos: SamplePos | None = None


class Hello(Message, frozen=True, tag="hello"):
    """First message of a client: protocol version, codecs in order of preference, intent to steer. ``burst_ms``: past
    audio at the beginning of the stream; null: the server's choice. ``relay``: id of a server that passes the stream
    on; null for listeners."""

    v: Annotated[int, Meta(ge=0, le=2**31)]
    codecs: Annotated[tuple[Annotated[str, Meta(max_length=32)], ...], Meta(max_length=8)] = ("opus",)
    token: Annotated[str, Meta(max_length=512)] | None = None
    resume: Resume | None = None
    steer: bool = False
    burst_ms: Annotated[int, Meta(ge=0, le=BURST_MS)] | None = None
    relay: Annotated[str, Meta(min_length=1, max_length=64)] | None = None


class Steer(Message, frozen=True, tag="steer"):
    """Change the music. An absent field keeps its value; null restores the station's default. The default of ``bpm``
    and ``beats_per_bar`` is "auto": the words of the prompts choose. A change of the metre begins at a bar line.
    ``denoising`` is the distance from the seed image: 0 keeps it, 1 replaces it. It has no effect on music from noise:
    while ``seed_image`` is ``none``, or null and ``caps.seed_image`` is ``none`` or null. ``none`` is noise alone; with
    null the first clip also continues a sound of the model that suits the words. ``chords``: one symbol a bar in the
    sounding key ("Am F C G"), or two around a free-standing slash; the row begins with the change and repeats.
    ``form``, ``chords``, ``parts`` and the levels need ``caps.conditions``; null leaves them to the planner. ``mix``
    needs no new clip; null makes the desk neutral. ``bar``: the change waits for the line of this bar (as ``now.bar``),
    up to 64 bars ahead; ``at`` is ignored. A line that cannot be reached any more gives way to the next one. Other
    changes may come before it, and it joins the state when it begins. A restarted server keeps it, without a further
    answer."""

    id: Id
    prompts: Prompts | UnsetType | None = UNSET
    negative: Annotated[str, Meta(max_length=4096)] | UnsetType | None = UNSET
    seed: Seed | UnsetType | None = UNSET
    seed_image: SeedImage | UnsetType | None = UNSET
    denoising: Denoising | UnsetType | None = UNSET
    guidance: Guidance | UnsetType | None = UNSET
    bpm: Bpm | UnsetType | None = UNSET
    beats_per_bar: BeatsPerBar | UnsetType | None = UNSET
    key: Key | UnsetType | None = UNSET
    form: FormName | UnsetType | None = UNSET
    chords: Chords | UnsetType | None = UNSET
    parts: PartsChange | UnsetType | None = UNSET
    energy: Level | UnsetType | None = UNSET
    density: Level | UnsetType | None = UNSET
    brightness: Level | UnsetType | None = UNSET
    mix: MixChange | UnsetType | None = UNSET
    at: At = "asap"
    bar: BarNumber | None = None
    ramp_s: RampS = 0.0
    if_rev: Rev | None = None


class Transport(Message, frozen=True, tag="transport"):
    """Playback control. ``reset``: back to the default journey. ``skip``: to its next part (or a new variation)."""

    id: Id
    op: Op


class Queue(Message, frozen=True, tag="queue"):
    """Change the queue of the station: prompts that play one after the other, each from a bar line. ``add``
    (``prompts``, at the place ``to``, 0 first; default: the end), ``edit`` (the given fields of ``item``), ``move``
    (``item`` to ``to``), ``remove`` (``item``), ``next`` (end the present item at the next bar line), ``loop`` (set
    ``loop``), ``clear``. The answer is ``queue`` with the ``id``, or ``rejected``."""

    id: Id
    op: QueueOp
    item: ItemId | None = None
    prompts: Prompts | UnsetType = UNSET
    bars: Bars | UnsetType = UNSET
    ramp_bars: RampBars | UnsetType = UNSET
    bpm: QueueBpm | UnsetType = UNSET
    to: Annotated[int, Meta(ge=0, le=1000)] | None = None
    loop: bool | UnsetType = UNSET


class Input(Message, frozen=True, tag="input"):
    """Live input: binary frames from the client (in the format of the server's) become the seed image of the next
    clips. The right to steer is required; a station has one input. ``strength``: share of the input in the clip.
    ``takeover`` ends the input of another client. ``start`` of a running input changes its strength."""

    id: Id
    action: InputAction = "start"
    codec: CodecName = "pcm_s16"
    channels: Annotated[int, Meta(ge=1, le=2)] = 2
    strength: Strength = 0.5
    takeover: bool = False


class Clock(Message, frozen=True, tag="clock"):
    """Request for the audible position. ``t0`` is the sender's clock in ms; the answer returns it unchanged."""

    t0: float


class Stats(Message, frozen=True, tag="stats"):
    """Report of a client, every 5 s: buffered audio, underruns since it joined, samples played."""

    buffer_ms: Annotated[float, Meta(ge=0, le=1e9)]
    underruns: Annotated[int, Meta(ge=0, le=2**53)]
    played: Annotated[int, Meta(ge=0, le=2**53)]


class Welcome(Message, frozen=True, tag="welcome", omit_defaults=False):
    """Answer to ``hello``; audio frames follow. ``codec`` is the chosen codec. ``resumed`` is true if no audio was
    missed. ``reason`` says why this connection may not steer; null if it may. ``path`` has the ids of the servers from
    this one to the station's own, which is the last. ``queue``: the prompts that follow. ``requests``: what listeners
    wish; null: this station takes no requests."""

    v: int
    session: str
    role: Role
    station: str
    sample_rate: int
    channels: int
    codec: CodecName | None
    frame_ms: int
    sample_pos: int
    rev: int
    state: State
    limits: Limits
    caps: Caps
    resumed: bool = False
    reason: str | None = None
    path: tuple[str, ...] = ()
    queue: QueueList = QueueList()
    requests: RequestList | None = None


class Scheduled(Message, frozen=True, tag="scheduled"):
    """A change was accepted. ``audible_at`` (sample clock) is the expected position of its splice. ``bpm`` and
    ``beats_per_bar``: tempo and metre after the change. The reasons are as in the state. ``likeness``, as in the state,
    is known here if the prompts were played before; otherwise it follows in ``now``. ``bar``: the bar line of a change
    that named its bar, or null. Such a change gets ``scheduled`` again shortly before its line, with its revision;
    until then ``rev`` is the present one."""

    id: str
    rev: int
    audible_at: SamplePos
    audible_in_ms: float
    bpm: float | None = None
    bpm_reason: str | None = None
    beats_per_bar: int | None = None
    beats_per_bar_reason: str | None = None
    likeness: Likeness | None = None
    bar: int | None = None


class Applied(Message, frozen=True, tag="applied"):
    """A change was spliced. ``audible_at`` (sample clock) is exact. ``bar``: the bar line of a change that named its
    bar, or null."""

    id: str
    rev: int
    audible_at: SamplePos
    bar: int | None = None


class Superseded(Message, frozen=True, tag="superseded"):
    """A later change, ``by``, replaced this one before it became audible. Its fields are merged into the later one."""

    id: str
    by: str


class Rejected(Message, frozen=True, tag="rejected"):
    """A message was refused; nothing has changed. ``id`` is "" if the message had none."""

    code: Code
    message: str
    id: str = ""
    field: str | None = None
    retry_after_ms: int | None = None


class Now(Message, frozen=True, tag="now", omit_defaults=False):
    """The music at ``sample_pos``; sent at every change. ``alpha`` is the position between two keyframes, ``clip`` the
    number of the clip, ``beat`` the musical position in beats since the station began. ``bar`` is the number of the
    bar, and ``bar_beat`` the position in it, 0 to less than ``state.beats_per_bar``. ``chord`` is the sounding chord,
    ``section`` the part of the form, its bar (from 1) and its length; null without a plan. ``coming`` follows."""

    rev: int
    sample_pos: SamplePos
    state: State
    alpha: float
    clip: int
    beat: float = 0.0
    bar: int = 0
    bar_beat: float = 0.0
    chord: str | None = None
    section: str | None = None
    section_bar: int | None = None
    section_bars: int | None = None
    coming: tuple[Coming, ...] = ()


class QueueState(Message, frozen=True, tag="queue", omit_defaults=False):
    """The queue of the station, at every change. ``id``: of the request, in the answer to it."""

    queue: QueueList
    id: str = ""


class InputState(Message, frozen=True, tag="input"):
    """State of the client's live input, at every change. ``live``: the model uses it; ``quiet``, ``noise``: it changes
    nothing, because it is silent or only noise; ``ended``: frames are no longer accepted (``reason``). ``id`` is that
    of the request, "" without one. ``level_db``: loudness of the last 8 beats in dBFS; null if it is unknown."""

    status: InputStatus
    id: str = ""
    reason: str | None = None
    level_db: float | None = None


class Event(Message, frozen=True, tag="event"):
    """Something happened on the station. Clients ignore unknown kinds. ``kind`` is one of:

    - ``splice``: a change became audible at ``sample_pos``.
    - ``late``: the generator is late and renders with less effort (``reason``).
    - ``repeat``, ``underrun``, ``recovered``: audio repeats; silence begins; new audio is there again.
    - ``skipped``: a clip could not be made and was omitted.
    - ``fallback``: several clips in a row could not be made; the station returned to an earlier state.
    - ``generator``: the station has no generator (``reason``), or has one again (``reason`` is ``ready``).
    - ``paused``, ``resumed``: playback stopped; playback continues.
    - ``listeners``: the number of ``listeners`` changed, or a client joined.
    - ``clock_jump``: the server's system clock jumped.
    - ``input``: a live input begins or ends (``reason``: ``live`` or ``ended``).
    - ``upstream``: this server relays the station, and its connection to the other server changed (``reason``: ``lost``
      or ``connected``).
    - ``queue``: an item of the queue could not be played and was skipped (``reason``).
    """

    kind: str
    sample_pos: int | None = None
    rev: int | None = None
    reason: str | None = None
    listeners: int | None = None


class ClockReply(Message, frozen=True, tag="clock"):
    """Answer to ``clock``. ``t1``, ``t2``: the server's clock in ms at receipt and reply. ``sample_pos``: audible at
    ``t2``."""

    t0: float
    t1: float
    t2: float
    sample_pos: SamplePos


class Bye(Message, frozen=True, tag="bye"):
    """The sender is about to close. Reconnect after ``reconnect_ms`` (null: do not reconnect)."""

    reason: str
    reconnect_ms: int | None = None


ClientMessage = Hello | Steer | Transport | Queue | Request | Input | Clock | Stats | Bye
ServerMessage = (
    Welcome
    | Scheduled
    | Applied
    | Superseded
    | Rejected
    | Now
    | Event
    | QueueState
    | RequestsState
    | InputState
    | ClockReply
    | Bye
)


def negotiate(v: int) -> int:
    """Protocol version for a client that offers ``v``: the newest version that both support.

    Raises:
        ProtocolError: ``unsupported_version`` if the client is too old for this server.
    """
    if v < OLDEST_VERSION:
        raise ProtocolError("unsupported_version", f"v is {v}; allowed: {OLDEST_VERSION} to {VERSION}", field="v")
    return min(v, VERSION)


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of every message, by direction."""
    (client, server), defs = msgspec.json.schema_components(
        [ClientMessage, ServerMessage], ref_template="#/$defs/{name}"
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": SUBPROTOCOL,
        "version": VERSION,
        "codes": list(get_args(Code)),
        "$defs": defs | {"ClientMessage": client, "ServerMessage": server},
        "anyOf": [{"$ref": "#/$defs/ClientMessage"}, {"$ref": "#/$defs/ServerMessage"}],
    }
