#!/usr/bin/env bash
# Pillow 13.0.0: a PNG's transparent colour (chunk tRNS of a picture without a palette) is compared
# with the wrong numbers unless samples have 8 bits, or are grey of 1 or 16.
#
# Expected: convert("RGBA") makes transparent what the file says, at every depth that PNG has. Seen:
# grey of 2 and 4 bits is scaled to 8 before it is compared with the key, which is not, so that the
# keyed pixels stay opaque; of RGB of 16 bits the low byte of the key is compared with the high byte
# of a sample, and another pixel vanishes. Browsers and libpng's own conversion
# show the keyed pixels as transparent. Each picture below has three pixels, the second is keyed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pillow==13.0.0 2>/dev/null

cat >"$folder/seen.py" <<'PYTHON'
import io
import struct
import zlib

from PIL import Image


def chunk(kind, data):
    crc = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def png(bits, colour, row, key):
    header = struct.pack(">IIBBBBB", 3, 1, bits, colour, 0, 0, 0)
    parts = [(b"IHDR", header), (b"tRNS", key), (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


GREY, RGB = 0, 2
pictures = {
    "grey, 1 bit": png(1, GREY, bytes([0b01000000]), struct.pack(">H", 1)),
    "grey, 2 bits": png(2, GREY, bytes([0b01101100]), struct.pack(">H", 2)),
    "grey, 4 bits": png(4, GREY, b"\x35\xa0", struct.pack(">H", 5)),
    "grey, 8 bits": png(8, GREY, bytes([3, 5, 10]), struct.pack(">H", 5)),
    "grey, 16 bits": png(16, GREY, struct.pack(">3H", 3, 5, 10), struct.pack(">H", 5)),
    "RGB, 8 bits": png(8, RGB, bytes([1, 2, 3, 7, 8, 9, 4, 5, 6]), struct.pack(">3H", 7, 8, 9)),
    "RGB, 16 bits": png(
        16,
        RGB,
        struct.pack(">9H", 0x0111, 0x0222, 0x0333, 0x0701, 0x0802, 0x0903, 0x1144, 0x2255, 0x3366),
        struct.pack(">3H", 0x0701, 0x0802, 0x0903),
    ),
}
for name, data in pictures.items():
    alpha = Image.open(io.BytesIO(data)).convert("RGBA").getchannel("A")
    print(f"{name}: {list(alpha.tobytes())}")
PYTHON

seen=$("$folder/venv/bin/python" "$folder/seen.py")
echo "$seen"
[ "$seen" = "grey, 1 bit: [255, 0, 255]
grey, 2 bits: [255, 255, 255]
grey, 4 bits: [255, 255, 255]
grey, 8 bits: [255, 0, 255]
grey, 16 bits: [255, 0, 255]
RGB, 8 bits: [255, 0, 255]
RGB, 16 bits: [0, 255, 255]" ] || { echo "this has changed" >&2; exit 1; }
