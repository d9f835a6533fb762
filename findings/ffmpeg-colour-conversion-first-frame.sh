#!/usr/bin/env bash
# FFmpeg 8.1's swscale (in PyAV 18.1.0): converting transfer or primaries takes about three seconds
# of a processor before the first frame, of any size, and again for every converter.
#
# Expected: a set-up of milliseconds, as for a conversion of matrix and range alone, or one that is
# shared by converters of the same tags. Seen: a frame of 64x64 from PQ, HLG or plain BT.2020 to
# sRGB takes as long as one of 1280x720: 3 s on an AMD EPYC, over a thousand times the
# second frame of the small one; a second VideoReformatter takes it again. A server that makes a
# converter for every video spends more on it than on decoding; one table per pair of tags is
# cheaper (numpy makes one of 128^3 entries in a tenth of a second).
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet av==18.1.0 numpy 2>/dev/null

cat >"$folder/seen.py" <<'PYTHON'
import time

import av
import numpy as np
from av.video.reformatter import VideoReformatter

SRGB, BT709, BT2020 = 13, 1, 9
COSTLY = 200  # times the second frame of the same converter


def seconds(converter, frame, **tags):
    begun = time.process_time()
    converter.reformat(frame, format="rgb24", **tags)
    return time.process_time() - begun


for name, transfer in (("PQ", 16), ("HLG", 18), ("BT.709", 1)):
    grey = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 128, np.uint8), format="rgb24")
    frame = grey.reformat(format="yuv420p10le")
    frame.color_trc, frame.color_primaries, frame.colorspace = transfer, BT2020, BT2020
    for asked, tags in (
        ("matrix alone", {}),
        ("transfer and primaries", {"dst_color_trc": SRGB, "dst_color_primaries": BT709}),
    ):
        first, other = VideoReformatter(), VideoReformatter()
        took = [seconds(one, frame, **tags) for one in (first, first, other)]
        costly = [one > COSTLY * took[1] and one > 0.2 for one in took]
        told = ", ".join("costly" if one else "cheap" for one in costly)
        print(f"{name}, {asked}: first, second, first of another converter: {told}")
PYTHON

seen=$("$folder/venv/bin/python" "$folder/seen.py")
echo "$seen"
[ "$seen" = "PQ, matrix alone: first, second, first of another converter: cheap, cheap, cheap
PQ, transfer and primaries: first, second, first of another converter: costly, cheap, costly
HLG, matrix alone: first, second, first of another converter: cheap, cheap, cheap
HLG, transfer and primaries: first, second, first of another converter: costly, cheap, costly
BT.709, matrix alone: first, second, first of another converter: cheap, cheap, cheap
BT.709, transfer and primaries: first, second, first of another converter: costly, cheap, costly" ] || { echo "this has changed" >&2; exit 1; }
