"""`saccade doctor`: what is wrong with this installation and what mends it, then what is fine."""

import argparse
import subprocess
import sys
from dataclasses import dataclass

from saccade.server.checkpoint.lookup import find_checkpoint
from saccade.server.commands.doctor.checks import checks
from saccade.server.commands.doctor.problem import Problem, Severity

_EPILOG = """examples:
  saccade doctor
  saccade doctor --fix
  saccade doctor --verbose
  saccade doctor --model Qwen/Qwen2.5-VL-7B-Instruct
  SACCADE_KERNELS=reference saccade doctor

--fix does what `make setup` does to a checkout, and nothing else: compiles the operations on the
CPU, makes the cache this user's alone, removes what a killed compiler left in it, and uninstalls a
torchvision, torchaudio or torchcodec that cannot be imported.

exit codes: 0 all is well, or only slower than it could be, 1 something must be mended, 2 wrong use,
or no such model
"""


@dataclass(frozen=True)
class _Findings:
    """Of one check."""

    title: str
    lines: list[str]
    problems: list[Problem]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's flags."""
    parser.description = (
        "Tells what is wrong with this installation and what mends it, then what is fine."
    )
    parser.epilog = _EPILOG
    parser.add_argument(
        "--model",
        help="a Hugging Face id, a local folder, or demo: also tell which chat template it gets",
    )
    parser.add_argument("--fix", action="store_true", help="mend what set-up can mend")
    parser.add_argument(
        "--verbose",
        action="store_true",
        help="everything that was found: versions, devices, the backend of each kernel and why, "
        "limits in force",
    )


def run(args: argparse.Namespace) -> int:
    """Print everything; returns the exit code."""
    if args.model not in (None, "demo"):
        try:
            find_checkpoint(args.model, weights=False)
        except ValueError as error:
            print(f"saccade doctor: error: --model: {error}", file=sys.stderr)
            return 2
    found = _examine(args.model)
    _print(found, args.verbose)
    problems = [problem for one in found for problem in one.problems]
    if args.fix and [problem for problem in problems if _mended(problem)]:
        print("after that:", flush=True)
        # What was wrong is loaded here: another process tells what is now.
        again = [sys.executable, "-m", "saccade.server.cli", "doctor"]
        again += [f"--model={args.model}"] if args.model else []
        return subprocess.run(again + ["--verbose"] * args.verbose).returncode  # noqa: S603
    wrong = sum(problem.severity is Severity.WRONG for problem in problems)
    print("all is well" if not wrong else f"{wrong} to mend")
    return 1 if wrong else 0


def _examine(model: str | None) -> list[_Findings]:
    found = []
    for title, check in checks(model):
        lines: list[str] = []
        problems: list[Problem] = []
        for one in check():
            if isinstance(one, Problem):
                problems.append(one)
            else:
                lines.append(one)
        found.append(_Findings(title, lines, problems))
    return found


def _print(found: list[_Findings], verbose: bool) -> None:
    """What is wrong, the worst first; then what is fine, in one line or with all that was found."""
    for severity in Severity:
        for one in found:
            for problem in one.problems:
                if problem.severity is severity:
                    print(f"{severity}: {one.title}: {problem.what}")
                    if problem.mend:
                        print(f"  mend: {problem.mend}")
    fine = [one.title for one in found if one.lines and not one.problems]
    print(f"fine: {', '.join(fine)}" + ("" if verbose else " (--verbose tells what was found)"))
    for one in found:
        if one.lines and (verbose or one.title == "GPU kit"):
            print(one.title)
            for line in one.lines:
                print(f"  {line}")


def _mended(problem: Problem) -> bool:
    """Mends it if that can be done here, and says what was and what is."""
    if problem.fix is None:
        return False
    print(f"fixing: {problem.what}", flush=True)
    try:
        print(f"  {problem.fix()}")
    except (OSError, RuntimeError) as error:
        print(f"  failed: {error}")
        return False
    return True
