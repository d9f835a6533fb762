"""What is to be served, to whom, on what: the answers that both kinds of file are written from."""

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from saccade.server.checkpoint.bundled import DEMO

PORT = 8000
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)


class Exposure(StrEnum):
    """Who reaches the server."""

    LOCAL = "local"  # programs on the same machine
    NETWORK = "network"  # machines of one network, all trusted with a key
    INTERNET = "internet"  # anybody with a key, through a proxy that speaks TLS


@dataclass(frozen=True)
class Plan:
    """The answers.

    Attributes:
        model: a Hugging Face id, an absolute folder, or ``demo``.
        gpus: 0: the CPU.
        exposure: Who reaches it.
    """

    model: str
    gpus: int
    exposure: Exposure

    @property
    def folder(self) -> Path | None:
        """Of the model, if it is one on this machine."""
        return Path(self.model) if self.model.startswith("/") else None

    @property
    def needs_key(self) -> bool:
        """Whether requests must carry an API key."""
        return self.exposure is not Exposure.LOCAL

    @property
    def summary(self) -> str:
        """In a few words."""
        where = "the CPU" if not self.gpus else "one GPU" if self.gpus == 1 else f"{self.gpus} GPUs"
        return f"{self.model} on {where}, for {_WHO[self.exposure]}"

    def flags(self) -> list[tuple[str, str]]:
        """(why, flag) of the server, but for its model and its address."""
        flags = [
            (why, flag)
            for why, flag, applies in (
                (
                    "The context: longer ones take more of the KV cache.",
                    "--max-model-len=32768",
                    self.model != DEMO,
                ),
                (
                    "Must divide the model's attention heads (3B: 16, 7B: 28, 72B: 64).",
                    f"--tensor-parallel-size={self.gpus}",
                    self.gpus > 1,
                ),
                (
                    "Each GPU encodes images of its own, instead of a share of every image.",
                    "--mm-encoder-tp-mode=data",
                    self.gpus > 1,
                ),
            )
            if applies
        ]
        return flags + (_INTERNET_LIMITS if self.exposure is Exposure.INTERNET else [])


_WHO = {
    Exposure.LOCAL: "programs on this machine",
    Exposure.NETWORK: "machines of this network that have the key",
    Exposure.INTERNET: "whoever has the key, through a TLS proxy",
}

# Below the defaults, which suit callers who are known.
_INTERNET_LIMITS = [
    ("Of one image or video, encoded.", "--max-media-bytes=64MiB"),
    ("Of one request with all that it carries.", "--max-request-bytes=128MiB"),
    ("Of one video.", "--max-video-seconds=1200"),
    ("Visual tokens of one video.", "--max-video-tokens=32768"),
    ("Answers to one request.", "--max-n=4"),
    ("Tokens of one answer.", "--max-answer-tokens=4096"),
    ("Requests that wait; more get 429.", "--max-queued-requests=64"),
    ("Nothing learns of routes and schemas without asking you.", "--disable-fastapi-docs"),
]


def parse_model(text: str) -> str:
    """A model as `saccade serve` takes it; a folder made absolute.

    Raises:
        ValueError: it is neither a folder nor like a Hugging Face id.
    """
    text = text.strip()
    if text == DEMO:
        return text
    folder = Path(text).expanduser()
    if text and folder.is_dir():
        absolute = str(folder.resolve())
        if not absolute.isprintable() or "\\" in absolute:
            raise ValueError(f"{absolute!r} has letters that no service file can hold")
        return absolute
    if _HUB_ID.fullmatch(text):
        return text
    raise ValueError(f"{text!r} is no folder and not like Qwen/Qwen2.5-VL-7B-Instruct")


def parse_gpus(text: str) -> int:
    """A number of GPUs.

    Raises:
        ValueError: it is none.
    """
    if not re.fullmatch(r"\d{1,3}", text.strip(), re.ASCII):
        raise ValueError(f"{text.strip()!r} is no number of GPUs; 0 serves on the CPU")
    return int(text)
