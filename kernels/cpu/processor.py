"""What this processor multiplies in hardware, within the limits that are set for its libraries.

The one place that asks. Two things decide: the instructions that the processor has (torch's
``cpuinfo``, or ``/proc/cpuinfo``), and the limits that oneDNN (``ONEDNN_MAX_CPU_ISA``) and ATen
(``ATEN_CPU_CAPABILITY``) are given. With these a process imitates a lesser processor, and what is
said here is what it then does. Both libraries read their variable once; so does this module.

``torch.ops.mkldnn._is_mkldnn_bf16_supported`` is no answer: it is true of every processor with
AVX-512, also of those whose bfloat16 products oneDNN computes in float32.
"""

import functools
import os
import platform
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

# Names of features, weakest first, with what torch's cpuinfo and Linux call their parts.
_Names = dict[str, tuple[tuple[str, ...], tuple[str, ...]]]
_X86: _Names = {
    "AVX2": (("avx2", "fma3"), ("avx2", "fma")),
    "AVX512": (
        ("avx512_f", "avx512_bw", "avx512_vl", "avx512_dq"),
        ("avx512f", "avx512bw", "avx512vl", "avx512dq"),
    ),
    "AVX512-VNNI": (("avx512_vnni",), ("avx512_vnni",)),
    "AVX512-BF16": (("avx512_bf16",), ("avx512_bf16",)),
    "AVX512-FP16": (("avx512_fp16",), ("avx512_fp16",)),
    "AMX-BF16": (("amx_tile", "amx_bf16"), ("amx_tile", "amx_bf16")),
    "AMX-FP16": (("amx_tile", "amx_fp16"), ("amx_tile", "amx_fp16")),
}
_ARM: _Names = {
    "NEON": (("neon",), ("asimd",)),
    "FP16": (("fp16_arith",), ("asimdhp",)),
    "BF16": (("bf16",), ("bf16",)),
    "SVE": (("sve",), ("sve",)),
}
_FEATURES: dict[str, _Names] = {"x86_64": _X86, "aarch64": _ARM}

# What oneDNN leaves of the features, by the names its variable takes (in any case; every other
# value sets no limit): oneDNN, "CPU Dispatcher Control", and its cpu_isa_traits.cpp.
_AVX512 = ("AVX2", "AVX512")
_VNNI = (*_AVX512, "AVX512-VNNI")
_BF16 = (*_VNNI, "AVX512-BF16")
_FP16 = (*_BF16, "AVX512-FP16")
_AMX = (*_FP16, "AMX-BF16")
_AMX_FP16 = (*_AMX, "AMX-FP16")
_LIMITS: dict[str, tuple[str, ...]] = {
    "sse41": (),
    "avx": (),
    "avx2": ("AVX2",),
    "avx2_vnni": ("AVX2",),
    "avx2_vnni_2": ("AVX2",),
    "avx512_core": _AVX512,
    "avx512_core_vnni": _VNNI,
    "avx512_core_bf16": _BF16,
    "avx512_core_fp16": _FP16,
    "avx10_1_512": _FP16,
    "avx512_core_amx": _AMX,
    "avx10_1_512_amx": _AMX,
    "avx512_core_amx_fp16": _AMX_FP16,
    "avx10_1_512_amx_fp16": _AMX_FP16,
    "avx10_2": _FP16,
    "avx10_2_512": _FP16,
    "avx10_2_ace": _FP16,
    "avx10_2_amx_2": _AMX_FP16,
    "avx10_2_512_amx_2": _AMX_FP16,
    "default": _AMX_FP16,
}
_ONEDNN_VARIABLES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")  # the first that is set
_ATEN_VARIABLE = "ATEN_CPU_CAPABILITY"


@dataclass(frozen=True)
class Processor:
    """A processor as a process may use it.

    Attributes:
        machine: ``x86_64``, ``aarch64`` or another name of `platform.machine`.
        features: Of `AVX2`, `AVX512`, `AVX512-VNNI`, `AVX512-BF16`, `AVX512-FP16`, `AMX-BF16`,
            `AMX-FP16` (x86_64) or `NEON`, `FP16`, `BF16`, `SVE` (aarch64): what it has.
        onednn: Those of them that oneDNN may use: products of matrices.
        aten: Name of the vectors that ATen uses: all other arithmetic of torch.
        limits: ``NAME=value`` of the variables that set a limit.
        ignored: ``NAME=value`` of those that set none, because oneDNN does not know the value.
    """

    machine: str
    features: frozenset[str]
    onednn: frozenset[str]
    aten: str
    limits: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

    @property
    def bfloat16_matmul(self) -> bool:
        """Whether matrices of bfloat16 are multiplied in hardware.

        Without it oneDNN computes in float32 if it may use AVX-512, no faster than float32 itself;
        else torch's own loop does, several times slower.
        """
        return bool(self.onednn & {"AVX512-BF16", "AMX-BF16", "BF16"})

    @property
    def bfloat16_brgemm(self) -> bool:
        """Whether ATen's batch-reduce GEMM of bfloat16 runs, which compiled attention uses.

        It is oneDNN's and wants pairs of rows side by side (VNNI), which ATen has for x86 alone.
        """
        return self.machine == "x86_64" and self.bfloat16_matmul

    @property
    def float16_matmul(self) -> bool:
        """Whether matrices of float16 are multiplied in hardware.

        Without it torch's own loop does, many times slower than in float32.
        """
        return bool(self.onednn & {"AVX512-FP16", "AMX-FP16", "FP16"})

    @property
    def bfloat16_matmul_emulated(self) -> bool:
        """Whether oneDNN multiplies matrices of bfloat16 through float32, about as fast."""
        return not self.bfloat16_matmul and "AVX512" in self.onednn

    def describe(self) -> str:
        """One line: features, products in hardware, limits in force."""
        order = list(_FEATURES.get(self.machine, ()))
        has = [name for name in order if name in self.features]
        parts = [" ".join([self.machine, *has])]
        for name, native, emulated in (
            ("bfloat16", self.bfloat16_matmul, self.bfloat16_matmul_emulated),
            ("float16", self.float16_matmul, False),
        ):
            how = "in hardware" if native else "in software"
            slow = "" if native else ", through float32" if emulated else ", slowly"
            parts.append(f"{name} products {how}{slow}")
        if self.features - self.onednn:
            may = [name for name in order if name in self.onednn]
            parts.append(f"oneDNN keeps to {' '.join(may) or 'less than these'}")
        parts.append(f"ATen uses {self.aten}")
        if self.limits:
            parts.append(f"limits: {', '.join(self.limits)}")
        if self.ignored:
            parts.append(f"unknown to oneDNN: {', '.join(self.ignored)}")
        return "; ".join(parts)


@functools.cache
def processor() -> Processor:
    """The processor that this process runs on, as it may use it."""
    machine = _machine()
    return limit(machine, _present(machine), torch.backends.cpu.get_cpu_capability(), os.environ)


def limit(
    machine: str, features: Collection[str], aten: str, environment: Mapping[str, str]
) -> Processor:
    """A processor with these features under the limits of ``environment``; pure.

    Args:
        aten: ATen's name of the vectors that it uses, its own limit heeded.
    """
    onednn = frozenset(features)
    limits, ignored = [], []
    named = next((name for name in _ONEDNN_VARIABLES if environment.get(name)), None)
    if named is not None and machine == "x86_64":
        shown = f"{named}={environment[named]}"
        allowed = _LIMITS.get(environment[named].lower())
        if allowed is None:
            ignored.append(shown)
        elif not onednn <= set(allowed):
            onednn &= set(allowed)
            limits.append(shown)
    best = next((name for name in ("AVX512", "AVX2") if name in features), "DEFAULT")
    if (wanted := environment.get(_ATEN_VARIABLE)) and (machine, aten) != ("x86_64", best):
        limits.append(f"{_ATEN_VARIABLE}={wanted}")
    return Processor(machine, frozenset(features), onednn, aten, tuple(limits), tuple(ignored))


def named_features(machine: str, has: Mapping[str, Any], *, linux: bool = False) -> frozenset[str]:
    """Our names for what torch's ``cpuinfo`` (or with ``linux``, ``/proc/cpuinfo``) says; pure."""
    parts = _FEATURES.get(machine, {})
    return frozenset(
        name
        for name, (in_torch, in_linux) in parts.items()
        if all(has.get(part) for part in (in_linux if linux else in_torch))
    )


def _machine() -> str:
    name = platform.machine()
    return {"AMD64": "x86_64", "arm64": "aarch64"}.get(name, name)


def _present(machine: str) -> frozenset[str]:
    if hasattr(torch.cpu, "get_capabilities"):  # not in older versions
        features = named_features(machine, torch.cpu.get_capabilities())
    else:
        has = dict.fromkeys(flags().split(), True)
        features = named_features(machine, has, linux=True)
    if features & {"AMX-BF16", "AMX-FP16"} and not torch.cpu._init_amx():
        features -= {"AMX-BF16", "AMX-FP16"}  # the system does not let this process use it
    return features


def flags() -> str:
    """The processor's flags as Linux lists them; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith(("flags", "Feat"))), "")
