"""The plain backends of the pointwise operations against vLLM, Hugging Face, and exact numbers."""

import pytest
import torch
from rasters import MERGE, PATCH, draw_rasters
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.model_executor.layers.rotary_embedding.mrope import MRotaryEmbedding

from saccade.kernels import reference
from saccade.kernels.check.cases.truth import exact_mrope
from saccade.kernels.cpu import operations

SECTIONS = [((16, 24, 24), False), ((24, 20, 20), True)]
SECTION_NAMES = ["blocks", "turns"]


def draw(heads, kv_heads, dtype=torch.float32):
    generator = torch.Generator().manual_seed(heads)
    query = torch.randn(9, heads * 128, generator=generator).to(dtype)
    key = torch.randn(9, kv_heads * 128, generator=generator).to(dtype)
    return query, key, torch.randint(4096, (3, 9), generator=generator)


@pytest.mark.parametrize(("sections", "interleaved"), SECTIONS, ids=SECTION_NAMES)
@pytest.mark.parametrize(("heads", "kv_heads"), [(16, 2), (28, 4), (64, 8)])
def test_mrope_equals_vllm(heads, kv_heads, sections, interleaved):
    """The same products and sums in float32: equal to the bit."""
    with set_current_vllm_config(VllmConfig()):
        theirs = MRotaryEmbedding(
            head_size=128,
            rotary_dim=128,
            max_position_embeddings=1024,  # the cache has four times as many positions
            base=1e6,
            is_neox_style=True,
            dtype=torch.float32,
            mrope_section=list(sections),
            mrope_interleaved=interleaved,
        )
    query, key, positions = draw(heads, kv_heads)
    expected_query, expected_key = theirs.forward_native(positions, query.clone(), key.clone())
    reference.mrope(query, key, positions, theirs.cos_sin_cache, 128, sections, interleaved)
    assert torch.equal(query, expected_query)
    assert torch.equal(key, expected_key)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("sections", "interleaved"), SECTIONS, ids=SECTION_NAMES)
@pytest.mark.parametrize("backend", [reference.mrope, operations.mrope], ids=["plain", "compiled"])
def test_mrope_in_16_bits_is_the_exact_result_rounded(backend, sections, interleaved, dtype):
    query, key, positions = draw(16, 2, dtype)
    cache = torch.randn(4096, 128, generator=torch.Generator().manual_seed(0)).to(dtype)
    truth = [exact_mrope(x, positions, cache, sections, interleaved)[0] for x in (query, key)]
    backend(query, key, positions, cache, 128, sections, interleaved)
    for x, exact in zip((query, key), truth, strict=True):
        assert torch.equal(x, exact.float().to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("grids", "frames"),
    [([(1, 4, 6), (1, 2, 2), (1, 10, 14)], 1), ([(2, 4, 6), (1, 2, 2), (3, 10, 2)], 2)],
    ids=["stills", "videos"],
)
def test_patch_input_is_exact(grids, frames, dtype):
    media = draw_rasters(grids, frames)
    ours = reference.patch_input(media.pixels, *media.places, PATCH, MERGE, dtype)
    assert ours.dtype == dtype
    assert torch.equal(ours.double(), (media.vectors.double() - 128) / 128)


def test_merge_input_equals_hugging_face():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(28, 1280, generator=generator)
    theirs = Qwen2RMSNorm(1280, eps=1e-6)
    theirs.weight.data = torch.randn(1280, generator=generator)
    unit_order = torch.randperm(7, generator=generator)
    ours = reference.merge_input(x, theirs.weight.data, 1e-6, unit_order, 4)
    expected = theirs(x).detach().view(7, -1)[unit_order.argsort()]
    # They multiply by the weight last, too: the only difference would be a fused multiplication.
    torch.testing.assert_close(ours, expected, rtol=2.0**-23, atol=0)
