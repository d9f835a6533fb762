"""Where the compiled operations are built, and which of them are loaded."""

import os

import pytest

from saccade.kernels import cache
from saccade.kernels.cpu import build


@pytest.fixture
def cached(monkeypatch, tmp_path):
    """A compiled file in the user's cache, and none beside the sources."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    installed = tmp_path / "installed"
    installed.mkdir()
    monkeypatch.setattr(build, "_FOLDER", installed)
    beside = build.library()
    assert beside.parent == installed
    file = cache.make_cache_folder() / beside.name
    file.touch(mode=0o700)
    return file


def test_one_beside_the_sources_goes_first(cached):
    assert build.library() == cached
    beside = build._FOLDER / cached.name
    beside.touch()
    assert build.library() == beside


@pytest.mark.parametrize("mode", [0o720, 0o702])
def test_what_others_may_write_is_not_loaded(cached, mode):
    cached.chmod(mode)
    assert build.library().parent == build._FOLDER
    cached.chmod(0o700)
    assert build.library() == cached
    cached.parent.chmod(mode)
    assert build.library().parent == build._FOLDER


def test_another_users_file_is_not_loaded(cached, monkeypatch):
    if os.geteuid() == 0:
        os.chown(cached, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert build.library().parent == build._FOLDER


def test_a_user_without_a_home_has_no_cache(cached, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)  # whom no password file knows
    assert build.library().parent == build._FOLDER
    with pytest.raises(OSError, match="XDG_CACHE_HOME"):
        cache.cache_folder()


def test_a_relative_cache_home_is_none(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    assert cache.cache_folder() == tmp_path / ".cache" / "saccade"


def test_a_compiler_that_fails_leaves_nothing(cached, monkeypatch):
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(RuntimeError, match="false failed"):
        build.build(cached.parent, anew=True)
    assert list(cached.parent.iterdir()) == [cached]
