"""Installs for machines with a GPU have a solution. Nothing is installed: the index is asked.

What is resolved is what `deploy/setup.sh` and the Dockerfile install on Linux x86_64 with CUDA, for
each vLLM and Python that `docs/installing.md` says is supported.
"""

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from resolver import (
    ROOT,
    IndexUnreachableError,
    UnresolvableError,
    project,
    project_requirements,
    resolve,
)

VLLM = ("0.32.0", "0.33.0")
PYTHON = ("3.11", "3.12", "3.13")
IMAGE_PYTHON = "3.12"  # of vllm/vllm-openai


@pytest.mark.parametrize("python", PYTHON)
@pytest.mark.parametrize("vllm", VLLM)
def test_install_on_a_cuda_machine(vllm, python):
    found = resolve(
        project_requirements("cuda", "test", "bench", "train"),
        python=python,
        constraints=[f"vllm=={vllm}"],
    )
    assert found["vllm"] == vllm
    # PyPI's build is for CUDA; others say what they are for behind a plus.
    assert re.fullmatch(r"[\d.]+", found["torch"])
    # The kernels were compiled on the Triton that comes with it.
    minor = ".".join(found["triton"].split(".")[:2])
    assert Path(ROOT, "tests/kernels/resources", f"{minor}.json").is_file()


@pytest.mark.parametrize("vllm", VLLM)
def test_the_image_keeps_what_it_has(vllm):
    """The Dockerfile's pip step, on what the wheel of vLLM requires.

    The image itself is not here: its packages are taken to be a solution of vLLM's requirements.
    """
    image = resolve([f"vllm=={vllm}"], python=IMAGE_PYTHON)
    dockerfile = Path(ROOT, "Dockerfile").read_text(encoding="utf-8")
    (pattern,) = re.findall(r"grep -iE '([^']+)'", dockerfile)
    kept = [
        line
        for line in (f"{name}=={version}" for name, version in image.items())
        if re.match(pattern, line, re.IGNORECASE)
    ]
    assert len(kept) == pattern.count("|") + 1, f"{kept} of {pattern}"
    found = resolve(
        [*project_requirements(), f"vllm=={vllm}"], python=IMAGE_PYTHON, constraints=kept
    )
    assert found["triton"] == image["triton"]
    for requirement in map(Requirement, project_requirements()):
        if requirement.name in image:  # pip leaves it, for it will do
            assert requirement.specifier.contains(image[requirement.name])


@pytest.mark.parametrize("vllm", VLLM)
def test_a_pin_that_the_torch_of_cuda_does_not_allow_is_found(vllm):
    with pytest.raises(UnresolvableError, match=r"triton==3\.9\.0"):
        resolve(
            [*project_requirements("cuda"), "triton==3.9.0"],
            python=IMAGE_PYTHON,
            constraints=[f"vllm=={vllm}"],
        )


def test_an_index_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_NO_CACHE", "1")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(IndexUnreachableError, match=r"127\.0\.0\.1:9"):
        resolve(["vllm"], python=IMAGE_PYTHON)


def test_every_python_of_the_package_is_resolved():
    supported = SpecifierSet(project()["requires-python"])
    assert [one for one in (f"3.{minor}" for minor in range(30)) if one in supported] == [*PYTHON]
