"""Planned media to the engine's input: a shorter `BaseMultiModalProcessor.apply`.

vLLM's own makes the same of them, in steps meant for media that are still to be processed: 0.17 ms
of CPU time for an image of 448x448 where this takes 0.04 (EPYC Zen 4), several per cent of what a
small image costs the API process. Only the media's names differ: digests here, hashes of them
there, and that no cache is asked: what is sent of them is known when they are sent. An `apply` that
takes items which are processed already would make this unnecessary.
"""

from collections.abc import Mapping

import torch
from vllm.inputs.engine import MultiModalInput, mm_input
from vllm.multimodal.inputs import (
    MultiModalBatchedField,
    MultiModalFieldElem,
    MultiModalKwargsItem,
    MultiModalKwargsItems,
    PlaceholderRange,
)
from vllm.multimodal.processing import ProcessorInputs

from saccade.media.items import CachedMedium, DecodedImage, DecodedMedium, EngineMedium
from saccade.model.inputs.parser import PlannedImages, PlannedVideos

ON_CPU = frozenset({"image_grid_thw", "video_grid_thw", "second_per_grid_ts"})
"""Names of tensors that the worker reads on the host."""


def tensors_of(medium: DecodedMedium) -> dict[str, torch.Tensor]:
    """What the model is given of a medium: pixels ``[patches, bytes]``, uncopied; grid; seconds."""
    grid = medium.plan.grid
    t, h, w = grid
    if isinstance(medium, DecodedImage):
        rows = torch.from_numpy(medium.pixels).view(t * h * w, -1)
        return {"pixel_values": rows, "image_grid_thw": torch.tensor(grid)}
    return {
        "pixel_values_videos": torch.from_numpy(medium.frames).view(t * h * w, -1),
        "video_grid_thw": torch.tensor(grid),
        # float64 all the way: rounded to bfloat16, seconds name the wrong positions.
        "second_per_grid_ts": torch.tensor(medium.plan.seconds_per_grid, dtype=torch.float64),
    }


class CachedItem(MultiModalKwargsItem):
    """Stands for a medium that the engine has; empty."""

    def __init__(self, medium: CachedMedium) -> None:
        super().__init__()
        self.medium = medium


def engine_item(medium: EngineMedium) -> MultiModalKwargsItem:
    """What goes to the engine of a medium."""
    if isinstance(medium, CachedMedium):
        return CachedItem(medium)
    return MultiModalKwargsItem(
        {
            name: MultiModalFieldElem(tensor, MultiModalBatchedField(keep_on_cpu=name in ON_CPU))
            for name, tensor in tensors_of(medium).items()
        }
    )


def planned_input(inputs: ProcessorInputs, tokens: Mapping[str, int]) -> MultiModalInput | None:
    """The engine's input; None where vLLM has to say what becomes of it.

    That is where not all media are planned, where options or names come with them, and where the
    prompt has not one placeholder for each.

    Args:
        tokens: the placeholder of a medium in the prompt, by modality.
    """
    media: dict[str, list[EngineMedium]] = {}
    for modality, items in inputs.mm_data_items.items():
        if not isinstance(items, PlannedImages | PlannedVideos):
            return None
        media[modality] = items.get_all()
    names = (inputs.mm_uuid_items or {}).values()
    if inputs.hf_processor_mm_kwargs or any(name is not None for group in names for name in group):
        return None
    lengths = {
        tokens[modality]: [medium.plan.tokens for medium in group]
        for modality, group in media.items()
    }
    expanded = _expanded(inputs.prompt, lengths)
    if expanded is None:
        return None
    prompt, ranges = expanded
    return mm_input(
        prompt_token_ids=prompt,
        mm_kwargs=MultiModalKwargsItems(
            {modality: [*map(engine_item, group)] for modality, group in media.items()}
        ),
        mm_hashes={
            modality: [medium.digest for medium in group] for modality, group in media.items()
        },
        mm_placeholders={modality: ranges[tokens[modality]] for modality in media},
    )


def _expanded(
    prompt: list[int], lengths: Mapping[int, list[int]]
) -> tuple[list[int], dict[int, list[PlaceholderRange]]] | None:
    """The prompt with every placeholder repeated, and where they stand; None if they do not fit.

    Args:
        lengths: how often, by token, in the order of the prompt.
    """
    expanded: list[int] = []
    ranges: dict[int, list[PlaceholderRange]] = {token: [] for token in lengths}
    copied = 0
    for place, token in enumerate(prompt):
        if token not in ranges:
            continue
        seen = ranges[token]
        if len(seen) == len(lengths[token]):
            return None
        length = lengths[token][len(seen)]
        expanded += prompt[copied:place]
        seen.append(PlaceholderRange(offset=len(expanded), length=length))
        expanded += [token] * length
        copied = place + 1
    if any(len(ranges[token]) < len(lengths[token]) for token in lengths):
        return None
    return expanded + prompt[copied:], ranges
