"""``/v1/files``: what is uploaded once is named by its id wherever a URL may stand."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import FileResponse, JSONResponse, Response

from saccade.server.core.errors import ApiError, InvalidRequest
from saccade.server.core.request_context import CALLER
from saccade.server.files.reading import read_form
from saccade.server.files.store import MOST_LISTED, PURPOSES, FileStore, StoredFile, UnknownFile

router = APIRouter()

_ANCHOR, _SECONDS = "expires_after[anchor]", "expires_after[seconds]"
_FIELDS = ("purpose", _ANCHOR, _SECONDS)
_LONGEST_NAME = 255  # characters


@router.post("/v1/files")
async def upload(request: Request) -> JSONResponse:
    """Keeps a file: an image or a video (purpose `user_data` or `vision`), or a batch."""
    store = _store(request)
    being = await asyncio.to_thread(store.begin)
    try:
        form = await read_form(request, being)
        if form.filename is None:
            raise InvalidRequest("the form has no file", "file")
        purpose, seconds = _checked(form.fields)
        name = form.filename.rpartition("/")[2][:_LONGEST_NAME] or "upload"
        owner = _owner(request)
        kept = await asyncio.to_thread(store.add, being, owner, name, purpose, seconds)
    finally:
        await asyncio.to_thread(being.close)
    return JSONResponse(_told(kept))


@router.get("/v1/files")
async def files(
    request: Request,
    purpose: str | None = None,
    after: str | None = None,
    limit: str = str(MOST_LISTED),
    order: str = "desc",
) -> JSONResponse:
    """The caller's files, newest first."""
    store = _store(request)
    if order not in ("asc", "desc"):
        raise InvalidRequest("order must be asc or desc", "order")
    most = int(limit) if limit.isdecimal() and len(limit) < 9 else 0
    if not 1 <= most <= MOST_LISTED:
        raise InvalidRequest(f"limit must be from 1 to {MOST_LISTED}", "limit")
    try:
        found, more = await asyncio.to_thread(
            store.list, _owner(request), purpose, after, most, order == "desc"
        )
    except UnknownFile as error:
        error.param = "after"
        raise
    told = [_told(file) for file in found]
    ends = (told[0]["id"], told[-1]["id"]) if told else (None, None)
    page = {"object": "list", "data": told, "has_more": more}
    return JSONResponse(page | {"first_id": ends[0], "last_id": ends[1]})


@router.get("/v1/files/{file_id}")
async def file(request: Request, file_id: str) -> JSONResponse:
    """One of them."""
    return JSONResponse(_told(await _found(request, file_id)))


@router.get("/v1/files/{file_id}/content", response_class=FileResponse)
async def content(request: Request, file_id: str) -> Response:
    """What it holds."""
    found = await _found(request, file_id)
    path = _store(request).path(found)
    if not path.exists():  # deleted in between
        raise UnknownFile(file_id)
    # Never shown by a browser as what its sender may have made it look like.
    kind = "application/octet-stream"
    return FileResponse(path, media_type=kind, filename=found.filename)


@router.delete("/v1/files/{file_id}")
async def delete(request: Request, file_id: str) -> JSONResponse:
    """Deletes it. Requests that have read it go on."""
    await asyncio.to_thread(_store(request).delete, file_id, _owner(request))
    return JSONResponse({"id": file_id, "object": "file", "deleted": True})


def _store(request: Request) -> FileStore:
    store: FileStore | None = request.app.state.services.files
    if store is None:
        told = "files are not kept by this server: --files-dir says where they would be"
        raise ApiError(told, code="files_off", status=404)
    return store


def _owner(request: Request) -> str:
    owner: str = request.scope.get(CALLER, "")
    return owner


async def _found(request: Request, file_id: str) -> StoredFile:
    return await asyncio.to_thread(_store(request).get, file_id, _owner(request))


def _checked(fields: dict[str, str]) -> tuple[str, int | None]:
    """Purpose, and seconds until it expires."""
    if unknown := fields.keys() - set(_FIELDS):
        name = min(unknown)[:64]
        raise InvalidRequest(f"unknown field {name!r}", name)
    purpose = fields.get("purpose")
    if purpose not in PURPOSES:
        raise InvalidRequest(f"purpose must be one of {', '.join(PURPOSES)}", "purpose")
    if fields.get(_ANCHOR, "created_at") != "created_at":
        raise InvalidRequest("the anchor is created_at", "expires_after.anchor")
    seconds = fields.get(_SECONDS)
    if seconds is None:
        if _ANCHOR in fields:
            raise InvalidRequest("seconds must say how long", "expires_after.seconds")
        return purpose, None
    if not seconds.isdecimal() or len(seconds) > 9 or int(seconds) == 0:
        raise InvalidRequest("seconds must be a positive number", "expires_after.seconds")
    return purpose, int(seconds)


def _told(file: StoredFile) -> dict[str, Any]:
    """As OpenAI tells of a file."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": file.created_at,
        "expires_at": file.expires_at,
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
    }
