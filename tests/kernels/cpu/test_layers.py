"""The compiled layers against float64, and against plain PyTorch of the same format."""

import pytest
import torch
from torch.nn.functional import silu

from saccade.kernels import reference
from saccade.kernels.cpu import build, extension

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
SHAPES = pytest.mark.parametrize("shape", [(1, 1280), (37, 160), (5, 3, 24), (4, 7), (0, 16)])
EPS = 1e-6


@pytest.fixture(scope="module")
def compiled():
    build.build()
    return extension.load().operations


def draw(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator) * 3).to(dtype)


def norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x * (x.square().mean(-1, keepdim=True) + EPS).rsqrt() * weight


def close(found: torch.Tensor, truth: torch.Tensor) -> None:
    """Rounded once, after float32 arithmetic."""
    steps = torch.finfo(found.dtype).eps / 2 + 4e-7
    assert ((found - truth).abs() <= steps * truth.abs() + 1e-7).all()


@DTYPES
@SHAPES
def test_norm(compiled, dtype, shape):
    x, weight = draw(shape, dtype), draw(shape[-1:], dtype, 1)
    found = compiled.rms_norm(x, weight, EPS)
    assert found.dtype == dtype
    close(found, norm(x.double(), weight.double()))


@DTYPES
@SHAPES
def test_sum_and_norm_in_place(compiled, dtype, shape):
    x, residual, weight = draw(shape, dtype), draw(shape, dtype, 1), draw(shape[-1:], dtype, 2)
    total = x + residual
    compiled.add_rms_norm(x, residual, weight, EPS)
    assert torch.equal(residual, total)
    close(x, norm(total.double(), weight.double()))


@DTYPES
@pytest.mark.parametrize("shape", [(1, 6840), (37, 864), (5, 3, 24), (4, 14), (0, 16)])
def test_gate(compiled, dtype, shape):
    x = draw(shape, dtype)
    gate, up = x.double().chunk(2, dim=-1)
    close(compiled.silu_and_mul(x), silu(gate) * up)


def test_gates_far_from_zero(compiled):
    x = torch.tensor([[-1000.0, -90.0, 90.0, 1000.0, 1.0, 2.0, 3.0, 4.0]])
    assert torch.equal(compiled.silu_and_mul(x), torch.tensor([[0.0, 0.0, 270.0, 4000.0]]))


def test_what_would_be_misread_is_refused(compiled):
    x = draw((4, 16), torch.float32)
    with pytest.raises(RuntimeError, match="contiguous"):
        compiled.rms_norm(x.T, draw((4,), torch.float32), EPS)
    with pytest.raises(RuntimeError, match="weight"):
        compiled.rms_norm(x, draw((8,), torch.float32), EPS)
    with pytest.raises(RuntimeError, match="residual"):
        compiled.add_rms_norm(x, x[:2].clone(), draw((16,), torch.float32), EPS)
    with pytest.raises(RuntimeError, match="gates"):
        compiled.silu_and_mul(draw((4, 5), torch.float32))


def draw_for_mrope(dtype: torch.dtype, head_dim: int, tokens: int = 37) -> list[torch.Tensor]:
    """Query, key, positions and cache as vLLM passes them: views, whose rows lie apart."""
    packed = draw((tokens, 9 * head_dim), dtype)
    query, key, _ = packed.split([5 * head_dim, 2 * head_dim, 2 * head_dim], dim=1)
    positions = torch.randint(50, (3, tokens + 9), generator=torch.Generator().manual_seed(2))
    return [query, key, positions[:, :tokens], draw((50, head_dim), dtype, 1)]


@DTYPES
@pytest.mark.parametrize(
    ("head_dim", "sections", "interleaved"),
    [
        (128, [16, 24, 24], False),
        (128, [24, 20, 20], True),
        (80, [40, 0, 0], False),
        (14, [3, 2, 2], True),
    ],
)
def test_mrope(compiled, dtype, head_dim, sections, interleaved):
    query, key, positions, cache = draw_for_mrope(dtype, head_dim)
    truth = [query.double(), key.double()]
    reference.mrope(*truth, positions, cache.double(), head_dim, sections, interleaved)
    untouched = query._base[:, -2 * head_dim :].clone()
    compiled.mrope(query, key, positions, cache, head_dim, sections, interleaved)
    for found, exact in zip((query, key), truth, strict=True):
        # Two products of up to about 100 may cancel in float32.
        assert ((found - exact).abs() <= torch.finfo(dtype).eps / 2 * exact.abs() + 4e-6).all()
    assert torch.equal(query._base[:, -2 * head_dim :], untouched)


def test_mrope_of_nothing(compiled):
    compiled.mrope(*draw_for_mrope(torch.float32, 16, tokens=0), 16, [4, 2, 2], False)


def test_mrope_refuses_what_it_would_misread(compiled):
    query, key, positions, cache = draw_for_mrope(torch.bfloat16, 16)

    def refused(match, *tensors, head_dim=16, sections=(4, 2, 2), error=RuntimeError):
        with pytest.raises(error, match=match):
            compiled.mrope(*tensors, head_dim, sections, False)

    refused("cache", query, key, positions, cache.float())
    refused("cache", query, key, positions, cache[:, :8])
    refused("key", query, key.float(), positions, cache)
    refused("key", query, key[:3], positions, cache)
    refused("query", query[:, :-1], key, positions, cache)
    refused("positions", query, key, positions.int(), cache)
    refused("positions", query, key, positions[:2], cache)
    refused("sections", query, key, positions, cache, sections=(4, 4, 4))
    for wrong in (-1, 50):
        places = positions.clone()
        places[1, 5] = wrong
        refused(f"position {wrong} ", query, key, places, cache, error=IndexError)


def test_they_can_be_traced(compiled):
    x, weight = draw((4, 16), torch.float32), draw((16,), torch.float32)
    torch.library.opcheck(compiled.rms_norm.default, (x, weight, EPS))
    torch.library.opcheck(compiled.add_rms_norm.default, (x, x.clone(), weight, EPS))
    torch.library.opcheck(compiled.silu_and_mul.default, (x,))
    query, key, *rest = draw_for_mrope(torch.float32, 16)
    turned = (query.clone(), key.clone(), *rest, 16, [4, 2, 2], False)
    torch.library.opcheck(compiled.mrope.default, turned)
