"""Traces of steers with OpenTelemetry: from the client's message to the first frame that has the change.

The SDK is an extra (``otel``) and is imported only with ``tracing.endpoint``. One trace is one steer:

    steer ─┬─ socket       from the message to the station: rate limit, prompt rules
           ├─ station      merge, take and answer
           ├─ generator ─┬─ wait · text · evaluations · decode · vocoder
           │             └  from the job to the arrival of its first audio
           ├─ splice       further audio, splice and commit
           └─ first frame  encoder and fan-out

The context travels to the generator and back in its messages (``Job.trace``, ``Piece.trace``). Spans have numbers,
names and field names, never prompts, tokens or addresses.

Threading model
  Event loop   everything here. Spans are exported in a thread of the SDK.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

import msgspec

from riffstream import protocol
from riffstream.config import TracingSettings
from riffstream.errors import ParameterError
from riffstream.generator.messages import Stages

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

    from riffstream.server.feeds import Feed
    from riffstream.station.outlet import Chunk

__all__ = ["SteerTrace", "Tracing", "check_installed", "make_tracing"]

MOST: Final = 256  # steers under way; one more ends the oldest
NOT_CHANGES: Final = ("id", "at", "if_rev")
UNCHANGED: Final = protocol.Steer(id="")
STAGES: Final = {
    "wait": "queue_s",
    "text": "text_s",
    "evaluations": "denoise_s",
    "decode": "decode_s",
    "vocoder": "vocode_s",
}


def check_installed(settings: TracingSettings) -> None:
    """Raise ParameterError if the settings need the SDK and it is not installed."""
    if not settings.endpoint:
        return
    try:
        import opentelemetry.exporter.otlp.proto.http.trace_exporter
        import opentelemetry.sdk.trace  # noqa: F401
    except ImportError:
        allowed = "an address with the package of the extra: pip install 'riffstream[otel]'"
        raise ParameterError("tracing.endpoint", settings.endpoint, allowed) from None


def make_tracing(settings: TracingSettings) -> Tracing | None:
    """Tracing as configured; None without an endpoint. Raises ParameterError if the SDK is not installed."""
    check_installed(settings)
    if not settings.endpoint:
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    provider = TracerProvider(
        resource=Resource.create({"service.name": settings.service_name}),
        sampler=ParentBased(TraceIdRatioBased(settings.sample)),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=settings.endpoint, timeout=5)))
    return Tracing(provider)


class Tracing:
    """Maker of traces.

    Args:
        provider: of the SDK, with its exporters. :meth:`close` shuts it down.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("riffstream")
        self._arrived: OrderedDict[tuple[int, str], int] = OrderedDict()
        self._open: OrderedDict[str, SteerTrace] = OrderedDict()

    def arrived(self, member: int, ident: str) -> None:
        """Record that a steer of a connection has come; rate limit and prompt rules may hold it."""
        self._arrived[member, ident] = time.time_ns()
        while len(self._arrived) > MOST:
            self._arrived.popitem(last=False)

    def begin(self, member: int, ident: str, steer: protocol.Steer, station: str) -> SteerTrace:
        """Begin the trace of a steer that goes to its station now."""
        began = self._arrived.pop((member, ident), None)
        trace = SteerTrace(self, steer, station, began or time.time_ns())
        self._open[trace.context] = trace
        while len(self._open) > MOST:
            next(iter(self._open.values())).end("given up")
        return trace

    def rendered(self, context: str, stages: Stages | None) -> None:
        """Record the first audio of a job with a trace's context."""
        if (trace := self._open.get(context)) is not None:
            trace.rendered(stages)

    def span(self, name: str, parent: Span | None, start_ns: int, end_ns: int | None = None, **facts: Any) -> Span:
        """Make a span, ended if ``end_ns`` is given."""
        from opentelemetry.trace import SpanKind, set_span_in_context

        made = self._tracer.start_span(
            name,
            None if parent is None else set_span_in_context(parent),
            kind=SpanKind.SERVER if parent is None else SpanKind.INTERNAL,
            attributes=facts,
            start_time=start_ns,
        )
        if end_ns is not None:
            made.end(max(start_ns, end_ns))
        return made

    def forget(self, context: str) -> None:
        """Forget a trace that has ended."""
        self._open.pop(context, None)

    async def close(self) -> None:
        """End the traces under way and export what is left, in a thread. Idempotent."""
        for trace in tuple(self._open.values()):
            trace.end("given up")
        await asyncio.to_thread(self._provider.shutdown)


class SteerTrace:
    """The trace of one steer.

    Args:
        tracing: its maker.
        steer: the steer.
        station: name of the station.
        began_ns: time of the client's message, POSIX nanoseconds.

    Attributes:
        context: W3C trace context (``traceparent``) for the generator.
    """

    def __init__(self, tracing: Tracing, steer: protocol.Steer, station: str, began_ns: int) -> None:
        self._tracing = tracing
        now = time.time_ns()
        self._root = tracing.span("steer", None, began_ns, station=station, at=steer.at, fields=_fields(steer))
        self._child("socket", began_ns, now)
        self._mark = now  # end of the last child
        found = self._root.get_span_context()
        self.context = f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}"
        self._answered = self._rendered = self._ended = False
        self._follower: _FirstFrame | None = None

    def answered(self, answer: protocol.ServerMessage, feed: Feed | None = None) -> None:
        """Record an answer of the station.

        Args:
            answer: scheduled, applied, superseded or rejected.
            feed: a running feed, for the first frame with the change.
        """
        if self._ended:
            return
        if isinstance(answer, protocol.Scheduled):
            self._next("station")
            self._answered = True
            self._root.set_attribute("rev", answer.rev)
        elif isinstance(answer, protocol.Applied):
            self._next("splice")
            self._root.set_attribute("audible_at", answer.audible_at)
            if feed is None:
                self.end("applied")
            elif self._follower is None:
                self._follower = _FirstFrame(self, feed, answer.audible_at)
                self._follower.start()
                if self._ended:  # by a chunk of the past, before the feed had the follower
                    self._follower.stop()
        elif isinstance(answer, protocol.Superseded):
            self.end("superseded")
        elif isinstance(answer, protocol.Rejected):
            self._root.set_attribute("code", answer.code)
            self.end("rejected")

    def rendered(self, stages: Stages | None) -> None:
        """Record the arrival of the first audio. ``stages``: times in the generator, if it measures them."""
        if self._ended or self._rendered:
            return
        self._rendered = True
        begin = self._mark
        span = self._next("generator")
        if stages is not None:
            # The generator has another clock: its stages end with the arrival and lie one after the other.
            lengths = {name: round(1e9 * getattr(stages, field)) for name, field in STAGES.items()}
            at = max(begin, self._mark - sum(lengths.values()))
            for name, length in lengths.items():
                self._tracing.span(name, span, at, at + length)
                at += length

    def framed(self) -> None:
        """Record the first frame with the change. Idempotent."""
        if self._ended:
            return
        self._next("first frame")
        self.end("applied")

    def end(self, result: str) -> None:
        """End the trace. Idempotent."""
        if self._ended:
            return
        self._ended = True
        if self._follower is not None:
            self._follower.stop()
        self._root.set_attribute("result", result)
        self._root.end(max(self._mark, time.time_ns()))
        self._tracing.forget(self.context)

    def _next(self, name: str) -> Span:
        """A child from the end of the last one to now."""
        now = time.time_ns()
        made = self._child(name, self._mark, now)
        self._mark = max(self._mark, now)
        return made

    def _child(self, name: str, start_ns: int, end_ns: int) -> Span:
        return self._tracing.span(name, self._root, start_ns, end_ns)


class _FirstFrame:
    """Follower of a feed until the first chunk that ends after a sample."""

    def __init__(self, trace: SteerTrace, feed: Feed, pos: int) -> None:
        self._trace, self._feed, self._pos = trace, feed, pos

    def start(self) -> None:
        """Follow; the chunks of the past come at once."""
        self._feed.follow(self)

    def stop(self) -> None:
        """Follow no longer."""
        self._feed.unfollow(self)

    def push(self, chunk: Chunk) -> None:
        """Take a chunk."""
        if chunk.sample_pos + chunk.n_samples > self._pos:
            self._trace.framed()

    def end(self) -> None:
        """The feed has ended."""
        self._trace.end("applied")


def _fields(steer: protocol.Steer) -> list[str]:
    """Names of the fields that a steer changes."""
    changed = msgspec.structs.asdict(steer)
    return [name for name in changed if name not in NOT_CHANGES and changed[name] != getattr(UNCHANGED, name)]
