"""Roles, tools, grammars and what clients replay, as people write them."""

import json

import pytest
from people_send import COLOUR, SEEN, SHAPES_URL, asked, image


@pytest.mark.parametrize("role", ["system", "developer"])
def test_an_image_of_the_system_beside_tools(server, role):
    shown = [{"type": "text", "text": "Like this:"}, image()]
    messages = [{"role": role, "content": shown}, {"role": "user", "content": COLOUR}]
    body = {"model": "demo", "messages": messages, "tools": [SEEN], "max_tokens": 8}
    answer = server.post(body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["prompt_tokens_details"]["image_tokens"] > 0
    plan = server.post(body, "/v1/vision/plan").json()
    assert plan["prompt_tokens"] == answer.json()["usage"]["prompt_tokens"]
    shown = [{"type": "input_text", "text": "Like this:"}]
    shown.append({"type": "input_image", "image_url": SHAPES_URL})
    items = [{"role": role, "content": shown}, {"role": "user", "content": COLOUR}]
    tool = {"type": "function", **SEEN["function"]}
    response = {"model": "demo", "input": items, "tools": [tool], "max_output_tokens": 8}
    answer = server.post(response, "/v1/responses")
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["input_tokens_details"]["image_tokens"] > 0


@pytest.mark.parametrize("choice", [None, "auto", "required", {"type": "function", "name": "a"}])
@pytest.mark.parametrize(
    ("tool", "place"),
    [
        ({"type": "function", "name": "look", "parameters": {}}, ""),
        ({}, ""),
        ({"type": "mcp", "server_label": "a", "server_url": "https://example.org"}, ".type"),
        ({"type": "web_search"}, ".type"),
        ({"type": 5, "function": {"name": "a"}}, ".type"),
        ({"function": {}}, ".function.name"),
        ({"function": {"name": ""}}, ".function.name"),
        ({"function": {"name": None, "parameters": {}}}, ".function.name"),
        ({"function": "look"}, ""),
        ({"function": {"name": "a", "parameters": "none"}}, ".function.parameters"),
        ("look", ""),
        (None, ""),
    ],
)
def test_tools_without_what_they_need(refused, tool, place, choice):
    for path in ("/v1/chat/completions", "/v1/vision/plan", "/tokenize"):
        body = asked(tools=[tool], tool_choice=choice)
        assert refused(body, path)[0] == f"tools[0]{place}"


@pytest.mark.parametrize("tools", ["look", {"name": "look"}, 5, True])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/tokenize"])
def test_tools_that_are_no_list(refused, tools, path):
    body = {"model": "demo", "input": "a", "tools": tools}
    if path != "/v1/responses":
        body = asked(tools=tools)
    param, message = refused(body, path)
    assert param == "tools"
    assert "list" in message


def test_tools_of_responses_without_a_name(refused):
    for tool in ({"type": "function"}, {"type": "function", "name": 5}, {"type": "custom"}):
        body = {"model": "demo", "input": "a", "tools": [tool]}
        assert refused(body, "/v1/responses")[0] == "tools[0].name"


@pytest.mark.parametrize(
    "arguments", [None, 5, "[1]", "null", '"a"', r'{"a": "\ud800"}', {"a": "b"}, "{", ""]
)
def test_arguments_of_calls(server, arguments):
    function = {"name": "look", "arguments": arguments}
    messages = [
        {"role": "user", "content": "Look."},
        {
            "role": "assistant",
            "tool_calls": [{"id": "1", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "Nothing."},
    ]
    answer = server.post({"model": "demo", "messages": messages, "max_tokens": 1})
    path = "messages[1].tool_calls[0].function.arguments"
    if arguments in ("", "{") or isinstance(arguments, dict):
        assert answer.status_code == 200, answer.text
        # What a model was cut off in is told, and the conversation goes on.
        warnings = answer.json().get("vision", {}).get("warnings", [])
        assert [path in warning for warning in warnings] == [True] * (arguments == "{")
    else:
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, path)


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_a_schema_of_which_no_grammar_comes(refused, choice):
    schema = {"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}}
    function = {"name": "look", "parameters": schema}
    body = asked(tools=[SEEN, {"type": "function", "function": function}], tool_choice=choice)
    param, message = refused(body)
    assert param == "tools[1].function.parameters"
    assert "none" in message
    body = {"model": "demo", "input": "a", "tools": [{"type": "function", **function}]}
    assert refused(body, "/v1/responses")[0] == "tools[0].parameters"
    body = asked(functions=[function], function_call="auto")
    assert refused(body)[0] == "functions[0].parameters"
    param, message = refused(asked(guided_json=schema))
    assert param == "guided_json"
    assert ".cc" not in message
    assert "<path>" not in message


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"type": "object", "properties": {"a": {"$ref": "#/properties/a"}}, "required": ["a"]},
    ],
    ids=["at once", "after a key"],
)
def test_a_grammar_that_no_text_obeys(refused, schema):
    param, message = refused(asked(structured_outputs={"json": schema}))
    assert param == "structured_outputs"
    assert "no token fits" in message
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    assert refused(asked(response_format=form))[0] == "response_format"
    assert refused(asked(guided_json=schema))[0] == "guided_json"
    text = {"format": {"type": "json_schema", "name": "a", "schema": schema}}
    assert refused({"model": "demo", "input": "a", "text": text}, "/v1/responses")[0] == "text"
    body = {"model": "demo", "prompt": "a", "structured_outputs": {"json": schema}}
    assert refused(body, "/v1/completions")[0] == "structured_outputs"


def test_a_stream_whose_grammar_comes_to_an_end(server):
    schema = {"type": "object", "properties": {"a": {"$ref": "#/properties/a"}}, "required": ["a"]}
    answer = server.post(asked(guided_json=schema, stream=True))
    *_, error, done = answer.text.strip().split("\n\n")
    assert json.loads(error.removeprefix("data: "))["error"]["param"] == "guided_json"
    assert done == "data: [DONE]"


def test_items_that_clients_replay(server):
    spoken = [{"type": "output_text", "text": text, "annotations": []} for text in ("A ", "star.")]
    call = {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{"}
    items = [
        {"type": "message", "role": "user", "content": "Look."},
        {"type": "reasoning", "summary": [], "encrypted_content": None},
        {"type": "message", "role": "assistant", "id": "m", "status": "completed"}
        | {"phase": "final_answer", "content": spoken},
        {**call, "id": "fc_1", "status": "completed"},
        {"type": "function_call_output", "call_id": "1", "output": "b"},
    ]
    simple = [items[0], {"role": "assistant", "content": "A star."}, {**call, "arguments": "{}"}]
    used = []
    for one in (items, [*simple, items[-1]]):
        body = {"model": "demo", "input": one, "max_output_tokens": 1}
        answer = server.post(body, "/v1/responses")
        assert answer.status_code == 200, answer.text
        used.append(answer.json()["usage"]["input_tokens"])
    assert used[0] == used[1]


def test_functions_of_2023_in_history(server):
    call = {"name": "look", "arguments": '{"at": "all"}'}
    old = [
        {"role": "user", "content": "Look."},
        {"role": "assistant", "content": None, "function_call": call},
        {"role": "function", "name": "look", "content": "A star."},
    ]
    new = [
        old[0],
        {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": call}]},
        {"role": "tool", "tool_call_id": "1", "content": "A star."},
    ]
    prompts = [server.post({"messages": one}, "/tokenize").json()["tokens"] for one in (old, new)]
    assert prompts[0] == prompts[1]
    offered = {"messages": old[:1], "functions": [SEEN["function"]]}
    assert server.post(offered, "/v1/vision/plan").json() == (
        server.post({"messages": old[:1], "tools": [SEEN]}, "/v1/vision/plan").json()
    )


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("content", ["The star is", [{"type": "text", "text": "The star is"}]])
def test_an_echo_of_the_message_that_goes_on(server, stream, content):
    body = asked(image(), echo=True, continue_final_message=True, add_generation_prompt=False)
    body["messages"].append({"role": "assistant", "content": content})
    body = {**body, "max_tokens": 2, "stream": stream}
    if not stream:
        answer = server.post(body)
        assert answer.status_code == 200, answer.text
        text = answer.json()["choices"][0]["message"]["content"]
    else:
        text = ""
        with server.stream(body) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: {"):
                    chunk = json.loads(line.removeprefix("data: "))
                    text += "".join(c["delta"].get("content") or "" for c in chunk["choices"])
    assert text.startswith("The star is")
