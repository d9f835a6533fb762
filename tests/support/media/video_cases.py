"""What the cases about videos share: clips, and which numbered frames are shown of them."""

import io
import struct

from clips import is_clean, numbered, read_number
from loading import load_video
from PIL import Image

from saccade.media.controls import VideoControls
from saccade.media.decode.probe import probe_video
from saccade.media.limits import MediaLimits

LIMITS = MediaLimits()
X264, X265 = "x264-params", "x265-params"
QUIET = "log-level=none"


def shown(data, **controls):
    """(the numbers that the frames show, their plan); every frame is clean."""
    frames, plan = load_video(data, VideoControls(**controls), LIMITS)
    assert all(is_clean(frame) for frame in frames)
    return [read_number(frame) for frame in frames], plan


def all_shown(data):
    return shown(data, nframes=probe_video(data, LIMITS).frames // 2 * 2)


def gif(delays):
    """Numbered frames that last so many hundredths of a second each."""
    pictures = [Image.fromarray(numbered(number)) for number in range(len(delays))]
    output = io.BytesIO()
    pictures[0].save(output, "GIF", save_all=True, append_images=pictures[1:], duration=100)
    data = bytearray(output.getvalue())
    position = -1
    for delay in delays:  # in the graphic control extension (GIF89a, 23)
        position = data.index(b"\x21\xf9\x04", position + 1)
        data[position + 4 : position + 6] = struct.pack("<H", delay)
    return bytes(data)
