"""How far a number may lie from an exact one."""

import torch


def half_steps(exact: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Half the distance of neighbours in ``dtype`` around each number: what rounding it once may
    cost. float64."""
    info = torch.finfo(dtype)
    _, exponents = exact.abs().clamp(min=info.tiny).frexp()  # magnitude in [0.5, 1) * 2**exponent
    return torch.ldexp(torch.full_like(exact, info.eps / 4), exponents)
