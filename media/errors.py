"""Exceptions of loading an image or video: one tree, so that one handler answers all of them."""


class MediaError(ValueError):
    """A medium that cannot be served, for a reason the caller can act on.

    A ValueError, which vLLM answers as the caller's mistake where the plugin runs without our
    front end.

    Messages are written for the caller: they hold no file paths of this machine, no addresses
    that a name resolved to and no text of the decoding libraries.

    Attributes:
        status: the HTTP status that fits.
        message: one line.
        param: where in the request, e.g. ``messages[0].content[1].max_pixels``. The planning
            functions know only the field (``max_pixels``); whoever knows the rest of the path
            puts it in front with :meth:`locate`.
    """

    status: int = 400

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param

    def locate(self, path: str | None) -> None:
        """Puts ``path``, the place of the medium in the request, in front of :attr:`param`."""
        if path is not None:
            self.param = path if self.param is None else f"{path}.{self.param}"


class ControlError(MediaError):
    """A control that is unknown, out of range, contradictory, or cannot be met by this medium."""


class FetchError(MediaError):
    """The medium cannot be had from where its URL points."""


class UploadError(MediaError):
    """It names an uploaded file, and there is none of that name for who asks."""

    status = 404


class DecodeError(MediaError):
    """The bytes are not a supported, intact image or video."""


class LimitError(MediaError):
    """Larger than a limit of this server."""

    status = 413


def too_large(max_bytes: int) -> LimitError:
    """What is raised for a medium of more bytes than that."""
    return LimitError(f"the media is larger than the limit of {max_bytes} bytes")
