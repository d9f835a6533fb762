#!/usr/bin/env bash
# vLLM 0.32.0 and 0.33.0 (PyPI, x86_64) are wheels for glibc 2.28 (manylinux_2_28: RHEL 8 and its
# kin), and require llguidance >=1.7,<1.8, whose releases (1.7.0 to 1.7.6) have no wheel for less
# than glibc 2.31 (manylinux_2_31). So on glibc 2.28 to 2.30 an installer takes vLLM's wheel and
# then builds llguidance from source, which takes a Rust toolchain; with wheels alone there is no
# solution. llguidance 1.6.1 still had a wheel for 2.28. Seen with uv 0.13.9, from metadata:
#
#   manylinux_2_28, vLLM 0.33.0: hint: Wheels are required for `llguidance` because building from
#                                source is disabled for all packages (i.e., with `--no-build`)
#   manylinux_2_31, vLLM 0.33.0: llguidance==1.7.6
#
# Exits with 1 if this is no longer so. Downloads some 30 MB.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet uv==0.13.9
export UV_CACHE_DIR=$folder/cache

# resolve PLATFORM REQUIREMENT...: what would be installed, or why nothing can be.
resolve() {
    printf '%s\n' "${@:2}" | (cd "$folder" && venv/bin/uv pip compile - --quiet --no-header \
        --no-annotate --only-binary :all: --python venv/bin/python --python-version 3.12 \
        --python-platform "x86_64-$1" 2>&1) || true
}

expect() {
    if ! grep -q "$1" <<<"$2"; then
        printf 'not as described: no "%s" in\n%s\n' "$1" "$2" >&2
        exit 1
    fi
    grep -m1 "$1" <<<"$2"
}

for vllm in 0.32.0 0.33.0; do
    expect 'Wheels are required for `llguidance`' "$(resolve manylinux_2_28 "vllm==$vllm")"
    expect '^llguidance==1\.7' "$(resolve manylinux_2_31 "vllm==$vllm")"
done
# The wheel of vLLM itself, and of the llguidance before, are taken on glibc 2.28.
expect '^llguidance==1\.6\.1' "$(resolve manylinux_2_28 'llguidance<1.7')"
