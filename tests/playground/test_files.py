"""The playground's files as the server gives them. No browser."""

import argparse
import re
from functools import cache
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from saccade.server.api.app import build_app
from saccade.server.core.lifecycle import Lifecycle
from saccade.server.core.settings import add_settings_arguments, load_settings
from saccade.server.engine.flags import add_engine_arguments, make_parser
from saccade.server.flow.services import Services

FOLDER = Path(__file__).parents[2] / "server" / "playground"
FILES = sorted(file.name for file in FOLDER.iterdir())


@cache
def application(flags: str, playground: bool) -> FastAPI:
    parser = make_parser()
    add_engine_arguments(parser)
    services = Services(None, None, None, Lifecycle(1.0), None)
    return build_app(services, parser.parse_args(flags.split()), ["key"], playground)


async def ask(
    path: str, method: str = "GET", flags: str = "", playground: bool = True, **headers: str
) -> httpx.Response:
    """What the application answers, without a server or an engine."""
    transport = httpx.ASGITransport(application(flags, playground))
    async with httpx.AsyncClient(
        transport=transport, base_url="http://server", follow_redirects=True
    ) as client:
        return await client.request(method, path, headers=headers)


@pytest.mark.parametrize("path", ["/", "/playground", *(f"/playground/{name}" for name in FILES)])
async def test_every_file_is_served_without_a_key(path):
    answer = await ask(path)
    name = "index.html" if path in ("/", "/playground") else path.rpartition("/")[2]
    assert answer.content == (FOLDER / name).read_bytes()
    kind = {"html": "text/html", "css": "text/css"}.get(name.rpartition(".")[2], "javascript")
    assert kind in answer.headers["content-type"]
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'self';")
    assert "unsafe" not in policy
    assert "http" not in policy
    head = await ask(path, "HEAD")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(answer.content))
    # It is asked for every time, and sent when it has changed.
    assert answer.headers["cache-control"] == "no-cache"
    again = await ask(path, **{"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("name", ["nothing.js", "..%2fcli.py", "%2e%2e/cli.py", "..."])
async def test_nothing_else_is(name):
    answer = await ask(f"/playground/{name}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


async def test_files_are_read_only():
    assert (await ask("/playground/app.js", "POST")).status_code == 405


async def test_a_slash_more_leads_to_the_page():
    assert (await ask("/playground/")).content == (FOLDER / "index.html").read_bytes()


async def test_behind_a_prefix_that_a_proxy_leaves_on():
    for path in ("/prefix/", "/prefix/playground", "/prefix/playground/app.js"):
        assert (await ask(path, flags="--root-path=/prefix")).status_code == 200


async def test_it_can_be_left_out():
    parser = argparse.ArgumentParser()
    add_settings_arguments(parser)
    assert load_settings(parser.parse_args([])).playground
    assert not load_settings(parser.parse_args(["--no-playground"])).playground
    for path in ("/", "/playground", "/playground/app.js"):
        assert (await ask(path, playground=False)).status_code == 404


def test_urls_are_relative_and_of_this_server():
    # Behind a prefix the page finds its files and the API; and nothing comes from other hosts.
    for file in FOLDER.iterdir():
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"""https?://|["'(]/[a-z]""", text), file.name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|\beval\(", text), file.name
        assert text.count("\n") <= 300, file.name
    page = (FOLDER / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]* src=)", page)
