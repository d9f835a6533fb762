"""The backends for the CPU against float64, beside what vLLM's tower calls there."""

import shutil
import subprocess
from itertools import pairwise

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from saccade.kernels import reference
from saccade.kernels.cpu import build as cpu_build
from saccade.kernels.cpu import extension as cpu_extension
from saccade.kernels.cpu import operations
from saccade.kernels.cpu.processor import processor
from saccade.kernels.self_test import proof


def compiled(qkv, cos, sin, cu_seqlens):
    """As it multiplies on processors without products of bfloat16."""
    cpu_build.build()
    return cpu_extension.load().operations.attention(qkv, cos, sin, cu_seqlens)


BACKENDS = pytest.mark.parametrize(
    "backend",
    [operations.window_attention_in_pieces, operations.full_attention_in_pieces, compiled],
)
LENGTHS = {
    "one window": [64],
    "even": [64] * 9,
    "ragged": [64, 64, 32, 64, 64, 32, 16, 16, 8],
    "single patches": [4, 1, 4, 1],
    "longer than a piece": [700, 64, 700],
    "frames": [1200, 1200],
}


def sample(lengths: list[int], heads: int, head_dim: int, dtype: torch.dtype) -> tuple:
    generator = torch.Generator().manual_seed(sum(lengths) + heads)
    tokens = sum(lengths)
    qkv = torch.randn(tokens, 3, heads, head_dim, generator=generator).to(dtype)
    angles = torch.rand(tokens, head_dim // 2, generator=generator) * 100
    cu_seqlens = torch.tensor([0, *lengths]).cumsum(0).int()
    return qkv, angles.cos(), angles.sin(), cu_seqlens, max(lengths)


def attend(qkv, cos, sin, cu_seqlens, dtype: torch.dtype) -> torch.Tensor:
    """One call a segment, as vLLM does; in float64 this is the truth."""
    qkv = qkv.to(dtype)
    number = torch.float64 if dtype == torch.float64 else torch.float32
    first, second = qkv[:, :2].to(number).chunk(2, dim=-1)
    cos, sin = cos.to(number)[:, None, None], sin.to(number)[:, None, None]
    turned = torch.cat((first * cos - second * sin, second * cos + first * sin), -1).to(dtype)
    segments = []
    for start, end in pairwise(cu_seqlens.tolist()):
        query, key = turned[start:end].permute(1, 2, 0, 3)
        value = qkv[start:end, 2].transpose(0, 1)
        segments.append(scaled_dot_product_attention(query[None], key[None], value[None])[0])
    return torch.cat(segments, 1).transpose(0, 1).flatten(1)


@BACKENDS
@pytest.mark.parametrize(("heads", "head_dim"), [(16, 80), (3, 64)])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS.keys())
def test_float32_is_right_to_its_last_bits(backend, heads, head_dim, lengths):
    qkv, cos, sin, cu_seqlens, _ = sample(lengths, heads, head_dim, torch.float32)
    truth = attend(qkv, cos, sin, cu_seqlens, torch.float64)
    ours = backend(qkv.clone(), cos, sin, cu_seqlens)
    assert (ours - truth).abs().max() <= 2e-6 * truth.abs().max()


@BACKENDS
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS.keys())
def test_errors_are_no_larger_than_stocks(backend, dtype, lengths):
    qkv, cos, sin, cu_seqlens, _ = sample(lengths, 5, 80, dtype)
    truth = attend(qkv, cos, sin, cu_seqlens, torch.float64)
    stock = (attend(qkv, cos, sin, cu_seqlens, dtype) - truth).abs().max()
    ours = backend(qkv.clone(), cos, sin, cu_seqlens)
    assert ours.dtype == dtype
    assert ours.shape == truth.shape
    assert (ours - truth).abs().max() <= 1.25 * stock


@BACKENDS
def test_large_scores_stay_finite_and_right(backend):
    qkv, cos, sin, cu_seqlens, _ = sample([64, 16], 2, 80, torch.float32)
    qkv[:, :2] *= 40
    truth = attend(qkv, cos, sin, cu_seqlens, torch.float64)
    assert (backend(qkv.clone(), cos, sin, cu_seqlens) - truth).abs().max() < 1e-3


def test_windows_leave_their_input_alone():
    qkv, cos, sin, cu_seqlens, _ = sample([64, 64], 2, 80, torch.float32)
    before = qkv.clone()
    operations.window_attention_in_pieces(qkv, cos, sin, cu_seqlens)
    compiled(qkv, cos, sin, cu_seqlens)
    assert torch.equal(qkv, before)


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS.keys())
def test_compiled_products_of_bfloat16_are_no_worse_than_stocks(lengths):
    cpu_build.build()
    attention = cpu_extension.load().operations.attention_bfloat16
    qkv, cos, sin, cu_seqlens, _ = sample(lengths, 2, 80, torch.bfloat16)
    if not processor().bfloat16_matmul:
        with pytest.raises(RuntimeError):
            attention(qkv, cos, sin, cu_seqlens)
        return
    truth = attend(qkv, cos, sin, cu_seqlens, torch.float64)
    stock = (attend(qkv, cos, sin, cu_seqlens, torch.bfloat16) - truth).abs().max()
    ours = attention(qkv, cos, sin, cu_seqlens)
    assert (ours - truth).abs().max() <= 1.25 * stock


def test_products_of_bfloat16_are_of_bfloat16():
    cpu_build.build()
    qkv, cos, sin, cu_seqlens, _ = sample([4], 2, 80, torch.float32)
    with pytest.raises(RuntimeError, match="qkv must be bfloat16"):
        cpu_extension.load().operations.attention_bfloat16(qkv, cos, sin, cu_seqlens)


@BACKENDS
@pytest.mark.parametrize("second", [3, 5])
def test_runs_may_be_empty(backend, second):
    qkv, cos, sin, _, _ = sample([5, second], 2, 80, torch.float32)
    end = 5 + second
    cu_seqlens = torch.tensor([0, 5, 5, end, end], dtype=torch.int32)
    truth = attend(qkv, cos, sin, torch.tensor([0, 5, end]), torch.float64)
    assert (backend(qkv.clone(), cos, sin, cu_seqlens) - truth).abs().max() < 1e-5


def test_there_may_be_no_tokens():
    qkv, cos, sin, _, _ = sample([5], 2, 80, torch.float32)
    nothing = torch.zeros(1, dtype=torch.int32)
    assert compiled(qkv[:0], cos[:0], sin[:0], nothing).shape == (0, 160)


def test_the_compiled_form_refuses_what_it_would_misread():
    qkv, cos, sin, cu_seqlens, _ = sample([4], 2, 80, torch.float32)
    with pytest.raises(RuntimeError, match="qkv must be contiguous"):
        compiled(qkv.transpose(2, 3), cos, sin, cu_seqlens)
    with pytest.raises(RuntimeError, match="cos and sin"):
        compiled(qkv, cos.double(), sin, cu_seqlens)
    with pytest.raises(RuntimeError, match="cu_seqlens"):
        compiled(qkv, cos, sin, cu_seqlens.long())


def test_each_call_takes_the_compiled_form_or_says_why_not(monkeypatch, tmp_path):
    qkv, cos, sin, cu_seqlens, max_seqlen = sample([64, 16], 2, 80, torch.float32)
    truth = attend(qkv, cos, sin, cu_seqlens, torch.float64)
    absent = cpu_extension.Extension(None, "not compiled here")
    for extension in (cpu_extension.load(), absent):
        monkeypatch.setattr(cpu_extension, "load", lambda extension=extension: extension)
        proof.forget_selected()
        for backend in (operations.window_attention, operations.full_attention):
            ours = backend(qkv.clone(), cos, sin, cu_seqlens, max_seqlen)
            assert (ours - truth).abs().max() < 1e-5
    monkeypatch.undo()
    monkeypatch.setattr(cpu_build, "_FOLDER", tmp_path)
    monkeypatch.setattr(cpu_build, "_CSRC", tmp_path)
    for name in cpu_build._FILES:
        (tmp_path / name).write_text("what is this")
    found = cpu_extension._load.__wrapped__()
    assert found.operations is None
    assert "not compiled here" in found.reason
    with pytest.raises(RuntimeError, match="failed"):
        cpu_build.build()


def test_without_the_headers_of_libjpeg_the_rest_is_there(monkeypatch, tmp_path):
    assert not cpu_build._has_jpeg("false")
    library, source = tmp_path / "rest.so", tmp_path / "rest.c"
    source.write_text("int rest;")
    subprocess.run(["cc", "-shared", str(source), "-o", str(library)], check=True)
    monkeypatch.setattr(cpu_extension, "library", lambda: library)
    monkeypatch.setattr(cpu_extension, "_register_fakes", lambda: None)
    found = cpu_extension._load.__wrapped__()
    assert found.operations is not None
    assert found.decode_resized_jpeg is None
    assert "JPEGs are not: " in found.reason


def test_the_plain_form_tells_the_truth():
    qkv, cos, sin, cu_seqlens, max_seqlen = sample([64, 32, 1], 3, 80, torch.bfloat16)
    truth = attend(qkv, cos, sin, cu_seqlens, torch.float64)
    stock = (attend(qkv, cos, sin, cu_seqlens, torch.bfloat16) - truth).abs().max()
    ours = reference.window_attention(qkv, cos, sin, cu_seqlens, max_seqlen)
    assert (ours - truth).abs().max() <= 1.25 * stock


def test_it_compiles_for_a_processor_that_may_not_be_this_one():
    """Those that this one can imitate: test_processors.py."""
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    command = cpu_build.compile_command(compiler, "AVX512", "sapphirerapids")
    checked = subprocess.run([*command, "-fsyntax-only"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr[-2000:]
