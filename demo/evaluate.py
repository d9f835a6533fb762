"""Accuracy of a trained checkpoint, through transformers and through the server.

`python -m saccade.demo.evaluate --cases 500`. Every case is asked of both, greedily; the table
and the last line give the fraction of right answers by figure, over HTTP where that was measured.
"""

import argparse
import contextlib
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import openai
import torch
from tqdm import tqdm

from saccade.demo.evaluation.answers import Answer, TransformersModel, server_answers
from saccade.demo.evaluation.cases import TARGETS, Case, make_cases
from saccade.demo.evaluation.sheet import draw_sheet
from saccade.demo.evaluation.talk_cases import BOTH_ORDERS, MOST_BEHIND, TALK_FIGURES, talk_cases
from saccade.server.checkpoint.bundled import bundled_checkpoint
from saccade.server.commands.child import LIGHT_FLAGS, ServerError, ServerProcess

FIGURES = (
    *("colour_kind", "counting", "reading", "boxes", "event_time", "order"),
    *("unseen_fps", "unseen_fps_control", "unseen_size", *TALK_FIGURES, "agreement"),
)
_UNCONSTRAINED = "grammar"  # what only the server can ask
_SHEET_CASES_EACH = 6
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

_EPILOG = """examples:
  python -m saccade.demo.evaluate --cases 500
  python -m saccade.demo.evaluate --cases 100 --dtype bfloat16
  python -m saccade.demo.evaluate --cases 20 --only transformers --sheet sheet.png
  python -m saccade.demo.evaluate --checkpoint FOLDER --url http://localhost:8000

exit codes: 0 every target reached, 1 a target missed or a failure, 2 wrong use
"""


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    args = _parser().parse_args(arguments)
    if not (args.checkpoint / "config.json").is_file():
        print(f"error: {args.checkpoint} holds no checkpoint: train one first", file=sys.stderr)
        return 2
    wanted = args.figures or FIGURES
    cases = [case for case in make_cases(args.seed, args.cases) if case.figure in wanted]
    for figure in TALK_FIGURES:
        cases += talk_cases(figure, args.seed, args.cases) if figure in wanted else []
    figures: dict[str, dict[str, float]] = {}
    local = over_http = control = None
    if args.only != "server":
        model = TransformersModel(args.checkpoint, _DTYPES[args.dtype])
        local = [
            model.answer(case) if case.figure != _UNCONSTRAINED else Answer("")
            for case in tqdm(cases, "transformers", disable=None)
        ]
        unseen = [case for case in cases if case.figure == "unseen_fps"]
        control = [model.answer(case, frame_index_time=True) for case in tqdm(unseen, "control")]
        figures["transformers"] = _accuracy(cases, local)
        figures["transformers"].pop(_UNCONSTRAINED, None)
        if unseen:
            figures["transformers"]["unseen_fps_control"] = _accuracy(unseen, control)["unseen_fps"]
    if args.only != "transformers":
        try:
            with _server(args) as url, tqdm(total=len(cases), desc="server") as bar:
                over_http = server_answers(url, cases, bar.update)
        except (ServerError, openai.APIError) as error:
            print(f"error: {error}\n{getattr(error, 'log_tail', '')}", file=sys.stderr)
            return 1
        figures["server"] = _accuracy(cases, over_http)
    if local and over_http:
        figures["server"]["agreement"] = _agreement(cases, local, over_http)
    answers = over_http or local
    assert answers is not None, "one of the two was asked"
    if args.sheet:
        _write_sheet(cases, answers, args.sheet)
    result: dict[str, float] = {}
    for column in figures.values():  # the server's come last and win
        result |= column
    if args.json:
        arguments_given = {key: str(value) for key, value in vars(args).items()}
        args.json.write_text(
            json.dumps({"arguments": arguments_given, "figures": figures}, indent=2)
        )
    _print_table(figures)
    missed = [name for name, least in TARGETS.items() if result.get(name, 1.0) < least]
    for task in BOTH_ORDERS:
        first, last = (result.get(f"{task}_{order}_first", 1.0) for order in ("image", "text"))
        missed += [f"{task}_text_first"] if last < first - MOST_BEHIND else []
    print("every target reached" if not missed else f"missed: {', '.join(missed)}")
    print("RESULT " + " ".join(f"{name}={result.get(name, math.nan):.4f}" for name in FIGURES))
    return 1 if missed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m saccade.demo.evaluate",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, default=0, help="of the cases (default: 0)")
    parser.add_argument(
        "--figures", nargs="+", choices=FIGURES, metavar="NAME", help="only these (default: all)"
    )
    parser.add_argument("--cases", type=int, default=500, help="for each figure (default: 500)")
    parser.add_argument(
        "--checkpoint",
        type=Path,
        default=bundled_checkpoint(),
        metavar="FOLDER",
        help="(default: the bundled one)",
    )
    parser.add_argument(
        "--url", help="a running server of that checkpoint, instead of starting one"
    )
    parser.add_argument("--only", choices=("transformers", "server"), help="ask one of the two")
    parser.add_argument(
        "--dtype",
        choices=tuple(_DTYPES),
        default="float32",
        help="of transformers and of the started server (default: float32, as the demo is)",
    )
    parser.add_argument("--sheet", type=Path, metavar="PNG", help="draw some cases with answers")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    return parser


@contextlib.contextmanager
def _server(args: argparse.Namespace) -> Iterator[str]:
    if args.url:
        yield args.url.rstrip("/").removesuffix("/v1")
        return
    flags = (*LIGHT_FLAGS, f"--dtype={args.dtype}")
    with ServerProcess(str(args.checkpoint), flags) as server:
        server.wait_ready(600)
        yield server.url


def _accuracy(cases: Sequence[Case], answers: Sequence[Answer]) -> dict[str, float]:
    scored: dict[str, list[float]] = {}
    for case, answer in zip(cases, answers, strict=True):
        scored.setdefault(case.figure, []).append(case.score(answer.text))
    return {figure: sum(values) / len(values) for figure, values in scored.items()}


def _agreement(cases: Sequence[Case], local: Sequence[Answer], served: Sequence[Answer]) -> float:
    """Fraction of equal answers; lists the others with how near a tie transformers was.

    Answers that a grammar constrains have no other to be held against.

    In bfloat16 logits near 20 are 0.125 apart, so that two likely digits often tie.
    """
    equal = of = 0
    for case, one, other in zip(cases, local, served, strict=True):
        if case.figure == _UNCONSTRAINED:
            continue
        of += 1
        if one.text == other.text:
            equal += 1
        else:
            print(f"differ (margin {one.margin:.3f}): {case.question}")
            print(f"  transformers: {one.text}\n  server:       {other.text}")
    return equal / of


def _write_sheet(cases: Sequence[Case], answers: Sequence[Answer], file: Path) -> None:
    shown: list[int] = []
    for figure in dict.fromkeys(case.figure for case in cases):
        of_figure = [index for index, case in enumerate(cases) if case.figure == figure]
        shown += of_figure[:_SHEET_CASES_EACH]
    draw_sheet([cases[index] for index in shown], [answers[index] for index in shown], file)


def _print_table(figures: dict[str, dict[str, float]]) -> None:
    print(f"{'figure':20}" + "".join(f"{name:>14}" for name in figures) + f"{'target':>10}")
    for figure in FIGURES:
        cells = [
            f"{column[figure]:.3f}" if figure in column else "-" for column in figures.values()
        ]
        target = f"{TARGETS[figure]:.2f}" if figure in TARGETS else "-"
        print(f"{figure:20}" + "".join(f"{cell:>14}" for cell in cells) + f"{target:>10}")


if __name__ == "__main__":
    raise SystemExit(main())
