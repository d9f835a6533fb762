#!/usr/bin/env bash
# What the tests of the playground need besides deploy/setup.sh: Chromium and what drives it.
# Where they cannot be had those tests are skipped, and say so.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v chromium >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; } ||
        echo "no chromium by apt-get: the tests of the playground will be skipped" >&2
fi
if ! .venv/bin/python -c "import axe_playwright_python, playwright" 2>/dev/null; then
    .venv/bin/pip install --quiet --editable ".[browser]" ||
        echo "no Playwright: the tests of the playground will be skipped" >&2
fi
