"""Request bodies that /docs shows."""

from typing import Any

_PHOTO = "https://example.org/street.jpg"
_CLIP = "https://example.org/match.mp4"
_ASKED = {"type": "text", "text": "What happens here?"}


def _chat(summary: str, part: dict[str, Any], **fields: Any) -> dict[str, Any]:
    message = {"role": "user", "content": [part, _ASKED]}
    return {"summary": summary, "value": {"model": "demo", "messages": [message], **fields}}


CHAT_EXAMPLES: dict[str, Any] = {
    "image": _chat(
        "An image of at most a million pixels, and what the model was shown of it",
        {"type": "image_url", "image_url": {"url": _PHOTO}, "max_pixels": 1_003_520},
        vision={"report": True},
    ),
    "size": _chat(
        "An image in a given size",
        {"type": "image_url", "image_url": {"url": _PHOTO}, "resized_width": 560}
        | {"resized_height": 420},
    ),
    "video": _chat(
        "Part of a video, sampled at four frames a second",
        {"type": "video_url", "video_url": {"url": _CLIP}, "fps": 4.0}
        | {"video_start": 12.5, "video_end": 60.0, "max_frames": 128},
    ),
    "frames": _chat(
        "A video as a list of frames, one a second",
        {"type": "video", "video": [_PHOTO, _PHOTO], "sample_fps": 1.0},
    ),
}

RESPONSE_EXAMPLES: dict[str, Any] = {
    name: {
        "summary": summary,
        "value": {
            "model": "demo",
            "input": [
                {
                    "role": "user",
                    "content": [part, {"type": "input_text", "text": _ASKED["text"]}],
                }
            ],
        },
    }
    for name, summary, part in (
        (
            "image",
            "An image of at most a million pixels",
            {"type": "input_image", "image_url": _PHOTO, "max_pixels": 1_003_520},
        ),
        (
            "video",
            "A video, sampled at four frames a second",
            {"type": "input_video", "video_url": _CLIP, "fps": 4.0},
        ),
    )
}
