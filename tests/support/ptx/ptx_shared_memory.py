"""The shared memory of a block: its bytes, who touched them since when, and how banks collide."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

LANES = 32  # threads of a warp
BANKS = 32  # of 4 bytes each
NOBODY, MANY = -1, -2
POISON = 0xFF  # uninitialised bytes: as numbers, they are NaN


@dataclass
class Statistics:
    """What was noticed while programs ran."""

    races: list[str] = field(default_factory=list)
    waves: int = 0  # turns that shared memory took
    ideal_waves: int = 0  # turns it would have taken had no two lanes met in a bank
    executed: Counter[str] = field(default_factory=Counter)  # instructions a warp, by name

    @property
    def bank_ratio(self) -> float:
        return self.waves / self.ideal_waves if self.ideal_waves else 1.0


class SharedMemory:
    """Bytes, with the thread that wrote and the thread that read each one last.

    Two threads may touch a byte, one of them writing, only if a barrier stands between: of the
    block, or of the warp if both are in the same. Time is counted in barriers passed.
    """

    def __init__(self, size: int, threads: int, statistics: Statistics) -> None:
        self._statistics = statistics
        self._bytes = np.full(size, POISON, np.uint8)
        self._writer = np.full(size, NOBODY, np.int64)
        self._reader = np.full(size, NOBODY, np.int64)
        self._reading_warp = np.full(size, NOBODY, np.int64)
        self._block_time = 0
        self._warp_time = 0
        self._written = np.zeros((2, size), np.int64)  # block time, warp time
        self._read = np.zeros((2, size), np.int64)
        self._thread = np.arange(threads)
        self._uncommitted: list[np.ndarray] = []  # places of asynchronous copies under way
        self._groups: list[np.ndarray] = []
        self._in_flight = np.zeros(size, np.bool_)

    def block_barrier(self) -> None:
        self._block_time += 1
        self._warp_time += 1

    def warp_barrier(self) -> None:
        self._warp_time += 1

    def read(self, addresses: np.ndarray, size: int, active: np.ndarray, text: str) -> np.ndarray:
        """Bytes ``[threads, size]``; those of inactive threads are poison."""
        places, threads = self._places(addresses, size, active)
        writer = self._writer[places]
        self._check(writer, writer // LANES, self._written[:, places], threads, text)
        if self._in_flight[places].any():
            self._race(f"reads what a copy under way may write: {text}")
        fresh = self._read[0, places] != self._block_time
        before, before_warp = self._reader[places], self._reading_warp[places]
        lone = fresh | (before == NOBODY) | (before == threads)
        lone_warp = fresh | (before_warp == NOBODY) | (before_warp == threads // LANES)
        self._reader[places] = np.where(lone, threads, MANY)
        self._reading_warp[places] = np.where(lone_warp, threads // LANES, MANY)
        self._note_shared_places(places, threads)
        self._read[0, places], self._read[1, places] = self._block_time, self._warp_time
        result = np.full((len(self._thread), size), POISON, np.uint8)
        result[active] = self._bytes[places]
        return result

    def write(self, addresses: np.ndarray, data: np.ndarray, active: np.ndarray, text: str) -> None:
        """Write the rows of ``data``, uint8 ``[threads, size]``, of active threads."""
        places, threads = self._places(addresses, data.shape[1], active)
        self._check(self._reader[places], self._reading_warp[places], self._read[:, places],
                    threads, text)  # fmt: skip
        writer = self._writer[places]
        self._check(writer, writer // LANES, self._written[:, places], threads, text)
        if self._in_flight[places].any():
            self._race(f"writes where a copy under way writes: {text}")
        self._bytes[places] = data[active]
        if (self._bytes[places] != data[active]).any():
            self._race(f"threads write different values to one place: {text}")
        self._writer[places] = threads
        self._written[0, places], self._written[1, places] = self._block_time, self._warp_time

    def write_later(
        self, addresses: np.ndarray, data: np.ndarray, active: np.ndarray, text: str
    ) -> None:
        """As `write`, by an asynchronous copy: its place is nobody's until it is waited for."""
        self.write(addresses, data, active, text)
        places, _ = self._places(addresses, data.shape[1], active)
        self._in_flight[places] = True
        self._uncommitted.append(places.ravel())

    def commit(self) -> None:
        self._groups.append(np.concatenate([*self._uncommitted, np.empty(0, np.int64)]))
        self._uncommitted = []

    def wait(self, groups: int) -> None:
        """Wait until all but the last ``groups`` groups of copies have arrived."""
        while len(self._groups) > groups:
            places = self._groups.pop(0)
            self._in_flight[places] = False
            # They are seen by the thread that waits; by others only after a barrier from now on.
            self._written[0, places], self._written[1, places] = self._block_time, self._warp_time

    def count_waves(self, addresses: np.ndarray, size: int, active: np.ndarray) -> None:
        """Count the turns of an access of ``size`` bytes a thread.

        A turn serves 128 bytes: all lanes of a warp with 4 bytes each, a quarter of them with 16.
        """
        lanes = LANES if size <= 4 else 4 * LANES // size
        for first in range(0, len(addresses), lanes):
            part = slice(first, first + lanes)
            words = addresses[part][active[part]][:, None] // 4 + np.arange(max(1, size // 4))
            if words.size:
                different = np.unique(words)
                self._statistics.waves += int(np.bincount(different % BANKS).max())
                self._statistics.ideal_waves += -(-len(different) // BANKS)

    def _places(
        self, addresses: np.ndarray, size: int, active: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Places of the bytes ``[active threads, size]``, and the thread of each, alike."""
        places = addresses[active][:, None] + np.arange(size)
        if places.size and (places.min() < 0 or places.max() >= len(self._bytes)):
            raise IndexError(f"byte {places.max()} of {len(self._bytes)} bytes of shared memory")
        if (addresses[active] % size).any():
            raise IndexError(f"an access of {size} bytes is not aligned")
        return places, np.broadcast_to(self._thread[active][:, None], places.shape)

    def _check(
        self, owner: np.ndarray, warp: np.ndarray, times: np.ndarray, threads: np.ndarray, text: str
    ) -> None:
        """A race, if another thread than the accessing one came since the last barrier."""
        together = (owner != NOBODY) & (owner != threads) & (times[0] == self._block_time)
        apart = (warp == threads // LANES) & (times[1] < self._warp_time)
        if (together & ~apart).any():
            self._race(f"no barrier before: {text}")

    def _note_shared_places(self, places: np.ndarray, threads: np.ndarray) -> None:
        """Threads that read the same byte at once: assignment kept only the last of them."""
        others = self._reader[places] != threads
        self._reader[places[others]] = MANY
        other_warps = self._reading_warp[places] != threads // LANES
        self._reading_warp[places[other_warps]] = MANY

    def _race(self, text: str) -> None:
        self._statistics.races.append(text)
