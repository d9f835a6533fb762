#!/usr/bin/env bash
# transformers 5.19.0 with huggingface_hub 2.4.0: `cached_file` told to take a missing file calmly
# (_raise_exceptions_for_missing_entries=False) returns None for a hub that fails (503) and one that
# refuses (403) as well, also with _raise_exceptions_for_connection_errors=True. An optional file,
# such as a chat template, is then "not there" whenever the hub is busy, and replicas that start at
# different moments differ without a word. With both flags True it raises. hf_hub_download tells the
# three apart. Seen, against a hub on this machine that answers every request alike:
#
#   404   cached_file None   both flags True: OSError   hf_hub_download RemoteEntryNotFoundError
#   403   cached_file None   both flags True: OSError   hf_hub_download LocalEntryNotFoundError
#   503   cached_file None   both flags True: OSError   hf_hub_download LocalEntryNotFoundError
#
# The hub library tries 503 again for some 25 s each time. Exits with 1 if this is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet transformers==5.19.0 huggingface_hub==2.4.0
cd "$folder"
export HF_HOME=$folder/cache NO_PROXY=127.0.0.1
venv/bin/python - <<'PYTHON'
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hub(BaseHTTPRequestHandler):
    status = 404

    def do_GET(self):
        self.send_response(self.status)
        if self.status == 404:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


hub = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=hub.serve_forever, daemon=True).start()
os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{hub.server_port}"

from huggingface_hub import hf_hub_download
from transformers.utils import cached_file


def outcome(call):
    try:
        return repr(call())
    except Exception as error:
        return type(error).__name__


seen = {}
for Hub.status in (404, 403, 503):
    where = (f"nobody/model-{Hub.status}", "chat_template.json")
    quiet = outcome(
        lambda: cached_file(
            *where,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=True,
        )
    )
    loud = outcome(lambda: cached_file(*where))
    direct = outcome(lambda: hf_hub_download(*where))
    seen[Hub.status] = (quiet, loud, direct)
    print(f"{Hub.status}   cached_file {quiet}   both flags True: {loud}   hf_hub_download {direct}")
same = all(quiet == "None" and loud != "None" for quiet, loud, _ in seen.values())
sys.exit(0 if same and seen[404][2] != seen[503][2] else "this is no longer so")
PYTHON
