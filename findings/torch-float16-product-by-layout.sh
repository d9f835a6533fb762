#!/usr/bin/env bash
# torch 2.13.0 (CPU build): on a processor without products of float16 in hardware, `a @ b` of two
# contiguous float16 matrices is about ten times slower than `a @ b.T`, the same sums of as many
# products. float32 does both alike. So does bfloat16 where oneDNN takes it; with
# ONEDNN_MAX_CPU_ISA=AVX2, where torch's own loops do, it is as float16.
#
# Seen on an AMD EPYC (Zen 5), one thread, 512x512, GFLOP/s, a @ b and a @ b.T:
#   float32 115.7 114.4; float16 1.8 25.0; bfloat16 487.5 497.4
#   with ONEDNN_MAX_CPU_ISA=AVX2: float32 99.5 110.6; float16 1.8 15.8; bfloat16 1.5 12.8
#
# A layer's product is of the second kind, so "float16 is N times slower" depends on who measured.
# The limit ONEDNN_MAX_CPU_ISA=AVX2 takes products in hardware away wherever this runs.
# Exits with 1 where the gap is less than fourfold, or float32 has it too.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0+cpu numpy 2>/dev/null ||
    "$folder/venv/bin/pip" install --quiet torch==2.13.0+cpu numpy \
        --extra-index-url https://download.pytorch.org/whl/cpu
ONEDNN_MAX_CPU_ISA=AVX2 "$folder/venv/bin/python" - <<'PYTHON'
import sys
import time

import torch

torch.set_num_threads(1)
SIZE = 512


def seconds(run):
    run()
    taken = []
    for _ in range(5):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return min(taken)


gaps = {}
for dtype in (torch.float32, torch.float16, torch.bfloat16):
    a, b = (torch.randn(SIZE, SIZE).to(dtype) for _ in range(2))
    plain, turned = seconds(lambda: a @ b), seconds(lambda: a @ b.T)
    gaps[dtype] = plain / turned
    rates = [2 * SIZE**3 / one / 1e9 for one in (plain, turned)]
    print(f"{dtype}: a @ b {rates[0]:.1f}, a @ b.T {rates[1]:.1f} GFLOP/s")
changed = gaps[torch.float16] < 4 or gaps[torch.bfloat16] < 4 or gaps[torch.float32] > 2
sys.exit("this is no longer so" if changed else 0)
PYTHON
