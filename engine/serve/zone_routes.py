"""The addresses of the file of zones that ``crowd zones`` edits."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from engine.serve.body import read_small
from engine.serve.zone_file import ZoneFile


def add(app: FastAPI, zone_file: ZoneFile | None) -> None:
    """Add the addresses to the application; without a file, each is answered with 404."""

    def opened() -> ZoneFile:
        if zone_file is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, "no file of zones is edited here; 'crowd zones' opens one")
        return zone_file

    @app.get("/v1/zone-file", summary="The file of zones that is edited, and its contents")
    async def read_file() -> dict[str, Any]:
        file = opened()
        return {"name": file.path.name, "title": file.title, "layout": await run_in_threadpool(file.load)}

    @app.get("/v1/zone-file/picture", summary="The picture that the zones are drawn on", response_class=Response)
    async def picture() -> Response:
        file = opened()
        return Response(file.picture, media_type=file.kind)

    @app.put("/v1/zone-file", summary="Save the zones")
    async def save(request: Request) -> dict[str, int]:
        file = opened()
        layout = await run_in_threadpool(file.save, await read_small(request))
        return {"zones": len(layout.zones), "lines": len(layout.lines)}
