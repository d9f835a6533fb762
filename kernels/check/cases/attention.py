"""Cases of attention, of the rotation before it, and what else computes them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

import torch

from ... import dispatch, full_attention, operations, rotate_packed
from .. import traffic
from ..contenders import pytorch, vllm_baseline
from ..guards import Guarded, Results, same_bits
from ..verdict import Verdict
from .case import Contender, Place
from .truth import exact_attention, rotate, rounded_attention

TRITON_ATTENTION = "full_attention, Triton"  # where FlashAttention would be taken otherwise


@dataclass(frozen=True)
class Segments:
    """Arguments of an attention, in words and numbers.

    Attributes:
        lengths: Tokens of each segment.
        before: Tokens of no segment before the first; ``after`` the last. All their numbers are
            NaN.
        size: Of queries and keys, as a standard deviation.
        own_keys: Each token is its own key, so that with a large ``size`` its score is hundreds
            above all others and the result is its value.
    """

    lengths: Sequence[int]
    heads: int = 16
    head_dim: int = 80
    before: int = 0
    after: int = 0
    size: float = 1.0
    own_keys: bool = False

    @property
    def cu_seqlens(self) -> list[int]:
        """Cumulative tokens."""
        return list(accumulate(self.lengths, initial=self.before))

    @property
    def words(self) -> str:
        """For people."""
        shown = ", ".join(map(str, self.lengths[:7])) + (", ..." if len(self.lengths) > 7 else "")
        size = f", size {self.size:g}" if self.size != 1 else ""
        return f"segments of {shown}, {self.heads} x {self.head_dim}{size}"


@dataclass(frozen=True)
class Sample:
    """The tensors, guarded."""

    qkv: Guarded
    cos: Guarded
    sin: Guarded
    cu_seqlens: torch.Tensor
    max_seqlen: int

    @staticmethod
    def draw(segments: Segments, place: Place) -> "Sample":
        """Random numbers, and float32 angles: many rotations in place keep their length."""
        ends = segments.cu_seqlens
        tokens = ends[-1] + segments.after
        qkv = place.normal(tokens, 3, segments.heads, segments.head_dim)
        qkv[:, :2] *= segments.size
        if segments.own_keys:
            qkv[:, 1] = qkv[:, 0]
        generator = torch.Generator().manual_seed(tokens)
        angles = 10 * torch.randn(tokens, segments.head_dim // 2, generator=generator)
        cos, sin = angles.cos().to(place.device), angles.sin().to(place.device)
        for part in (qkv, cos, sin):
            part[: segments.before] = part[ends[-1] :] = torch.nan
        return Sample(
            Guarded.around(qkv),
            Guarded.around(cos),
            Guarded.around(sin),
            torch.tensor(ends, dtype=torch.int32, device=place.device),
            max(segments.lengths, default=0),
        )

    @property
    def arguments(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, int]:
        """Of the operation."""
        return self.qkv.inside, self.cos.inside, self.sin.inside, self.cu_seqlens, self.max_seqlen


class AttentionCase:
    """`window_attention` or `full_attention` on some segments; see `cases.Case`."""

    def __init__(self, operation: str, segments: Segments, place: Place, size: str = "") -> None:
        self.operation, self.segments, self.place = operation, segments, place
        self.size = f"{size or segments.words}, {str(place.dtype).removeprefix('torch.')}"
        tokens, channels = (
            sum(segments.lengths),
            (segments.heads, segments.head_dim, place.dtype.itemsize),
        )
        if operation == "window_attention":
            self.bytes = tokens * traffic.window_attention(*channels)
            self.stock_bytes = tokens * traffic.stock_window_attention(*channels)
            self.flops = 0
        else:
            attended = traffic.full_attention(*channels)
            self.bytes = tokens * (attended + traffic.rotate_packed(*channels))
            self.stock_bytes = tokens * (attended + traffic.stock_rotate_packed(*channels))
            pairs = sum(length**2 for length in segments.lengths)
            self.flops = 4 * pairs * segments.heads * segments.head_dim

    def check(self) -> Verdict:
        """See `cases.Case`."""
        sample = self.sample = Sample.draw(self.segments, self.place)
        before = [part.memory.clone() for part in (sample.qkv, sample.cos, sample.sin)]
        self.clean = sample.qkv.inside.clone()
        ends = self.segments.cu_seqlens
        run = slice(ends[0], ends[-1])
        self.exact = exact_attention(*sample.arguments[:3], ends)
        with Results() as results:
            found = self._implementation()(*sample.arguments)
        verdict = Verdict()
        if self._is_triton:
            verdict.hold_result(results.of(found), run)
        self._hold_arguments(verdict, before)
        sample.qkv.inside.copy_(self.clean)
        if self.segments.own_keys:
            verdict.hold_within_a_step(found[run], self.clean[run, 2].flatten(1).double())
            return verdict
        rounded = [
            rounded_attention(*sample.arguments[:3], ends, products)[run]
            for products in (self.place.dtype, torch.float64)
            if self.place.dtype != torch.float32
        ]
        steepness = self.segments.size**2  # of queries and of keys
        verdict.hold_attention(found[run], self.exact[run], *rounded, steepness=steepness)
        return verdict

    def ours(self) -> Contender:
        """See `cases.TimedCase`."""
        run = _REGISTERED[self.operation]
        name = f"saccade, {self._backend}"
        return Contender(name, lambda: partial(run, *self._copies()), bytes=self.bytes)

    def others(self) -> list[Contender]:
        """See `cases.TimedCase`."""
        arguments = (self.clean, self.sample.cos.inside, self.sample.sin.inside)
        others = vllm_baseline.attention(*arguments, self.segments.cu_seqlens, self.stock_bytes)
        if self._uses_flash_attention:
            run = partial(Contender, "saccade, triton", bytes=self.bytes)
            others.append(run(lambda: partial(_by_triton, *self._copies())))
        return others + pytorch.attention(*arguments, self.segments.cu_seqlens)

    def _copies(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, int]:
        return self.clean.clone(), *self.sample.arguments[1:]

    def _implementation(self) -> Callable[..., torch.Tensor]:
        if self.operation == TRITON_ATTENTION:
            return _by_triton
        return dispatch.implementation(self.operation, self.place.device.type)

    @property
    def _backend(self) -> str:
        backend = dispatch.select_backend(self.operation, self.place.device.type).backend
        return "FlashAttention" if self._uses_flash_attention else backend

    @property
    def _uses_flash_attention(self) -> bool:
        if self.operation != "full_attention" or self.place.dtype == torch.float32:
            return False
        device = self.place.device.type
        triton = dispatch.select_backend(self.operation, device).backend == "triton"
        return triton and uses_flash_attention(device, self.segments.head_dim)

    @property
    def _is_triton(self) -> bool:
        """Is the result made by a kernel of ours, in memory that Python allocates?"""
        return self.operation == TRITON_ATTENTION or self._backend == "triton"

    def _hold_arguments(self, verdict: Verdict, before: Sequence[torch.Tensor]) -> None:
        """All that is not to be overwritten is as it was, and so is the memory around it."""
        sample = self.sample
        for name, part, was in zip(
            ("qkv", "cos", "sin"), (sample.qkv, sample.cos, sample.sin), before, strict=True
        ):
            verdict.require(part.is_nan, f"memory around {name} was written")
            if name == "qkv" and self.operation != "window_attention":
                verdict.require(
                    same_bits(part.inside[:, 2], self.clean[:, 2]), "values were written"
                )
            else:
                verdict.require(same_bits(part.memory, was), f"{name} was written")


def uses_flash_attention(device_type: str, head_dim: int) -> bool:
    """Would `full_attention` take vLLM's FlashAttention for such heads, in 16 bits?"""
    return full_attention.find_flash_attention(device_type, head_dim) is not None


def _by_triton(
    qkv: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    cu_seqlens: torch.Tensor,
    max_seqlen: int,
) -> torch.Tensor:
    """`full_attention` by kernels of ours alone."""
    rotate_packed.launch_rotate_packed(qkv, cos, sin)
    return full_attention.launch_attention_packed(qkv, cu_seqlens, max_seqlen)


_REGISTERED: dict[str, Callable[..., torch.Tensor]] = {
    "window_attention": operations.window_attention,
    "full_attention": operations.full_attention,
}


class RotationCase:
    """`rotate_packed`, half of `full_attention`; see `cases.Case`."""

    operation = "rotate_packed"

    def __init__(self, tokens: int, heads: int, head_dim: int, place: Place) -> None:
        self.segments, self.place = Segments([tokens], heads, head_dim), place
        dtype = str(place.dtype).removeprefix("torch.")
        self.size = f"{tokens} tokens, {heads} x {head_dim}, {dtype}"

    def check(self) -> Verdict:
        """Half a step of the format, and a few roundings of float32 of the pair's length, which
        bounds both products and which rotation does not change."""
        sample = Sample.draw(self.segments, self.place)
        qkv, cos, sin = sample.arguments[:3]
        value = qkv[:, 2].clone()
        exact = rotate(qkv[:, :2], cos.double(), sin.double())
        length = torch.stack(exact.chunk(2, dim=-1)).square().sum(0).sqrt()
        rotate_packed.launch_rotate_packed(qkv, cos, sin)
        verdict = Verdict()
        slack = length.repeat(1, 1, 1, 2) * 2.0**-22
        verdict.hold_one_rounding(qkv[:, :2], exact, slack)
        verdict.require(same_bits(qkv[:, 2], value), "values were written")
        verdict.require(sample.qkv.is_nan, "memory around qkv was written")
        return verdict
