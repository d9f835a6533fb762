"""vLLM's FlashAttention as a CUDA build has it, found by the model and by the kit."""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from saccade.kernels.check.contenders import vllm as contender
from saccade.model.compat.flash_attention import find_flash_attention

FINDERS = [partial(find_flash_attention, "cuda"), contender.find_flash_attention]
each_finder = pytest.mark.parametrize("find", FINDERS, ids=["model", "kit"])


@pytest.fixture(autouse=True)
def flash_attention(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """vLLM as a CUDA build has it, as far as it is asked."""

    def flash(*_: Any, **__: Any) -> None: ...

    versions = SimpleNamespace(get_flash_attn_version=lambda head_size: {80: 3}.get(head_size))
    package = SimpleNamespace(flash_attn_varlen_func=flash)
    monkeypatch.setitem(sys.modules, "vllm.v1.attention.backends.fa_utils", versions)
    monkeypatch.setitem(sys.modules, "vllm.vllm_flash_attn", package)
    forget()
    yield flash
    forget()


def forget() -> None:
    find_flash_attention.cache_clear()
    contender.find_flash_attention.cache_clear()


@each_finder
def test_in_vllms_version(find: Callable[[int], Any], flash_attention: Callable[..., Any]) -> None:
    found = find(80)
    assert (found.func, found.keywords) == (flash_attention, {"fa_version": 3})


@each_finder
def test_none(find: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_flash_attention("cpu", 80) is None
    assert find(512) is None  # vLLM has no version for it
    monkeypatch.setattr(torch.version, "hip", "6.3")
    forget()
    assert find(80) is None


@each_finder
def test_vllm_without_it(find: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm.vllm_flash_attn", None)
    assert find(80) is None
