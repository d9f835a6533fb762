"""Resizing: bit-equal to the reference's, compiled and in PyTorch."""

import json
import random
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from child_path import SUPPORT_PATH
from media_samples import noise
from torch.utils.cpp_extension import library_paths

from saccade.kernels.cpu import build, extension
from saccade.media.decode.resize import resize

SHAPES = [
    ((480, 640), (476, 644)),  # nearly equal
    ((480, 640), (480, 644)),  # one side kept
    ((480, 640), (476, 640)),
    ((33, 35), (280, 308)),  # up
    ((1080, 1920), (364, 644)),  # down
    ((1080, 1920), (1092, 1932)),  # too large for the caches
    ((1500, 8), (5600, 28)),  # tall
    ((7, 1399), (28, 5600)),  # wide
    ((1, 1), (56, 56)),
    ((1, 200), (28, 4004)),
    ((28, 28), (28, 28)),
    ((2003, 1501), (28, 28)),  # far down
    *(((64, width), (56, width * 3)) for width in range(1, 30)),  # rows as short as a load
    *(((40, width), (28, 28)) for width in range(60, 124, 7)),  # shrunk until it is too much
]


@pytest.fixture(params=["compiled", "torch"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "torch":
        absent = extension.Extension(None, "not wanted")
        monkeypatch.setattr(extension, "load", lambda: absent)
    elif extension.load().operations is None:
        pytest.skip(extension.load().reason)
    return request.param


@pytest.mark.usefixtures("form")
def test_resize_is_bit_equal_to_torchvision(reference: Callable[..., Any], tmp_path: Path) -> None:
    chance = random.Random(5)
    shapes = list(SHAPES)
    for _ in range(90):
        old = (chance.randint(1, 700), chance.randint(1, 700))
        shapes.append((old, (28 * chance.randint(1, 25), 28 * chance.randint(1, 25))))
    pictures = {f"a{n}": noise(*old, seed=n) for n, (old, _) in enumerate(shapes)}
    sizes = {f"a{n}": new for n, (_, new) in enumerate(shapes)}
    given_file, answer_file = tmp_path / "given.npz", tmp_path / "answer.npz"
    np.savez(given_file, **{name: pixels.transpose(2, 0, 1) for name, pixels in pictures.items()})
    assert reference("resize", input=str(given_file), output=str(answer_file), sizes=sizes)
    with np.load(answer_file) as answers:
        for name, pixels in pictures.items():
            ours = resize(pixels, *sizes[name])
            assert ours.dtype == np.uint8
            np.testing.assert_array_equal(ours, answers[name].transpose(1, 2, 0), err_msg=name)


@pytest.mark.usefixtures("form")
def test_resize_of_a_batch_equals_resize_of_each() -> None:
    clip = np.stack([noise(50, 70, seed=seed) for seed in range(6)]).reshape(2, 3, 50, 70, 3)
    whole = resize(clip, 28, 84)
    assert whole.shape == (2, 3, 28, 84, 3)
    for row in range(2):
        for column in range(3):
            np.testing.assert_array_equal(whole[row, column], resize(clip[row, column], 28, 84))


@pytest.mark.usefixtures("form")
def test_resize_takes_views_and_leaves_them_alone() -> None:
    pixels = noise(60, 80)
    kept = pixels.copy()
    turned = np.rot90(pixels)  # negative strides
    np.testing.assert_array_equal(resize(turned, 28, 28), resize(turned.copy(), 28, 28))
    pixels.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resize(pixels, 28, 28)
    np.testing.assert_array_equal(pixels, kept)
    assert resize(pixels, 60, 80) is pixels


# Run in a process of its own, where this library is the only one: argv is its file.
_COMPARED = """
import ctypes, sys
import numpy as np, torch
from media_samples import noise
from test_resize import SHAPES
from saccade.media.decode import resize as module

ctypes.CDLL(sys.argv[1])
done = []
for n, (old, new) in enumerate(SHAPES):
    pixels, out = torch.from_numpy(noise(*old, seed=n))[None], torch.empty(1, *new, 3).byte()
    if torch.ops.saccade_cpu.resize(pixels, out):
        done.append(n)
        expected = module._resize_in_torch(pixels, *new)
        np.testing.assert_array_equal(out.numpy(), expected, err_msg=f"{old} {new}")
print(done)
"""


@pytest.mark.parametrize("architecture", ["haswell", "sapphirerapids", "nehalem"])
def test_whatever_vectors_the_processor_has(architecture: str, tmp_path: Path) -> None:
    """`nehalem` has none that it is written for: PyTorch's form is asked for."""
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    needed = {"haswell": "avx2", "sapphirerapids": "avx512vbmi", "nehalem": "sse4_2"}[architecture]
    if needed not in Path("/proc/cpuinfo").read_text():
        pytest.skip(f"this processor has no {needed}")
    library = tmp_path / "resize.so"
    command = build.compile_command(compiler, "DEFAULT", architecture, sources=("resize.cpp",))
    libraries = [*(f"-L{folder}" for folder in library_paths()), "-ltorch_cpu", "-lc10"]
    subprocess.run([*command, *libraries, "-o", str(library)], check=True)
    ran = subprocess.run(
        [sys.executable, "-c", _COMPARED, str(library)],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": f"{Path(__file__).parent}:{SUPPORT_PATH}"},
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    done = json.loads(ran.stdout)
    if architecture == "nehalem":
        assert done == []
        return
    for n, ((_, old_width), (_, width)) in enumerate(SHAPES):
        assert n in done or old_width < 22 or old_width > 2 * width
