"""One question and its answer: sent, shown, kept, and its boxes drawn."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from saccade.server.commands.chat import pictures
from saccade.server.commands.chat.attachments import Attachment
from saccade.server.commands.chat.boxes import draw_marks, marks_read, marks_told
from saccade.server.commands.chat.client import Answer, Client, RequestFailed
from saccade.server.commands.chat.conversation import Conversation, sendable
from saccade.server.commands.chat.output import (
    MarkdownOutput,
    PlainOutput,
    Silent,
    is_terminal,
    tell,
)


class Turns:
    """Asks a server, turn by turn.

    Args:
        client, model: who is asked.
        conversation: grows by each question that was answered.
        options: fields of every request, such as max_tokens.
        controls: Qwen's, for what is attached.
        as_json: print one object a turn instead of the text.
        boxes: where to draw what an answer locates; None for nowhere.
        picture: how attached images are shown, of `pictures.KINDS`.

    Attributes:
        answers: so far, in this process.
    """

    def __init__(
        self,
        client: Client,
        model: str,
        conversation: Conversation,
        *,
        options: Mapping[str, object],
        controls: Mapping[str, float],
        as_json: bool,
        boxes: Path | None,
        picture: str,
    ) -> None:
        self.conversation = conversation
        self.controls = controls
        self.answers: list[Answer] = []
        self._client = client
        self._model = model
        self._options = options
        self._as_json = as_json
        self._boxes = boxes
        self._picture = picture

    def attach(self, attachment: Attachment) -> None:
        """Attaches it to the next question, and shows it."""
        self.conversation.attached.append(attachment)
        picture = None if self._picture == "none" else attachment.picture
        if picture is not None:
            print(pictures.draw(picture, self._picture), end="", file=sys.stderr)
        tell(f"[{attachment.name}]")

    def ask(self, question: str) -> Answer:
        """One turn. Interrupted, what came of the answer is kept.

        Raises:
            RequestFailed: there is no whole answer; the question is taken back.
        """
        answer = Answer(self._model)
        self.conversation.ask(question)
        try:
            with self._output() as output:
                vision = self._vision()
                messages = self.conversation.messages()
                self._client.ask(answer, messages, self._options, vision, output.show)
        except RequestFailed:
            self.conversation.take_back()
            raise
        except KeyboardInterrupt:
            self._keep(answer)
            raise
        self._keep(answer)
        if self._as_json:
            print(json.dumps(answer.as_json()), flush=True)
        for warning in answer.vision.get("warnings") or ():
            tell(f"[{warning}]")
        if answer.finish_reason == "length":
            tell("[cut by the limit on its length]")
        if self._boxes is not None:
            self._draw(answer, self._boxes)
        return answer

    def _output(self) -> PlainOutput | MarkdownOutput | Silent:
        if self._as_json:
            return Silent()
        return MarkdownOutput() if is_terminal() else PlainOutput()

    def _vision(self) -> dict[str, Any]:
        """What to ask of a Saccade beyond OpenAI's API."""
        wanted = self._as_json or self._boxes is not None
        if not (wanted and self.conversation.has_media() and self._client.is_saccade()):
            return {}
        vision: dict[str, Any] = {"report": True} if self._as_json else {}
        if self._boxes is not None:
            vision |= {"coordinates": "source", "history": "source"}
        return vision

    def _keep(self, answer: Answer) -> None:
        if answer.text:
            self.conversation.answer(answer.text)
            self.answers.append(answer)
        else:
            self.conversation.take_back()

    def _draw(self, answer: Answer, path: Path) -> None:
        found = self.conversation.last_image()
        if found is None:
            tell("[no boxes drawn: there is no image]")
            return
        place, image = found
        if image is None:
            tell("[no boxes drawn: the image is behind a URL; attach it as a file]")
            return
        if self._client.is_saccade():
            marks = marks_told(answer.vision, place)
        else:
            marks = marks_read(sendable(answer.text), image.size)
            if marks:
                tell("[the server is no Saccade: boxes are drawn as the model wrote them]")
        if not marks:
            tell("[no boxes in the answer]")
            return
        try:
            draw_marks(image, marks, path)
        except OSError as error:
            raise RequestFailed(
                f"cannot write --boxes {path}: {error.strerror or error}"
            ) from error
        tell(f"[{len(marks)} drawn: {path}]")


def picture_kind(asked: str) -> str:
    """How to show attached images; ``auto`` shows them where stderr is a terminal that can."""
    if asked != "auto":
        return asked
    return pictures.choose(os.environ) if sys.stderr.isatty() else "none"
