"""``/healthz``, ``/readyz`` and ``/metrics``."""

from __future__ import annotations

from aiohttp import web
from msgspec import UNSET
from prometheus_client.exposition import choose_encoder

from riffstream import __version__
from riffstream.server.answers import ArchiveState, Health, PushState, Readiness, WebhookState, json_answer
from riffstream.server.context import CONTEXT
from riffstream.server.header_timeout import HEADER_TIMEOUT
from riffstream.server.metrics import ServerMetrics
from riffstream.server.openapi import Answer, described

__all__ = ["routes"]

routes = web.RouteTableDef()


@routes.get("/healthz")
@described("server", Answer(Health, "the event loop runs"))
async def healthz(request: web.Request) -> web.Response:
    """Answer 200 while the event loop runs, with the state of pushes, webhooks and archive."""
    context = request.app[CONTEXT]
    pushes = {name: PushState(**push.figures()) for name, push in context.pushes.items()}
    archive = UNSET if context.archive is None else ArchiveState(**context.archive.figures())
    hooks = {name: WebhookState(**hook.figures()) for name, hook in context.webhooks.items()}
    about = Health(version=__version__, push=pushes or UNSET, webhooks=hooks or UNSET, archive=archive)
    return json_answer(about)


@routes.get("/readyz")
@described("server", Answer(Readiness, "there is audio"), Answer(Readiness, "no audio yet, or shutting down", 503))
async def readyz(request: web.Request) -> web.Response:
    """Answer 200 when the generator is warmed up and the server is not shutting down; otherwise 503 with the reason."""
    context = request.app[CONTEXT]
    reason = "draining" if context.draining else None if context.hub.ready else "the model is loading"
    if reason is None:
        return json_answer(Readiness(status="ready"))
    return json_answer(Readiness(status="not ready", reason=reason), status=503, headers={"Retry-After": "2"})


@routes.get("/metrics")
@described("server", Answer(("text/plain", "application/openmetrics-text"), "the metrics"))
async def metrics(request: web.Request) -> web.Response:
    """Send all metrics in the format that the client accepts: Prometheus' text or OpenMetrics."""
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    collector = ServerMetrics(request.app[CONTEXT], request.app[HEADER_TIMEOUT])
    return web.Response(body=encode(collector), headers={"Content-Type": content_type})
