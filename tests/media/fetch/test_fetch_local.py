"""Fetching from data: URLs and from files below the media root."""

import base64
import io
import os
import stat
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import pytest
from fetching import BODY, refusal
from hypothesis import given
from hypothesis import strategies as st

from saccade.media.errors import LimitError
from saccade.media.fetch import data_urls
from saccade.media.fetch.data_urls import decode_data_url
from saccade.media.fetch.fetcher import FetchPolicy, MediaFetcher, read_file


async def test_data_urls(fetcher: MediaFetcher) -> None:
    encoded = base64.b64encode(BODY).decode()
    assert await fetcher.fetch(f"data:image/png;base64,{encoded}") == BODY
    assert await fetcher.fetch(f"DATA:image/png;charset=x;BASE64,{encoded}") == BODY
    assert await fetcher.fetch(f"data:;base64,{quote(encoded)}") == BODY
    assert await fetcher.fetch(f"data:image/png; base64 ,{encoded}") == BODY
    assert await fetcher.fetch(f" \r\ndata:image/png;name=a;base64,{encoded}\n") == BODY
    assert await fetcher.fetch("data:base64,YQ==") == b"YQ=="
    assert await fetcher.fetch("data:text/plain," + quote(BODY)) == BODY
    assert await fetcher.fetch("data:,a%20b") == b"a b"
    large = os.urandom(300_000)
    assert await fetcher.fetch("data:;base64," + base64.b64encode(large).decode()) == large


@given(st.binary(max_size=200), st.integers(0, 200))
def test_data_url_byte_cap_is_exact(data: bytes, cap: int) -> None:
    urls = [
        "data:;base64," + base64.b64encode(data).decode(),
        "data:;base64," + quote(base64.b64encode(data).decode(), safe=""),
        "data:," + quote(data, safe=""),
    ]
    for url in urls:
        if len(data) > cap:
            with pytest.raises(LimitError):
                decode_data_url(url, cap)
        else:
            assert decode_data_url(url, cap) == data


@pytest.mark.parametrize(
    "rest", ["", "image/png;base64", ";base64,***", ";base64,a", ";base64,é", ";base64,a=b="]
)
async def test_malformed_data_urls_are_refused(rest: str) -> None:
    assert "data URL" in await refusal(FetchPolicy(), "data:" + rest)


def test_a_long_payload_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    long = {f"data:{kind},{'%41' * 2000}" for kind in ("", ";base64")}
    long.add("data:;base64," + "A" * 2000)
    for name in ("unquote", "unquote_to_bytes"):
        monkeypatch.setattr(data_urls, name, None)
    monkeypatch.setattr(data_urls.pybase64, "b64decode", None)
    for url in long:
        with pytest.raises(LimitError):
            decode_data_url(url, 1000)


@pytest.fixture
def media_root(tmp_path: Path) -> Path:
    root = tmp_path / "media"
    (root / "inner").mkdir(parents=True)
    (root / "inner" / "a picture.bin").write_bytes(BODY)
    (tmp_path / "outside.bin").write_bytes(b"outside")
    (tmp_path / "media-of-others").mkdir()
    (tmp_path / "media-of-others" / "x.bin").write_bytes(b"outside")
    (root / "good-link").symlink_to(root / "inner" / "a picture.bin")
    (root / "bad-link").symlink_to(tmp_path / "outside.bin")
    (root / "bad-folder").symlink_to(tmp_path)
    (root / "loop").symlink_to(root / "loop")
    os.mkfifo(root / "pipe")
    return root


async def test_files_below_the_root_are_served(fetcher: MediaFetcher, media_root: Path) -> None:
    fetcher = MediaFetcher(FetchPolicy(media_root=media_root))
    for url in (
        f"file://{media_root}/inner/a%20picture.bin",
        f"file://localhost{media_root}/inner/a picture.bin",
        f"file:{media_root}/inner/a%20picture.bin",
        f"{media_root}/inner/a picture.bin",
        "inner/a picture.bin",
        "inner/../inner/a picture.bin",
        "good-link",
    ):
        assert await fetcher.fetch(url) == BODY, url
    await fetcher.close()


async def test_files_outside_the_root_are_refused(media_root: Path) -> None:
    policy = FetchPolicy(media_root=media_root)
    outside = "lies outside"
    for url in (
        f"file://{media_root}/../outside.bin",
        f"file://{media_root}/bad-link",
        f"file://{media_root}/bad-folder/outside.bin",
        f"file://{media_root}-of-others/x.bin",
        f"file://{media_root}/../does-not-exist",
        f"{media_root.parent}/outside.bin",
        "../outside.bin",
    ):
        assert outside in await refusal(policy, url), url
    assert "not served" in await refusal(FetchPolicy(), f"file://{media_root}/good-link")
    assert "no URL" in await refusal(FetchPolicy(), "picture.png")
    assert "host" in await refusal(policy, "file://other/inner/a.bin")


async def test_odd_files_are_refused(media_root: Path) -> None:
    policy = FetchPolicy(media_root=media_root, max_bytes=4096)
    for url in ("pipe", "inner", "missing.bin", "loop", "", "a" * 300):
        message = await refusal(policy, url)
        assert str(media_root) not in message, url
    small = FetchPolicy(media_root=media_root, max_bytes=4095)
    await refusal(small, "good-link", LimitError)
    assert read_file("good-link", policy) == BODY


@pytest.mark.parametrize("error", [OSError, ValueError, RuntimeError])
async def test_paths_that_the_system_cannot_read_are_refused(
    error: type[Exception], media_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = Path.resolve

    def fail(path: Path) -> Path:
        if path.name == "unreadable":
            raise error("secret")
        return resolve(path)

    monkeypatch.setattr(Path, "resolve", fail)
    policy = FetchPolicy(media_root=media_root)
    assert "malformed" in await refusal(policy, "inner/unreadable")


async def test_a_large_file_is_refused_unread(
    media_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its size; and read no further than the limit if that was another."""
    policy = FetchPolicy(media_root=media_root, max_bytes=len(BODY) - 1)
    read: list[int] = []

    class Counted(io.FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            read.append(-1 if size is None else size)
            return super().read(size) or b""

    monkeypatch.setattr(os, "fdopen", Counted)
    await refusal(policy, "good-link", LimitError)
    assert read == []
    status = SimpleNamespace(st_mode=stat.S_IFREG, st_size=0)
    monkeypatch.setattr(os, "fstat", lambda _: status)
    await refusal(policy, "good-link", LimitError)
    assert read == [len(BODY)]


async def test_a_link_that_takes_the_files_place_is_not_followed(
    media_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path that was judged is the one that is opened."""
    really = os.open

    def swap(path: Path, flags: int) -> int:
        path.unlink()
        path.symlink_to(media_root.parent / "outside.bin")
        return really(path, flags)

    monkeypatch.setattr(os, "open", swap)
    assert "cannot be read" in await refusal(FetchPolicy(media_root=media_root), "good-link")
