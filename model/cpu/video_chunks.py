"""Splits a video into several encoder inputs: vLLM encodes an input whole, in one step.

The tower's attention stays within a temporal index of the grid, so that a video may be split
between any two of them: the pieces' embeddings, one after the other, are the video's.

Builds vLLM's feature specs and names pieces after its scheme of identifiers: an encoder that is
scheduled by pieces would make this unnecessary.
"""

from dataclasses import replace

import torch
from vllm.multimodal.inputs import (
    MultiModalBatchedField,
    MultiModalFeatureSpec,
    MultiModalFieldElem,
    MultiModalKwargsItem,
    PlaceholderRange,
)

GRIDS_BEFORE = "video_grids_before"
"""The field of a piece that counts the temporal indices of its video in earlier pieces."""

_PIXELS, _GRID = "pixel_values_videos", "video_grid_thw"


def split_video_feature(feature: MultiModalFeatureSpec, tokens: int) -> list[MultiModalFeatureSpec]:
    """A video in pieces of at most ``tokens`` placeholders, or of one temporal index.

    Pixels are not copied. Images, and media whose pixels are not at hand, stay whole.
    """
    item = feature.data
    if feature.modality != "video" or item is None or _PIXELS not in item:
        return [feature]
    t, h, w = item[_GRID].data.tolist()
    place, each = feature.mm_position, feature.mm_position.length // t
    step = max(1, tokens // each)
    if step >= t:
        return [feature]
    pieces = []
    for first in range(0, t, step):
        count = min(step, t - first)
        pixels = item[_PIXELS].data[first * h * w : (first + count) * h * w]
        before = MultiModalFieldElem(torch.tensor(first), MultiModalBatchedField(keep_on_cpu=True))
        elements = {
            _PIXELS: replace(item[_PIXELS], data=pixels),
            _GRID: replace(item[_GRID], data=torch.tensor([count, h, w])),
            GRIDS_BEFORE: before,
        }
        piece = replace(
            feature,
            data=MultiModalKwargsItem({**item, **elements}),
            identifier=f"{feature.identifier}[{first}:{first + count}]",
            mm_position=PlaceholderRange(place.offset + first * each, count * each),
        )
        pieces.append(piece)
    return pieces
