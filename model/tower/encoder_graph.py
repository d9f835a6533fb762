"""The tower as CUDA graphs, for vLLM's `SupportsEncoderCudaGraph`. Pure, but for sizes of tensors.

A graph is captured for each token budget and modality (images and videos have different
rows of pixels). It computes on buffers of fixed shapes; before a replay, vLLM copies a batch into
their beginning and calls `PADDING` for the rest:

- Units beyond the media show pixels of the first raster and belong to no frame. Their outputs
  come after all others, where nobody reads them.
- Entries of ``cu_seqlens`` beyond the last repeat it: empty segments. For windows, `fill_windows`
  spreads the spare patches over these, so that attention writes every row. Frames may not take them
  up, for attention within one costs the square of its length: the rows of `Segments.padding_mask`
  are cleared instead. So no row ever holds a NaN that was found in memory. Real rows only meet each
  other, but a kernel may read whole tiles, and zero times NaN is NaN.
- Bounds of lengths become part of a graph, and so they are the largest that the budget allows.
  Windows are computed in tiles of a whole window, where a small image alone would take a smaller
  tile: results may differ from those outside graphs by rounding. A quantisation with one scale
  for all activations of a layer sees the spare rows too.

What the protocol has no words for (vLLM 0.32):

- A batch fits a budget by one number only. A graph also has room for only so many windows and
  frames, so the number is `cost`, given as the item's tokens on its path; it is no less than its
  tokens, and batches whose costs add up to a budget fit in every respect. vLLM splits the output
  by the true number of tokens, which is a separate field.
- An item cannot ask to be encoded outside graphs: its cost is beyond every budget (`NEVER`).
- Replay buffers are made without knowing the budget: all padding follows from the shapes.
- Frames per batch are an option of their own. Here they follow from the budget.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from saccade.model.inputs.profiling import MAX_FRAME_TOKENS
from saccade.model.tower.inputs import Segments, TowerGeometry, TowerInputs

SMALLEST_BUDGET = 64  # tokens: an image of 224x224
FRAME_COST = 64  # tokens that a frame of a video takes up at least; Qwen's own have 128 and more
NEVER = 1 << 60  # a cost beyond every budget
MODALITIES = ("image", "video")

_PLAN = ("pixels", "unit_offsets", "row_bytes", "frame_bytes", "unit_order", "positions")
BUFFERS = (*_PLAN, "window_cu_seqlens", "frame_cu_seqlens")
Buffers = dict[str, torch.Tensor]  # by these names; shapes as in `TowerInputs`


def budget_range(most_tokens: int) -> tuple[int, int]:
    """Smallest and largest budget worth a graph, for batches of at most ``most_tokens``."""
    return min(SMALLEST_BUDGET, most_tokens), most_tokens


def cost(grid: Sequence[int], modality: str, geometry: TowerGeometry) -> int:
    """What a medium takes up of a budget, in tokens.

    Args:
        grid: ``(t, h, w)`` in patches.
    """
    t, h, w = grid
    down, across = h // geometry.merge_size, w // geometry.merge_size
    units = t * down * across
    windows = t * -(-down // geometry.window) * -(-across // geometry.window)
    # Windows that are less than half full fill more of the windows there are than of the units.
    taken = max(units, geometry.window_units * windows - units)
    if modality == "image":
        return taken
    if down * across > MAX_FRAME_TOKENS:
        return NEVER  # launches matter least to it, and its length would be in every video's graph
    return max(taken, FRAME_COST * t)


@dataclass(frozen=True)
class GraphCapacity:
    """How much a graph has room for."""

    units: int
    windows: int
    frames: int

    @classmethod
    def of(
        cls, budget: int, modality: str, geometry: TowerGeometry, most_items: int
    ) -> "GraphCapacity":
        """Room for all batches of at most ``most_items`` whose costs add up to the budget.

        Twice the windows that fill the budget: with ``w`` windows of ``a`` units, ``u`` units and
        a budget of ``b``, costs say ``a w - u <= b``; with the ``(b - u) / a`` windows that take
        up the spare units there are at most ``2 b / a``.
        """
        return cls(
            units=budget,
            windows=-(-2 * budget // geometry.window_units) + 1,
            frames=most_items if modality == "image" else -(-budget // FRAME_COST),
        )


def empty_buffers(
    capacity: GraphCapacity, modality: str, geometry: TowerGeometry, device: torch.device
) -> Buffers:
    """The buffers of a graph, holding a batch of nothing."""
    slots = 1 if modality == "image" else geometry.temporal_patch_size

    def zeros(*shape: int, dtype: torch.dtype = torch.int64) -> torch.Tensor:
        return torch.zeros(shape, dtype=dtype, device=device)

    return {
        "pixels": zeros(
            capacity.units * geometry.unit, slots * geometry.slot_bytes, dtype=torch.uint8
        ),
        "unit_offsets": zeros(capacity.units),
        "row_bytes": zeros(capacity.units),
        "frame_bytes": zeros(capacity.units),
        "unit_order": torch.arange(capacity.units, device=device),
        "positions": zeros(2, capacity.units),
        "window_cu_seqlens": zeros(capacity.windows + 1, dtype=torch.int32),
        "frame_cu_seqlens": zeros(capacity.frames + 1, dtype=torch.int32),
    }


def as_buffers(inputs: TowerInputs) -> Buffers:
    """A batch at its own size."""
    return {
        **{name: getattr(inputs, name) for name in _PLAN},
        "window_cu_seqlens": inputs.windows.cu_seqlens,
        "frame_cu_seqlens": inputs.frames.cu_seqlens,
    }


def as_inputs(buffers: Mapping[str, torch.Tensor], geometry: TowerGeometry) -> TowerInputs:
    """What the tower computes in a graph: all of the buffers, whatever part of them is media."""
    pixels, frames = buffers["pixels"], buffers["frame_cu_seqlens"]
    patches = len(pixels)
    longest_frame = patches
    if pixels.shape[1] > geometry.slot_bytes:
        longest_frame = min(patches, MAX_FRAME_TOKENS * geometry.unit)
    longest_window = geometry.window_units * geometry.unit
    padding_mask = torch.arange(patches, device=pixels.device) >= frames[-1]
    return TowerInputs(
        **{name: buffers[name] for name in _PLAN},
        windows=Segments(
            fill_windows(buffers["window_cu_seqlens"], patches, longest_window), longest_window
        ),
        frames=Segments(frames, longest_frame, padding_mask[:, None]),
    )


def fill_windows(cu_seqlens: torch.Tensor, patches: int, max_seqlen: int) -> torch.Tensor:
    """Let the empty segments at the end take up the patches up to ``patches``, ``max_seqlen`` each.

    Args:
        cu_seqlens: int32 ``[segments + 1]``, of which those after the last of a medium repeat it.
    """
    steps = ((cu_seqlens == cu_seqlens[-1]).cumsum(0) - 1).clamp(min=0)
    return (cu_seqlens + max_seqlen * steps).clamp(max=patches).to(torch.int32)


def _keep_the_rest(buffer: torch.Tensor, batch: torch.Tensor) -> None:
    """For pixels: any byte is a colour."""
    buffer[: len(batch)].copy_(batch)


def _continue_order(buffer: torch.Tensor, batch: torch.Tensor) -> None:
    """Units of no medium stand where they are, after all others."""
    buffer[: len(batch)].copy_(batch)
    torch.arange(len(batch), len(buffer), out=buffer[len(batch) :])


def _clear_columns(buffer: torch.Tensor, batch: torch.Tensor) -> None:
    count = batch.shape[1]
    buffer[:, :count].copy_(batch)
    buffer[:, count:].zero_()


def _repeat_last(buffer: torch.Tensor, batch: torch.Tensor) -> None:
    buffer[: len(batch)].copy_(batch)
    buffer[len(batch) :].copy_(batch[-1:].expand(len(buffer) - len(batch)))


# What is not named is cleared beyond the batch: units that begin at the first byte.
PADDING: dict[str, Callable[[torch.Tensor, torch.Tensor], None]] = {
    "pixels": _keep_the_rest,
    "unit_order": _continue_order,
    "positions": _clear_columns,
    "window_cu_seqlens": _repeat_last,
    "frame_cu_seqlens": _repeat_last,
}
