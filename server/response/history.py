"""Earlier answers of a conversation, back in the model's coordinates: ``vision.history``."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

from saccade.media.planning.plan import ImagePlan, VideoPlan
from saccade.server.request.parsed_request import ParsedRequest
from saccade.server.request.vision import SeenMedium, VisionOptions
from saccade.server.response.source_coordinates import AnswerText

_PLACE = re.compile(r"\[([0-9]+)\]")  # of a message, or of an item of a response's input


def history_for_model(request: ParsedRequest, seen: Sequence[SeenMedium]) -> ParsedRequest:
    """The request, in which the assistant's texts and calls are as the model wrote them.

    The reverse of what `SourceCoordinatesEdit` did: the media that come before a message are those
    that there were when it was an answer, and what was left as it was is left again.
    """
    if not isinstance(request.prompt, list):
        return request
    items = []
    for number, item in enumerate(request.prompt):
        plans = [one.plan for one in seen if int(_PLACE.findall(one.path)[0]) < number]
        items.append(_History(request.vision, plans).item(item) if plans else item)
    return dataclasses.replace(request, body={**request.body, request.prompt_field: items})


@dataclasses.dataclass(frozen=True)
class _History:
    options: VisionOptions
    plans: Sequence[ImagePlan | VideoPlan]

    def item(self, item: Any) -> Any:
        if not isinstance(item, dict):
            return item
        if item.get("type") == "function_call":
            return self._with(item, "arguments")
        if item.get("role") != "assistant":
            return item
        item = self._with(item, "content")
        for name, change in (("content", self._part), ("tool_calls", self._call)):
            if isinstance(item.get(name), list):
                item = {**item, name: [change(each) for each in item[name]]}
        return item

    def _part(self, part: Any) -> Any:
        return self._with(part, "text") if isinstance(part, dict) else part

    def _call(self, call: Any) -> Any:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            return call
        return {**call, "function": self._with(function, "arguments")}

    def _with(self, holder: dict[str, Any], name: str) -> dict[str, Any]:
        if not isinstance(holder.get(name), str):
            return holder
        text = AnswerText(self.options, self.plans, back=True)
        text.feed(holder[name])
        text.close()
        return {**holder, name: text.sent}
