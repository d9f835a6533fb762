"""What the model is shown: an image or video at its planned size, questions, and dense targets.

Sizes, resizing and frame sampling are those of the server (`saccade.media`), so that training and
evaluation see what a request sees.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from saccade.demo.world.clips import ACTIONS, Clip, make_clip, make_long_clip
from saccade.demo.world.questions import (
    Seen,
    SeenText,
    Turn,
    clip_turns,
    picture_turns,
    see,
    see_text,
)
from saccade.demo.world.scenes import (
    ALPHABET,
    COLOURS,
    KINDS,
    Box,
    Pixels,
    Scene,
    draw,
    make_scene,
    random_string,
    random_text,
)
from saccade.media.controls import ImageControls, VideoControls
from saccade.media.decode.resize import resize
from saccade.media.planning.plan import (
    PixelLimits,
    VideoPlan,
    VideoSource,
    VisionGeometry,
    plan_image,
    plan_video,
)

GEOMETRY = VisionGeometry()
UNIT = GEOMETRY.factor  # pixels along one merged token, a cell
TRAINING_RATES = (1.0, 1.25, 2.0, 2.25, 2.5, 3.5, 4.0, 6.0)
UNSEEN_RATES = (1.5, 3.0, 5.0)
SIDES = tuple(range(3, 10))  # of an image, in cells
# (columns, rows) that training never sees.
UNSEEN_SIZES = frozenset({(5, 7), (7, 5), (4, 8), (8, 4), (6, 6), (9, 3), (3, 9), (9, 5), (5, 9)})
MOST_CELLS = 49
# The text of an image is read at this many places across a cell.
COLUMNS_OF_TEXT = 2
_LEAST_OVERLAP = 0.08  # of a cell's area, for a thing to count as touching it


@dataclass
class DenseTargets:
    """For every cell, what is there; 0 is nothing. ``[t, rows, columns]`` and one axis more."""

    kind: npt.NDArray[np.int64]
    colour: npt.NDArray[np.int64]
    centre: npt.NDArray[np.int64]  # the kind again, in the cell of the thing's centre alone
    box: npt.NDArray[np.float32]  # [..., 4] in cells, from the image's corner
    text: npt.NDArray[np.int64]  # [..., COLUMNS_OF_TEXT]
    event: npt.NDArray[np.int64]  # action and in which frame of the two it first shows


@dataclass
class Example:
    """One image or video with questions about it."""

    raster: Pixels  # [frames, height, width, 3]
    seconds_per_grid: float | None  # None: an image
    turns: list[Turn]
    targets: DenseTargets
    source: Pixels | None = None  # the image before resizing
    things: list[Seen] = field(default_factory=list)
    texts: list[SeenText] = field(default_factory=list)

    @property
    def grid(self) -> tuple[int, int, int]:
        """(t, h, w) in patches."""
        frames, height, width, _ = self.raster.shape
        steps = max(1, frames // GEOMETRY.temporal_patch_size)
        return steps, height // GEOMETRY.patch_size, width // GEOMETRY.patch_size


def picture_sizes(most_cells: int, unseen: bool = False) -> list[tuple[int, int]]:
    """(columns, rows) in cells, either those of training or those kept from it."""
    return [
        (columns, rows)
        for columns in SIDES
        for rows in SIDES
        if columns * rows <= most_cells and ((columns, rows) in UNSEEN_SIZES) == unseen
    ]


def source_size(rng: np.random.Generator, columns: int, rows: int) -> tuple[int, int]:
    """(width, height) of a source that is resized to so many cells."""
    shift = rng.integers(-UNIT // 2 + 1, UNIT // 2, 2) * (rng.random() < 0.5)
    return columns * UNIT + int(shift[0]), rows * UNIT + int(shift[1])


def picture_example(
    rng: np.random.Generator,
    size: tuple[int, int],
    things: int,
    tasks: Sequence[str],
    most_turns: int,
    with_text: bool = False,
    worn: bool = True,
) -> Example:
    """An image of about ``size`` cells (columns, rows), with at most so many turns."""
    width, height = source_size(rng, *size)
    scene = make_scene(rng, width, height, things, [random_text(rng)] if with_text else [])
    example = _picture(rng, scene, worn)
    by_task = [
        picture_turns(rng, example.things, example.texts[0] if example.texts else None, task)
        for task in tasks
    ]
    example.turns = _mixed(rng, by_task, most_turns)
    return example


def crowded_example(rng: np.random.Generator, size: tuple[int, int]) -> Example:
    """An image of about ``size`` cells (columns, rows) full of letters and things."""
    width, height = source_size(rng, *size)
    cells = size[0] * size[1]
    strings = [random_string(rng) for _ in range(int(rng.integers(1, 2 + cells // 4)))]
    things = int(rng.integers(1, 2 + cells // 6))
    return _picture(rng, make_scene(rng, width, height, things, strings), worn=True)


def _picture(rng: np.random.Generator, scene: Scene, worn: bool) -> Example:
    source = draw(scene)
    if worn and rng.random() < 0.3:
        source = _compressed(source, rng)
    plan = plan_image(scene.width, scene.height, ImageControls(), GEOMETRY, PixelLimits())
    raster = resize(source, plan.height, plan.width)[None]
    scale = (plan.width / scene.width, plan.height / scene.height)
    seen = see(scene.things, *scale)
    targets = _empty_targets(1, plan.height // UNIT, plan.width // UNIT)
    _mark_things(targets, 0, seen)
    texts = [see_text(text, *scale) for text in scene.texts]
    for text in texts:
        _mark_text(targets, text)
    return Example(raster, None, [], targets, source, seen, texts)


def clip_example(
    rng: np.random.Generator,
    clip: Clip,
    fps: float,
    tasks: Sequence[str],
    most_turns: int,
    worn: bool = True,
) -> Example:
    """The video sampled at ``fps`` as the server samples it."""
    plan = clip_plan(clip, fps)
    frames = clip.render(plan.frame_indices)
    if worn and rng.random() < 0.2:
        frames = np.stack([_compressed(frame, rng) for frame in frames])
    raster = resize(frames, plan.height, plan.width)
    scale = (plan.width / clip.scene.width, plan.height / clip.scene.height)
    turns = _mixed(rng, [clip_turns(rng, clip, task) for task in tasks], most_turns)
    steps = plan.grid[0]
    targets = _empty_targets(steps, plan.height // UNIT, plan.width // UNIT)
    for step in range(steps):
        earlier = clip.at(plan.frame_times[2 * step] + 1e-6)
        later = clip.at(plan.frame_times[2 * step + 1] + 1e-6)
        _mark_things(targets, step, see([t for t in earlier if t not in later], *scale))
        _mark_things(targets, step, see(later, *scale))
    for event in clip.events:
        first = next(
            (i for i, time in enumerate(plan.frame_times) if time + 1e-6 >= event.time), None
        )
        if first is not None:
            (place,) = see([event.subject], *scale)
            code = 1 + 2 * ACTIONS.index(event.action) + first % 2
            targets.event[first // 2][
                _cells(targets.kind.shape[1:], place.box) > _LEAST_OVERLAP
            ] = code
    return Example(raster, plan.seconds_per_grid, turns, targets)


def clip_controls(clip: Clip, fps: float) -> VideoControls:
    """How a request asks for this video: at its own size and this rate."""
    return VideoControls(fps=fps, resized_width=clip.scene.width, resized_height=clip.scene.height)


def clip_plan(clip: Clip, fps: float) -> VideoPlan:
    """Which frames of the video the server shows the model."""
    source = VideoSource(clip.scene.width, clip.scene.height, clip.frames, float(clip.fps))
    return plan_video(source, clip_controls(clip, fps), GEOMETRY)


def random_clip(rng: np.random.Generator, most_cells: int, seconds: int, early: bool) -> Clip:
    """A video of a size that training uses.

    Args:
        seconds: even. Frames are sampled in pairs, so that an odd number of seconds at one frame a
            second would lose a frame, and two seconds could look alike.
    """
    sizes = [(c, r) for c in (3, 4, 5, 6) for r in (3, 4, 5, 6) if 12 <= c * r <= most_cells]
    columns, rows = sizes[rng.integers(len(sizes))]
    return make_clip(rng, *source_size(rng, columns, rows), seconds, early)


def page_example(rng: np.random.Generator, size: tuple[int, int], words: int) -> Example:
    """An image of about ``size`` cells with printed words at places; fewer where there is no room.

    Nothing is asked: what is, conversations know.
    """
    width, height = source_size(rng, *size)
    texts = [random_text(rng) for _ in range(words)]
    return _picture(rng, make_scene(rng, width, height, 0, texts), worn=True)


def long_clip_example(
    rng: np.random.Generator, size: tuple[int, int], seconds: int, fps: float, seen: bool = True
) -> tuple[Clip, Example]:
    """A video of up to ten minutes, and what is sampled of it.

    Args:
        seen: whether its events happen just as a frame is sampled; else at any second, and the
            next frame shows them.
    """
    width, height = source_size(rng, *size)
    blank = Scene(width, height, (), (), np.zeros((height, width, 3), np.uint8))
    times = clip_plan(Clip(blank, (), 1, seconds), fps).frame_times
    moments = sorted({round(time) for time in times[1:]}) if seen else range(1, round(times[-1]))
    clip = make_long_clip(rng, width, height, seconds, list(moments))
    return clip, clip_example(rng, clip, fps, (), 0)


def _mixed(rng: np.random.Generator, by_task: list[list[Turn]], most: int) -> list[Turn]:
    """Round-robin over the tasks, so that a task with many possible questions does not crowd."""
    chosen: list[Turn] = []
    pools = [list(turns) for turns in by_task if turns]
    while pools and len(chosen) < most:
        for pool in [pools[index] for index in rng.permutation(len(pools))]:
            chosen.append(pool.pop())
        pools = [pool for pool in pools if pool]
    return chosen[:most]


def _compressed(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Through JPEG: colours at half resolution, as in most real images and videos."""
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=int(rng.integers(60, 96)))
    return np.array(Image.open(buffer))


def _empty_targets(steps: int, rows: int, columns: int) -> DenseTargets:
    shape = (steps, rows, columns)
    return DenseTargets(
        kind=np.zeros(shape, np.int64),
        colour=np.zeros(shape, np.int64),
        centre=np.zeros(shape, np.int64),
        box=np.zeros((*shape, 4), np.float32),
        text=np.zeros((*shape, COLUMNS_OF_TEXT), np.int64),
        event=np.zeros(shape, np.int64),
    )


def _cells(shape: tuple[int, ...], box: Box) -> npt.NDArray[np.float64]:
    """How much of each cell the box covers. ``[rows, columns]``"""
    rows, columns = np.arange(shape[0]) * UNIT, np.arange(shape[1]) * UNIT
    down = np.clip(np.minimum(rows + UNIT, box[3]) - np.maximum(rows, box[1]), 0, None)
    across = np.clip(np.minimum(columns + UNIT, box[2]) - np.maximum(columns, box[0]), 0, None)
    return np.outer(down, across) / UNIT**2


def _mark_things(targets: DenseTargets, step: int, things: Sequence[Seen]) -> None:
    best = np.full(targets.kind.shape[1:], _LEAST_OVERLAP)
    for thing in things:
        overlap = _cells(best.shape, thing.box)
        touched = overlap > best
        best[touched] = overlap[touched]
        targets.kind[step][touched] = 1 + KINDS.index(thing.kind)
        targets.colour[step][touched] = 1 + list(COLOURS).index(thing.colour)
        targets.box[step][touched] = np.array(thing.box) / UNIT
        x1, y1, x2, y2 = thing.box
        middle = int((y1 + y2) / 2 / UNIT), int((x1 + x2) / 2 / UNIT)
        targets.centre[step][middle] = 1 + KINDS.index(thing.kind)


def _mark_text(targets: DenseTargets, text: SeenText) -> None:
    _, rows, columns = targets.kind.shape
    for character, (x1, y1, x2, y2) in zip(text.string, text.characters, strict=True):
        row = min(int((y1 + y2) / 2 / UNIT), rows - 1)
        place = min(int((x1 + x2) / 2 / UNIT * COLUMNS_OF_TEXT), columns * COLUMNS_OF_TEXT - 1)
        code = 1 + ALPHABET.index(character)
        targets.text[0, row, place // COLUMNS_OF_TEXT, place % COLUMNS_OF_TEXT] = code
