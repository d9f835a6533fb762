"""Tools that a model is offered, and calls of them."""

import json
from typing import Any

import numpy as np

from saccade.demo.conversations import wording
from saccade.demo.world.questions import Seen

_ACTIONS = ("left_click", "right_click", "double_click", "mouse_move")
_VERBS = {
    "left_click": ("Click the {}.", "Click on the {}.", "Left-click the {}."),
    "right_click": ("Right-click the {}.", "Right-click on the {}."),
    "double_click": ("Double-click the {}.", "Double-click on the {}."),
    "mouse_move": ("Move the mouse to the {}.", "Move to the {}."),
}
_COMPUTER = ("computer_use", "computer", "browser_use")
_OTHERS = ("get_weather", "search", "open_page", "write_file", "take_note", "seen", "report")
_FIELDS: dict[str, dict[str, Any]] = {
    "city": {"type": "string"},
    "query": {"type": "string"},
    "text": {"type": "string"},
    "colour": {"type": "string", "enum": ["red", "green", "blue"]},
    "shape": {"type": "string"},
    "count": {"type": "integer"},
    "answer": {"type": "string"},
}
_TOLD = (
    *("Tells something.", "Does something else.", "Use it when you are asked to."),
    *("Tells a colour.", "Reports what is seen."),
)


def _function(name: str, description: str, parameters: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": parameters, "required": list(parameters)}
    function = {"name": name, "description": description, "parameters": schema}
    return {"type": "function", "function": function}


def computer(
    rng: np.random.Generator, width: int, height: int, known: bool = True
) -> dict[str, Any]:
    """A tool that clicks; its screen has so many pixels.

    Args:
        known: whether its name may be one that such tools often have.
    """
    actions = [_ACTIONS[0], *(action for action in _ACTIONS[1:] if rng.random() < 0.8)]
    said = f"Use a mouse to interact with a computer. The screen is {width}x{height}."
    action = {"type": "string", "enum": actions}
    place = {"type": "array", "description": "(x, y) in pixels"}
    name = _COMPUTER[rng.integers(len(_COMPUTER))]
    if rng.random() < 0.3 or not known:
        name = f"{wording.any_word(rng)}_{wording.any_word(rng)}"
    return _function(name, said, {"action": action, "coordinate": place})


def other(rng: np.random.Generator) -> dict[str, Any]:
    """A tool that no question of this world asks for."""
    name = _OTHERS[rng.integers(len(_OTHERS))]
    field = list(_FIELDS)[rng.integers(len(_FIELDS))]
    return _function(name, _TOLD[rng.integers(len(_TOLD))], {field: _FIELDS[field]})


def clicks(tool: dict[str, Any]) -> bool:
    """Whether it is one of `computer`."""
    return "coordinate" in tool["function"]["parameters"]["properties"]


def click(
    rng: np.random.Generator, tool: dict[str, Any], thing: Seen
) -> tuple[str, dict[str, Any]]:
    """An order, and the call that obeys it: the middle of the thing."""
    x1, y1, x2, y2 = thing.box
    return click_at(rng, tool, thing.label, (round((x1 + x2) / 2), round((y1 + y2) / 2)))


def click_at(
    rng: np.random.Generator, tool: dict[str, Any], what: str, place: tuple[int, int]
) -> tuple[str, dict[str, Any]]:
    """An order to click on something at a place, and the call that obeys it."""
    function = tool["function"]
    actions = function["parameters"]["properties"]["action"]["enum"]
    action = actions[rng.integers(len(actions))]
    order = wording.one_of(rng, _VERBS[action]).format(what)
    return order, call(function["name"], {"action": action, "coordinate": list(place)})


def call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """As it stands in a message."""
    function = {"name": name, "arguments": arguments}
    return {"id": f"call_{name}", "type": "function", "function": function}


def written(call: dict[str, Any]) -> str:
    """As the model writes it, in Hermes' form."""
    function = call["function"]
    arguments = json.dumps(function["arguments"])
    return f'<tool_call>\n{{"name": "{function["name"]}", "arguments": {arguments}}}\n</tool_call>'
