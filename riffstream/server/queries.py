"""Parameters of a query: each one is known and given once. Their values are checked by the handlers."""

from __future__ import annotations

from aiohttp import web

from riffstream.server.context import CONTEXT, refuse
from riffstream.server.openapi import Operation, names_of_query

__all__ = ["check_query", "wrong_name"]


def check_query(request: web.Request) -> None:
    """Raise 400 for a parameter that the handler's description does not have, or that is given twice.

    Names that begin with ``_`` are free: pages add them against caches. Handlers without described parameters take
    all, as do link previews, whose readers add parameters of other sites.
    """
    operation: Operation | None = getattr(request.match_info.handler, "riffstream_operation", None)
    if not request.query_string or operation is None or operation.query is None or operation.tag == "pages":
        return
    known = names_of_query(operation.query, request.app[CONTEXT].config)
    seen: set[str] = set()
    for name, _ in request.query.items():
        if name.startswith("_"):
            continue
        if name not in known:
            raise wrong_name("query", name, known)
        if name in seen:
            raise refuse(web.HTTPBadRequest, "bad_request", f"query has {name} twice; allowed: once")
        seen.add(name)


def wrong_name(where: str, name: str, known: tuple[str, ...]) -> web.HTTPException:
    """Refusal (400) of a name that is none of the known ones."""
    text = f"{where} has {name[:40]!r}; allowed: {', '.join(known)}"
    return refuse(web.HTTPBadRequest, "bad_request", text)
