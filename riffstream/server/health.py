"""``/healthz``, ``/readyz`` and ``/metrics``."""

from __future__ import annotations

import msgspec
from aiohttp import web
from msgspec import UNSET
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from riffstream import __version__
from riffstream.server.answers import (
    ArchiveState,
    Health,
    PushState,
    Readiness,
    UpstreamState,
    WebhookState,
    WorkerState,
    json_answer,
)
from riffstream.server.context import CONTEXT
from riffstream.server.header_timeout import HEADER_TIMEOUT
from riffstream.server.metrics import ServerMetrics
from riffstream.server.openapi import Answer, described
from riffstream.server.worker_figures import Families, ask_first, merged, read_workers

__all__ = ["routes"]

routes = web.RouteTableDef()
WORKER_STATES = dict[str, WorkerState]


@routes.get("/healthz")
@described("server", Answer(Health, "the event loop runs"))
async def healthz(request: web.Request) -> web.Response:
    """Answer 200 while the event loop runs, with the state of pushes, webhooks, archive and upstream."""
    context = request.app[CONTEXT]
    if (answer := await ask_first(context.hub.upstream, request)) is not None:
        return answer
    pushes = {name: PushState(**push.figures()) for name, push in context.pushes.items()}
    archive = UNSET if context.archive is None else ArchiveState(**context.archive.figures())
    hooks = {name: WebhookState(**hook.figures()) for name, hook in context.webhooks.items()}
    upstream = UNSET if context.hub.upstream is None else UpstreamState(**context.hub.upstream.figures())
    about = Health(
        version=__version__,
        push=pushes or UNSET,
        webhooks=hooks or UNSET,
        archive=archive,
        upstream=upstream,
        workers=UNSET if context.workers is None else msgspec.convert(context.workers.figures(), WORKER_STATES),
    )
    return json_answer(about)


@routes.get("/readyz")
@described("server", Answer(Readiness, "there is audio"), Answer(Readiness, "no audio yet, or shutting down", 503))
async def readyz(request: web.Request) -> web.Response:
    """Answer 200 when the generator is warmed up and the server is not shutting down; otherwise 503 with the reason."""
    context = request.app[CONTEXT]
    if (answer := await ask_first(context.hub.upstream, request)) is not None:
        return answer
    loading = "the model is loading" if context.hub.upstream is None else "the server behind this relay is not reached"
    reason = "draining" if context.draining else None if context.hub.ready else loading
    if reason is None:
        runtime = context.hub.health().get("generator", {}).get("runtime")
        return json_answer(Readiness(status="ready", runtime=runtime or None))
    return json_answer(Readiness(status="not ready", reason=reason), status=503, headers={"Retry-After": "2"})


@routes.get("/metrics")
@described("server", Answer(("text/plain", "application/openmetrics-text"), "the metrics"))
async def metrics(request: web.Request) -> web.Response:
    """Send all metrics in the format that the client accepts: Prometheus' text or OpenMetrics."""
    context = request.app[CONTEXT]
    if (answer := await ask_first(context.hub.upstream, request)) is not None:
        return answer
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    collector: Collector = ServerMetrics(context, request.app[HEADER_TIMEOUT])
    if context.workers is not None:
        others = await read_workers(context.workers)
        collector = Families(merged({"0": collector.collect(), **others}))
    return web.Response(body=encode(collector), headers={"Content-Type": content_type})
