"""Kernels run by Triton's interpreter. What is imported under it cannot be compiled afterwards, so
these tests have a process of their own: ``TRITON_INTERPRET=1 pytest tests/interpreted``."""

import os

import pytest
from interpreter import mend_bfloat16
from selection import nothing_selected as nothing_selected

if os.environ.get("TRITON_INTERPRET") != "1":
    raise pytest.UsageError("tests/interpreted needs TRITON_INTERPRET=1 in the environment")

mend_bfloat16()
