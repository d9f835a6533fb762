"""The HTTP routes that run no model. What is mounted nowhere here is not there at all."""

from importlib.metadata import version

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from starlette.responses import JSONResponse

from saccade.server.core.errors import MODEL_NOT_FOUND, ApiError, EngineDied
from saccade.server.engine.client import VLLM_VERSION

router = APIRouter()


@router.get("/v1/models")
async def models(request: Request) -> JSONResponse:
    """The served model and its adapters."""
    return JSONResponse(await request.app.state.services.engine.models())


@router.get("/v1/models/{model:path}")
async def model(request: Request, model: str) -> JSONResponse:
    """One of them."""
    if not model:
        return await models(request)
    listed = (await request.app.state.services.engine.models())["data"]
    found = next((one for one in listed if one["id"] == model), None)
    if found is None:
        message = f"the model {model[:256]!r} does not exist"
        raise ApiError(message, "model", MODEL_NOT_FOUND, status=404)
    return JSONResponse(found)


@router.get("/health")
async def health(request: Request) -> JSONResponse:
    """Whether process and engine are alive; red means: restart."""
    if request.app.state.services.lifecycle.engine_death.done():
        raise EngineDied
    return JSONResponse({"status": "alive"})


@router.get("/ready")
async def ready(request: Request) -> JSONResponse:
    """Whether to send requests here; red while the server drains. (The model is loaded before
    the port answers at all.)"""
    if (refusal := request.app.state.services.lifecycle.refusal) is not None:
        raise refusal
    return JSONResponse({"status": "ready"})


@router.get("/version")
async def versions() -> JSONResponse:
    """Versions of Saccade and of the vLLM below it."""
    return JSONResponse({"version": version("saccade"), "vllm": VLLM_VERSION})


# As HTTP wants it of whatever is got; the server below sends no body.
for route in [route for route in router.routes if isinstance(route, APIRoute)]:
    router.add_api_route(route.path, route.endpoint, methods=["HEAD"], include_in_schema=False)
