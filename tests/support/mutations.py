"""Seeded damage to real files: the same number always gives the same bytes."""

import random


def mutate(original: bytes, chance: random.Random) -> bytes:
    """A damaged copy: one to four of flips, cuts, splices, repeats and telling numbers."""
    data = bytearray(original)
    for _ in range(chance.randint(1, 4)):
        if len(data) < 8:
            break
        _DAMAGES[chance.randrange(len(_DAMAGES))](data, chance)
    return bytes(data)


def _flip_bits(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.randint(1, 12)):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _overwrite(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    stop = min(len(data), start + chance.randint(1, 32))
    data[start:stop] = chance.randbytes(stop - start)


def _cut_off(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(1, len(data)) :]


def _cut_out(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    del data[start : start + chance.randint(1, 200)]


def _splice(data: bytearray, chance: random.Random) -> None:
    """A piece moves elsewhere."""
    start = chance.randrange(len(data))
    piece = data[start : start + chance.randint(1, 400)]
    place = chance.randrange(len(data))
    data[place:place] = piece


def _repeat(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    piece = data[start : start + chance.randint(4, 64)]
    data[start:start] = piece * chance.randint(2, 20)


def _telling_number(data: bytearray, chance: random.Random) -> None:
    """Where formats have sizes and counts, often: near the beginning or the end."""
    number = chance.choice((0, 1, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1))
    span = min(len(data) - 4, 256)
    place = (
        chance.randrange(span) if chance.random() < 0.5 else len(data) - 4 - chance.randrange(span)
    )
    data[place : place + 4] = number.to_bytes(4, chance.choice(("big", "little")))


_DAMAGES = (_flip_bits, _overwrite, _cut_off, _cut_out, _splice, _repeat, _telling_number)
