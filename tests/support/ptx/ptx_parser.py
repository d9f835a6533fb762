"""PTX text as a list of instructions (PTX ISA, section 4: syntax)."""

import re
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Register:
    name: str  # "%r1", or a special one: "%tid.x"


@dataclass(frozen=True)
class Immediate:
    bits: int  # of an integer, or the pattern of a number with a point


@dataclass(frozen=True)
class Address:
    base: str | None  # a register, a parameter, or None for the block's shared memory
    offset: int


@dataclass(frozen=True)
class Label:
    name: str


Operand = Register | Immediate | Address | Label | tuple["Operand", ...]


@dataclass(frozen=True)
class Instruction:
    opcode: tuple[str, ...]  # its parts: ("ld", "global", "v4", "b32")
    operands: tuple[Operand, ...]
    guard: str | None  # predicate register on which it depends
    unless: bool  # runs where the guard is false
    text: str


@dataclass(frozen=True)
class Program:
    threads: int
    instructions: tuple[Instruction, ...]
    labels: dict[str, int]  # label -> index of the instruction behind it

    def without(self, *opcode: str) -> "Program":
        """The program with all instructions that begin so made to do nothing, for mutants."""
        nothing = ("nop",)
        matching = [one.opcode[: len(opcode)] == opcode for one in self.instructions]
        if not any(matching):
            raise ValueError(f"no {'.'.join(opcode)} to take away")
        instructions = tuple(
            replace(one, opcode=nothing) if matches else one
            for one, matches in zip(self.instructions, matching, strict=True)
        )
        return replace(self, instructions=instructions)


SHARED = "global_smem"  # what Triton calls the block's shared memory
_STATEMENT = re.compile(r"(?:@(!?)(%\w+)\s+)?([a-z][\w.:]*)\s*(.*)", re.DOTALL)
_OPERAND = re.compile(r"\{[^}]*\}|\[[^\]]*\]|[^,\s]+")


def parse(text: str) -> Program:
    """Parse a module that holds one kernel.

    Raises:
        SyntaxError: a statement has a form that Triton's PTX did not have so far.
    """
    threads = re.search(r"\.reqntid (\d+)", text)
    if text.count(".entry") != 1 or threads is None:
        raise SyntaxError("not a module of one kernel of known size")
    body = text[text.index("{", threads.end()) :]
    instructions: list[Instruction] = []
    labels: dict[str, int] = {}
    lines = re.sub(r"//.*", "", body).splitlines()
    for line in lines:
        label = re.match(r"\s*(\$L\w+):\s*$", line)
        if label:
            labels[label[1]] = len(instructions)
            continue
        if re.match(r"\s*\.", line):  # a directive; some hold semicolons and strings
            continue
        for piece in line.split(";"):
            statement = re.sub(r"^[\s{}]+", "", piece).strip()
            if statement and not statement.startswith("."):
                instructions.append(_parse_statement(statement))
    return Program(int(threads[1]), tuple(instructions), labels)


def _parse_statement(text: str) -> Instruction:
    match = _STATEMENT.fullmatch(text)
    if match is None:
        raise SyntaxError(text)
    unless, guard, opcode, operands = match.groups()
    parsed = tuple(_parse_operand(one) for one in _OPERAND.findall(operands))
    return Instruction(tuple(opcode.split(".")), parsed, guard, unless == "!", text)


def _parse_operand(text: str) -> Operand:
    if text[0] == "{":
        return tuple(_parse_operand(one) for one in _OPERAND.findall(text[1:-1]))
    if text[0] == "[":
        base, _, offset = text[1:-1].replace(" ", "").partition("+")
        return Address(None if base == SHARED else base, int(offset or "0", 0))
    if text[0] == "%":
        return Register(text)
    if text[0] == "$":
        return Label(text)
    if text == SHARED:
        return Immediate(0)
    if re.fullmatch(r"0[fd][0-9A-F]+", text):
        return Immediate(int(text[2:], 16))
    return Immediate(int(text, 0))
