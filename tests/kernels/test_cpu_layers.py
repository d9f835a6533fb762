"""The compiled layers against float64, and against plain PyTorch of the same format."""

import pytest
import torch
from torch.nn.functional import silu

from saccade.kernels import cpu_extension

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
SHAPES = pytest.mark.parametrize("shape", [(1, 1280), (37, 160), (5, 3, 24), (4, 7), (0, 16)])
EPS = 1e-6


@pytest.fixture(scope="module")
def compiled():
    cpu_extension.build()
    return cpu_extension.load().operations


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


def test_they_can_be_traced(compiled):
    x, weight = draw((4, 16), torch.float32), draw((16,), torch.float32)
    torch.library.opcheck(compiled.rms_norm.default, (x, weight, EPS))
    torch.library.opcheck(compiled.add_rms_norm.default, (x, x.clone(), weight, EPS))
    torch.library.opcheck(compiled.silu_and_mul.default, (x,))
