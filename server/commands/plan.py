"""`saccade plan`: what images and videos will cost, under given controls. Loads no model."""

import argparse
import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields
from io import BytesIO
from pathlib import Path

from PIL import Image

from saccade.media.controls import ImageControls, VideoControls, VideoFields, parse_controls
from saccade.media.decode.formats import medium_kind, name_format
from saccade.media.errors import MediaError
from saccade.media.fetch.fetcher import FetchPolicy, MediaFetcher
from saccade.media.items import PlannedMedium
from saccade.media.limits import MediaLimits
from saccade.media.worker import MediaWorker
from saccade.server.checkpoint.pixels import read_checkpoint_pixels
from saccade.server.response.vision_report import MediumReport, VideoReport, report_medium

_EPILOG = """examples:
  saccade plan photo.jpg
  saccade plan photo.jpg video.mp4 --max-pixels 200704
  saccade plan video.mp4 --fps 4 --video-start 12.5 --video-end 60 --json
  saccade plan --frames one.jpg two.jpg three.jpg --sample-fps 1
  saccade plan photo.jpg --model Qwen/Qwen2.5-VL-7B-Instruct

Flags of videos alone (--fps and so on) leave images as they are. Without --model the sizes are
those of the published Qwen2.5-VL checkpoints.

exit codes: 0 all planned, 1 a file cannot be planned, 2 wrong use
"""

# Only what a video has; an image among videos is planned without them.
_IMAGE_FIELDS = tuple(field.name for field in fields(ImageControls) if field.name != "draft")
_VIDEO_FIELDS = tuple(field.name for field in fields(VideoControls))
_COUNTS = frozenset(_IMAGE_FIELDS) | {"nframes", "min_frames", "max_frames", "total_pixels"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the files, the model and a flag for every control."""
    parser.description = "Tells size, grid, frame times and tokens of media. Loads no model."
    parser.epilog = _EPILOG
    parser.add_argument("files", nargs="+", metavar="FILE", help="image or video, also a URL")
    parser.add_argument("--frames", action="store_true", help="the files are frames of one video")
    parser.add_argument("--model", help="Hugging Face id or folder whose sizes count")
    parser.add_argument("--json", action="store_true", help="print JSON, as the API reports it")
    parser.add_argument("--detail", choices=("auto", "low", "high"), help="of images, as OpenAI's")
    for name in _VIDEO_FIELDS:
        described = VideoFields.model_fields[name].description
        if name == "square_pixels":
            parser.add_argument(_flag(name), action="store_true", default=None, help=described)
        elif name == "sampling":
            parser.add_argument(_flag(name), choices=("frames", "time"), help=described)
        elif name in _COUNTS:
            parser.add_argument(_flag(name), type=int, metavar="N", help=described)
        else:
            parser.add_argument(_flag(name), type=float, metavar="X", help=described)


def run(args: argparse.Namespace) -> int:
    """Prints the plans. Returns the exit code."""
    given = {name: value for name in _VIDEO_FIELDS if (value := getattr(args, name)) is not None}
    try:
        geometry, limits = read_checkpoint_pixels(args.model)
    except (OSError, ValueError) as error:
        return _fail(f"--model: {error}", 2)
    groups = [args.files] if args.frames else [[file] for file in args.files]
    media = asyncio.run(_fetch(groups))
    # A file that cannot be had may be either.
    kinds = {_kind(files) for _, files in media} if not args.frames else {"video"}
    try:
        if kinds == {"image"}:
            for name in sorted(set(given) - set(_IMAGE_FIELDS)):
                raise MediaError("applies to videos, and there are none", name)
        if args.detail and kinds == {"video"}:
            raise MediaError("applies to images, and there are none", "detail")
        shared = {name: value for name, value in given.items() if name in _IMAGE_FIELDS}
        image = parse_controls(ImageControls, {**shared, "detail": args.detail}, "")
        video = parse_controls(VideoControls, given, "")
    except MediaError as error:
        return _fail(f"{_flag((error.param or '').lstrip('.'))}: {error.message}", 2)
    worker = MediaWorker(geometry, limits, MediaLimits(), 1, 1)
    reports, failures = [], []
    for name, files in media:
        try:
            planned: PlannedMedium
            if isinstance(files, MediaError):
                raise files
            if args.frames:
                planned = worker.plan_frames(files, video, None)
            elif _kind(files) == "video":
                planned = worker.plan_video(files[0], video, None)
            else:
                planned = worker.plan_image(files[0], image, None)
        except MediaError as error:
            flag = f" ({_flag(error.param)})" if error.param else ""
            failures.append(f"{name}: {error.message}{flag}")
            continue
        reports.append(report_medium(name, planned.plan, planned.sideways))
    if args.json:
        print(json.dumps({"media": [report.model_dump(mode="json") for report in reports]}))
    else:
        for line in _table(reports):
            print(line)
    for failure in failures:
        _fail(failure, 1)
    return 1 if failures else 0


async def _fetch(groups: list[list[str]]) -> list[tuple[str, tuple[bytes, ...] | MediaError]]:
    """(name, files) of each medium, or why it cannot be had."""
    # Whoever types the command may read what the command reads.
    fetcher = MediaFetcher(FetchPolicy(media_root=Path("/"), allow_private_addresses=True))
    media: list[tuple[str, tuple[bytes, ...] | MediaError]] = []
    for files in groups:
        name = files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
        try:
            media.append((name, tuple([await fetcher.fetch(_url(file)) for file in files])))
        except MediaError as error:
            media.append((name, error))
    await fetcher.close()
    return media


def _kind(files: tuple[bytes, ...] | MediaError) -> str:
    """Image or video by its bytes, whatever the name says; a GIF that moves is a video."""
    if isinstance(files, MediaError):
        return "unknown"
    if name_format(files[0]) == "a GIF image":
        with suppress(OSError), Image.open(BytesIO(files[0]), formats=("GIF",)) as image:
            return "video" if getattr(image, "is_animated", False) else "image"
    return medium_kind(files[0]) or "image"


def _url(file: str) -> str:
    if file.startswith(("http://", "https://", "data:", "file:")):
        return file
    return Path(file).resolve().as_uri()


def _table(reports: list[MediumReport]) -> Iterator[str]:
    """Lines for people: one a medium, and for a video its times."""
    if not reports:
        return
    width = max(len(report.path) for report in reports)
    yield f"{'':{width}}  {'upright':>11}  {'resized':>11}  {'grid':>12}  {'tokens':>7}"
    for report in reports:
        sizes = ["{} x {}".format(*size) for size in (report.upright_size, report.resized_size)]
        grid = " x ".join(map(str, report.grid))
        yield (
            f"{report.path:{width}}  {sizes[0]:>11}  {sizes[1]:>11}  {grid:>12}  "
            f"{report.tokens:>7,}"
        )
        if isinstance(report, VideoReport):
            times = [f"{time:.2f}" for time in report.frame_times]
            shown = times if len(times) <= 8 else [*times[:4], "...", *times[-3:]]
            yield (
                f"{'':{width}}  {len(times)} of {report.source_frames} frames "
                f"({report.source_fps:.4g} a second, {report.source_duration:.2f} s), "
                f"{report.seconds_per_grid:.4g} s a grid, at {' '.join(shown)} s"
            )
    if len(reports) > 1:
        yield f"{'together':{width}}  {sum(report.tokens for report in reports):>48,}"


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _fail(message: str, code: int) -> int:
    print(f"saccade plan: error: {message}", file=sys.stderr)
    return code
