"""The merger's norm and order by the kernel, against float64."""

import pytest
import torch
from interpreter import traced

from saccade.kernels.check.cases.truth import half_steps
from saccade.kernels.merger import launch_merge_input, merge_input_kernel

EPS = 1e-6
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def draw(units, unit, hidden, dtype, scale=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = (torch.randn(units * unit, hidden, generator=generator) * scale).to(dtype)
    weight = (1 + 0.5 * torch.randn(hidden, generator=generator)).to(dtype)
    return x, weight, torch.randperm(units, generator=generator)


def check(x, weight, unit_order, unit, eps=EPS):
    """Within 16 roundings of float32 of the exact result, then rounded once."""
    wide = x.double()
    normed = wide / (wide.square().mean(-1, keepdim=True) + eps).sqrt() * weight.double()
    units = normed.view(len(unit_order), unit * x.shape[1])
    exact = torch.empty_like(units)
    for place, target in enumerate(unit_order.tolist()):
        exact[target] = units[place]
    ours = launch_merge_input(x, weight, eps, unit_order, unit)
    assert ours.dtype == x.dtype
    bound = exact.abs() * 2.0**-20 + half_steps(exact, x.dtype)
    assert ((ours.double() - exact).abs() <= bound).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("hidden", [1280, 96, 33, 1])
def test_hidden_sizes(hidden, dtype):
    check(*draw(6, 4, hidden, dtype), 4)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("units", "unit"), [(0, 4), (1, 4), (7, 4), (5, 1), (3, 9)])
def test_units(units, unit, dtype):
    check(*draw(units, unit, 96, dtype), unit)


@pytest.mark.parametrize("scale", [1e-3, 100.0])
def test_small_and_large_patches(scale):
    check(*draw(3, 4, 1280, torch.bfloat16, scale), 4)


def test_squares_beyond_float16():
    check(*draw(3, 4, 1280, torch.float16, 1000.0), 4)


def test_the_weight_may_be_in_another_format():
    x, weight, unit_order = draw(3, 4, 96, torch.float32)
    check(x.bfloat16(), weight, unit_order, 4)


def test_guarded_rows_apart():
    guarded = torch.full((14, 200), torch.nan, dtype=torch.bfloat16)
    x, weight, unit_order = draw(3, 4, 96, torch.bfloat16)
    guarded[1:-1, 3:99] = x
    check(guarded[1:-1, 3:99], weight, unit_order, 4)


def test_memory_traffic():
    """A patch is read once and written once; the weight stays in the caches."""
    x, weight, unit_order = draw(3, 4, 1280, torch.bfloat16)
    out = torch.full((3, 4 * 1280), torch.nan, dtype=torch.bfloat16)
    with traced(x=x, weight=weight, unit_order=unit_order, out=out) as traffic:
        merge_input_kernel[(12,)](x, weight, unit_order, out, 1280, EPS, 1280, 4, 2048)
    assert out.isfinite().all()
    size = x.nbytes
    assert traffic.loaded("x").requested == traffic.loaded("x").unique == size
    assert traffic.stored("out").requested == traffic.stored("out").unique == size
    assert traffic.loaded("weight").unique == weight.nbytes
    assert traffic.loaded("unit_order").unique == unit_order.nbytes


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"x": torch.zeros(12, 96).double()}, TypeError, "x is torch.float64"),
        ({"x": torch.zeros(11, 96)}, ValueError, r"x is \[11, 96\]"),
        ({"x": torch.zeros(3, 4, 96)}, ValueError, r"x is \[3, 4, 96\]"),
        ({"x": torch.zeros(12, 9000)}, ValueError, "x has patches of 9000"),
        ({"x": torch.zeros(96, 12).T}, ValueError, "x has strides"),
        ({"weight": torch.ones(96).int()}, TypeError, "weight is torch.int32"),
        ({"weight": torch.ones(95)}, ValueError, r"weight is \[95\]"),
        ({"weight": torch.ones(192)[::2]}, ValueError, "weight has strides"),
        ({"weight": torch.ones(96, device="meta")}, ValueError, "weight is on meta"),
        ({"unit_order": torch.arange(3).int()}, TypeError, "unit_order is torch.int32"),
        ({"unit_order": torch.arange(3)[None]}, ValueError, r"unit_order is \[1, 3\]"),
        ({"unit_order": torch.arange(6)[::2]}, ValueError, "unit_order has strides"),
        ({"unit": 0}, ValueError, "unit is 0"),
    ],
)
def test_wrong_arguments_are_refused_by_name(changed, error, message):
    x, weight, unit_order = draw(3, 4, 96, torch.float32)
    plain = {"x": x, "weight": weight, "eps": EPS, "unit_order": unit_order, "unit": 4}
    with pytest.raises(error, match=message):
        launch_merge_input(**(plain | changed))
