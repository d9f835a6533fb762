"""The kernel of attention in windows against float64."""

import pytest
import torch
from attention_samples import (
    UNTOUCHED,
    assert_close,
    attend_exactly,
    draw,
    guards,
    prepared_output,
    refused_arguments,
)
from interpreter import traced

from saccade.kernels.launch.tuning import LONGEST_WINDOW
from saccade.kernels.window_attention import launch_window_attention

DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def check(sample):
    """Run between guards, and compare."""
    exact = attend_exactly(sample)
    with prepared_output(sample) as out:
        assert launch_window_attention(**vars(sample)) is out
    first, last = sample.cu_seqlens[0], sample.cu_seqlens[-1]
    assert out[first:last].isfinite().all()
    assert_close(out, sample, exact)
    # Nothing else was written: neither tokens of no window nor memory beside the tensor.
    for rows in (out[:first], out[last:], guards(out)):
        assert (rows == UNTOUCHED).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "lengths",
    [[64], [32], [16], [4], [1], [64, 64], [64, 32, 16, 4, 1], [1, 63, 17, 33, 0, 12]],
    ids=str,
)
def test_lengths_of_windows(lengths, dtype):
    check(draw(lengths, 2, 80, dtype, before=2, after=3, seed=len(lengths)))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("heads", [1, 3, 5, 16])
def test_counts_of_heads(heads, dtype):
    check(draw([20, 9], heads, 80, dtype, seed=heads))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
# Without a rest (64, 128), with a full one (80, 96), with gaps (72, 112, 20), less than a tile (8).
@pytest.mark.parametrize("head_dim", [8, 20, 64, 72, 80, 96, 112, 128, 256])
def test_sizes_of_heads(head_dim, dtype):
    check(draw([33, 5], 2, head_dim, dtype, seed=head_dim))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("length", [65, LONGEST_WINDOW])
def test_windows_longer_than_usual(length, dtype):
    check(draw([length, 3], 1, 80, dtype))


@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
def test_steep_softmax(dtype):
    check(draw([64, 31], 2, 80, dtype, size=5.0))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_scores_beyond_the_range_of_exponentials(dtype):
    """Each token is its own key and hundreds above all others: what comes out is its value."""
    sample = draw([64, 21], 3, 80, dtype, size=30.0)
    sample.qkv[:, 1] = sample.qkv[:, 0]
    with prepared_output(sample):
        out = launch_window_attention(**vars(sample))
    assert torch.equal(out, sample.qkv[:, 2].flatten(1))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_scores_far_below_zero(dtype):
    """A row past the window's end that counted with a score of zero would win over all others."""
    sample = draw([5, 50], 2, 80, dtype)
    sample.cos.fill_(1.0)
    sample.sin.fill_(0.0)
    sample.qkv[:, 0], sample.qkv[:, 1] = -20.0, 20.0
    check(sample)


def test_windows_do_not_see_each_other():
    lengths = [7, 64, 9]
    plain, spoilt = draw(lengths, 2, 80), draw(lengths, 2, 80)
    spoilt.qkv[7:71] = torch.nan
    found, wanted = launch_window_attention(**vars(spoilt)), launch_window_attention(**vars(plain))
    assert torch.equal(found[:7], wanted[:7])
    assert found[7:71].isnan().all()
    assert torch.equal(found[71:], wanted[71:])


def test_arguments_are_left_alone():
    sample = draw([12, 30], 2, 80)
    before = [part.clone() for part in (sample.qkv, sample.cos, sample.sin, sample.cu_seqlens)]
    launch_window_attention(**vars(sample))
    for part, was in zip(
        (sample.qkv, sample.cos, sample.sin, sample.cu_seqlens), before, strict=True
    ):
        assert torch.equal(part, was)


@pytest.mark.parametrize(
    ("lengths", "after", "shape"),
    [([], 0, (0, 160)), ([], 4, (4, 160)), ([0], 0, (0, 160)), ([0, 0], 3, (3, 160))],
    ids=str,
)
def test_nothing_to_do(lengths, after, shape):
    out = launch_window_attention(**vars(draw(lengths, 2, 80, after=after)))
    assert out.shape == shape
    assert out.dtype == torch.float32


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_memory_traffic(dtype):
    """Inside the tensors, each byte of which is read or written; a narrow tile is read twice."""
    tokens, heads, head_dim = 37 + 64, 3, 80
    sample = draw([37, 64], heads, head_dim, dtype)
    with prepared_output(sample) as out:
        tensors = vars(sample) | {"out": out}
        tensors.pop("max_seqlen")
        with traced(**tensors) as traffic:
            launch_window_attention(**vars(sample))
    channels = tokens * heads * head_dim * sample.qkv.element_size()
    angles = tokens * head_dim // 2 * 4
    assert traffic.loaded("qkv").unique == 3 * channels
    assert traffic.loaded("qkv").requested == 3 * channels + 2 * channels * 16 // head_dim
    assert traffic.stored("out").unique == traffic.stored("out").requested == channels
    assert traffic.loaded("cos").unique == traffic.loaded("sin").unique == angles
    assert traffic.loaded("out").requested == traffic.stored("qkv").requested == 0


@pytest.mark.parametrize("max_seqlen", [LONGEST_WINDOW + 1, 4096])
def test_too_long_a_window_is_refused(max_seqlen):
    sample = draw([3], 2, 80)
    sample.max_seqlen = max_seqlen
    with pytest.raises(
        ValueError, match=f"max_seqlen is {max_seqlen}; .* at most {LONGEST_WINDOW}"
    ):
        launch_window_attention(**vars(sample))


@pytest.mark.parametrize(("changed", "error", "message"), refused_arguments())
def test_wrong_arguments_are_refused_by_name(changed, error, message):
    with pytest.raises(error, match=message):
        launch_window_attention(**vars(draw([3], 2, 80)) | changed)
