"""The process that takes bad media: one loader, one case after the other, one line each.

    python loading_child.py FOLDER        every NAME.image and NAME.video in the folder

Every case is announced before it is loaded, so that the parent can name the one that killed us.
Peak memory is the kernel's high-water mark of this process (VmHWM), set back before every case:
``ru_maxrss`` cannot be set back, and a child inherits it from a parent that was larger.
"""

import asyncio
import base64
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from real_files import real_clips, real_images

from saccade.media.controls import ImageControls, VideoControls
from saccade.media.errors import MediaError
from saccade.media.fetch.fetcher import FetchPolicy
from saccade.media.limits import ImageLimits, MediaLimits
from saccade.media.loader import MediaLoader
from saccade.media.planning.plan import PixelLimits, VisionGeometry

PIXELS = PixelLimits(max_pixels=784 * 1024)
LIMITS = MediaLimits(
    image=ImageLimits(max_pixels=4_000_000),
    max_frame_pixels=4_000_000,
    max_source_frames=20_000,
    max_planned_frames=32,
    max_decoding_seconds=10.0,
)
FRAMES = VideoControls(max_pixels=784 * 16, min_pixels=784 * 4, max_frames=32)

Case = tuple[str, str, bytes]  # name, "image" or "video", the file


def files(folder: Path) -> Iterator[Case]:
    for path in sorted(folder.iterdir()):
        yield path.name, path.suffix.lstrip("."), path.read_bytes()


def peak(reset: bool = False) -> int:
    """Bytes: the most that was resident, or what is now, from where the mark starts anew."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def resources() -> dict[str, int]:
    return {
        "threads": threading.active_count(),
        "descriptors": len(os.listdir("/proc/self/fd")),
    }


async def load(loader: MediaLoader, kind: str, data: bytes, record: dict[str, object]) -> None:
    """Loads one medium; ``record["room"]`` is what the loader reserves for its decoding."""
    url = "data:;base64," + base64.b64encode(data).decode()
    if kind == "image":
        image = await loader.plan(url, ImageControls(), "here")
        record["room"] = image.decoding_bytes + image.plan.decoded_bytes
        pixels = (await loader.decode(image)).pixels
        assert pixels.shape == (image.plan.height, image.plan.width, 3)
    else:
        video = await loader.plan(url, FRAMES, "here")
        record["room"] = video.decoding_bytes + video.plan.decoded_bytes
        decoded = await loader.decode(video)
        assert len(decoded.frames) == len(decoded.plan.frame_indices)


def say(**record: object) -> None:
    print(json.dumps(record), flush=True)


async def main() -> None:
    loader = MediaLoader(VisionGeometry(), PIXELS, FetchPolicy(), workers=2, media_limits=LIMITS)
    good = (("image", real_images()["png"]), ("video", real_clips()["mp4"]))
    await asyncio.gather(*(load(loader, *medium, {}) for medium in good * 4))
    # Where large data: URLs are decoded; of one thread, so that a second is no accident.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    await asyncio.to_thread(int)
    before = resources()
    for name, kind, data in files(Path(sys.argv[1])):
        say(begin=name)
        record: dict[str, object]
        record = {"name": name, "size": len(data), "outcome": "served", "room": 0}
        start, started = peak(reset=True), time.perf_counter()
        try:
            await load(loader, kind, data, record)
        except MediaError as error:
            record |= {"outcome": type(error).__name__, "message": error.message}
            record |= {"status": error.status, "param": error.param}
        except Exception:
            record |= {"outcome": "crashed", "message": traceback.format_exc()}
        say(**record, grown=peak() - start, seconds=time.perf_counter() - started)
    for medium in good:
        await load(loader, *medium, {})
    say(before=before, after=resources())
    await loader.close()


if __name__ == "__main__":
    asyncio.run(main())
