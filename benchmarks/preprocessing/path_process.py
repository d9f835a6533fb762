"""One of the two media paths in a process of its own, which counts its own time and memory.

From the bytes of a chat request to the message that would go to the engine, without an engine.
Started by `path_client`: one JSON job a line on stdin, one JSON answer a line on its pipe.
Knows the inside of vLLM.
"""

import asyncio
import ctypes
import gc
import json
import os
import re
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pybase64
import pydantic_core
import simplejpeg
import uvloop
from blake3 import blake3
from starlette.datastructures import State
from vllm import AsyncEngineArgs
from vllm.entrypoints.launchers.render.app_state import init_render_app_state
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.utils.gc_utils import freeze_gc_heap
from vllm.v1.engine import EngineCoreRequest
from vllm.v1.engine.input_processor import InputProcessor
from vllm.v1.serial_utils import MsgpackEncoder

from saccade.demo.training.batch import patchify
from saccade.media.memory.cpu import usable_cores
from saccade.server.engine.moved import make_arg_parser

_PATCH = 14  # pixels
_ENDLESS = 2**62  # nothing waits here

Render = Callable[[bytes], Awaitable[EngineCoreRequest]]


class Renderer:
    """vLLM's own steps between a chat request and the engine, with vLLM's defaults."""

    def __init__(self, state: State, config: Any) -> None:
        self._online = state.online_renderer
        self._inputs = InputProcessor(config, self._online.renderer)
        self.info = self._online.renderer.get_mm_processor().info

    async def render(self, body: Mapping[str, Any]) -> EngineCoreRequest:
        """What would go to the engine for this chat request."""
        chat = ChatCompletionRequest.model_validate(body)
        rendered = await self._online.render_chat(chat)
        if not isinstance(rendered, tuple):
            raise RuntimeError(rendered.error.message)
        _, (prompt,) = rendered
        sampling = chat.to_sampling_params(1, {})
        return self._inputs.process_inputs("benchmark", prompt, sampling, ("generate",))

    @property
    def renderer(self) -> Any:
        """vLLM's renderer."""
        return self._online.renderer

    def forget(self) -> None:
        """Empties the cache of processed media."""
        self._online.renderer.clear_mm_cache()


async def make_renderer(options: list[str]) -> Renderer:
    """A renderer as ``vllm serve`` with these options would have."""
    parser = make_arg_parser(FlexibleArgumentParser())
    arguments: Namespace = parser.parse_args(options)
    arguments.model = arguments.model_tag
    config = AsyncEngineArgs.from_cli_args(arguments).create_engine_config()
    state = State()
    await init_render_app_state(config, state, arguments)
    return Renderer(state, config)


def through_saccade(renderer: Renderer, media_root: Path | None) -> Render:
    """The same steps behind Saccade's front end, which fetches and decodes."""
    # Imported here: the process of stock vLLM is to have nothing of it.
    from saccade.media.fetch.fetcher import FetchPolicy
    from saccade.media.loader import MediaLoader
    from saccade.server.admission.controller import Admission
    from saccade.server.admission.pricing import AdmissionLimits, Resources
    from saccade.server.core.settings import RequestLimits
    from saccade.server.engine.media_cache import MediaCache
    from saccade.server.engine.prompt.request_media import request_media
    from saccade.server.flow.media import decode_media, plan_media
    from saccade.server.request.field_checks import EngineOptions
    from saccade.server.request.parsed_request import CHAT, parse_request

    info = renderer.info
    policy = FetchPolicy(media_root=media_root)
    loader = MediaLoader(info.geometry, info.pixel_limits("image"), policy)
    cache = MediaCache(renderer.renderer)
    anything = Resources(_ENDLESS, _ENDLESS, _ENDLESS)
    admission = Admission(AdmissionLimits(anything, _ENDLESS, _ENDLESS, _ENDLESS, _ENDLESS))

    async def render(data: bytes) -> EngineCoreRequest:
        ticket = admission.arrive(len(data))
        try:
            # As `saccade.server.flow.generate` does, without the engine.
            request = parse_request(
                pydantic_core.from_json(data), CHAT, RequestLimits(), EngineOptions()
            )
            planned = await plan_media(request.media, loader, admission, ticket)
            media = await decode_media(planned, loader, cache)
            del planned
            with request_media(media):
                rendered = await renderer.render(request.body)
            await cache.take_cached_out(rendered)
            return rendered
        finally:
            admission.release(ticket)

    return render


def through_vllm(renderer: Renderer) -> Render:
    """The same steps behind FastAPI, which reads bodies with ``json``."""

    async def render(data: bytes) -> EngineCoreRequest:
        return await renderer.render(json.loads(data))

    return render


async def measure(render: Render, bodies: list[bytes], memory: bool) -> dict[str, Any]:
    """All requests at once: seconds of wall and CPU, bytes to the engine.

    Args:
        memory: measure the peak of memory too, which costs time.
    """
    encoder = MsgpackEncoder()
    sent = 0

    async def one(body: bytes) -> None:
        nonlocal sent
        request = await render(body)
        sent += sum(memoryview(buffer).nbytes for buffer in encoder.encode(request))

    gc.collect()
    idle = _restart_peak() if memory else 0
    wall, cpu = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as group:
        for body in bodies:
            group.create_task(one(body))
    figures = {
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "bytes": sent,
    }
    return figures | ({"peak": _memory("VmHWM") - idle} if memory else {})


async def check(render: Render, bodies: list[bytes], raster: bool) -> list[dict[str, Any]]:
    """What the engine would get of each request, in the order of patches that stock vLLM sends.

    Args:
        raster: whether the engine gets frames row by row instead, as ours does.
    """
    seen = []
    for body in bodies:
        request = await render(body)
        assert request.mm_features is not None
        (feature,) = request.mm_features
        assert feature.data is not None
        data = {name: element.data for name, element in feature.data.items()}
        (name,) = [name for name in data if name.startswith("pixel_values")]
        grid = [int(side) for side in data[f"{feature.modality}_grid_thw"].flatten()]
        patches = data[name].numpy()
        sent = patches.nbytes
        if raster:
            _, h, w = grid
            patches = patchify(patches.reshape(-1, h * _PATCH, w * _PATCH, 3))
        seen.append({"grid": grid, "digest": blake3(patches).hexdigest(), "sent": sent})
    return seen


def decode_alone(bodies: list[bytes]) -> dict[str, Any]:
    """The floor of JPEGs: libjpeg-turbo, on a thread for each core."""
    encoded = []
    for body in bodies:
        url: str = json.loads(body)["messages"][0]["content"][0]["image_url"]["url"]
        encoded.append(pybase64.b64decode(url.partition(",")[2]))
    with ThreadPoolExecutor(usable_cores()) as pool:
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in pool.map(lambda data: simplejpeg.decode_jpeg(data).shape, encoded):
            pass
        return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def _read(files: list[str]) -> list[bytes]:
    return [Path(file).read_bytes() for file in files]


def _memory(name: str) -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def _restart_peak() -> int:
    """Lets ``VmHWM`` start anew; returns the memory in use, bytes."""
    ctypes.CDLL(None).malloc_trim(0)  # what earlier jobs left with the allocator is not in use
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _memory("VmRSS")


async def answer_jobs(args: Namespace) -> None:
    """Answer jobs until stdin ends."""
    ours = args.way == "ours"
    if ours:
        # Imported here: the process of stock vLLM is to have nothing of it.
        from saccade.server.engine.prompt.renderer import use_plain_text_renderer

        use_plain_text_renderer()
    renderer = await make_renderer(args.options)
    render = through_saccade(renderer, args.media_root) if ours else through_vllm(renderer)
    freeze_gc_heap()  # as vLLM's servers, and ours, do when they have started
    out = os.fdopen(args.out, "w", encoding="utf-8")
    print(json.dumps("ready"), file=out, flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        job = json.loads(line)
        bodies = await asyncio.to_thread(_read, job["files"])
        renderer.forget()
        answer: Any
        try:
            if job["job"] == "measure":
                answer = await measure(render, bodies, job.get("memory", False))
            elif job["job"] == "check":
                answer = await check(render, bodies, ours)
            else:
                answer = decode_alone(bodies)
        except* Exception as errors:
            answer = {"error": repr(errors.exceptions[0])}
        print(json.dumps(answer), file=out, flush=True)


def main() -> None:
    """The process."""
    parser = ArgumentParser()
    parser.add_argument("way", choices=("ours", "stock"))
    parser.add_argument("--out", type=int, required=True, help="file descriptor of the answers")
    parser.add_argument("--media-root", type=Path)
    parser.add_argument("--options", type=json.loads, required=True, help="of vllm serve, JSON")
    uvloop.run(answer_jobs(parser.parse_args()))  # as both servers do


if __name__ == "__main__":
    main()
