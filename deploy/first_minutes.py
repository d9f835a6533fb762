"""A newcomer's first minutes: clone, `make demo`, then every way to ask a server, each timed.

    python3 deploy/first_minutes.py                       this checkout's last commit, set up anew
    python3 deploy/first_minutes.py --environment .venv   with what is set up here already
    python3 deploy/first_minutes.py --source URL          another repository

Commands and code are those of README.md and docs/api.md. Ends with the first that fails or says
something else than it should. Needs git, make, curl and Python's standard library.
"""

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HERE = Path(__file__).resolve().parents[1]
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_STAR = "What colour is the star?"
_START_SECONDS = 600


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", default=str(_HERE), help="repository (default: this one)")
    parser.add_argument("--environment", type=Path, help="a .venv, in place of a set-up")
    args = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="first-minutes-") as folder:
        try:
            _walk(Path(folder) / "saccade", args.source, args.environment)
        except _Failure as failure:
            print(failure)
            return 1
    print(f"{'all of it':<12}{time.monotonic() - began:7.1f} s")
    return 0


class _Failure(Exception):
    """A step that went wrong: its text says which, and what was said."""


def _walk(clone: Path, source: str, environment: Path | None) -> None:
    _step("clone", ["git", "clone", "--quiet", source, str(clone)], clone.parent)
    make = ["make", "--no-print-directory"]
    if environment is not None:
        (clone / ".venv").symlink_to(environment.resolve())
        make += ["-o", "setup"]
    _step("make demo", [*make, "demo"], clone, r"(?s)What colour is the star\?\ngreen\n")
    with _serving([*make, "serve"], clone) as url:
        _playground(url, clone)
        saccade = str(clone / ".venv/bin/saccade")
        _step("curl", ["bash", "-c", _block(clone, "README.md", "sh", url)], clone, '"green"')
        code = _block(clone, "docs/api.md", "python", url)
        _step("Python", [str(clone / ".venv/bin/python"), "-c", code], clone, "video_tokens=160")
        image = "demo/media/shapes.jpg"
        _step("chat", [saccade, "chat", "--url", url, "--image", image, _STAR], clone, r"^green$")
        _step("plan", [saccade, "plan", "demo/media/events.mp4"], clone, "16 of 96 frames")
        batch = [saccade, "batch", "--url", url, "--images", "demo/media", "--prompt", _STAR]
        output = clone / "answers.csv"
        _step("batch", [*batch, "--format", "csv", "--output", str(output)], clone)
        if "shapes.jpg,200,green" not in output.read_text():
            raise _Failure(f"batch: wrong answers:\n{output.read_text()}")
        load = ["--profile", "image-448", "--rates", "inf", "--requests", "16"]
        _step("bench", [saccade, "bench", "load", "--url", url, *load], clone, r"RESULT .*\d")


def _step(name: str, command: list[str], folder: Path, says: str = "") -> None:
    """Runs a command whose output has to match ``says``, and tells how long it took."""
    began = time.monotonic()
    done = subprocess.run(  # noqa: S603
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode != 0:
        raise _Failure(f"{name}: exit code {done.returncode}:\n{done.stdout}")
    if not re.search(says, done.stdout, re.MULTILINE):
        raise _Failure(f"{name}: nothing like {says!r} in:\n{done.stdout}")
    _tell(name, began)


def _tell(name: str, began: float) -> None:
    print(f"{name:<12}{time.monotonic() - began:7.1f} s", flush=True)


@contextmanager
def _serving(command: list[str], folder: Path) -> Iterator[str]:
    """`make serve` on a free port, until it is ready; its address."""
    began = time.monotonic()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with (folder / "serve.log").open("w+") as log:
        process = subprocess.Popen(  # noqa: S603
            [*command, f"ARGS=--port {port}"],
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while not _is_ready(url):
                if process.poll() is not None or time.monotonic() - began > _START_SECONDS:
                    log.seek(0)
                    raise _Failure(f"make serve: not ready:\n{log.read()}")
                time.sleep(0.2)
            _tell("make serve", began)
            yield url
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
            process.wait(60)


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/ready") as answer:  # noqa: S310
            return answer.status == 200
    except OSError:
        return False


def _playground(url: str, folder: Path) -> None:
    """The page in a browser, if there is one, else as it is sent."""
    browser = next((found for name in _BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        _step("page", ["curl", "--fail", "--silent", url], folder, "<title>Saccade")
    else:
        profile = f"--user-data-dir={folder / 'browser'}"
        shown = [browser, "--headless", "--no-sandbox", "--disable-gpu", profile]
        # Scripts have asked the server by then: its model is named on the page.
        shown += ["--virtual-time-budget=10000", "--dump-dom", url]
        _step("playground", shown, folder, r"(?s)<title>Saccade.*>demo<")


def _block(folder: Path, file: str, language: str, url: str) -> str:
    """The document's first code block that asks a server, with the address of this one."""
    text = (folder / file).read_text(encoding="utf-8")
    blocks = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    address = "http://localhost:8000"
    return next(block for block in blocks if address in block).replace(address, url)


if __name__ == "__main__":
    sys.exit(main())
