"""Colours of videos: wide gamut and high dynamic range become what an SDR display shows.

Matrix and range are applied by FFmpeg, from a frame's tags, on the way to RGB. What is left of the
tags is applied here: primaries (BT.2020, Display P3, DCI-P3) and transfer (PQ, HLG, linear, DCI).
The signal of 203 cd/m2, which BT.2408 calls reference white, becomes white; what is brighter, too.
FFmpeg can do the same, but takes three seconds of a processor for every video before its first
frame. Videos that are untagged or tagged otherwise (BT.709, BT.601, sRGB) are left as they are.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from saccade.kernels import reference
from saccade.kernels.cpu import compiled
from saccade.media.types import Pixels

Table = torch.Tensor
Light = npt.NDArray[np.float64]

# ITU-T H.273: code points of transfers (8.2) and primaries (8.1).
_UNSPECIFIED, _LINEAR, _PQ, _DCI, _HLG = 2, 8, 16, 17, 18
_BT709, _BT2020 = 1, 9
_CHROMATICITIES = {  # x, y of red, green, blue and white
    _BT709: (0.640, 0.330, 0.300, 0.600, 0.150, 0.060, 0.3127, 0.3290),
    _BT2020: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, 0.3127, 0.3290),
    11: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3140, 0.3510),  # DCI-P3
    12: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290),  # Display P3
}
_WHITE = 203.0  # cd/m2, BT.2408
_HLG_PEAK = 1000.0  # cd/m2 of the display that BT.2100's system gamma of 1.2 is for
_DISPLAY_GAMMA = 2.4  # BT.1886
_STEPS = 128  # of a channel that the table tells apart: entries for all values would fill no cache


def sdr_table(transfer: int, primaries: int) -> Table | None:
    """What `to_sdr` needs for a video of these tags (ITU-T H.273); None: it is SDR already.

    A fifth of a second, once in a process for each pair of tags.
    """
    if transfer not in (_LINEAR, _PQ, _DCI, _HLG):
        transfer = _UNSPECIFIED
    if primaries not in _CHROMATICITIES:
        primaries = _BT2020 if transfer in (_PQ, _HLG) else _BT709
    return None if (transfer, primaries) == (_UNSPECIFIED, _BT709) else _table(transfer, primaries)


def to_sdr(pixels: Pixels, table: Table) -> Pixels:
    """RGB [height, width, 3] in BT.709, from RGB in colours of the table; in place where it can."""
    pixels = np.require(pixels, requirements=["C", "W"])
    run = compiled.operation("map_colours", torch.uint8) or reference.map_colours
    run(torch.from_numpy(pixels), table)
    return pixels


@lru_cache(maxsize=4)  # of 8 MiB
def _table(transfer: int, primaries: int) -> Table:
    """uint8 [_STEPS, _STEPS, _STEPS, 4], by red, green and blue: these three, and a zero."""
    signal = ((np.arange(_STEPS) + 0.5) * (256 / _STEPS) - 0.5) / 255
    light = _linear(signal, transfer)
    to_xyz = _rgb_to_xyz(primaries)
    to_bt709 = np.linalg.inv(_rgb_to_xyz(_BT709)) @ to_xyz
    to_bt709 /= to_bt709.sum(axis=1, keepdims=True)  # white stays white
    table = np.zeros((_STEPS, _STEPS, _STEPS, 4), np.uint8)
    for red in range(_STEPS):  # a plane at a time, for the memory's sake
        rgb = np.empty((_STEPS, _STEPS, 3), np.float32)
        rgb[..., 0], rgb[..., 1], rgb[..., 2] = light[red], light[:, None], light
        if transfer == _HLG:  # BT.2100: of the scene so far, now of the display
            luminance = rgb @ to_xyz[1].astype(np.float32)
            rgb *= luminance[..., None] ** 0.2 * (_HLG_PEAK / _WHITE)
        shown = np.clip(rgb @ to_bt709.T.astype(np.float32), 0, 1)
        table[red, ..., :3] = np.rint(shown ** (1 / _DISPLAY_GAMMA) * 255)
    return torch.from_numpy(table)


def _linear(signal: Light, transfer: int) -> Light:
    """Light of a signal between 0 and 1, where white is 1; with HLG the scene's, from 0 to 1."""
    if transfer == _PQ:  # BT.2100, table 4
        root = signal ** (32 / 2523)
        light = np.maximum(root - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * root)
        return light ** (8192 / 1305) * (10_000 / _WHITE)
    if transfer == _HLG:  # BT.2100, table 5
        bright = (np.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12
        return np.where(signal <= 0.5, signal**2 / 3, bright)
    if transfer == _LINEAR:
        return signal
    if transfer == _DCI:  # SMPTE ST 428-1
        return signal**2.6 * (52.37 / 48)
    return signal**_DISPLAY_GAMMA


def _rgb_to_xyz(primaries: int) -> npt.NDArray[np.float64]:
    """[3, 3], where RGB of 1, 1, 1 is white of luminance 1 (SMPTE RP 177)."""
    x, y = np.array(_CHROMATICITIES[primaries]).reshape(4, 2).T
    xyz = np.stack([x / y, np.ones(4), (1 - x - y) / y])
    columns = xyz[:, :3]
    return columns * np.linalg.solve(columns, xyz[:, 3])
