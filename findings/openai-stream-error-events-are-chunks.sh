#!/usr/bin/env bash
# openai 3.57.0: an event named `error` in the stream of a chat is handed out as a chunk of the answer.
#
# Expected: `event: error` ends the iteration with an openai.APIError, as an `error` key in the data
# does, and whatever a server says of a failure can be read in the exception. Seen, of chats:
# - the event's name is looked at for Assistants (`thread.*`) alone: its data become a
#   ChatCompletionChunk whose `choices` is None, and the stream ends as if the answer were whole;
# - an error that is a string raises, but the text is a general one; what the server said is only in
#   `body`;
# - data that are no JSON raise json.JSONDecodeError, which no `except openai.OpenAIError` catches;
# - of a refused request whose JSON has neither `error` nor `message`, such as FastAPI's `detail`,
#   nothing but the status is in the exception's text.
# So a server has to report a failure in mid stream as data with `error.message`, and by no event
# name, or this client's users take half an answer for a whole one.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet openai==3.57.0 2>/dev/null
cat >"$folder/seen.py" <<'PYTHON'
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import openai

CHUNK = b'data: {"id": "1", "choices": [{"index": 0, "delta": {"content": "One"}}]}\n\n'
ENDS = {
    "data with error.message": b'data: {"error": {"message": "died"}}\n\n',
    "data with error as a string": b'data: {"error": "died"}\n\n',
    "an event named error": b'event: error\ndata: {"message": "died"}\n\n',
    "an event named error with text": b"event: error\ndata: died\n\n",
}
REFUSALS = (b'{"message": "too large"}', b'{"detail": "too large"}')
status, kind, body = 200, "text/event-stream", b""


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/v1"
ask = openai.OpenAI(base_url=url, api_key="none", max_retries=0).chat.completions.create
asked = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
for name, end in ENDS.items():
    body, choices = CHUNK + end, []
    try:
        for chunk in ask(stream=True, **asked):
            choices.append(chunk.choices and chunk.choices[0].delta.content)
        print(f"{name}: {choices}, no exception")
    except Exception as error:
        own = isinstance(error, openai.OpenAIError)
        print(f"{name}: {choices}, {type(error).__name__} (openai's: {own}): {str(error)[:40]}")
status, kind = 400, "application/json"
for body in REFUSALS:
    try:
        ask(**asked)
    except openai.BadRequestError as error:
        print(f"{body.decode()}: {error}")
PYTHON

seen=$("$folder/venv/bin/python" "$folder/seen.py")
echo "$seen"
[ "$seen" = "data with error.message: ['One'], APIError (openai's: True): died
data with error as a string: ['One'], APIError (openai's: True): An error occurred during streaming
an event named error: ['One', None], no exception
an event named error with text: ['One'], JSONDecodeError (openai's: False): Expecting value: line 1 column 1 (char 0
{\"message\": \"too large\"}: Error code: 400 - too large
{\"detail\": \"too large\"}: Error code: 400" ] || { echo "this has changed" >&2; exit 1; }
