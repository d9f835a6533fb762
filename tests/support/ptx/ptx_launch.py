"""Kernels compiled for sm_80 and run here, behind the same brackets that launch them on a GPU.

What runs is the PTX that goes to NVIDIA's assembler, after all of Triton's decisions about
layouts, widths of accesses and barriers.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from aot import compile_kernel
from kernel_forms import Specialisation
from ptx_machine import Block
from ptx_parser import Program, parse
from ptx_shared_memory import SharedMemory, Statistics
from touched_memory import Traffic

from saccade.kernels.launch.tuning import TYPE_NAMES

ARCHITECTURE = "sm_80"
_OPTIONS = ("num_warps", "num_stages", "enable_fp_fusion")
_TYPES = {
    **TYPE_NAMES,
    torch.int32: "i32",
    torch.int64: "i64",
    torch.uint8: "u8",
    torch.uint16: "u16",
}


class EmulatedKernel:
    """Stands in for what `triton.jit` returned: launched alike, it runs on the CPU.

    Attributes:
        statistics: Of all launches.
        launched: The forms that the launches asked for.
    """

    def __init__(
        self, function: Any, change: Callable[[Program], Program] = lambda program: program
    ) -> None:
        """
        Args:
            change: Makes a mutant of the compiled program.
        """
        self.statistics = Statistics()
        self.launched: list[Specialisation] = []
        self._function = function
        self._change = change
        self._compiled: dict[str, tuple[Program, int]] = {}

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        def launch(*values: Any, **named: Any) -> None:
            options = {name: named.pop(name) for name in _OPTIONS}
            arguments = dict(zip(self._function.arg_names, values, strict=False)) | named
            self._run((*grid, 1, 1)[:3], arguments, options)

        return launch

    def _run(
        self, grid: tuple[int, int, int], arguments: dict[str, Any], options: dict[str, Any]
    ) -> None:
        specialisation = specialise(self._function, arguments, options)
        self.launched.append(specialisation)
        program, shared_bytes = self._compile(specialisation)
        passed = [arguments[name] for name in specialisation.signature]
        parameters = [_parameter(one) for one in passed] + [0, 0]  # Triton's scratch, unused
        tensors = {n: one for n, one in arguments.items() if isinstance(one, torch.Tensor)}
        traffic = Traffic(tensors)
        for z in range(grid[2]):
            for y in range(grid[1]):
                for x in range(grid[0]):
                    shared = SharedMemory(shared_bytes, program.threads, self.statistics)
                    Block(program, parameters, (x, y, z), shared, traffic, self.statistics).run()

    def _compile(self, specialisation: Specialisation) -> tuple[Program, int]:
        key = repr(specialisation)
        if key not in self._compiled:
            kernel = compile_kernel(specialisation, ARCHITECTURE)
            program = self._change(parse(kernel.asm["ptx"]))
            self._compiled[key] = program, kernel.metadata.shared
        return self._compiled[key]


def specialise(function: Any, arguments: dict[str, Any], options: dict[str, Any]) -> Specialisation:
    """The form that Triton would compile for these arguments.

    Triton also makes constants of integers that are 1; the forms for all other integers are also
    right for them.
    """
    signature, constants, divisible = {}, {}, []
    for parameter in function.params:
        value = arguments[parameter.name]
        if parameter.is_constexpr:
            constants[parameter.name] = value
            continue
        if isinstance(value, torch.Tensor):
            signature[parameter.name] = "*" + _TYPES[value.dtype]
        else:
            signature[parameter.name] = "fp32" if isinstance(value, float) else "i32"
        address = value.data_ptr() if isinstance(value, torch.Tensor) else value
        is_whole = not isinstance(value, float) and not parameter.do_not_specialize
        if is_whole and address % 16 == 0:
            divisible.append(parameter.name)
    name = function.__name__
    return Specialisation(name, function, signature, constants, tuple(divisible), options)


def _parameter(argument: Any) -> int:
    if isinstance(argument, torch.Tensor):
        return argument.data_ptr()
    if isinstance(argument, float):
        return int(np.float32(argument).view(np.uint32))
    return argument
