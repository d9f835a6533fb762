"""The proofs of the compiled kernels, with each supported release of Triton.

``python tests/support/triton/every_triton.py`` installs each release beside the environment, in
`.cache/triton` (some 700 MB each), and runs the tests of compiled kernels with it: what they take
of a GPU, and the results of their PTX. With ``--write`` it writes the golden files and the table of
`docs/kernels.md` anew instead: for people to review. ``make test`` runs them with the release that
is installed, and the dry run of the kit with the oldest and the newest.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
# With torch 2.11, 2.12 and 2.13, 2.14, 2.15: the last of each minor version that torch came with.
RELEASES = ("3.6.0", "3.7.1", "3.8.0", "3.9.0")
TESTS = [
    f"tests/kernels/ptx/test_{name}.py" for name in ("resources", "readings", "execution_of_ptx")
]


def installed(release: str) -> Path:
    """A folder that holds this release alone; installs it the first time."""
    folder = ROOT / ".cache/triton" / release
    if not folder.exists():
        unfinished = folder.with_suffix(".unfinished")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade"]
        subprocess.run([*pip, "--target", str(unfinished), f"triton=={release}"], check=True)
        unfinished.rename(folder)
    return folder


def main() -> None:
    """Run the tests, or write the golden files, with each release."""
    write = "--write" in sys.argv[1:]
    command = (
        ["tests/support/triton/shipped_kernels.py"] if write else ["-m", "pytest", "-q", *TESTS]
    )
    failed = []
    for release in RELEASES:
        print(f"Triton {release}", flush=True)
        environment = os.environ | {"PYTHONPATH": str(installed(release))}
        finished = subprocess.run([sys.executable, *command], cwd=ROOT, env=environment)
        if finished.returncode != 0:
            failed.append(release)
    if write:
        subprocess.run(
            [sys.executable, "tests/support/triton/kernel_table.py"], cwd=ROOT, check=True
        )
    sys.exit(f"failed with Triton {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
