"""``/`` and ``/playground``: a page in which a browser asks the model. Its files are static.

They are open to everybody; what the page asks of the API takes a key, as anybody's request does.
"""

import os
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

_FOLDER = Path(__file__).parents[1] / "playground"
_HEADERS = {
    # Nothing from other hosts, no script or style in the page, and text never becomes markup.
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
        "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "Cache-Control": "no-cache",  # asked for again by its ETag: the page and its parts fit together
}


class _Files(StaticFiles):
    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(_HEADERS)
        return response


_FILES = _Files(directory=_FOLDER)

router = APIRouter(include_in_schema=False)


@router.api_route("/", methods=["GET", "HEAD"])
@router.api_route("/playground", methods=["GET", "HEAD"])
async def page(request: Request) -> Response:
    """The page."""
    return await _FILES.get_response("index.html", request.scope)


@router.api_route("/playground/{name}", methods=["GET", "HEAD"])
async def part(request: Request, name: str) -> Response:
    """One of its scripts, or its style."""
    return await _FILES.get_response(name, request.scope)
