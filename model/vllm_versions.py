"""Which versions of vLLM Saccade was checked on: the one place that says so."""

import logging
import os
import re

CHECKED_VLLM = ("0.32", "0.33")
"""Minor versions, with all of their patch releases."""

# Environment variable: what has been named already, by this process or one that started it.
_NAMED_ENV = "SACCADE_UNCHECKED_VLLM"

_logger = logging.getLogger(__name__)


def is_checked(version: str) -> bool:
    """Whether ``version``, as vLLM tells it, belongs to a checked minor version.

    Local parts (``+cpu``) do not count. Development versions belong to none: ``0.33.1.dev12`` is
    on the way to 0.34 and holds some of its changes.
    """
    release = re.match(r"v?(\d+\.\d+)(?:[.+]|rc|$)", version)
    return release is not None and release[1] in CHECKED_VLLM and ".dev" not in version


def unchecked_warning(version: str) -> str | None:
    """One line that names a vLLM of an unchecked version; None for a checked one."""
    if is_checked(version):
        return None
    return (
        f"vLLM {version} is not a version that Saccade was checked on "
        f"({', '.join(f'{minor}.x' for minor in CHECKED_VLLM)}): it may fail or answer wrongly"
    )


def warn_if_unchecked(version: str) -> None:
    """Logs `unchecked_warning`, if there is one: once in a process and all that it starts."""
    warning = unchecked_warning(version)
    if warning is not None and os.environ.get(_NAMED_ENV) != version:
        mark_named(version)
        _logger.warning(warning)


def mark_named(version: str) -> None:
    """Keeps `warn_if_unchecked` silent about this version here and in processes started here."""
    os.environ[_NAMED_ENV] = version
