"""What each operation is asked in its self-test: tiny inputs with edges, against `reference`.

Everything is made on the device and in the format that are named, from generators of its own: a
test leaves the process as it finds it, whatever defaults are set there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .. import reference
from .proof import Wrong

Run = Callable[..., Any]
FLOATS = (torch.float32, torch.bfloat16, torch.float16)
_EPS = 1e-6


@dataclass(frozen=True)
class Shapes:
    """Sizes that the operations of one model have; the defaults are edges, for any model.

    Attributes:
        attention: Pairs of heads and head_dim of the tower.
        longest_window: Tokens.
        mrope: heads, kv_heads, head_dim, sections and whether these are interleaved.
        hidden: Width of the layers between products.
        patch_size: In pixels, with ``merge_size`` patches on a side of a unit.
    """

    attention: tuple[tuple[int, int], ...] = ((3, 80), (2, 64), (1, 128), (1, 18))
    longest_window: int = 64
    mrope: tuple[tuple[int, int, int, tuple[int, int, int], bool], ...] = (
        (3, 1, 128, (16, 24, 24), False),
        (2, 1, 128, (24, 20, 20), True),
        (1, 1, 14, (3, 2, 2), True),
    )
    hidden: tuple[int, ...] = (1280, 24, 7)
    patch_size: int = 14
    merge_size: int = 2


EDGES = Shapes()


def check(
    operation: str, run: Run, dtype: torch.dtype, device: str = "cpu", shapes: Shapes = EDGES
) -> None:
    """Hold ``run`` against the reference.

    Args:
        run: Takes the arguments of the function of this name in `reference`.
        dtype: Of its numbers; uint8 for those of pixels alone.

    Raises:
        Wrong: it returned something else.
        Exception: whatever it raised.
    """
    with torch.inference_mode(False), torch.no_grad(), torch.device(device):
        _CHECKS[operation](run, dtype, torch.device(device), shapes)


def _draw(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    generator = torch.Generator("cpu").manual_seed(sum(shape))
    drawn = torch.randn(*shape, generator=generator, dtype=torch.float32, device="cpu")
    return drawn.to(device, dtype)


def _expect(
    found: Any, truth: torch.Tensor, dtype: torch.dtype, allowed: torch.Tensor | float, what: str
) -> None:
    """Raise Wrong where ``found`` is not ``truth``, within ``allowed``."""
    if found.shape != truth.shape or found.dtype != dtype:
        raise Wrong(f"{what}: {list(found.shape)} {found.dtype} instead of {list(truth.shape)}")
    off = (found.double() - truth.double()).abs()
    if not bool((off <= allowed).all()):
        raise Wrong(f"{what}: off by {off.max().item():.3g}")


def _attention(run: Run, dtype: torch.dtype, device: torch.device, shapes: Shapes) -> None:
    whole = shapes.longest_window
    _check_runs(run, dtype, device, shapes, ([1], [whole, whole // 2, 5, 0, 1], []))


def _full_attention(run: Run, dtype: torch.dtype, device: torch.device, shapes: Shapes) -> None:
    # Longer than what any backend works on at once.
    _check_runs(run, dtype, device, shapes, ([1], [300, 3, 0, 64], []))


def _check_runs(
    run: Run,
    dtype: torch.dtype,
    device: torch.device,
    shapes: Shapes,
    cases: Sequence[Sequence[int]],
) -> None:
    # Rotated numbers and weights are rounded to the format before each product.
    steps = 1e-5 if dtype == torch.float32 else 4 * torch.finfo(dtype).eps
    for heads, head_dim in shapes.attention:
        for lengths in cases:
            tokens = sum(lengths)
            qkv = _draw((tokens, 3, heads, head_dim), dtype, device)
            angles = _draw((tokens, head_dim // 2), torch.float32, device) * 100
            cu_seqlens = torch.tensor([0, *lengths], dtype=torch.int32, device=device)
            cu_seqlens = cu_seqlens.cumsum(0, dtype=torch.int32)
            cos, sin, max_seqlen = angles.cos(), angles.sin(), max(lengths, default=0)
            # On the CPU: a GPU may be told to round products of float32.
            truth = reference.window_attention(
                qkv.float().cpu(), cos.cpu(), sin.cpu(), cu_seqlens.cpu(), max_seqlen
            ).to(device)
            found = run(qkv.clone(), cos, sin, cu_seqlens, max_seqlen)
            allowed = steps * truth.abs().max().item() if tokens else 0.0
            what = f"{heads} heads of {head_dim}, runs of {list(lengths)}"
            _expect(found, truth, dtype, allowed, what)


def _mrope(run: Run, dtype: torch.dtype, device: torch.device, shapes: Shapes) -> None:
    for heads, kv_heads, head_dim, sections, interleaved in shapes.mrope:
        for tokens in (1, 5, 0):
            # Rows apart, as vLLM passes them.
            packed = _draw((tokens, (heads + 2 * kv_heads) * head_dim), dtype, device)
            between, end = heads * head_dim, (heads + kv_heads) * head_dim
            positions = torch.arange(3 * tokens, dtype=torch.int64, device=device).view(3, -1) % 9
            cache = _draw((9, head_dim), dtype, device)
            truth = packed.to(torch.float32, copy=True)
            for x, table, turn in ((truth, cache.float(), reference.mrope), (packed, cache, run)):
                query, key = x[:, :between], x[:, between:end]
                turn(query, key, positions, table, head_dim, list(sections), interleaved)
            allowed = torch.finfo(dtype).eps * truth.abs() + 1e-5
            _expect(packed, truth, dtype, allowed, f"heads of {head_dim}, {tokens} tokens")


def _rms_norm(run: Run, dtype: torch.dtype, device: torch.device, shapes: Shapes) -> None:
    for shape, hidden in _rows(shapes):
        x, weight = _draw((*shape, hidden), dtype, device), _draw((hidden,), dtype, device)
        truth = reference.rms_norm(x.float(), weight.float(), _EPS)
        _expect_rounded(run(x, weight, _EPS), truth, dtype, f"rows of {hidden}")


def _add_rms_norm(run: Run, dtype: torch.dtype, device: torch.device, shapes: Shapes) -> None:
    for shape, hidden in _rows(shapes):
        x, weight = _draw((*shape, hidden), dtype, device), _draw((hidden,), dtype, device)
        residual = x.flip(0) * 2
        total = x + residual
        truth = reference.rms_norm(total.float(), weight.float(), _EPS)
        run(x, residual, weight, _EPS)
        _expect(residual, total, dtype, 0.0, f"sums of {hidden}")
        _expect_rounded(x, truth, dtype, f"rows of {hidden}")


def _silu_and_mul(run: Run, dtype: torch.dtype, device: torch.device, shapes: Shapes) -> None:
    for shape, hidden in _rows(shapes):
        x = _draw((*shape, 2 * hidden), dtype, device) * 4
        truth = reference.silu_and_mul(x.float())
        _expect_rounded(run(x), truth, dtype, f"rows of {hidden}")


def _rows(shapes: Shapes) -> list[tuple[tuple[int, ...], int]]:
    rows = [(rows, hidden) for rows in ((1,), (5,), (2, 3)) for hidden in shapes.hidden]
    return [*rows, ((0,), shapes.hidden[0])]


def _expect_rounded(found: Any, truth: torch.Tensor, dtype: torch.dtype, what: str) -> None:
    allowed = (torch.finfo(dtype).eps + 2e-6) * truth.abs() + 1e-6
    _expect(found, truth, dtype, allowed, what)


def _patch_input(run: Run, dtype: torch.dtype, device: torch.device, shapes: Shapes) -> None:
    patch, merge = shapes.patch_size, shapes.merge_size
    side = patch * merge  # of a unit, in pixels
    for frames, units_high, units_wide in ((1, 1, 1), (2, 2, 3)):
        units = units_high * units_wide
        row, frame = 3 * side * units_wide, 3 * side * units_wide * side * units_high
        numbers = torch.arange(frames * frame, dtype=torch.int64, device=device) * 37 % 251
        pixels = numbers.to(torch.uint8).view(units * merge**2, -1)
        places = torch.arange(units, dtype=torch.int64, device=device).flip(0)
        unit_offsets = places // units_wide * side * row + places % units_wide * side * 3
        arguments = (
            pixels,
            unit_offsets,
            torch.full_like(unit_offsets, row),
            torch.full_like(unit_offsets, frame),
            patch,
            merge,
            dtype,
        )
        truth = reference.patch_input(*arguments)
        _expect(run(*arguments), truth, dtype, 0.0, f"{units} units of {frames} frames")


def _merge_input(run: Run, dtype: torch.dtype, device: torch.device, shapes: Shapes) -> None:
    unit = shapes.merge_size**2
    for units in (1, 3):
        for hidden in shapes.hidden:
            x, weight = (
                _draw(shape, dtype, device) for shape in ((units * unit, hidden), (hidden,))
            )
            unit_order = torch.arange(units, dtype=torch.int64, device=device).flip(0)
            rest = (_EPS, unit_order, unit)
            truth = reference.merge_input(x.float(), weight.float(), *rest)
            _expect_rounded(run(x, weight, *rest), truth, dtype, f"{units} units of {hidden}")


def _resize(run: Run, _dtype: torch.dtype, device: torch.device, _shapes: Shapes) -> None:
    for count, old, new in (
        (1, (67, 90), (56, 84)),
        (2, (30, 33), (56, 84)),
        (1, (1, 1), (28, 28)),
    ):
        pixels = _noise((count, *old, 3), device)
        out = torch.empty((count, *new, 3), dtype=torch.uint8, device=device)
        if run(pixels, out):  # else it leaves this one to PyTorch
            truth = reference.resize(pixels, *new)
            _expect(out, truth, torch.uint8, 0.0, f"{old} to {new}")


def _map_colours(run: Run, _dtype: torch.dtype, device: torch.device, _: Shapes) -> None:
    for steps, size in ((32, (30, 33)), (2, (1, 1)), (8, (0, 5))):
        pixels, table = _noise((*size, 3), device), _noise((steps, steps, steps, 4), device)
        found = pixels.clone()
        run(found, table)
        reference.map_colours(pixels, table)
        _expect(found, pixels, torch.uint8, 0.0, f"{size} by {steps}")


def _decode_resized_jpeg(run: Run, _dtype: torch.dtype, device: torch.device, _: Shapes) -> None:
    import simplejpeg  # only what decodes needs it

    for (height, width), new in (((67, 90), (56, 84)), ((30, 33), (56, 84))):
        image = _noise((height, width, 3), device)
        for subsampling in ("420", "444"):
            data = simplejpeg.encode_jpeg(image.numpy(), quality=80, colorsubsampling=subsampling)
            decoded = torch.from_numpy(simplejpeg.decode_jpeg(data))
            for orientation, upright in (
                (1, decoded),
                (3, decoded.flip(0, 1)),
                (6, decoded.transpose(0, 1).flip(1)),
                (8, decoded.transpose(0, 1).flip(0)),
            ):
                out = torch.empty((*new, 3), dtype=torch.uint8, device=device)
                if run(data, len(data), height, width, orientation, out.data_ptr(), *new):
                    truth = reference.resize(upright[None].contiguous(), *new)[0]
                    told = f"{height}x{width} in {subsampling}, orientation {orientation}"
                    _expect(out, truth, torch.uint8, 0.0, told)
            if run(data, len(data) // 2, height, width, 1, out.data_ptr(), *new):
                raise Wrong("half a JPEG was taken for a whole one")


def _resize_png(run: Run, _dtype: torch.dtype, device: torch.device, _: Shapes) -> None:
    for channels in (1, 3, 4):
        image = _noise((67, 90, channels), device)
        if channels == 4:
            image[..., 3] = 255
        upright = image[..., :3].expand(-1, -1, 3).contiguous()
        above = torch.cat((torch.zeros_like(image[:1]), image[:-1]))
        filtered = (image - above).view(67, -1)  # "up", one of the filters that rows may have
        rows = torch.nn.functional.pad(filtered, (1, 0), value=2)
        out = torch.empty((56, 84, 3), dtype=torch.uint8, device=device)
        data = rows.numpy().tobytes()
        if run(data, 67, 90, channels, 1, out.data_ptr(), 56, 84):
            truth = reference.resize(upright[None], 56, 84)[0]
            _expect(out, truth, torch.uint8, 0.0, f"{channels} channels")


def _noise(shape: Sequence[int], device: torch.device) -> torch.Tensor:
    generator = torch.Generator("cpu").manual_seed(sum(shape))
    drawn = torch.randint(256, shape, generator=generator, dtype=torch.uint8, device="cpu")
    return drawn.to(device)


_CHECKS: dict[str, Callable[[Run, torch.dtype, torch.device, Shapes], None]] = {
    "window_attention": _attention,
    "full_attention": _full_attention,
    "mrope": _mrope,
    "rms_norm": _rms_norm,
    "add_rms_norm": _add_rms_norm,
    "silu_and_mul": _silu_and_mul,
    "patch_input": _patch_input,
    "merge_input": _merge_input,
    "resize": _resize,
    "map_colours": _map_colours,
    "decode_resized_jpeg": _decode_resized_jpeg,
    "resize_png": _resize_png,
}
