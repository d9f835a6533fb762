"""When the figures of `saccade bench tower` count: both towers are right.

Errors are relative, root mean square over all numbers. In float32 both sides must be close to the
truth. In a narrower format ours must be about as close as vLLM's, which must be near it.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch

TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 0.1}
WORSE = 1.25  # than vLLM's error; more is no rounding
_QUERIES = 256  # at once: their float64 scores fit memory


def relative_error(found: torch.Tensor, truth: torch.Tensor) -> float:
    """Length of the difference over the length of the truth; NaN if a number is."""
    truth = truth.double()
    return float((found.double() - truth).norm() / truth.norm())


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


def exact_attention(
    qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, borders: Sequence[int]
) -> torch.Tensor:
    """Rotary embedding and attention within runs, in float64.

    Args:
        qkv: ``[tokens, 3, heads, head_dim]``.
        cos: ``[tokens, head_dim // 2]``; ``sin`` alike.
        borders: Cumulative tokens, where runs begin and end.

    Returns:
        ``[tokens, heads * head_dim]``.
    """
    first, second = qkv[:, :2].double().chunk(2, dim=-1)
    cos, sin = cos.double()[:, None, None], sin.double()[:, None, None]
    rotated = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    query, key = rotated.unbind(1)
    value = qkv[:, 2].double()
    context = torch.empty_like(value)
    for start, end in pairwise(borders):
        for first_query in range(start, end, _QUERIES):
            some = slice(first_query, min(first_query + _QUERIES, end))
            scores = torch.einsum("qhd,khd->hqk", query[some], key[start:end])
            weights = (scores * qkv.shape[-1] ** -0.5).softmax(-1)
            context[some] = torch.einsum("hqk,khd->qhd", weights, value[start:end])
    return context.flatten(1)
