"""What a benchmark sends: seeded images and videos, every one different, and what each must cost.

Distinct content keeps every cache of a server out of the figures. The images are smooth shades
with structure at several scales and a sensor's grain: like photographs, they take about two bits a
pixel as JPEG, which decides what decoding them costs.
"""

import base64
import io
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

from saccade.media.controls import ImageControls, VideoControls
from saccade.media.planning.plan import (
    PixelLimits,
    VideoSource,
    VisionGeometry,
    plan_image,
    plan_video,
)

Kind = Literal["image", "video"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# The vision tokens' frame: <|vision_start|> and <|vision_end|> around each medium.
FRAMING_TOKENS = 2

_QUESTION = {"image": "Describe this image.", "video": "What happens in this video?"}
_JPEG_QUALITY = 85
# Structure at each of these scales (cells along the longer side) with these amplitudes (levels).
_OCTAVES = ((3, 70.0), (12, 35.0), (48, 18.0), (192, 9.0))
_GRAIN = 6.0  # levels, of each pixel

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Workload:
    """A family of requests. Sizes in pixels; request `i` has size `sizes[i % len(sizes)]`."""

    kind: Kind
    sizes: tuple[tuple[int, int], ...]  # (width, height)
    max_tokens: int
    seed: int = 0
    seconds: float = 4.0  # length of a video
    frames_per_second: int = 24  # of a video
    ignore_eos: bool = False  # vLLM's extension: answers of exactly max_tokens

    def request(self, index: int, model: str) -> "Request":
        """Request number `index`; the same bytes for the same arguments."""
        width, height = self.sizes[index % len(self.sizes)]
        if self.kind == "image":
            data = encode_jpeg(draw_image(width, height, self.seed, index))
            media_type = "image/jpeg"
            tokens = image_tokens(width, height)
        else:
            frames = max(2, round(self.seconds * self.frames_per_second))
            data = encode_mp4(
                pan(width, height, frames, self.seed, index), width, height, self.frames_per_second
            )
            media_type = "video/mp4"
            tokens = video_tokens(width, height, frames, self.frames_per_second)
        part = f"{self.kind}_url"
        url = f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"
        medium: dict[str, object] = {"type": part, part: {"url": url}}
        return Request(index, self._body(model, [medium], self.max_tokens), self.kind, tokens)

    def requests(self, indices: range, model: str) -> list["Request"]:
        """Several requests, made in parallel (encoders release the interpreter lock)."""
        with ThreadPoolExecutor() as pool:
            return list(pool.map(lambda index: self.request(index, model), indices))

    def text_only(self, model: str) -> "Request":
        """The same prompt without its medium: tells how many tokens the text costs."""
        return Request(-1, self._body(model, [], 1), self.kind, 0)

    def _body(self, model: str, media: list[dict[str, object]], max_tokens: int) -> bytes:
        content = [*media, {"type": "text", "text": _QUESTION[self.kind]}]
        body: dict[str, object] = {
            "model": model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if self.ignore_eos:
            body["ignore_eos"] = True
        return json.dumps(body).encode()


@dataclass(frozen=True)
class Request:
    """One chat completion to send."""

    index: int
    body: bytes  # JSON, ready to send: making it is not part of what is measured
    kind: Kind
    visual_tokens: int  # what saccade.media.planning.plan says the medium costs


def draw_image(width: int, height: int, seed: int, index: int) -> Pixels:
    """An image [height, width, 3] decided by `seed` and `index`."""
    random = np.random.default_rng([seed, index])
    levels = np.full((2, 2, 3), 128, dtype=np.float32)
    for cells, amplitude in _OCTAVES:
        rows = max(2, round(cells * height / max(width, height)))
        columns = max(2, round(cells * width / max(width, height)))
        noise = random.standard_normal((rows, columns, 3), dtype=np.float32)
        levels = _enlarged(levels, rows, columns) + amplitude * noise
    coarse = Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
    grain = _GRAIN * random.standard_normal((height, width, 1), dtype=np.float32)
    return np.clip(smooth + grain, 0, 255).astype(np.uint8)


def _enlarged(levels: npt.NDArray[np.float32], rows: int, columns: int) -> npt.NDArray[np.float32]:
    planes = [
        Image.fromarray(levels[..., channel]).resize((columns, rows), Image.Resampling.BICUBIC)
        for channel in range(3)
    ]
    return np.stack([np.asarray(plane) for plane in planes], axis=-1)


def pan(width: int, height: int, frames: int, seed: int, index: int) -> Iterator[Pixels]:
    """The frames [height, width, 3] of a camera that moves over an image half as large again."""
    scene = draw_image(width * 3 // 2, height * 3 // 2, seed, index)
    for number in range(frames):
        share = number / max(1, frames - 1)
        left = round(share * (scene.shape[1] - width))
        top = round(share * (scene.shape[0] - height))
        yield scene[top : top + height, left : left + width]


def encode_jpeg(pixels: Pixels) -> bytes:
    """The image as a JPEG with 4:2:0 chroma, like a camera's."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=_JPEG_QUALITY, subsampling="4:2:0")
    return file.getvalue()


def encode_mp4(frames: Iterable[Pixels], width: int, height: int, frames_per_second: int) -> bytes:
    """The frames as H.264 in MP4. Sides must be even."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(frames_per_second))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        # One thread: with more, the bytes depend on how many there are. No macroblock tree: with it
        # equal pixels sometimes give other bytes.
        stream.options = {"preset": "veryfast", "crf": "28", "threads": "1", "mbtree": "0"}
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def repeated(clip: bytes, times: int) -> bytes:
    """The MP4 played so many times in a row. Its packets are copied, nothing is encoded."""
    file = io.BytesIO()
    with av.open(io.BytesIO(clip), "r") as source, av.open(file, "w", format="mp4") as container:
        (stream,) = source.streams.video
        target = container.add_stream_from_template(stream)
        packets = [packet for packet in source.demux(stream) if packet.size]
        assert stream.duration is not None
        for number in range(times):
            for packet in packets:
                assert packet.pts is not None
                assert packet.dts is not None
                again = av.Packet(bytes(packet))
                again.pts = packet.pts + number * stream.duration
                again.dts = packet.dts + number * stream.duration
                again.time_base, again.stream = packet.time_base, target
                again.is_keyframe = packet.is_keyframe
                container.mux(again)
    return file.getvalue()


def image_tokens(width: int, height: int) -> int:
    """Visual tokens of an image of so many pixels, as planned."""
    return plan_image(width, height, ImageControls(), VisionGeometry(), PixelLimits()).tokens


def video_tokens(width: int, height: int, frames: int, frames_per_second: int) -> int:
    """Visual tokens of a video of so many pixels and frames, as planned."""
    source = VideoSource(width, height, frames, float(frames_per_second))
    return plan_video(source, VideoControls(), VisionGeometry()).tokens
