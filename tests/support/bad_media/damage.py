"""Files as a bad line or disk leaves them: seeded, the same number always gives the same bytes."""

import random

BLOCK = 64  # bytes


def damaged(original: bytes, chance: random.Random) -> bytes:
    """A copy of which some blocks read as zero, or whose end is missing, or both.

    Nothing moves and nothing is added: where a header holds a size or a count, it stays or shrinks.
    """
    data = bytearray(original)
    for _ in range(chance.randint(0, 3)):
        start = chance.randrange(len(data))
        stop = min(len(data), start + chance.randint(1, BLOCK))
        data[start:stop] = bytes(stop - start)
    if data == original or chance.random() < 0.3:
        del data[chance.randrange(len(data)) :]
    return bytes(data)
