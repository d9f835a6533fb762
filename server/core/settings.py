"""Saccade's own settings: flag over environment (``SACCADE_...``) over default, then frozen.

The engine's settings are vLLM's flags and are not repeated here.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ByteSize,
    Field,
    SecretStr,
    ValidationError,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from saccade.media.fetch.fetcher import FetchPolicy
from saccade.media.limits import ImageLimits, MediaLimits

ENV_PREFIX = "SACCADE_"


@dataclass(frozen=True)
class RequestLimits:
    """How much one request may ask for, of what an operator may want to move.

    Args:
        max_n: answers to one request, all its prompts together.
        max_answer_tokens: of each answer; None: what the context leaves.
        refuse_unknown: fields that this server does not know, rather than leave them out.
    """

    max_n: int = 16
    max_answer_tokens: int | None = None
    refuse_unknown: bool = False


_FETCH = FetchPolicy()
_LIMITS = MediaLimits()
_REQUEST = RequestLimits()


class SettingError(Exception):
    """A setting that the server cannot start with; one line that names it."""


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(item.strip() for item in value.split(",") if item.strip())
    return value


def _existing_folder(path: Path | None) -> Path | None:
    if path is not None and not path.is_dir():
        raise ValueError("no such folder")
    return path


def _positive(value: ByteSize) -> ByteSize:
    if value <= 0:
        raise ValueError("must be more than 0")
    return value


_Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
_Bytes = Annotated[ByteSize, AfterValidator(_positive)]
_Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Count = Annotated[int, Field(gt=0)]


class Settings(BaseSettings):
    """One frozen object; every field but the key is a flag of the same name."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True, extra="forbid")

    api_key: Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_split)] = Field(
        (), description="keys, separated by commas, of which requests to /v1 must carry one"
    )
    media_root: Annotated[Path | None, AfterValidator(_existing_folder)] = Field(
        None, description="folder below which file: URLs are served (default: none are)"
    )
    allow_private_media: bool = Field(
        False, description="fetch media from private, loopback and link-local addresses too"
    )
    allowed_media_domains: _Names = Field(
        (), description="fetch media from these domains and their subdomains only, comma separated"
    )
    max_media_bytes: _Bytes = Field(
        ByteSize(_FETCH.max_bytes), description="of one image or video, encoded; e.g. 64MiB"
    )
    media_connect_timeout: _Seconds = Field(
        _FETCH.connect_timeout, description="seconds to reach a media server"
    )
    media_read_timeout: _Seconds = Field(
        _FETCH.read_timeout, description="seconds without a byte from a media server"
    )
    media_total_timeout: _Seconds = Field(
        _FETCH.total_timeout, description="seconds for one medium, redirects included"
    )
    max_kept_media_bytes: Annotated[ByteSize, Field(ge=0)] = Field(
        ByteSize(_FETCH.max_kept_bytes),
        description="of downloads that are kept for ten minutes, each for its API key; 0: none",
    )
    media_workers: _Count | None = Field(
        None, description="threads that decode and resize (default: one a core)"
    )
    max_image_pixels: _Count = Field(
        _LIMITS.image.max_pixels, description="of an image as sent, before it is resized"
    )
    max_video_seconds: _Seconds = Field(_LIMITS.max_video_seconds, description="of a video as sent")
    max_video_frames: _Count = Field(
        _LIMITS.max_planned_frames, description="that the model may see of one video"
    )
    max_video_tokens: _Count = Field(
        _LIMITS.max_video_tokens, description="visual tokens that one video may cost"
    )
    max_decoding_bytes: _Bytes = Field(
        ByteSize(_LIMITS.max_decoding_bytes),
        description="of pixels that are being decoded at any time; more waits; e.g. 4GiB",
    )
    max_decoding_seconds: _Seconds = Field(
        _LIMITS.max_decoding_seconds, description="that one video may take to decode"
    )
    files_dir: Path | None = Field(
        None, description="folder where uploaded files are kept (default: none are)"
    )
    max_files_bytes: _Bytes = Field(
        ByteSize(16 * 2**30), description="of all files of one API key; e.g. 64GiB"
    )
    max_request_bytes: _Bytes = Field(
        ByteSize(512 * 2**20), description="of one request's body; e.g. 64MiB"
    )
    max_n: _Count = Field(
        _REQUEST.max_n, description="answers to one request, those to all its prompts together"
    )
    # 16 is what a text completion gets that names nothing.
    max_answer_tokens: Annotated[int, Field(ge=16)] | None = Field(
        None, description="of each answer (default: as many as the context leaves)"
    )
    unknown_fields: Literal["warn", "refuse"] = Field(
        "warn",
        description="of a request: leave them out and say so in its answer and the log, or refuse",
    )
    max_inflight_tokens: _Count | None = Field(
        None,
        description="that admitted requests may cost together (default: the engine's KV cache)",
    )
    max_queued_requests: _Count = Field(
        128, description="that fetch their media or wait to be admitted; more get 429"
    )
    max_queued_bytes: _Bytes = Field(
        ByteSize(2**30), description="of bodies and media of requests that wait; e.g. 4GiB"
    )
    queue_timeout: _Seconds = Field(
        30.0, description="seconds that a request may wait to be admitted; then it gets 429"
    )
    drain_timeout: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        # Below the 30 s that Kubernetes grants before it kills.
        25.0,
        description="seconds that requests under way get to finish after SIGTERM",
    )
    warm_up: bool = Field(
        True,
        description="before the port opens, run an image, a video and a token with logprobs",
    )
    playground: bool = Field(
        True, description="serve a page at / and /playground that asks the model from a browser"
    )

    @property
    def fetch_policy(self) -> FetchPolicy:
        """Where media may come from."""
        return FetchPolicy(
            media_root=self.media_root,
            allow_private_addresses=self.allow_private_media,
            allowed_domains=self.allowed_media_domains,
            max_bytes=int(self.max_media_bytes),
            connect_timeout=self.media_connect_timeout,
            read_timeout=self.media_read_timeout,
            total_timeout=self.media_total_timeout,
            max_kept_bytes=int(self.max_kept_media_bytes),
        )

    @property
    def request_limits(self) -> RequestLimits:
        """How much a request may ask for."""
        refuse = self.unknown_fields == "refuse"
        return RequestLimits(self.max_n, self.max_answer_tokens, refuse)

    @property
    def media_limits(self) -> MediaLimits:
        """How large media may be."""
        return MediaLimits(
            image=ImageLimits(max_pixels=self.max_image_pixels),
            max_video_seconds=self.max_video_seconds,
            max_planned_frames=self.max_video_frames,
            max_video_tokens=self.max_video_tokens,
            max_decoding_bytes=int(self.max_decoding_bytes),
            max_decoding_seconds=self.max_decoding_seconds,
        )


def add_settings_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds a flag for every setting; a flag that is not given leaves no trace in the result."""
    group = parser.add_argument_group(
        "Saccade", "Media, limits and shutdown; each also as SACCADE_NAME in the environment."
    )
    for name, flag, field in _flags():
        text = field.description
        if field.default not in (None, (), False):
            shown = field.default
            text += (
                f" (default: {shown.human_readable() if isinstance(shown, ByteSize) else shown})"
            )
        if field.annotation is bool:
            group.add_argument(
                flag,
                dest=name,
                action=argparse.BooleanOptionalAction,
                default=argparse.SUPPRESS,
                help=text,
            )
        else:
            group.add_argument(
                flag,
                dest=name,
                metavar=name.rpartition("_")[2].upper(),
                default=argparse.SUPPRESS,
                help=text,
            )


def load_settings(arguments: argparse.Namespace) -> Settings:
    """The settings in force.

    Raises:
        SettingError: a value that cannot be used; names the flag or the variable it came from.
    """
    given = {name: getattr(arguments, name) for name, _, _ in _flags() if hasattr(arguments, name)}
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    name = str(first["loc"][0])
    where = f"--{name.replace('_', '-')}" if name in given else f"{ENV_PREFIX}{name.upper()}"
    told = first["msg"].removeprefix("Value error, ")
    shown = "" if name == "api_key" else f": {first['input']}"
    raise SettingError(f"{where}{shown}: {told}")


def _flags() -> Iterator[tuple[str, str, Any]]:
    for name, field in Settings.model_fields.items():
        # --api-key is vLLM's flag; ours is its variable in the environment.
        if name != "api_key":
            yield name, f"--{name.replace('_', '-')}", field
