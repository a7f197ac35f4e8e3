"""Answers that are a whole file in memory: ranges and revalidation (RFC 9110, sections 13 and 14).

Safari plays and all players seek only in files whose server answers ranges.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from aiohttp import web

__all__ = ["file_answer"]


def file_answer(request: web.Request, body: bytes, kind: str, headers: Mapping[str, str]) -> web.Response:
    """Answer with a file that is the same at each request, or with the range of it that the client asks for.

    Args:
        request: may have ``Range``, ``If-Range`` and ``If-None-Match``. Several ranges and damaged ones get the file.
        body: the file, 1 byte or more.
        kind: its content type.
        headers: further headers.

    Returns:
        200, 206, 304, or 416 for a range behind the end.
    """
    tag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
    made = {**headers, "Accept-Ranges": "bytes", "ETag": tag, "Content-Type": kind}
    known = request.headers.get("If-None-Match", "")
    if known.strip() == "*" or tag in known:
        return web.Response(status=304, headers={name: made[name] for name in made if name != "Content-Type"})
    try:
        asked = request.http_range if "Range" in request.headers else None
    except ValueError:
        asked = None
    if asked is None or request.method != "GET" or request.headers.get("If-Range", tag) != tag:
        return web.Response(body=body, headers=made)
    first, end, _ = asked.indices(len(body))
    if first >= end:
        return web.Response(status=416, headers={**made, "Content-Range": f"bytes */{len(body)}"})
    made["Content-Range"] = f"bytes {first}-{end - 1}/{len(body)}"
    return web.Response(status=206, body=body[first:end], headers=made)
