"""`saccade plan`: what images and videos will cost, under given controls. Loads no model."""

import argparse
import asyncio
import json
import mimetypes
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from saccade.media.controls import ImageControls, VideoControls, VideoFields, parse_controls
from saccade.media.errors import MediaError
from saccade.media.fetch.fetcher import FetchPolicy
from saccade.media.items import PlannedMedium
from saccade.media.loader import MediaLoader
from saccade.media.planning.plan import PixelLimits, VisionGeometry
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
        count = name in _COUNTS
        parser.add_argument(
            _flag(name),
            type=int if count else float,
            metavar="N" if count else "X",
            help=VideoFields.model_fields[name].description,
        )


def run(args: argparse.Namespace) -> int:
    """Prints the plans. Returns the exit code."""
    given = {name: value for name in _VIDEO_FIELDS if (value := getattr(args, name)) is not None}
    try:
        geometry, limits = read_checkpoint_pixels(args.model)
        sources = _sources(args)
        if not any(kind == "video" for kind, _ in sources):
            for name in sorted(set(given) - set(_IMAGE_FIELDS)):
                raise MediaError("applies to videos, and there are none", name)
        if args.detail and not any(kind == "image" for kind, _ in sources):
            raise MediaError("applies to images, and there are none", "detail")
        shared = {name: value for name, value in given.items() if name in _IMAGE_FIELDS}
        image = parse_controls(ImageControls, {**shared, "detail": args.detail}, "")
        video = parse_controls(VideoControls, given, "")
    except MediaError as error:
        return _fail(f"{_flag((error.param or '').lstrip('.'))}: {error.message}", 2)
    except (OSError, ValueError) as error:
        return _fail(f"--model: {error}", 2)
    reports, failures = asyncio.run(_plan(sources, image, video, geometry, limits))
    if args.json:
        print(json.dumps({"media": [report.model_dump(mode="json") for report in reports]}))
    else:
        for line in _table(reports):
            print(line)
    for failure in failures:
        _fail(failure, 1)
    return 1 if failures else 0


def _sources(args: argparse.Namespace) -> list[tuple[str, list[str]]]:
    """(image or video, its files) for each medium."""
    if args.frames:
        return [("video", args.files)]
    return [(_kind(file), [file]) for file in args.files]


def _kind(file: str) -> str:
    kind = mimetypes.guess_type(file)[0] or ""
    return "video" if kind.startswith("video/") else "image"


async def _plan(
    sources: list[tuple[str, list[str]]],
    image: ImageControls,
    video: VideoControls,
    geometry: VisionGeometry,
    limits: PixelLimits,
) -> tuple[list[MediumReport], list[str]]:
    """The reports, and a line for each medium that cannot be planned."""
    # Whoever types the command may read what the command reads.
    policy = FetchPolicy(media_root=Path("/"), allow_private_addresses=True)
    loader = MediaLoader(geometry, limits, policy)
    reports, failures = [], []
    for kind, files in sources:
        urls = [_url(file) for file in files]
        name = files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
        try:
            planned: PlannedMedium
            if kind == "image":
                planned = await loader.plan(urls[0], image)
            else:
                planned = await loader.plan(urls if len(urls) > 1 else urls[0], video)
        except MediaError as error:
            flag = f" ({_flag(error.param)})" if error.param else ""
            failures.append(f"{name}: {error.message}{flag}")
            continue
        reports.append(report_medium(name, planned.plan, planned.sideways))
    await loader.close()
    return reports, failures


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
