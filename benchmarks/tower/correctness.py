"""When the figures of `saccade bench tower` count: both towers are right.

Errors are relative, root mean square over all numbers. In float32 both sides must be close to the
truth. In a narrower format ours must be about as close as vLLM's, which must be near it.
"""

import torch

from saccade.kernels.check.cases.truth import relative_error

TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 0.1}
WORSE = 1.25  # than vLLM's error; more is no rounding


def judge(
    name: str, ours: torch.Tensor, stock: torch.Tensor, truth: torch.Tensor
) -> tuple[dict[str, float], list[str]]:
    """Hold two results in the format of ``ours`` against a better one.

    Returns:
        The errors of both, and what is wrong, one line each.
    """
    errors = {
        way: relative_error(found, truth) for way, found in (("ours", ours), ("stock", stock))
    }
    tolerance = TOLERANCES[ours.dtype]
    problems = [
        f"{name}: the error of {way} is {error:.2g}, above {tolerance:g}"
        for way, error in errors.items()
        if not error <= tolerance  # so that NaN is a problem
    ]
    if ours.dtype != torch.float32 and not errors["ours"] <= WORSE * errors["stock"]:
        problems.append(
            f"{name}: our error is {errors['ours']:.2g}, "
            f"above {WORSE} times vLLM's of {errors['stock']:.2g}"
        )
    return errors, problems
