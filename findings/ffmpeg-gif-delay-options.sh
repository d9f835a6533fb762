#!/usr/bin/env bash
# FFmpeg 8.1's GIF reader (libavformat 62.12, in PyAV 18.1.0) accepts its options for delays and
# goes by none of them.
#
# Expected, from their descriptions: with min_delay=5 a frame that lasts less (in hundredths of a
# second) lasts default_delay instead, with max_gif_delay=1 longer ones are cut down. Browsers do
# likewise: they show delays of 0 and 1 as 10. Seen: the stamps are the file's whatever is asked
# for; only 0 becomes 10, always 10; and default_delay=20 changes the average rate that the stream
# tells, not the stamps beside it, so that the two contradict each other.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet av==18.1.0 pillow==13.0.0 2>/dev/null

cat >"$folder/seen.py" <<'PYTHON'
import io

import av
from PIL import Image

FRAMES = [Image.new("RGB", (32, 32), (40 * number, 0, 0)) for number in range(6)]
OPTIONS = (
    {},
    {"min_delay": "5"},
    {"min_delay": "5", "default_delay": "20"},
    {"default_delay": "20"},
    {"max_gif_delay": "1"},
)
for delay in (0, 1, 3):
    file = io.BytesIO()
    FRAMES[0].save(file, "GIF", save_all=True, append_images=FRAMES[1:], duration=10 * delay)
    for options in OPTIONS:
        with av.open(io.BytesIO(file.getvalue()), options=dict(options)) as container:
            stream = container.streams.video[0]
            stamps = [packet.pts for packet in container.demux(stream) if packet.size]
            asked = " ".join(f"{name}={value}" for name, value in options.items()) or "nothing"
            print(f"delay {delay}, {asked}: {stamps}, {float(stream.average_rate):.4g} a second")
PYTHON

seen=$("$folder/venv/bin/python" "$folder/seen.py")
echo "$seen"
[ "$seen" = "delay 0, nothing: [0, 10, 20, 30, 40, 50], 12.5 a second
delay 0, min_delay=5: [0, 10, 20, 30, 40, 50], 12.5 a second
delay 0, min_delay=5 default_delay=20: [0, 10, 20, 30, 40, 50], 6.25 a second
delay 0, default_delay=20: [0, 10, 20, 30, 40, 50], 6.25 a second
delay 0, max_gif_delay=1: [0, 10, 20, 30, 40, 50], 12.5 a second
delay 1, nothing: [0, 1, 2, 3, 4, 5], 100 a second
delay 1, min_delay=5: [0, 1, 2, 3, 4, 5], 100 a second
delay 1, min_delay=5 default_delay=20: [0, 1, 2, 3, 4, 5], 100 a second
delay 1, default_delay=20: [0, 1, 2, 3, 4, 5], 100 a second
delay 1, max_gif_delay=1: [0, 1, 2, 3, 4, 5], 100 a second
delay 3, nothing: [0, 3, 6, 9, 12, 15], 33.33 a second
delay 3, min_delay=5: [0, 3, 6, 9, 12, 15], 33.33 a second
delay 3, min_delay=5 default_delay=20: [0, 3, 6, 9, 12, 15], 33.33 a second
delay 3, default_delay=20: [0, 3, 6, 9, 12, 15], 33.33 a second
delay 3, max_gif_delay=1: [0, 3, 6, 9, 12, 15], 33.33 a second" ] || { echo "this has changed" >&2; exit 1; }
