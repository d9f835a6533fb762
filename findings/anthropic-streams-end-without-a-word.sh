#!/usr/bin/env bash
# anthropic 2.14.0: a stream of a message that breaks off is a message; an error in it has status 200.
#
# Expected: a stream that ends before `message_stop` raises, as a connection that breaks does, and
# `event: error` with `overloaded_error` raises the class that the same error has as an HTTP status
# (OverloadedError or InternalServerError), so that one `except` serves both. Seen:
# - where the server ends a chunked answer in the middle of a block, iterating ends quietly, and
#   `messages.stream(...).get_final_message()` gives half the text with `stop_reason` None;
# - `event: error` raises a bare APIStatusError, whose `status_code` is 200; its kind is in `.type`
#   alone, and nothing is asked again, whatever `max_retries` is.
# So a server has to say `event: error` itself when it fails in mid stream: to break off tells this
# client's users nothing. And who calls has to look at `stop_reason`, and at `.type` of the error.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet anthropic==2.14.0 2>/dev/null
cat >"$folder/seen.py" <<'PYTHON'
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import anthropic

MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [],
    "stop_reason": None,
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 0},
}
BEGUN = [
    {"type": "message_start", "message": MESSAGE},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "One"}},
]
ERROR = {"type": "error", "error": {"type": "overloaded_error", "message": "later"}}
sent, asked = [], 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        global asked
        asked += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in sent:
            data = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = anthropic.Anthropic(
    base_url=f"http://127.0.0.1:{server.server_port}", api_key="none", max_retries=2
)
given = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "a"}]}

sent = BEGUN
events = [event.type for event in client.messages.create(**given, stream=True)]
with client.messages.stream(**given) as stream:
    message = stream.get_final_message()
print("cut off:", events[-1], "|", message.content[0].text, "|", message.stop_reason)
assert (events[-1], message.stop_reason) == ("content_block_delta", None)
assert message.content[0].text == "One"

sent, asked = [*BEGUN, ERROR], 0
try:
    for _ in client.messages.create(**given, stream=True):
        pass
except anthropic.APIStatusError as error:
    print("error:", type(error).__name__, error.status_code, error.type, "asked", asked)
    assert type(error) is anthropic.APIStatusError
    assert (error.status_code, error.type, asked) == (200, "overloaded_error", 1)
else:
    raise SystemExit("no error was raised")
PYTHON
"$folder/venv/bin/python" "$folder/seen.py"
