"""The calls in the documentation work as pasted, but for this server's address and key."""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def block(file: str, language: str, word: str) -> str:
    """The file's code block in ``language`` that contains ``word``."""
    blocks = re.findall(rf"```{language}\n(.*?)```", (ROOT / file).read_text(), re.DOTALL)
    (found,) = (text for text in blocks if word in text)
    return found


def run(server, command: list[str], text: str) -> str:
    key = server.headers["Authorization"].removeprefix("Bearer ")
    for ours, theirs in (
        ("http://localhost:8000", server.url),
        ('api_key="none"', f'api_key="{key}"'),
        ("-H ", f'-H "Authorization: Bearer {key}" -H '),
    ):
        text = text.replace(ours, theirs)
    done = subprocess.run([*command, text], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout


def test_curl(server) -> None:
    answer = json.loads(run(server, ["bash", "-c"], block("README.md", "sh", "curl")))
    assert answer["choices"][0]["message"]["content"]
    assert answer["usage"]["prompt_tokens_details"]["image_tokens"] > 0


def test_anthropic_client(server) -> None:
    assert run(server, [sys.executable, "-c"], block("docs/api.md", "python", "Anthropic")).strip()


def test_openai_client(server) -> None:
    printed = run(server, [sys.executable, "-c"], block("docs/api.md", "python", "OpenAI"))
    answer, details = printed.rsplit("\n ", 1)
    assert answer.strip()
    assert re.search(r"video_tokens=[1-9]", details)
