"""Traces of steers, with the exporters and the receiver's messages of OpenTelemetry itself."""

from __future__ import annotations

import asyncio
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import riffstream
from riffstream import protocol
from riffstream.config import Config, TracingSettings, UpstreamAddress
from riffstream.errors import ParameterError
from riffstream.generator.messages import Job, Piece, Stages
from riffstream.relay.hub import RelayHub
from riffstream.server.context import Context
from riffstream.server.feeds import Feed
from riffstream.server.tracing import MOST, STAGES, Tracing, make_tracing
from riffstream.station.outlet import Chunk
from tests.server.test_process import Process

sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="opentelemetry-sdk is not installed")
export = pytest.importorskip("opentelemetry.sdk.trace.export")
memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")

STEER = protocol.Steer(id="1", prompts=(protocol.Prompt(text="a secret wish"),), bpm=97)


@pytest.fixture
def exported() -> Iterator[tuple[Tracing, Any]]:
    exporter = memory.InMemorySpanExporter()
    provider = sdk.TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(export.SimpleSpanProcessor(exporter))
    yield Tracing(provider), exporter
    provider.shutdown()


def by_name(exporter: Any) -> dict[str, Any]:
    return {span.name: span for span in exporter.get_finished_spans()}


class Source:
    """A feed's outlet that does nothing."""

    codec = "opus"


def chunk(pos: int) -> Chunk:
    return Chunk(pos, 1920, 1, protocol.Flags.NONE, b"")


def test_a_steer_is_one_trace_from_the_socket_to_the_first_frame(exported: tuple[Tracing, Any]) -> None:
    tracing, exporter = exported
    feed = Feed(Source(), 30.0, lambda feed: None)  # type: ignore[arg-type]
    tracing.arrived(7, "1")
    trace = tracing.begin(7, "1", STEER, "main")
    trace.answered(protocol.Scheduled(id="1", rev=3, audible_at=9600, audible_in_ms=200))
    stages = Stages(queue_s=0.001, text_s=0.002, denoise_s=0.1, decode_s=0.02, vocode_s=0.03)
    tracing.rendered(trace.context, stages)
    tracing.rendered(trace.context, stages)  # later pieces change nothing
    feed._take(chunk(0))
    trace.answered(protocol.Applied(id="1", rev=3, audible_at=9600), feed)
    for pos in (1920, 3840, 5760, 7680):  # the last one ends at the change
        feed._take(chunk(pos))
    assert "steer" not in by_name(exporter)
    feed._take(chunk(9600))
    spans = by_name(exporter)
    assert set(spans) == {"steer", "socket", "station", "generator", *STAGES, "splice", "first frame"}
    root = spans["steer"]
    assert root.parent is None
    assert dict(root.attributes) == {
        "station": "main", "at": "asap", "fields": ("prompts", "bpm"), "rev": 3, "audible_at": 9600,
        "result": "applied",
    }  # fmt: skip
    assert "secret" not in "".join(span.to_json() for span in spans.values())
    assert {span.context.trace_id for span in spans.values()} == {root.context.trace_id}
    for name in ("socket", "station", "generator", "splice", "first frame"):
        assert spans[name].parent.span_id == root.context.span_id
        assert root.start_time <= spans[name].start_time <= spans[name].end_time <= root.end_time
    order = [spans[name] for name in STAGES]
    assert all(span.parent.span_id == spans["generator"].context.span_id for span in order)
    assert [round((span.end_time - span.start_time) / 1e6) for span in order] == [1, 2, 100, 20, 30]
    assert (
        trace.context == f"00-{root.context.trace_id:032x}-{root.context.span_id:016x}-{root.context.trace_flags:02x}"
    )
    feed._take(chunk(11_520))
    assert len(exporter.get_finished_spans()) == len(spans)
    assert feed._followers == []


def test_a_frame_that_the_feed_has_already_ends_the_trace_once(exported: tuple[Tracing, Any]) -> None:
    tracing, exporter = exported
    feed = Feed(Source(), 30.0, lambda feed: None)  # type: ignore[arg-type]
    for pos in (0, 1920, 3840):
        feed._take(chunk(pos))
    tracing.begin(7, "1", STEER, "main").answered(protocol.Applied(id="1", rev=3, audible_at=1920), feed)
    feed._take(chunk(5760))
    assert [span.name for span in exporter.get_finished_spans()].count("first frame") == 1
    assert by_name(exporter)["steer"].attributes["result"] == "applied"
    assert feed._followers == []


async def test_a_relay_has_no_traces_of_its_own() -> None:
    config = Config.from_dict({"tracing": {"endpoint": "http://localhost:4318/v1/traces"}})
    hub: Any = RelayHub(config, (UpstreamAddress("ws://localhost:1"),))
    assert Context(config, hub).tracing is None


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (protocol.Superseded(id="1", by="2"), "superseded"),
        (protocol.Rejected(id="1", code="bad_request", message="no"), "rejected"),
        (protocol.Applied(id="1", rev=1, audible_at=0), "applied"),
    ],
)
def test_every_end_ends_the_trace(exported: tuple[Tracing, Any], answer: Any, result: str) -> None:
    tracing, exporter = exported
    trace = tracing.begin(1, "1", STEER, "main")  # over an API without a socket
    trace.answered(answer)
    trace.answered(answer)
    assert by_name(exporter)["steer"].attributes["result"] == result
    assert len([span for span in exporter.get_finished_spans() if span.name == "steer"]) == 1
    assert tracing._open == {}


def test_steers_that_never_end_are_given_up(exported: tuple[Tracing, Any]) -> None:
    tracing, exporter = exported
    for number in range(MOST + 5):
        tracing.arrived(1, str(number))  # dropped by the rate limit
    assert len(tracing._arrived) == MOST
    for number in range(MOST + 5):
        tracing.begin(1, str(number), STEER, "main")
    ended = [span for span in exporter.get_finished_spans() if span.name == "steer"]
    assert len(ended) == 5
    assert {span.attributes["result"] for span in ended} == {"given up"}
    tracing.rendered("00-unknown", None)
    asyncio.run(tracing.close())
    assert len([span for span in exporter.get_finished_spans() if span.name == "steer"]) == MOST + 5


def test_the_context_is_a_field_of_the_generator_s_messages_alone() -> None:
    assert "trace" in Job.__struct_fields__
    assert "trace" in Piece.__struct_fields__
    assert "trace" not in protocol.Steer.__struct_fields__


def test_the_sdk_is_loaded_only_where_it_is_configured() -> None:
    code = (
        "import sys; from riffstream.server.app import Server; from riffstream.server.tracing import make_tracing;"
        "from riffstream.config import TracingSettings; assert make_tracing(TracingSettings()) is None;"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_a_missing_sdk_is_an_error_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ParameterError, match=r"pip install 'riffstream\[otel\]'"):
        make_tracing(TracingSettings(endpoint="http://localhost:4318/v1/traces"))
    with pytest.raises(ParameterError, match="http://"):
        TracingSettings(endpoint="localhost:4318")


class Receiver:
    """An OTLP receiver on loopback: it decodes OpenTelemetry's own messages."""

    def __init__(self) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        spans: list[Any] = []
        services: set[str] = set()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                import gzip

                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                asked = ExportTraceServiceRequest.FromString(body)
                for resource in asked.resource_spans:
                    services.update(
                        each.value.string_value for each in resource.resource.attributes if each.key == "service.name"
                    )
                    for scope in resource.scope_spans:
                        spans.extend(scope.spans)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self.spans, self.services = spans, services
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/traces"
        self._thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join(10)


@pytest.mark.slow
async def test_a_receiver_gets_the_spans_of_a_real_server_and_model() -> None:
    receiver = Receiver()
    environment = {"RIFFSTREAM_TRACING_ENDPOINT": receiver.url, "RIFFSTREAM_TRACING_SERVICE_NAME": "my radio"}
    process = await asyncio.to_thread(
        lambda: Process("--model", "mini", **environment, OTEL_BSP_SCHEDULE_DELAY="200", PATH=os.environ["PATH"])
    )
    try:
        async with riffstream.connect(process.url, codec="opus") as radio, asyncio.timeout(120):
            await anext(radio)
            await radio.steer("solo piano", timeout_s=100)
    finally:
        code, _, logged = await asyncio.to_thread(process.end)
        receiver.close()
    assert code == 0, logged
    assert "Traceback" not in logged
    names = [span.name for span in receiver.spans]
    assert sorted(names) == sorted(["steer", "socket", "station", "generator", *STAGES, "splice", "first frame"])
    assert receiver.services == {"my radio"}
    assert len({span.trace_id for span in receiver.spans}) == 1
    length = {span.name: (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9 for span in receiver.spans}
    assert length["evaluations"] > 0.005
    assert length["vocoder"] > 0
    assert sum(length[name] for name in STAGES) <= length["generator"] * 1.05
    assert length["steer"] >= length["generator"]
