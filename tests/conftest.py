"""Which tests may run beside each other, and where; which start engines, are slow, or extended."""

import os
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).parent

# Files, or tests and fixtures of files, that take more than about 4 s of CPU time and no engine.
# `make check` leaves them to `make test`.
SLOW = (
    "benchmarks/load/test_load_command.py",
    "benchmarks/load/test_profiles.py",
    "benchmarks/preprocessing/test_paths.py",
    "benchmarks/serving/test_responsiveness.py",
    "benchmarks/test_suite.py::test_benchmarks_run_and_leave_their_reports",
    "benchmarks/test_tower.py",
    "demo/conversations/test_figures.py",
    "demo/conversations/test_phases.py",
    "demo/conversations/test_prompts.py",
    "demo/test_evaluation.py::test_the_command_reports_and_fails_for_a_random_model",
    "demo/test_evaluation.py::test_transformers_answers",
    "demo/test_run.py::test_a_server_that_cannot_start_shows_its_last_lines",
    "demo/test_training.py",
    "deploy/test_resolution.py",
    "deploy/test_wheel.py",
    "kernels/check/test_check.py::test_a_dry_run_checks_every_operation_and_prints_no_figures",
    "kernels/check/test_check_on_tritons.py",
    "kernels/cpu/test_operations.py::test_it_compiles_for_a_processor_that_may_not_be_this_one",
    "kernels/cpu/test_processors.py",
    "kernels/ptx/test_execution_of_ptx.py",
    "kernels/ptx/test_readings.py",
    "kernels/ptx/test_resources.py",
    "media/decode/test_damage.py",
    "media/decode/test_decoding_memory.py",
    "media/decode/test_resize.py::test_whatever_vectors_the_processor_has",
    "model/cpu/test_tuning.py::test_loading_the_plugin_changes_nothing_and_imports_nothing_of_ours",
    "model/test_loading.py",
    "model/test_names.py",
    "model/test_vllm_versions.py::test_doctor_names_it_and_goes_on",
    "model/test_vllm_versions.py::test_serve_names_it_as_its_log_is_to_look_and_goes_on",
    "model/tower/test_encoder_graph.py::many",
    "model/tower/test_encoder_graph.py::test_kernels_on_a_padded_batch",
    "server/checkpoint/test_lookup.py::test_a_configuration_elsewhere_and_the_weights_are_both_looked_up",
    "server/checkpoint/test_lookup.py::test_commands_end_with_one_line_that_says_why",
    "server/commands/doctor/test_doctor.py",
    "server/commands/help/test_completion.py",
    "server/engine/test_api_processes.py::test_sigterm_while_a_process_starts",
)

# Folders and files that `make test` leaves to `make test-extended`.
EXTENDED = (
    "benchmarks",
    "demo/conversations",
    "demo/test_evaluation.py",
    "demo/test_training.py",
    "deploy/test_first_minutes.py",
    "deploy/test_resolution.py",
    "deploy/test_wheel.py",
    "kernels/check",
    "kernels/cpu/test_processors.py",
    "kernels/ops/test_whole_model.py",
    "kernels/ptx",
    "model/cpu/test_processors.py",
    "model/cpu/test_tuning.py",
    "model/cpu/test_worker.py",
    "model/engine/test_lora.py",
    "model/engine/test_parity.py",
    "model/engine/test_quantised.py",
    "model/engine/test_runner_v2.py",
    "model/test_loading.py",
    "model/test_names.py",
    "model/test_vllm_versions.py",
    "model/tower/test_encoder_graph.py",
    "server/checkpoint/test_lookup.py",
    "server/commands/doctor/test_doctor.py",
    "server/engine/test_kernel_faults.py",
    "server/engine/test_parallel.py",
)


# Whose folders share nothing that takes long to start: each may go to the process that is free.
_APART = ("benchmarks", "deploy", "interpreted", "kernels", "media", "model")
# Shares a server with the folders beside it, and takes as long as all of them.
_ALONE = "server/engine"


class _ByFolder(LoadScopeScheduling):
    """A folder's tests share what it starts once, so they stay in one process."""

    def _split_scope(self, nodeid: str) -> str:
        _, *folders = nodeid.partition("::")[0].split("/")
        two = "/".join(folders[:2])
        return two if folders[0] in _APART or two == _ALONE else folders[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _ByFolder | None:
    """What ``pytest -n 2`` asks, unless it is told how to share them out."""
    return _ByFolder(config, log) if config.option.dist == "load" else None


def pytest_configure() -> None:
    """Each process of ``pytest -n 2`` has a core for its engines: vLLM would bind all to one."""
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        cores = sorted(os.sched_getaffinity(0))
        core = cores[int(worker.removeprefix("gw")) % len(cores)]
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", str(core))
    else:
        _check_lists()


@pytest.fixture(scope="session")
def starts_engine() -> None:
    """What starts an engine or a server, here or in a child process, uses this or a fixture that
    does. In every other test an engine fails to start."""


def _uses_engine(item: pytest.Item) -> bool:
    return isinstance(item, pytest.Function) and "starts_engine" in item.fixturenames


def _is_slow(item: pytest.Item) -> bool:
    names = {""}
    if isinstance(item, pytest.Function):
        names |= {item.originalname, *item.fixturenames}
    return any(
        ROOT / file == item.path and name in names
        for file, _, name in (entry.partition("::") for entry in SLOW)
    )


def _is_extended(item: pytest.Item) -> bool:
    return any(item.path.is_relative_to(ROOT / entry) for entry in EXTENDED)


def _check_lists() -> None:
    """An entry that nothing is called by any more would let a long test into `make check` or
    `make test`."""
    for entry in EXTENDED:
        if not (ROOT / entry).exists():
            raise pytest.UsageError(f"{__file__}: EXTENDED names {entry}, which does not exist")
    for entry in SLOW:
        file, _, name = entry.partition("::")
        path = ROOT / file
        if not path.is_file() or f"def {name}" not in path.read_text(encoding="utf-8"):
            raise pytest.UsageError(f"{__file__}: SLOW names {entry}, which does not exist")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks tests ``engine`` by the fixtures they use, ``slow`` and ``extended`` by the lists."""
    for item in items:
        if _uses_engine(item):
            item.add_marker("engine")
        if _is_slow(item):
            item.add_marker("slow")
        if _is_extended(item):
            item.add_marker("extended")


_PORT = "VLLM_PORT"  # whatever starts an engine reads it, and nothing else does
_GIVEN_PORT = os.environ.get(_PORT)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Keeps engines from starting in a test that is not marked, and in its child processes."""
    if not _uses_engine(item):
        os.environ[_PORT] = "this test does not use the fixture starts_engine"
    elif _GIVEN_PORT is not None:
        os.environ[_PORT] = _GIVEN_PORT
    else:
        os.environ.pop(_PORT, None)
