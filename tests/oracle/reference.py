"""Runs qwen-vl-utils and torchvision in a process of their own and answers for them.

One JSON request a line on stdin, ``{"job": name, ...}``; one JSON answer a line on stdout. Arrays
travel in .npz files named in the request. A case in which the reference raises answers null.

Needs this folder on PYTHONPATH, for sitecustomize.py.
"""

import json
import sys

import numpy as np
import torch
from PIL import Image
from qwen_vl_utils import vision_process as qwen
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional


class SizedImage(Image.Image):
    """A picture that has only a size, so that ten thousand can be planned in a second."""

    def __init__(self, width, height):
        super().__init__()
        self._size = (width, height)

    def convert(self, *_):
        return self

    def resize(self, size, *_):
        if min(size) < 1:
            raise ValueError("height and width must be > 0")
        return SizedImage(*size)


class SizedVideo:
    """Frames that have only a shape."""

    def __init__(self, shape):
        self.shape = tuple(shape)

    def float(self):
        return self


def _resize_shape(video, size, **_):
    if min(size) < 1:
        raise ValueError("height and width must be > 0")
    return SizedVideo((*video.shape[:2], *size))


def _read_sized(element):
    """A reader backend for files that have only a shape; every decision is the reference's."""
    height, width, frames, fps = element["source"]
    first, last, total = qwen.calculate_video_frame_range(element, frames, fps)
    count = qwen.smart_nframes(element, total_frames=total, video_fps=fps)
    indices = torch.linspace(first, last, count).round().long().tolist()
    rate = count / max(total, 1e-6) * fps
    return SizedVideo((count, 3, height, width)), {"frames_indices": indices}, rate


def _attempt(function, *arguments):
    try:
        return function(*arguments)
    except (ValueError, AssertionError, RuntimeError, ZeroDivisionError):
        return None


def smart_resize(request):
    return [_attempt(qwen.smart_resize, *case) for case in request["cases"]]


def image_size(request):
    def one(width, height, controls):
        return qwen.fetch_image({"image": SizedImage(width, height), **controls}).size

    return [_attempt(one, *case) for case in request["cases"]]


def video_plan(request):
    """[height, width, frames, fps, controls] -> frame indices, height, width, sampled fps."""

    def one(height, width, frames, fps, controls):
        element = {"video": "sized", "source": (height, width, frames, fps), **controls}
        (video, metadata), rate = qwen.fetch_video(
            element, return_video_sample_fps=True, return_video_metadata=True
        )
        return [metadata["frames_indices"], *video.shape[2:], rate]

    readers = dict(qwen.VIDEO_READER_BACKENDS)
    resize = qwen.transforms.functional.resize
    qwen.VIDEO_READER_BACKENDS.update(dict.fromkeys(readers, _read_sized))
    qwen.transforms.functional.resize = _resize_shape
    try:
        return [_attempt(one, *case) for case in request["cases"]]
    finally:
        qwen.VIDEO_READER_BACKENDS.update(readers)
        qwen.transforms.functional.resize = resize


def linspace(request):
    return [torch.linspace(*case).round().long().tolist() for case in request["cases"]]


def resize(request):
    """Arrays a0, a1, … uint8 [3, H, W] in ``input``, resized to ``sizes`` into ``output``."""
    with np.load(request["input"]) as arrays:
        resized = {
            name: functional.resize(
                torch.from_numpy(arrays[name]),
                size,
                interpolation=InterpolationMode.BICUBIC,
                antialias=True,
            ).numpy()
            for name, size in request["sizes"].items()
        }
    np.savez(request["output"], **resized)
    return True


def fetch_image(request):
    """PIL's reading of files, without its resize: what the reference takes for the picture."""
    images = {
        name: np.array(qwen.to_rgb(Image.open(path))) for name, path in request["files"].items()
    }
    np.savez(request["output"], **images)
    return True


def fetch_video(request):
    """A file, or a list of frame files, through the real ``fetch_video``."""
    (video, metadata), rate = qwen.fetch_video(
        {"video": request["video"], **request["controls"]},
        return_video_sample_fps=True,
        return_video_metadata=True,
    )
    np.savez(request["output"], frames=video.numpy())
    return {"indices": metadata["frames_indices"], "fps": metadata["fps"], "sampled_fps": rate}


JOBS = {
    job.__name__: job
    for job in (smart_resize, image_size, video_plan, linspace, resize, fetch_image, fetch_video)
}


def main():
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(JOBS[request.pop("job")](request)), flush=True)


if __name__ == "__main__":
    main()
