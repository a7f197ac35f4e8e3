"""``/api/seeds``: the seed library."""

from __future__ import annotations

import functools
from dataclasses import asdict

from aiohttp import web

from riffstream.errors import CheckpointError
from riffstream.models.seeds import SeedLibrary
from riffstream.server.context import refuse

__all__ = ["routes"]

routes = web.RouteTableDef()


@functools.cache
def library() -> SeedLibrary | None:
    """The embedded model's seeds; None in a build without them."""
    try:
        return SeedLibrary()
    except CheckpointError:
        return None


@routes.get("/api/seeds")
async def list_seeds(request: web.Request) -> web.Response:
    """Every seed: name, style, tags, caption, tempo, and where its picture is. ``?tag=`` keeps those that have it."""
    found = library()
    tag = request.query.get("tag", "").lower()
    entries = [] if found is None else found.entries
    seeds = [
        {**asdict(entry), "preview": f"/api/seeds/{entry.name}.png"}
        for entry in entries
        if not tag or tag in entry.tags or tag == entry.style
    ]
    return web.json_response({"seeds": seeds})


@routes.get("/api/seeds/{name}.png")
async def preview(request: web.Request) -> web.StreamResponse:
    """A seed's spectrogram."""
    found, name = library(), request.match_info["name"]
    if found is None or name not in found or not found.preview(name).is_file():
        raise refuse(web.HTTPNotFound, "not_found", f"no seed {name[:40]!r}; /api/seeds lists them")
    return web.FileResponse(found.preview(name), headers={"Cache-Control": "public, max-age=86400"})
