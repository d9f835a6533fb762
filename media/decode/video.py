"""Decodes the planned frames of a video: upright RGB, each resized once it is decoded.

Through FFmpeg (PyAV). The whole video is never held: memory is the encoded bytes, the frame being
decoded and the resized frames. Where the container's stamps tell its frames apart, only what the
planned frames need is decoded (`frame_selection.py`).

What is damaged is shown as players show it: in place of a frame that the decoder does not give,
the one before it stays.
"""

from collections.abc import Iterable
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from saccade.media.decode.colour import sdr_table, to_sdr
from saccade.media.decode.container import DecodeDeadline, opened
from saccade.media.decode.frame_selection import decoded_frames, schedule
from saccade.media.decode.image import to_rgb
from saccade.media.decode.resize import resize
from saccade.media.errors import DecodeError
from saccade.media.limits import MediaLimits
from saccade.media.planning.plan import VideoPlan, VideoSource
from saccade.media.types import CHANNELS, Pixels

_SMALL = 16  # pixels along a copy that is made for its side data alone
_UNSPECIFIED = 2  # of colours, ITU-T H.273


class FrameConverter:
    """Makes the frames of one video upright RGB, in the colours of an SDR display.

    Phones record sideways and put a 3 x 3 matrix in the file: a point (x, y) is shown at
    (a x + c y, b x + d y), up to a shift (ISO/IEC 14496-12, track header box). All frames are
    turned as the first one is, which has to be the first that is asked about.
    """

    def __init__(self, stream: VideoStream) -> None:
        context = stream.codec_context
        # The container's, for frames that do not say; decoding forgets them.
        self._colours = context.color_trc, context.color_primaries
        self._space = context.colorspace
        self._matrix: tuple[int, int, int, int] | None = None

    def is_sideways(self, frame: VideoFrame) -> bool:
        """Whether the frame is stored turned by a quarter."""
        if self._matrix is None:
            # Asked of a small copy: PyAV ties a frame and its side data in a circle, so that its
            # memory stays until Python looks for circles.
            small = frame.reformat(width=_SMALL, height=_SMALL, format="rgb24")
            data = cast(Any, small.side_data).get(SideDataType.DISPLAYMATRIX)
            a, b, _, c, d = (1, 0, 0, 0, 1) if data is None else np.frombuffer(data, np.int32)[:5]
            self._matrix = int(a), int(b), int(c), int(d)
        a, b, _, _ = self._matrix
        return abs(b) > abs(a)

    def convert(self, frame: VideoFrame, height: int, width: int) -> Pixels:
        """The frame as uint8 RGB [height, width, 3]."""
        tags = (int(frame.color_trc), int(frame.color_primaries))
        transfer, primaries = (
            given if tag == _UNSPECIFIED and given is not None else tag
            for tag, given in zip(tags, self._colours, strict=True)
        )
        table = sdr_table(int(transfer), int(primaries))
        if table is not None and frame.colorspace == _UNSPECIFIED and self._space is not None:
            frame.colorspace = self._space
        components = frame.format.components
        if frame.format.has_palette or any(component.is_alpha for component in components):
            pixels = to_rgb(Image.fromarray(frame.to_ndarray(format="rgba"), "RGBA"))
        else:
            pixels = cast(Pixels, frame.to_ndarray(format="rgb24"))
        transposed = self.is_sideways(frame)
        assert self._matrix is not None
        a, b, c, d = self._matrix
        mirrored, upside_down = (c < 0, b < 0) if transposed else (a < 0, d < 0)
        if transposed:
            pixels = pixels.transpose(1, 0, 2)
        pixels = pixels[:: -1 if upside_down else 1, :: -1 if mirrored else 1]
        if table is None:
            return resize(pixels, height, width)
        if frame.format.name == "rgb24":  # the decoder's own memory
            pixels = pixels.copy()
        if pixels.shape[0] * pixels.shape[1] < height * width:  # where there is less to do
            return resize(to_sdr(pixels, table), height, width)
        return to_sdr(resize(pixels, height, width), table)


def decode_video(
    data: bytes,
    source: VideoSource,
    plan: VideoPlan,
    limits: MediaLimits,
    deadline: DecodeDeadline | None = None,
    threads: int = 1,
) -> tuple[Pixels, int]:
    """Decodes the planned frames of a video.

    Args:
        source: from :func:`saccade.media.decode.probe.probe_video`.
        deadline: None for one that begins now.
        threads: of the decoder, beside the calling thread's own work.

    Returns:
        uint8 RGB [frames, height, width, 3]; and how many frames of the video are damaged, as far
        as it had to be decoded.

    Raises:
        DecodeError: no frame can be decoded. LimitError: past the deadline. Cancelled.
    """
    deadline = deadline or DecodeDeadline(limits)
    frames = np.empty((len(plan.frame_indices), plan.height, plan.width, CHANNELS), np.uint8)
    uses = stamps = None
    if source.packets is not None and (todo := schedule(source.packets, plan.frame_indices)):
        uses = todo.uses
        stamps = np.sort(source.packets["stamp"][source.packets["shown"]])
    damaged = 0
    # Again if anything is missing: from the beginning, and on one thread, since several of them
    # lose good frames where they give up a damaged one.
    for attempt, count in ((uses, threads), (None, 1)):
        with opened(data, limits, count) as (container, stream):
            converter = FrameConverter(stream)
            packets = deadline.demuxed(container, stream)
            decoded = decoded_frames(stream.codec_context, packets, attempt)
            damaged = _fill(frames, decoded, plan, stamps, converter, attempt is None)
        if not damaged:
            break
    return frames, damaged


def _fill(
    frames: Pixels,
    decoded: Iterable[VideoFrame | None],
    plan: VideoPlan,
    stamps: npt.NDArray[np.int64] | None,
    converter: FrameConverter,
    whole: bool,
) -> int:
    """Fills ``frames`` with the planned ones; the count of damaged frames up to the last of them.

    Args:
        stamps: of all frames of the video, ascending; None: the decoder's frames are counted.
        whole: all frames are to be decoded, not only the planned ones and what they need.
    """
    indices = plan.frame_indices
    slot, number, missing, refused, corrupt = 0, -1, 0, 0, 0
    before: VideoFrame | None = None
    for frame in decoded:
        if frame is None:
            refused += before is not None
            number += stamps is None
            continue
        last, number = number, number + 1
        if stamps is not None and frame.pts is not None:
            found = int(np.searchsorted(stamps, frame.pts))
            if found < len(stamps) and stamps[found] == frame.pts:
                number = found
        missing += whole and max(0, number - last - 1)
        corrupt += frame.is_corrupt
        while slot < len(indices) and indices[slot] <= number:
            if slot and indices[slot] == indices[slot - 1]:
                frames[slot] = frames[slot - 1]
            else:
                missing += not whole and indices[slot] < number
                on_screen = before if before and indices[slot] < number else frame
                frames[slot] = converter.convert(on_screen, plan.height, plan.width)
            slot += 1
        before = frame
        if slot == len(indices):
            break
    if before is None:
        raise DecodeError("the video is damaged: none of its frames can be decoded")
    if slot < len(indices):
        missing += indices[-1] - number
        frames[slot:] = converter.convert(before, plan.height, plan.width)
    return max(missing, refused) + corrupt
