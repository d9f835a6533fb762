"""For tests that change the environment from which backends are selected."""

from collections.abc import Iterator

import pytest

from saccade.kernels.self_test import proof


@pytest.fixture(autouse=True)
def nothing_selected() -> Iterator[None]:
    """Tests change the environment: no backend that one has selected is left to another."""
    proof.forget_selected()
    yield
    proof.forget_selected()
