"""A video in pieces is the video: its pixels, its place in the prompt, its time."""

from types import SimpleNamespace

import pytest
import torch
from vllm.multimodal.inputs import (
    MultiModalBatchedField,
    MultiModalFeatureSpec,
    MultiModalFieldElem,
    MultiModalKwargsItem,
    PlaceholderRange,
)
from vllm.multimodal.utils import strip_covered_mm_data

from saccade.model.cpu.video_chunks import split_video_feature
from saccade.model.qwen2_5_vl import SaccadeQwen2_5_VL

_VISION = SimpleNamespace(spatial_merge_size=2, tokens_per_second=2)


def feature(
    modality: str, offset: int, grid: tuple[int, int, int], seconds: float = 1.3
) -> MultiModalFeatureSpec:
    """A medium of this grid of patches, as the processor makes it."""
    t, h, w = grid
    name = "pixel_values_videos" if modality == "video" else "pixel_values"
    on_host, anywhere = MultiModalBatchedField(keep_on_cpu=True), MultiModalBatchedField()
    pixels = torch.arange(t * h * w * 3).view(t * h * w, 3)
    data = {
        name: MultiModalFieldElem(pixels, anywhere),
        f"{modality}_grid_thw": MultiModalFieldElem(torch.tensor(grid), on_host),
    }
    if modality == "video":
        second = torch.tensor(seconds, dtype=torch.float64)
        data["second_per_grid_ts"] = MultiModalFieldElem(second, on_host)
    place = PlaceholderRange(offset, t * h * w // 4)
    return MultiModalFeatureSpec(MultiModalKwargsItem(data), modality, "digest", place, "digest")


def positions(length: int, features: list[MultiModalFeatureSpec]) -> tuple[list[list[int]], int]:
    """As the engine's worker asks for them."""
    model = SimpleNamespace(config=SimpleNamespace(vision_config=_VISION))
    ids, delta = SaccadeQwen2_5_VL.get_mrope_input_positions(model, [0] * length, features)
    return ids.tolist(), delta


@pytest.mark.parametrize("tokens", [1, 12, 13, 24, 30, 59])
def test_pieces_are_the_video_without_a_copy(tokens):
    video = feature("video", 3, (5, 6, 8))  # 12 tokens a temporal index
    pieces = split_video_feature(video, tokens)
    assert len(pieces) == -(-5 // max(1, tokens // 12))
    place = 3
    for piece in pieces:
        assert piece.mm_position.offset == place
        assert piece.mm_position.length <= max(12, tokens)
        t, h, w = piece.data["video_grid_thw"].data.tolist()
        assert (t * 12, h, w) == (piece.mm_position.length, 6, 8)
        place += piece.mm_position.length
    assert place == 3 + 60
    pixels = [piece.data["pixel_values_videos"].data for piece in pieces]
    whole = video.data["pixel_values_videos"].data
    assert torch.equal(torch.cat(pixels), whole)
    assert {one.untyped_storage().data_ptr() for one in pixels} == {
        whole.untyped_storage().data_ptr()
    }


def test_the_encoder_cache_tells_pieces_apart_and_finds_them_again():
    pieces = [split_video_feature(feature("video", at, (5, 6, 8)), 24) for at in (3, 90)]
    first, second = ([piece.identifier for piece in one] for one in pieces)
    assert first == second
    assert len(set(first)) == 3


def test_what_cannot_or_need_not_be_cut_stays_whole():
    shared = feature("video", 3, (5, 6, 8))
    shared.data = MultiModalKwargsItem({"address": shared.data["video_grid_thw"]})
    cached = feature("video", 3, (5, 6, 8))
    cached.data = None
    short = feature("video", 3, (2, 6, 8))
    for whole in (feature("image", 3, (1, 16, 16)), shared, cached, short):
        (piece,) = split_video_feature(whole, 24)
        assert piece is whole


@pytest.mark.parametrize("covered", [0, 40])
def test_positions_go_on_through_the_pieces(covered):
    """Also where a prefix is in the cache, whose pixels the worker does not get."""
    videos = [feature("video", 5, (7, 4, 6)), feature("video", 60, (3, 6, 4), 0.7)]
    image = feature("image", 48, (1, 4, 6))
    whole = [videos[0], image, videos[1]]
    pieces = [piece for one in whole for piece in split_video_feature(one, 13)]
    assert len(pieces) == 4 + 1 + 2
    pieces = strip_covered_mm_data(pieces, covered, uses_mrope=True)
    assert positions(90, pieces) == positions(90, whole)
