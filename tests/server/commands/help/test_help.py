"""`--help` of every command: each flag is explained, and each example is one that it takes."""

import argparse
import re
import shlex
from collections.abc import Iterator

import pytest
from every_parser import every_parser, own_groups

from saccade.server import cli

# What begins a command inside an example: `git diff | saccade chat ...`, `NAME=value saccade ...`.
COMMAND = re.compile(r"\bsaccade (.*)")


def examples(epilog: str) -> Iterator[str]:
    """The command lines of a help text, joined where they go on, without what is said beside."""
    _, _, after = epilog.partition("examples:\n")
    lines, _, _ = re.sub(r"\\\n +", "", after).partition("\n\n")
    for line in lines.splitlines():
        if line.strip():
            # What is said beside a command is at least two blanks away.
            yield line.strip().partition("  ")[0]


@pytest.mark.parametrize("prog", every_parser())
def test_every_flag_is_explained(prog):
    dumb = [
        action.dest
        for _, actions in own_groups(every_parser()[prog])
        for action in actions
        if not action.help
    ]
    assert dumb == []


@pytest.mark.parametrize("prog", every_parser())
def test_its_examples_can_be_typed(prog):
    parser = every_parser()[prog]
    assert parser.description
    shown = list(examples(parser.epilog or ""))
    assert any(f"{prog} " in f"{line} " for line in shown), "no example of the command itself"
    # Those of a benchmark stand in `saccade bench --help`.
    assert "exit codes:" in every_parser()[" ".join(prog.split()[:2])].epilog
    for line in shown:
        assert takes(line), line


def takes(line: str) -> bool:
    """Whether the command's own parser takes the example."""
    found = COMMAND.search(line)
    if found is None:  # python -m saccade.kernels.check
        return "python -m saccade." in line
    words = shlex.split(re.split(r"[<>]", found[1])[0])
    if any(word.startswith("--help") for word in words):
        return True
    try:
        every_parser()[f"saccade {words[0]}"].parse_args(words[1:])
    except SystemExit:
        return False
    return True


def test_its_own_examples_can_be_typed(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    shown = list(examples(capsys.readouterr().out))
    assert len(shown) > 3
    assert all(takes(line) for line in shown if "COMMAND" not in line)


def test_an_example_that_cannot_be_typed_is_found():
    assert not takes("saccade plan photo.jpg --no-such-flag")
    assert not takes("saccade doctor somewhere")
    assert isinstance(every_parser()["saccade plan"], argparse.ArgumentParser)
