"""Metrics and health of a server with several processes: those of all of them, at each of them.

Threading model: everything runs on the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import aiohttp
from aiohttp import web
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from riffstream.server.interfaces import Upstream

__all__ = ["Families", "WorkerSet", "ask_first", "merged", "read_workers"]

ASK_S = 2.0


class WorkerSet(Protocol):
    """The further processes of a server."""

    def paths(self) -> dict[str, Path]:
        """Unix socket of each worker."""

    def figures(self) -> dict[str, dict[str, Any]]:
        """Process number, state and restarts of each worker."""


class Families(Collector):
    """Collector of given families."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterator[Metric]:
        """The families."""
        return iter(self._families)


def _is_local(request: web.Request) -> bool:
    """Whether a request came over the server's Unix socket, from another of its processes."""
    name = None if request.transport is None else request.transport.get_extra_info("sockname")
    return isinstance(name, str | bytes)


async def read_workers(workers: WorkerSet) -> dict[str, list[Metric]]:
    """Metrics of the workers that answer, by worker."""
    paths = workers.paths()
    texts = await asyncio.gather(*(_read(path) for path in paths.values()), return_exceptions=True)
    return {
        name: list(text_string_to_metric_families(text))
        for name, text in zip(paths, texts, strict=True)
        if isinstance(text, str)
    }


async def _read(path: Path) -> str:
    timeout = aiohttp.ClientTimeout(total=ASK_S)
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path)), timeout=timeout) as session,
        session.get("http://localhost/metrics") as answer,
    ):
        return await answer.text()


async def ask_first(upstream: Upstream | None, request: web.Request) -> web.Response | None:
    """Answer of the server's first process at a worker; None if this is none, or if the first does not answer."""
    if upstream is None or not upstream.inside or _is_local(request):
        return None
    headers = {"Accept": request.headers["Accept"]} if "Accept" in request.headers else {}
    try:
        async with asyncio.timeout(ASK_S + 1), upstream.http("GET", request.path, headers) as answer:
            body = await answer.read()
            return web.Response(
                body=body, status=answer.status, headers={"Content-Type": answer.headers["Content-Type"]}
            )
    except (aiohttp.ClientError, OSError, TimeoutError):
        return None


def merged(processes: Mapping[str, Iterable[Metric]]) -> list[Metric]:
    """Families of several processes as one, with the label ``worker``."""
    found: dict[str, Metric] = {}
    for worker, families in processes.items():
        for family in families:
            target = found.get(family.name)
            if target is None:
                target = found[family.name] = Metric(family.name, family.documentation, family.type, family.unit)
            target.samples += [
                Sample(each.name, {**each.labels, "worker": worker}, each.value, each.timestamp, each.exemplar)
                for each in family.samples
            ]
    return list(found.values())
