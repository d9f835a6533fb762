"""The rotary kernel of the language model against float64."""

import pytest
import torch
from interpreter import traced

from saccade.kernels.check.cases.truth import exact_mrope, half_steps
from saccade.kernels.mrope import launch_mrope

BLOCKS, INTERLEAVED = ((16, 24, 24), False), ((24, 20, 20), True)
POSITIONS = 97
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
# Whole models of 3B, 7B and 72B, their tensor-parallel shares, and a count of no model.
HEADS = [(16, 2), (28, 4), (64, 8), (8, 1), (14, 2), (7, 1), (5, 3)]


def draw(tokens, heads, kv_heads, dtype, head_dim=128, seed=0):
    """Queries and keys as views of one packed matrix, as the model has them, between guard rows;
    positions as a view of a longer buffer; a cache of plain numbers, so that none is 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    width = (heads + 2 * kv_heads) * head_dim
    packed = torch.randn(tokens + 2, width, generator=generator).to(dtype)
    packed[0] = packed[-1] = torch.nan
    packed[:, (heads + kv_heads) * head_dim :] = torch.nan  # the values
    query, key, _ = packed[1:-1].split([n * head_dim for n in (heads, kv_heads, kv_heads)], 1)
    positions = torch.randint(POSITIONS, (3, tokens + 3), generator=generator)[:, :tokens]
    cache = torch.randn(POSITIONS, head_dim, generator=generator).to(dtype)
    return packed, query, key, positions, cache


def check(query, key, positions, cache, head_dim, sections, interleaved):
    """Run the kernel in place, and compare with what should become of its arguments."""
    truth = [exact_mrope(x, positions, cache, sections, interleaved) for x in (query, key)]
    launch_mrope(query, key, positions, cache, head_dim, sections, interleaved)
    for x, (exact, sizes) in zip((query, key), truth, strict=True):
        if x.dtype == torch.float32:
            # A rounding of each product and of the sum; the rest is for the bound's own rounding.
            bound = (sizes + exact.abs()) * (2.0**-24 * (1 + 2.0**-20))
            assert ((x.double() - exact).abs() <= bound).all()
        else:
            assert torch.equal(x, exact.float().to(x.dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("sections", "interleaved"), [BLOCKS, INTERLEAVED], ids=["blocks", "turns"]
)
@pytest.mark.parametrize(("heads", "kv_heads"), HEADS)
def test_model_heads(heads, kv_heads, sections, interleaved, dtype):
    packed, query, key, positions, cache = draw(3, heads, kv_heads, dtype)
    check(query, key, positions, cache, 128, sections, interleaved)
    rotated = (heads + kv_heads) * 128
    assert packed[1:-1, :rotated].isfinite().all()
    assert packed[0].isnan().all()
    assert packed[-1].isnan().all()
    assert packed[:, rotated:].isnan().all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("tokens", [0, 1, 7])
def test_token_counts(tokens, dtype):
    _, query, key, positions, cache = draw(tokens, 4, 2, dtype, seed=tokens)
    check(query, key, positions, cache, 128, *BLOCKS)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("head_dim", "sections", "interleaved"),
    [
        (128, (64, 0, 0), False),
        (128, (5, 20, 39), False),  # no section divides by 8
        (80, (8, 16, 16), False),  # half a head is no power of two
        (80, (16, 12, 12), True),
        (6, (1, 1, 1), False),
        (6, (1, 1, 1), True),
        (2, (0, 1, 0), False),
        (256, (44, 42, 42), True),
    ],
)
def test_other_heads_and_sections(head_dim, sections, interleaved, dtype):
    _, query, key, positions, cache = draw(2, 3, 1, dtype, head_dim)
    check(query, key, positions, cache, head_dim, sections, interleaved)


def test_rows_apart_by_an_odd_number():
    generator = torch.Generator().manual_seed(1)
    numbers = torch.randn(5, 515, generator=generator).bfloat16()
    _, _, _, positions, cache = draw(5, 1, 1, torch.bfloat16)
    before = numbers.clone()
    check(numbers[:, 1:257], numbers[:, 258:386], positions, cache, 128, *BLOCKS)
    for gap in (slice(0, 1), slice(257, 258), slice(386, None)):
        assert torch.equal(numbers[:, gap], before[:, gap])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_a_cache_in_float32_is_used_as_it_is(dtype):
    _, query, key, positions, cache = draw(4, 4, 2, torch.float32)
    query, key = query.to(dtype), key.to(dtype)
    exact, sizes = exact_mrope(query, positions, cache, *BLOCKS)
    launch_mrope(query, key, positions, cache, 128, *BLOCKS)
    bound = half_steps(exact, dtype) + (sizes + exact.abs()) * (2.0**-24 * (1 + 2.0**-20))
    assert ((query.double() - exact).abs() <= bound).all()


@pytest.mark.parametrize(
    ("sections", "interleaved", "rows"), [(*BLOCKS, 1), (*INTERLEAVED, 3)], ids=["blocks", "turns"]
)
def test_memory_traffic(sections, interleaved, rows):
    """Each number of queries and keys is read and written once. In blocks, an angle is read from
    the one row of the cache that it turns with; taking turns, from three whole rows."""
    tokens, heads, kv_heads = 4, 16, 2
    _, query, key, positions, cache = draw(tokens, heads, kv_heads, torch.bfloat16)
    positions = torch.arange(3 * tokens).view(3, tokens)  # no row of the cache twice
    with traced(query=query, key=key, positions=positions, cache=cache) as traffic:
        launch_mrope(query, key, positions, cache, 128, sections, interleaved)
    for name, count in (("query", heads), ("key", kv_heads)):
        size = tokens * count * 128 * 2
        assert traffic.loaded(name).requested == traffic.loaded(name).unique == size
        assert traffic.stored(name).requested == traffic.stored(name).unique == size
    assert traffic.loaded("cache").unique == tokens * rows * 128 * 2
    assert traffic.loaded("positions").requested == tokens * 3 * 8
    assert traffic.stored("cache").requested == traffic.stored("positions").requested == 0


def arguments(**changed):
    _, query, key, positions, cache = draw(3, 4, 2, torch.float32)
    plain = {
        "query": query,
        "key": key,
        "positions": positions,
        "cos_sin_cache": cache,
        "head_dim": 128,
        "sections": BLOCKS[0],
        "interleaved": False,
    }
    return plain | changed


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"head_dim": 127}, ValueError, "head_dim is 127"),
        ({"sections": (16, 24)}, ValueError, r"sections are \[16, 24\]"),
        ({"sections": (16, 24, 25)}, ValueError, "add up to the 64 pairs"),
        ({"sections": (-8, 48, 24)}, ValueError, "sections are"),
        ({"query": torch.zeros(3, 512).double()}, TypeError, "query is torch.float64"),
        ({"query": torch.zeros(3, 4, 128)}, ValueError, r"query is \[3, 4, 128\]"),
        ({"query": torch.zeros(3, 500)}, ValueError, "query has rows of 500"),
        ({"query": torch.zeros(3, 0)}, ValueError, "query has rows of 0"),
        ({"query": torch.zeros(3, 1024)[:, ::2]}, ValueError, "query has strides"),
        ({"key": torch.zeros(3, 256).half()}, TypeError, "key is torch.float16"),
        ({"key": torch.zeros(4, 256)}, ValueError, r"key is \[4, 256\]"),
        ({"key": torch.zeros(256, 3).T}, ValueError, "key has strides"),
        ({"key": torch.zeros(3, 256, device="meta")}, ValueError, "key is on meta"),
        ({"positions": torch.zeros(3, 3).int()}, TypeError, "positions is torch.int32"),
        ({"positions": torch.zeros(3).long()}, ValueError, r"positions is \[3\]"),
        ({"positions": torch.zeros(3, 4).long()}, ValueError, r"positions is \[3, 4\]"),
        ({"positions": torch.zeros(3, 3).long().T}, ValueError, "positions has strides"),
        ({"cos_sin_cache": torch.zeros(97, 128).long()}, TypeError, "cos_sin_cache is torch.int64"),
        ({"cos_sin_cache": torch.zeros(97, 64)}, ValueError, r"cos_sin_cache is \[97, 64\]"),
        ({"cos_sin_cache": torch.zeros(128, 97).T}, ValueError, "cos_sin_cache has strides"),
    ],
)
def test_wrong_arguments_are_refused_by_name(changed, error, message):
    with pytest.raises(error, match=message):
        launch_mrope(**arguments(**changed))
