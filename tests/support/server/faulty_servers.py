"""A whole server whose compiled operations fail, asked what `saccade demo` asks.

As a script, one operation and one fault at a time, a line each; exits with 1 if a server did not
start, an answer is wrong, or nobody named the operation. Some ten minutes, and so in no test:

    python tests/support/server/faulty_servers.py
"""

import io
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import av
import httpx
from PIL import Image

from saccade.demo.questions import QUESTIONS, SHAPES, Medium, Question
from saccade.kernels.cpu import compiled
from saccade.kernels.cpu import extension as cpu_extension
from saccade.kernels.cpu.processor import processor
from saccade.kernels.self_test import faults
from saccade.server.commands.child import LIGHT_FLAGS, ServerProcess, saccade_command

_START_SECONDS = 600
_HLG = (9, 18, 9)  # H.273's codes of BT.2100's primaries, transfer and matrix


def compiled_operations(dtype: str) -> list[str]:
    """Those that are compiled here, and that a server in this dtype uses."""
    extension = cpu_extension.load()
    names = [] if extension.operations is None else list(compiled.OPERATIONS)
    if extension.decode_resized_jpeg is None and names:
        names.remove("decode_resized_jpeg")
    if dtype != "bfloat16" or not processor().bfloat16_matmul:
        names = [name for name in names if name != "attention_bfloat16"]
    return names


@dataclass(frozen=True)
class Outcome:
    """What a server did: how many answers it gave, the wrong ones, and its log."""

    answers: int
    wrong: list[str]
    log: str


class _Faulty(ServerProcess):
    def __init__(self, asked: str, *flags: str) -> None:
        super().__init__("demo", (*LIGHT_FLAGS, *flags))
        self._asked = asked

    def environment(self) -> dict[str, str]:
        return {**os.environ, faults.VARIABLE: self._asked}


def serve_with_faults(asked: str, dtype: str) -> Outcome:
    """Starts a server with these faults and asks it everything."""
    with (
        tempfile.TemporaryDirectory() as folder,
        _Faulty(asked, f"--dtype={dtype}") as server,
    ):
        server.wait_ready(_START_SECONDS)
        wrong = []
        asked_for = _asked(Path(folder))
        for question in asked_for:
            body = {
                "model": "demo",
                "messages": question.messages(),
                "max_tokens": 64,
                "temperature": 0,
            }
            answer = httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=600)
            text = answer.raise_for_status().json()["choices"][0]["message"]["content"]
            if not question.is_right(text):
                wrong.append(f"{text!r} instead of {question.answer!r}")
        return Outcome(len(asked_for), wrong, server.log_tail(10_000))


def _asked(folder: Path) -> list[Question]:
    """The demo's questions of plain text, and some about its image enlarged.

    The digit among their answers, of 00:04, leads by 4.7 also in bfloat16: no tie.
    """
    image = Image.open(SHAPES.file)
    size = {"resized_width": image.width, "resized_height": image.height}
    enlarged = []
    for kind in ("png", "jpeg"):  # they are resized in different operations
        image.resize((2 * image.width, 2 * image.height)).save(file := folder / f"shapes.{kind}")
        enlarged.append(Medium("image", file, f"image/{kind}", size))
    (folder / "shapes.mp4").write_bytes(_hdr_clip(image))
    controls = {"nframes": 4, **size}
    enlarged.append(Medium("video", folder / "shapes.mp4", "video/mp4", controls))
    plain = [question for question in QUESTIONS if not question.fields]
    return plain + [Question(((one, "What colour is the star?"),), "green") for one in enlarged]


def _hdr_clip(image: Image.Image) -> bytes:
    """The image for a second, tagged as HLG, whose colours have an operation of their own."""
    with av.open(file := io.BytesIO(), "w", format="mp4") as writer:
        stream = writer.add_stream("libx264", rate=4, options={"crf": "10"})
        stream.width, stream.height = image.size
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace = _HLG
        for _ in range(4):
            writer.mux(stream.encode(av.VideoFrame.from_image(image.convert("RGB"))))
        writer.mux(stream.encode())
    return file.getvalue()


def doctor_with_faults(asked: str) -> tuple[int, str]:
    """The exit code of `saccade doctor` and what it says."""
    ended = subprocess.run(
        [*saccade_command(), "doctor"],
        capture_output=True,
        text=True,
        env={**os.environ, faults.VARIABLE: asked},
    )
    return ended.returncode, ended.stdout


def main() -> int:
    failed = 0
    cases = [(name, "float32") for name in compiled_operations("float32")]
    cases += [
        (name, "bfloat16") for name in compiled_operations("bfloat16") if name not in dict(cases)
    ]
    for name, dtype in cases:
        for fault in ("raise", "wrong"):
            asked = f"{name}:{fault}"
            code, said = doctor_with_faults(asked)
            outcome = serve_with_faults(asked, dtype)
            named = f"{name} (compiled" in outcome.log
            fine = not outcome.wrong and named and code == 1 and f"out of use: {name}" in said
            failed += not fine
            print(
                f"{'right' if fine else 'WRONG':<7}{asked:<28}{dtype:<10}"
                f"{outcome.answers - len(outcome.wrong)} of {outcome.answers} answers right, "
                f"log {'names it' if named else 'is silent'}, doctor exits with {code}",
                *outcome.wrong,
                flush=True,
            )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
