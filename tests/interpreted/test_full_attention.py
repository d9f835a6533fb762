"""The kernels of attention over whole images against float64, and the choice of FlashAttention."""

from itertools import pairwise

import pytest
import torch
from attention_samples import (
    UNTOUCHED,
    Sample,
    assert_close,
    attend_exactly,
    draw,
    guards,
    prepared_output,
    refused_arguments,
    rotate_exactly,
)
from interpreter import traced

from saccade.kernels import full_attention
from saccade.kernels.full_attention import (
    attend,
    find_flash_attention,
    launch_attention_packed,
    launch_full_attention,
    provide_flash_attention,
)
from saccade.kernels.rotate_packed import launch_rotate_packed

DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def check(sample):
    """Run between guards, and compare."""
    exact = attend_exactly(sample)
    eager = Sample(**vars(sample) | {"qkv": sample.qkv.clone()})
    with prepared_output(sample) as out:
        assert launch_full_attention(**vars(sample)) is out
    first, last = sample.cu_seqlens[0], sample.cu_seqlens[-1]
    assert out[first:last].isfinite().all()
    assert_close(out, eager, exact)
    for rows in (out[:first], out[last:], guards(out)):
        assert (rows == UNTOUCHED).all()
    assert guards(sample.qkv).isnan().all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "lengths", [[1], [64], [128], [129], [200, 1, 64], [3, 0, 65, 130]], ids=str
)
def test_lengths_of_runs(lengths, dtype):
    check(draw(lengths, 1, 80, dtype, before=2, after=3, seed=len(lengths)))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("heads", [1, 3, 5])
def test_counts_of_heads(heads, dtype):
    check(draw([70, 9], heads, 80, dtype, seed=heads))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
# One tile (64, 128), a full rest (80, 96), a rest with gaps (72, 112, 20), less than a tile (8).
@pytest.mark.parametrize("head_dim", [8, 20, 64, 72, 80, 96, 112, 128, 256])
def test_sizes_of_heads(head_dim, dtype):
    check(draw([67, 5], 1, head_dim, dtype, seed=head_dim))


@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
def test_steep_softmax(dtype):
    check(draw([150], 1, 80, dtype, size=5.0))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_scores_beyond_the_range_of_exponentials(dtype):
    """Each token is its own key and hundreds above all others: what comes out is its value. The
    largest score comes in the first step for some tokens and in the last one for others."""
    sample = draw([140], 2, 80, dtype, size=30.0)
    sample.qkv[:, 1] = sample.qkv[:, 0]
    assert torch.equal(launch_full_attention(**vars(sample)), sample.qkv[:, 2].flatten(1))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_scores_far_below_zero(dtype):
    """A row past the segment's end that counted with a score of zero would win over all others."""
    sample = draw([70], 1, 80, dtype)
    sample.cos.fill_(1.0)
    sample.sin.fill_(0.0)
    sample.qkv[:, 0], sample.qkv[:, 1] = -20.0, 20.0
    check(sample)


def test_runs_do_not_see_each_other():
    plain, spoilt = draw([7, 80, 9], 2, 80), draw([7, 80, 9], 2, 80)
    spoilt.qkv[7:87] = torch.nan
    found, wanted = launch_full_attention(**vars(spoilt)), launch_full_attention(**vars(plain))
    assert torch.equal(found[:7], wanted[:7])
    assert found[7:87].isnan().all()
    assert torch.equal(found[87:], wanted[87:])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
# 3 heads of 80 are 240 pairs, 5 are 400: less and more than a program takes.
@pytest.mark.parametrize(("heads", "head_dim"), [(1, 80), (3, 80), (5, 80), (2, 64), (3, 6)])
def test_rotation_in_place(heads, head_dim, dtype):
    sample = draw([11], heads, head_dim, dtype)
    before = sample.qkv.clone()
    launch_rotate_packed(sample.qkv, sample.cos, sample.sin)
    for part in (0, 1):
        exact = rotate_exactly(before[:, part], sample.cos, sample.sin)
        sizes = rotate_exactly(before[:, part].abs(), sample.cos.abs(), -sample.sin.abs()).abs()
        if dtype == torch.float32:
            bound = 2.0**-22 * (before[:, part].abs().amax() * 2 + sizes)
            assert ((sample.qkv[:, part] - exact).abs() <= bound).all()
        else:
            neighbours = [exact.float() * (1 + step) for step in (-(2.0**-22), 2.0**-22)]
            lower, upper = (near.to(dtype) for near in neighbours)
            found = sample.qkv[:, part]
            assert ((found == lower) | (found == upper)).all()
    assert torch.equal(sample.qkv[:, 2], before[:, 2])
    assert guards(sample.qkv).isnan().all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_memory_traffic_of_the_rotation(dtype):
    """q and k are read and written once, v not at all."""
    tokens, heads, head_dim = 5, 5, 80
    sample = draw([tokens], heads, head_dim, dtype)
    query_key, value = sample.qkv[:, :2], sample.qkv[:, 2]
    with traced(rotated=query_key, value=value, cos=sample.cos, sin=sample.sin) as traffic:
        launch_rotate_packed(sample.qkv, sample.cos, sample.sin)
    size = 2 * tokens * heads * head_dim * sample.qkv.element_size()
    assert traffic.loaded("rotated").unique == traffic.loaded("rotated").requested == size
    assert traffic.stored("rotated").unique == traffic.stored("rotated").requested == size
    assert traffic.loaded("value").requested == traffic.stored("value").requested == 0
    assert traffic.loaded("cos").unique == traffic.loaded("sin").unique == tokens * head_dim * 2


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_memory_traffic_of_the_attention(dtype):
    """Inside the tensors; queries are read once, results written once."""
    sample = draw([70, 133], 1, 80, dtype)
    query, rest = sample.qkv[:, 0], sample.qkv[:, 1:]
    with prepared_output(sample) as out:
        tensors = {"query": query, "rest": rest, "cu_seqlens": sample.cu_seqlens, "out": out}
        with traced(**tensors) as traffic:
            launch_attention_packed(sample.qkv, sample.cu_seqlens, sample.max_seqlen)
    size = query.numel() * query.element_size()
    assert traffic.loaded("query").unique == traffic.loaded("query").requested == size
    assert traffic.loaded("rest").unique == 2 * size
    assert traffic.stored("out").unique == traffic.stored("out").requested == size
    assert traffic.stored("query").requested == traffic.stored("rest").requested == 0


@pytest.mark.parametrize(
    ("lengths", "after", "shape"),
    [([], 0, (0, 160)), ([], 4, (4, 160)), ([0], 0, (0, 160)), ([0, 0], 3, (3, 160))],
    ids=str,
)
def test_nothing_to_do(lengths, after, shape):
    sample = draw(lengths, 2, 80, after=after)
    assert launch_full_attention(**vars(sample)).shape == shape


@pytest.mark.parametrize(("changed", "error", "message"), refused_arguments())
def test_wrong_arguments_are_refused_by_name(changed, error, message):
    with pytest.raises(error, match=message):
        launch_full_attention(**vars(draw([3], 2, 80)) | changed)


class StandInFlashAttention:
    """FlashAttention's interface over PyTorch; remembers what it was called with."""

    def __init__(self):
        self.calls = []

    def __call__(
        self, q, k, v, max_seqlen_q, cu_seqlens_q, max_seqlen_k, cu_seqlens_k=None, *,
        softmax_scale=None, causal=True, fa_version=None,
    ):  # fmt: skip
        assert not causal
        assert torch.equal(cu_seqlens_q, cu_seqlens_k)
        assert max_seqlen_q == max_seqlen_k == cu_seqlens_q.diff().max()
        self.calls.append((q, k, v, fa_version))
        context = torch.empty_like(q, memory_format=torch.contiguous_format)
        for start, end in pairwise(cu_seqlens_q.tolist()):
            query, key, value = (x[start:end].transpose(0, 1).float() for x in (q, k, v))
            scores = query @ key.transpose(1, 2) * softmax_scale
            weights = scores.softmax(-1).to(q.dtype).float()
            context[start:end] = (weights @ value).transpose(0, 1).to(q.dtype)
        return context


@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
def test_flash_attention_gets_views_and_gives_the_result(dtype):
    sample = draw([70, 9], 3, 80, dtype)
    exact = attend_exactly(sample)
    eager = Sample(**vars(sample) | {"qkv": sample.qkv.clone()})
    flash = StandInFlashAttention()
    launch_rotate_packed(sample.qkv, sample.cos, sample.sin)
    out = attend(sample.qkv, sample.cu_seqlens, sample.max_seqlen, flash)
    assert out.shape == (79, 240)
    assert_close(out, eager, exact)
    ((*views, _),) = flash.calls
    for part, view in enumerate(views):
        assert view.data_ptr() == sample.qkv[:, part].data_ptr()
        assert view.shape == (79, 3, 80)


@pytest.mark.parametrize(
    ("head_dim", "dtype", "lengths"),
    [
        (80, torch.float32, [9]),
        (20, torch.float16, [9]),
        (264, torch.float16, [9]),
        (80, torch.float16, []),
    ],
)
def test_what_flash_attention_does_not_take_is_ours(head_dim, dtype, lengths):
    sample = draw(lengths, 2, head_dim, dtype)
    flash = StandInFlashAttention()
    out = attend(sample.qkv, sample.cu_seqlens, sample.max_seqlen, flash)
    assert flash.calls == []
    assert torch.equal(
        out, launch_attention_packed(sample.qkv, sample.cu_seqlens, sample.max_seqlen)
    )


def test_flash_attention_is_what_was_provided(monkeypatch):
    monkeypatch.setattr(full_attention, "_find_flash_attention", None)
    assert find_flash_attention("cuda", 80) is None
    flash = StandInFlashAttention()
    provided = {("cpu", 80): flash}
    provide_flash_attention(lambda *asked: provided.get(asked))
    assert find_flash_attention("cuda", 80) is None
    sample = draw([9], 2, 80, torch.float16)
    launch_full_attention(**vars(sample))
    assert len(flash.calls) == 1
