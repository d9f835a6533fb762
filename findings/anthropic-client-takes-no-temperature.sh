#!/usr/bin/env bash
# anthropic 2.14.0: `messages.create` takes no `temperature`, `top_p` or `top_k`: a TypeError.
#
# Expected: the sampling parameters that the Messages API has had from its first day, as keywords.
# Seen: they are gone from `create`, `stream` and `count_tokens` of `messages` and `beta.messages`; of
# what shapes an answer `stop_sequences` and `output_config` are left. They can be sent in `extra_body`
# alone, and old code fails before anything is sent.
# So of this client's requests a server gets none of them unless its user knows that way: what it
# samples with by itself (the checkpoint's generation_config.json) is what nearly all get, and a test
# that asks for the greedy answer has to put it into `extra_body`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet anthropic==2.14.0 2>/dev/null
"$folder/venv/bin/python" - <<'PYTHON'
from inspect import signature

import anthropic

client = anthropic.Anthropic(base_url="http://127.0.0.1:9", api_key="none", max_retries=0)
sampling = {"temperature", "top_p", "top_k"}
for name, messages in (("messages", client.messages), ("beta.messages", client.beta.messages)):
    for method in (messages.create, messages.stream, messages.count_tokens):
        found = sampling & set(signature(method).parameters)
        print(name, method.__name__, sorted(found))
        assert not found
taken = signature(client.messages.create).parameters
assert {"stop_sequences", "output_config", "extra_body"} <= set(taken)
try:
    client.messages.create(model="m", max_tokens=1, messages=[], temperature=0)
except TypeError as error:
    print("TypeError:", error)
else:
    raise SystemExit("temperature is taken again")
PYTHON
