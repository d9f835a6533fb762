"""Which bytes of which tensors a kernel touches, and that it touches no others."""

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

SECTOR = 32  # bytes that a GPU's memory moves at least


class OutOfBounds(Exception):
    """A kernel touched memory that belongs to none of the registered tensors."""


@dataclass(frozen=True)
class Count:
    """Bytes of one kind of access to one tensor."""

    requested: int  # by all programs together; what is read twice counts twice
    unique: int  # different bytes: what memory must move if the caches hold the rest
    sectors: int  # bytes of the different sectors of 32 bytes that these lie in


@dataclass
class Region:
    """The memory of one tensor, byte by byte, and what a kernel did to it."""

    start: int  # address of the first byte
    inside: np.ndarray  # bool [extent]: the byte belongs to the tensor (rows may lie apart)
    loaded: np.ndarray  # bool [extent]
    stored: np.ndarray  # bool [extent]
    requested: dict[str, int] = field(default_factory=lambda: {"load": 0, "store": 0})

    @classmethod
    def of(cls, tensor: torch.Tensor) -> "Region":
        steps = zip(tensor.shape, tensor.stride(), strict=True)
        extent = 1 + sum((size - 1) * stride for size, stride in steps)
        inside = torch.zeros(extent, dtype=torch.bool)
        inside.as_strided(tensor.shape, tensor.stride()).fill_(True)
        inside_bytes = inside.numpy().repeat(tensor.element_size())
        return cls(
            tensor.data_ptr(),
            inside_bytes,
            np.zeros_like(inside_bytes),
            np.zeros_like(inside_bytes),
        )

    @property
    def memory(self) -> np.ndarray:
        """The bytes themselves, uint8 ``[extent]``, to read and to write."""
        extent = ctypes.c_uint8 * len(self.inside)
        return np.ctypeslib.as_array(extent.from_address(self.start))

    def owns(self, places: np.ndarray) -> np.ndarray:
        """Which accesses lie in the tensor whole: ``places`` int64 ``[accesses, bytes]``."""
        offsets = places - self.start
        near = (offsets >= 0) & (offsets < len(self.inside))
        return (near & self.inside[np.where(near, offsets, 0)]).all(1)

    def count(self, kind: str, touched: np.ndarray) -> Count:
        """Of accesses of one kind, which touched these bytes: bool ``[extent]``."""
        sectors = np.unique((np.flatnonzero(touched) + self.start) // SECTOR)
        return Count(self.requested[kind], int(touched.sum()), len(sectors) * SECTOR)


class Traffic:
    """What kernels did to the registered tensors. The tensors must outlive it."""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        self._regions = {name: Region.of(tensor) for name, tensor in tensors.items()}

    def loaded(self, name: str) -> Count:
        region = self._regions[name]
        return region.count("load", region.loaded)

    def stored(self, name: str) -> Count:
        region = self._regions[name]
        return region.count("store", region.stored)

    @property
    def unique(self) -> int:
        """Different bytes loaded, and different bytes stored, of all tensors."""
        return sum(self.loaded(name).unique + self.stored(name).unique for name in self._regions)

    def touch(
        self, kind: str, addresses: np.ndarray, size: int
    ) -> Iterator[tuple[np.ndarray, Region, np.ndarray]]:
        """Count accesses of ``size`` bytes each, ``load`` or ``store``.

        Yields:
            For each tensor touched: which of ``addresses`` lie in it (bool), its region, and the
            places of their bytes within the region (int64 ``[accesses, size]``).

        Raises:
            OutOfBounds: an access lies in no tensor. What lies in one is yielded before.
        """
        places = addresses.astype(np.int64).reshape(-1, 1) + np.arange(size)
        lost = np.ones(len(places), dtype=bool)
        for region in self._regions.values():
            owned = lost & region.owns(places)
            if not owned.any():
                continue
            offsets = places[owned] - region.start
            region.requested[kind] += offsets.size
            (region.loaded if kind == "load" else region.stored)[offsets] = True
            lost &= ~owned
            yield owned, region, offsets
        if lost.any():
            address = int(places[lost][0, 0])
            raise OutOfBounds(f"{kind} of {size} bytes {self._locate(address)}")

    def _locate(self, address: int) -> str:
        def distance(name: str) -> int:
            region = self._regions[name]
            return max(region.start - address, address - region.start - len(region.inside), 0)

        name = min(self._regions, key=distance)
        region = self._regions[name]
        return f"at byte {address - region.start} of {name}, which has {len(region.inside)}"
