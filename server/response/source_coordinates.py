"""Answers in the caller's coordinates: ``vision.coordinates`` and ``vision.times``.

The text of an answer and the arguments of its tool calls are rewritten; reasoning and logprobs
stay the model's. What has been found goes into the answer's ``vision``: ``detections``, and
``warnings`` where numbers stayed as the model wrote them. In a stream it stands in
``response.completed`` or ``response.incomplete``, or in the chunk that ends a choice: there with
what was found in the choices that ended before, as openai-node keeps what stands last beside
``choices``; and as openai-python keeps only what stands in deltas, there too, of this choice.
"""

from collections.abc import Collection, Sequence
from typing import Any

from saccade.media.grounding.coordinates import CoordinateRewriter
from saccade.media.grounding.detections import DetectionReader
from saccade.media.grounding.look_alikes import like_places, like_times
from saccade.media.grounding.timestamps import TimeRewriter
from saccade.media.planning.plan import ImagePlan, VideoPlan
from saccade.server.request.vision import VisionOptions

Plans = Sequence[ImagePlan | VideoPlan]
# Of a text of an answer. Chat: choice, and which of its tool calls. Response: item, and part.
_Key = tuple[int, int | None]

_UNDECIDED_BOXES = (
    "boxes or points stayed in pixels of the resized image: it is open which image they "
    "belong to, or which of the frames of different sizes; have the answer's objects name it "
    'before the numbers, as in {"image": 2, "bbox_2d": [...]} or {"frame": 2, "bbox_2d": [...]}'
)
_UNREAD_BOXES = "boxes or points stayed as the model wrote them: they are not the numbers expected"
_UNKNOWN_BOXES = (
    "what looks like boxes or points stayed as the model wrote it, in pixels of the resized image, "
    "because its form is not one that is rewritten: "
)
_UNKNOWN_TIMES = (
    "what looks like times stayed as the model wrote it, counted from the first frame shown, "
    "because its form is not one that is rewritten: "
)
_UNDECIDED_TIMES = (
    "times stayed as the model wrote them: it is open which video they belong to, as the videos "
    "begin at different times"
)


class AnswerText:
    """One text of an answer on its way out; or ``back``, from the source's numbers to the model's.

    Attributes:
        sent: what has gone out.
    """

    def __init__(self, options: VisionOptions, plans: Plans, back: bool = False) -> None:
        self._boxes = None
        if options.coordinates == "source":
            self._boxes = CoordinateRewriter(plans, back)
        self._times = None
        offsets = {plan.frame_times[0] for plan in plans if isinstance(plan, VideoPlan)}
        if options.times == "source" and offsets != {0.0} and offsets:
            offset = offsets.pop() if len(offsets) == 1 else None
            self._times = TimeRewriter(-offset if back and offset else offset)
        self.sent = ""

    def feed(self, piece: str) -> str:
        """Takes the next piece; returns what may go out."""
        if self._boxes:
            piece = self._boxes.feed(piece)
        if self._times:
            piece = self._times.feed(piece)
        self.sent += piece
        return piece

    def close(self) -> str:
        """Ends the text; returns what was held back."""
        rest = self._boxes.close() if self._boxes else ""
        if self._times:
            rest = self._times.feed(rest) + self._times.close()
        self.sent += rest
        return rest

    def warnings(self) -> list[str]:
        """Why numbers stayed."""
        found = []
        if self._boxes and self._boxes.undecided:
            found.append(_UNDECIDED_BOXES)
        if self._boxes and self._boxes.unread:
            found.append(_UNREAD_BOXES)
        if self._boxes and (places := like_places(self._boxes.passed)):
            found.append(_UNKNOWN_BOXES + ", ".join(places))
        if self._times and self._times.undecided:
            found.append(_UNDECIDED_TIMES)
        if self._times and (times := like_times(self._times.passed)):
            found.append(_UNKNOWN_TIMES + ", ".join(times))
        return found


class SourceCoordinatesEdit:
    """Rewrites an answer of chat completions or of the Responses API."""

    def __init__(self, options: VisionOptions, plans: Plans) -> None:
        self._options = options
        self._plans = plans
        self._reader = DetectionReader(plans) if options.coordinates == "source" else None
        self._open: dict[_Key, AnswerText] = {}
        self._ended: dict[int, dict[str, Any]] = {}  # choices of a stream
        self._added_events = 0

    def applies_to(self, event: str) -> bool:
        return True

    def edit(self, data: dict[str, Any]) -> list[dict[str, Any]]:
        if "output" in data:
            self._response(data)
        elif "choices" not in data:
            return self._response_event(data)
        for choice in data.get("choices", ()):
            if "delta" in choice:
                self._chat_delta(data, choice)
            else:
                self._chat_choice(data, choice)
        return [data]

    def _chat_choice(self, answer: dict[str, Any], choice: dict[str, Any]) -> None:
        message = choice["message"]
        calls = [call["function"] for call in message.get("tool_calls") or ()]
        texts = [self._rewrite(message, "content")] if message.get("content") else []
        texts += [self._rewrite(function, "arguments") for function in calls]
        _tell(answer, self._found(choice["index"], texts))

    def _rewrite(self, holder: dict[str, Any], name: str) -> AnswerText:
        text = AnswerText(self._options, self._plans)
        text.feed(holder[name])
        text.close()
        holder[name] = text.sent
        return text

    def _text(self, key: _Key) -> AnswerText:
        if key not in self._open:
            self._open[key] = AnswerText(self._options, self._plans)
        return self._open[key]

    def _found(self, choice: int, texts: Collection[AnswerText]) -> dict[str, Any]:
        """What is told of a choice."""
        found: dict[str, Any] = {"detections": []} if self._reader else {}
        for text in texts:
            for one in self._reader.read(text.sent) if self._reader else ():
                kind = "bbox_2d" if len(one.numbers) == 4 else "point_2d"
                place = {kind: list(one.numbers), "image": one.medium}
                found["detections"].append({"choice": choice, "label": one.label, **place})
        found["warnings"] = list(dict.fromkeys(each for text in texts for each in text.warnings()))
        return found

    def _chat_delta(self, chunk: dict[str, Any], choice: dict[str, Any]) -> None:
        index, delta = choice["index"], choice["delta"]
        if delta.get("content"):
            delta["content"] = self._text((index, None)).feed(delta["content"])
        for call in delta.get("tool_calls") or ():
            function = call.get("function") or {}
            if function.get("arguments"):
                text = self._text((index, call["index"]))
                function["arguments"] = text.feed(function["arguments"])
        if choice.get("finish_reason"):
            self._end_choice(chunk, index, delta)

    def _end_choice(self, chunk: dict[str, Any], index: int, delta: dict[str, Any]) -> None:
        texts = {key[1]: text for key, text in self._open.items() if key[0] == index}
        for call, text in texts.items():
            rest = text.close()
            if not rest:
                continue
            if call is None:
                delta["content"] = (delta.get("content") or "") + rest
            else:
                calls = delta.setdefault("tool_calls", [])
                calls.append({"index": call, "function": {"arguments": rest}})
        delta["vision"] = self._ended[index] = self._found(index, texts.values())
        for ended in sorted(self._ended):
            _tell(chunk, self._ended[ended])

    def _response(self, response: dict[str, Any]) -> None:
        texts = [text for item in response["output"] for text in self._item(item)]
        _tell(response, self._found(0, texts))

    def _item(self, item: dict[str, Any]) -> list[AnswerText]:
        if item.get("type") == "message":
            parts = item.get("content") or ()
            return [self._rewrite(part, "text") for part in parts if part.get("text")]
        if item.get("type") == "function_call" and item.get("arguments"):
            return [self._rewrite(item, "arguments")]
        return []

    def _response_event(self, event: dict[str, Any]) -> list[dict[str, Any]]:
        before = []
        kind = event.get("type", "")
        key = event.get("output_index", 0), event.get("content_index")
        if kind in ("response.output_text.delta", "response.function_call_arguments.delta"):
            event["delta"] = self._text(key).feed(event["delta"])
        elif kind in ("response.output_text.done", "response.function_call_arguments.done"):
            before = self._last_delta(event, self._text(key).close())
            self._rewrite(event, "text" if "text" in event else "arguments")
        elif kind == "response.content_part.done" and event["part"].get("text"):
            self._rewrite(event["part"], "text")
        elif kind == "response.output_item.done":
            self._item(event["item"])
        elif kind in ("response.completed", "response.incomplete"):
            self._response(event["response"])
        if "sequence_number" in event:
            event["sequence_number"] += self._added_events
        return [*before, event]

    def _last_delta(self, done: dict[str, Any], rest: str) -> list[dict[str, Any]]:
        """The event that sends what was held back; later ones count on from it."""
        if not rest:
            return []
        places = ("output_index", "content_index", "item_id")
        delta = {
            "type": done["type"].removesuffix("done") + "delta",
            **{name: done[name] for name in places if name in done},
            "delta": rest,
            "sequence_number": done["sequence_number"] + self._added_events,
        }
        if "logprobs" in done:
            delta["logprobs"] = []
        self._added_events += 1
        return [delta]


def _tell(answer: dict[str, Any], found: dict[str, Any]) -> None:
    """Adds what was found in a choice to what stands in ``vision``."""
    vision = answer.setdefault("vision", {})
    for name, items in found.items():
        told = vision.setdefault(name, [])
        # Of several texts and choices each warning stands once.
        told += [item for item in items if name != "warnings" or item not in told]
