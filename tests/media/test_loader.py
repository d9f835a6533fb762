"""From URL to decoded pixels, through the loader that a server uses."""

import asyncio
import base64
import gc
import io
import os
import sys
import weakref
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import pytest_asyncio
from loading import load
from PIL import Image
from prometheus_client import REGISTRY

from saccade.media import worker
from saccade.media.controls import ImageControls, VideoControls
from saccade.media.decode.image import decode_image
from saccade.media.decode.resize import resize
from saccade.media.errors import ControlError, DecodeError, FetchError, LimitError
from saccade.media.fetch.fetcher import FetchPolicy
from saccade.media.items import DecodedImage
from saccade.media.limits import MediaLimits
from saccade.media.loader import MediaLoader
from saccade.media.planning.plan import PixelLimits, VisionGeometry, listed_frame_size, plan_image

GEOMETRY = VisionGeometry()
PARAM = "messages[0].content[1]"
NONE = ImageControls()
Encode = Callable[..., bytes]


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    chance = np.random.default_rng(seed)
    return Image.fromarray(chance.integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    output = io.BytesIO()
    image.save(output, kind, **options)
    return output.getvalue()


def data_url(data: bytes) -> str:
    return "data:;base64," + base64.b64encode(data).decode()


@pytest_asyncio.fixture
async def loader(tmp_path: Path) -> AsyncIterator[MediaLoader]:
    loader = MediaLoader(
        VisionGeometry(), PixelLimits(), FetchPolicy(media_root=tmp_path), workers=2
    )
    yield loader
    await loader.close()


async def test_an_image_is_planned_and_resized(loader: MediaLoader) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(picture(300, 200), "JPEG", exif=exif)
    controls = ImageControls(max_pixels=784 * 20)
    decoded = await load(loader, data_url(data), controls)
    plan = plan_image(200, 300, controls, VisionGeometry(), PixelLimits())
    assert decoded.plan == plan
    assert decoded.pixels.shape == (plan.height, plan.width, 3)
    np.testing.assert_array_equal(
        decoded.pixels, resize(decode_image(data), plan.height, plan.width)
    )


async def test_digests_tell_apart_what_differs(loader: MediaLoader) -> None:
    first, second = data_url(encoded(picture(99, 99))), data_url(encoded(picture(99, 99, 1)))

    async def digest(url: str, controls: ImageControls = NONE) -> str:
        return (await load(loader, url, controls)).digest

    assert await digest(first) == await digest(first)
    other = MediaLoader(VisionGeometry(), PixelLimits(max_pixels=10**6), FetchPolicy())
    others = (await load(other, first, NONE)).digest
    await other.close()
    digests = [
        await digest(first),
        await digest(second),
        await digest(first, ImageControls(max_pixels=784 * 4)),
        await digest(first, ImageControls(max_pixels=784 * 9)),
        await digest(first, ImageControls(resized_width=56, resized_height=112)),
        await digest(first, ImageControls(resized_width=112, resized_height=56)),
        others,
    ]
    assert len(set(digests)) == len(digests)
    assert all(len(value) == 64 for value in digests)


async def test_errors_name_the_place_in_the_request(loader: MediaLoader) -> None:
    good = data_url(encoded(picture(99, 99)))
    with pytest.raises(ControlError) as control:
        await load(loader, good, ImageControls(max_pixels=100), PARAM)
    assert control.value.param == f"{PARAM}.max_pixels"
    with pytest.raises(FetchError) as fetch:
        await load(loader, "http://127.0.0.1:9/x", NONE, PARAM)
    assert fetch.value.param == PARAM
    with pytest.raises(DecodeError) as decode:
        await load(loader, "data:,no%20picture", NONE, PARAM)
    assert decode.value.param == PARAM
    with pytest.raises(DecodeError) as broken:
        await load(loader, [good, "data:,x"], VideoControls(), PARAM)
    assert broken.value.param == PARAM
    with pytest.raises(FetchError) as missing:
        await load(loader, [good, "missing.png"], VideoControls(), PARAM)
    assert missing.value.param == PARAM
    cut = encoded(picture(99, 99))[:-2000]
    with pytest.raises(DecodeError) as late:
        await load(loader, [good, data_url(cut)], VideoControls(), PARAM)
    assert late.value.param == PARAM


async def test_controls_cannot_ask_for_more_than_the_server_grants(loader: MediaLoader) -> None:
    tiny = data_url(encoded(picture(30, 30)))
    wide = {"min_pixels": 2**40, "max_pixels": 2**41}
    with pytest.raises(LimitError):
        await load(loader, tiny, ImageControls(**wide), PARAM)
    with pytest.raises(LimitError):
        await load(loader, [tiny, tiny], VideoControls(**wide), PARAM)


async def test_long_lists_are_refused_before_fetching(tmp_path: Path) -> None:
    loader = MediaLoader(
        VisionGeometry(),
        PixelLimits(),
        FetchPolicy(media_root=tmp_path, max_bytes=50_000),
        media_limits=MediaLimits(max_listed_frames=3),
    )
    with pytest.raises(LimitError):
        await load(loader, ["missing.png"] * 4, VideoControls())
    frame = encoded(picture(80, 80))
    assert len(frame) < 50_000 < 3 * len(frame)
    with pytest.raises(LimitError):
        await load(loader, [data_url(frame)] * 3, VideoControls())
    await loader.close()


async def test_a_clip_is_sampled(
    loader: MediaLoader,
    encode_clip: Encode,
    shown_number: Callable[[np.ndarray], int],
    tmp_path: Path,
) -> None:
    (tmp_path / "clip.mp4").write_bytes(encode_clip())
    decoded = await load(loader, "file:clip.mp4", VideoControls(fps=5.0))
    assert [shown_number(frame) for frame in decoded.frames] == list(decoded.plan.frame_indices)
    assert len(decoded.frames) == 8
    again = await load(loader, "clip.mp4", VideoControls(fps=5.0))
    other = await load(loader, "clip.mp4", VideoControls(fps=6.0))
    assert decoded.digest == again.digest != other.digest


@pytest.mark.parametrize("container", ["mp4", "webm", "avi"])
async def test_a_video_is_opened_twice_and_planned_once(
    container: str, loader: MediaLoader, encode_clip: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def counted(module: Any, name: str) -> None:
        function = getattr(module, name)

        def call(*arguments: Any, **options: Any) -> Any:
            calls.append(name)
            return function(*arguments, **options)

        monkeypatch.setattr(module, name, call)

    codec = {"mp4": "libx264", "webm": "libvpx", "avi": "mpeg4"}[container]
    url = data_url(encode_clip(container, codec))
    counted(av, "open")
    counted(worker, "plan_video")
    planned = await loader.plan(url, VideoControls(fps=5.0))
    assert calls == ["open", "plan_video"]
    await loader.decode(planned)
    assert calls == ["open", "plan_video", "open"]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize(
    ("size", "controls"),
    [
        ((320, 240), {}),
        ((1280, 720), {}),
        ((333, 777), {"max_pixels": 150_000}),
        ((100, 80), {"min_pixels": 200_000, "sample_fps": 4.0}),
        ((640, 480), {"resized_width": 333, "resized_height": 222}),
        ((640, 480), {"total_pixels": 400_000, "raw_fps": 25.0}),
    ],
)
async def test_frame_lists_equal_the_reference(
    count: int,
    size: tuple[int, int],
    controls: dict[str, Any],
    loader: MediaLoader,
    reference: Callable[..., Any],
    tmp_path: Path,
) -> None:
    names = [f"{index}.png" for index in range(count)]
    for index, name in enumerate(names):
        # Mid tones: at black and white the two resizes clip overshoot at different moments.
        picture(*size, seed=index).point(lambda value: 80 + value * 3 // 8).save(tmp_path / name)
    output = tmp_path / "answer.npz"
    answer = reference(
        "fetch_video",
        video=[str(tmp_path / name) for name in names],
        controls=controls,
        output=str(output),
    )
    decoded = await load(loader, names, VideoControls(**controls))
    with np.load(output) as arrays:
        theirs = arrays["frames"].transpose(0, 2, 3, 1)
    assert decoded.frames.shape == theirs.shape
    # Its second resize runs in float32 (torchvision's v1 function); ours is the uint8 one of the
    # reference processor, which rounds between its two passes.
    difference = np.abs(decoded.frames - theirs)
    assert difference.mean() < 0.25
    assert difference.max() <= 2
    if decoded.frames.shape[1:3] == listed_frame_size(*size, VideoControls(**controls), GEOMETRY):
        assert difference.max() == 0
    assert decoded.plan.sampled_fps == answer["sampled_fps"]
    assert decoded.plan.source_fps == answer["fps"]
    assert len(decoded.plan.frame_indices) == len(answer["indices"])


async def test_planning_decodes_no_pixels(loader: MediaLoader) -> None:
    """A picture cut off behind its header can be priced; only decoding finds out."""
    cut = encoded(picture(400, 300))[:-2000]
    planned = await loader.plan(data_url(cut), NONE, PARAM)
    assert (planned.plan.source_width, planned.plan.source_height) == (400, 300)
    with pytest.raises(DecodeError) as caught:
        await loader.decode(planned)
    assert caught.value.param == PARAM


async def test_the_event_loop_stays_free(loader: MediaLoader, tmp_path: Path) -> None:
    """While pictures decode, other tasks of the loop take turns all the time."""
    picture(3000, 2000).save(tmp_path / "large.jpg")
    turns = 0

    async def tick() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    ticking = asyncio.create_task(tick())
    images = await asyncio.gather(*(load(loader, "large.jpg", NONE) for _ in range(4)))
    ticking.cancel()
    assert all(isinstance(image, DecodedImage) for image in images)
    assert turns > 100


@pytest.mark.skipif(sys.platform != "linux", reason="niceness is a thread's on Linux only")
async def test_decoders_yield_the_processor(tmp_path: Path, stages: list[tuple[str, int]]) -> None:
    loader = MediaLoader(GEOMETRY, PixelLimits(), FetchPolicy(media_root=tmp_path))
    await load(loader, data_url(encoded(picture(64, 64))), NONE)
    await loader.close()
    assert dict(stages)["decode"] == min(19, os.nice(0) + 10)


async def test_fetches_end_when_enough_has_come_in(loader: MediaLoader, tmp_path: Path) -> None:
    """Whoever counts the bytes decides; of a list of frames, too."""
    (tmp_path / "a.bmp").write_bytes(encoded(picture(64, 64), "BMP"))
    size = (tmp_path / "a.bmp").stat().st_size
    counts: list[int] = []

    def few(count: int) -> None:
        counts.append(count)
        if sum(counts) > 2 * size:
            raise MemoryError("enough")

    await loader.plan("a.bmp", NONE, received=few)
    assert counts == [size]
    with pytest.raises(MemoryError, match="enough"):
        await loader.plan(["a.bmp"] * 4, VideoControls(), received=few)
    assert len(counts) >= 3


async def test_cancelled_clips_leave_the_loader_working(
    loader: MediaLoader, encode_clip: Encode
) -> None:
    planned = await loader.plan(data_url(encode_clip(frames=200)), VideoControls())
    tasks = [asyncio.create_task(loader.decode(planned)) for _ in range(20)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in done)
    decoded = await loader.decode(planned)
    assert len(decoded.frames) == len(decoded.plan.frame_indices)


async def test_decoders_wait_for_memory_and_all_finish(tmp_path: Path) -> None:
    """Room for one of these pictures at a time; a cancelled one gives its room back."""
    limits = MediaLimits(max_decoding_bytes=3 * 600 * 400)
    loader = MediaLoader(GEOMETRY, PixelLimits(), FetchPolicy(media_root=tmp_path), 4, limits)
    try:
        urls = [data_url(encoded(picture(600, 400, seed))) for seed in range(6)]
        tasks = [asyncio.create_task(load(loader, url, NONE)) for url in urls]
        tasks.append(asyncio.create_task(load(loader, urls[:4], VideoControls(sample_fps=1.0))))
        await asyncio.sleep(0.01)
        tasks[3].cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        for seed, result in enumerate(done[:6]):
            if seed == 3:
                assert isinstance(result, asyncio.CancelledError)
                continue
            assert isinstance(result, DecodedImage)
            plan = result.plan
            expected = resize(
                decode_image(encoded(picture(600, 400, seed))), plan.height, plan.width
            )
            np.testing.assert_array_equal(result.pixels, expected)
        assert not isinstance(done[6], BaseException)
    finally:
        await loader.close()


async def test_a_damaged_medium_is_freed_with_its_error(loader: MediaLoader) -> None:
    planned = await loader.plan(data_url(encoded(picture(300, 200))[:-5000]), NONE)
    freed = weakref.ref(planned)
    gc.collect()
    gc.disable()  # nothing is searched for circles of references
    try:
        with pytest.raises(DecodeError):
            await loader.decode(planned)
        del planned
        await loader.close()  # a thread holds what it works on until it is done with the call
        assert freed() is None
    finally:
        gc.enable()


def stage_seconds(stage: str) -> float:
    """So long all stages of this kind have taken in this process."""
    return REGISTRY.get_sample_value("saccade_media_stage_seconds_sum", {"stage": stage}) or 0.0


async def test_every_stage_is_counted_with_its_time(tmp_path: Path, stages: list[tuple[str, int]]):
    (tmp_path / "a.png").write_bytes(encoded(picture(64, 48)))
    kinds = ("fetch", "queue", "plan", "decode", "resize")
    before = [stage_seconds(stage) for stage in kinds]
    loader = MediaLoader(GEOMETRY, PixelLimits(), FetchPolicy(media_root=tmp_path))
    await load(loader, "a.png", ImageControls())
    # A wait for a thread to plan, one for memory, one for a thread to decode.
    expected = ["fetch", "queue", "plan", "queue", "queue", "decode", "resize"]
    assert [stage for stage, _ in stages] == expected
    assert all(was < stage_seconds(stage) for was, stage in zip(before, kinds, strict=True))
    stages.clear()
    await load(loader, ["a.png", "a.png"], VideoControls())
    names = [stage for stage, _ in stages]
    assert [names.count(stage) for stage in ("fetch", "plan", "decode", "resize")] == [2, 1, 2, 2]
    await loader.close()
