"""What `--dtype auto` stands for on a CPU, by processor, checkpoint and memory."""

import logging
import math
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from safetensors import safe_open
from transformers import Qwen2_5_VLConfig

from saccade.demo.checkpoints.checkpoint import random_checkpoint
from saccade.kernels.cpu.processor import Processor
from saccade.server.checkpoint import cpu_dtype
from saccade.server.checkpoint.cpu_dtype import Checkpoint, Memory, describe_auto, fastest_dtype
from saccade.server.core.memory import available_memory, smallest_node

GIB = 2**30


def cpu(*features: str, machine: str = "x86_64") -> Processor:
    return Processor(machine, frozenset(features), frozenset(features), "DEFAULT")


AVX2 = cpu("AVX2")
AVX512 = cpu("AVX2", "AVX512", "AVX512-VNNI")
BF16 = cpu(*AVX512.features, "AVX512-BF16")
AMX = cpu(*BF16.features, "AVX512-FP16", "AMX-BF16")
AMX_FP16 = cpu(*AMX.features, "AMX-FP16")
# An ARM processor of before bfloat16, and one with it.
NEON, SVE = (cpu("NEON", *more, machine="aarch64") for more in ((), ("FP16", "BF16", "SVE")))
NEON_FP16 = cpu("NEON", "FP16", machine="aarch64")

# Of published checkpoints: parameters by their safetensors indexes, the copies of tables aside.
SIZE_3B, SIZE_7B = 3_754_622_976, 8_292_166_656
SMALL = Checkpoint("bfloat16", SIZE_3B, 2 * 36 * 2 * 128)
LARGE = Checkpoint("bfloat16", SIZE_7B, 2 * 28 * 4 * 128)
ROOM = Memory(available=64 * GIB, kv_cache=4 * GIB, context=32768)


@pytest.mark.parametrize(
    ("processor", "asked", "expected"),
    [
        (AVX2, "bfloat16", "float32"),
        (AVX512, "bfloat16", "float32"),
        (BF16, "bfloat16", "bfloat16"),
        (AMX, "bfloat16", "bfloat16"),
        (AMX_FP16, "bfloat16", "bfloat16"),
        (NEON, "bfloat16", "float32"),
        (NEON_FP16, "bfloat16", "float32"),
        (SVE, "bfloat16", "bfloat16"),
        (AVX512, "float16", "float32"),
        (BF16, "float16", "bfloat16"),  # float16 would be in software
        (AMX, "float16", "bfloat16"),  # in hardware both, but bfloat16 in tiles
        (AMX_FP16, "float16", "float16"),
        (NEON_FP16, "float16", "float16"),
        (SVE, "float16", "bfloat16"),
        (AVX512, "float32", "float32"),
        (BF16, "float32", "bfloat16"),  # as vLLM does
    ],
)
def test_the_fastest_dtype_that_fits(processor: Processor, asked: str, expected: str) -> None:
    choice = fastest_dtype(replace(SMALL, dtype=asked), processor, ROOM)
    assert choice.dtype == expected
    how = "in software" if expected == "float32" else "in hardware"
    assert how in choice.reason


@pytest.mark.parametrize("processor", [AVX2, AVX512, NEON])
@pytest.mark.parametrize("asked", ["bfloat16", "float16"])
def test_quantised_checkpoints_never_run_in_float32(processor: Processor, asked: str) -> None:
    choice = fastest_dtype(replace(SMALL, dtype=asked, half_only="awq weights"), processor, ROOM)
    assert choice.dtype == "bfloat16"
    assert "awq weights" in choice.reason


def test_memory_decides_to_the_byte() -> None:
    """Weights, KV cache and processes; then one byte less."""
    needed = 4 * SIZE_7B + ROOM.kv_cache + cpu_dtype._SERVER_BYTES + cpu_dtype._WORKER_BYTES
    assert fastest_dtype(LARGE, AVX512, replace(ROOM, available=needed)).dtype == "float32"
    short = fastest_dtype(LARGE, AVX512, replace(ROOM, available=needed - 1))
    assert short.dtype == "bfloat16"
    assert "float32 would take about 37.9 GiB of the 37.9 GiB" in short.reason
    assert "times as long" in short.reason


def test_without_a_size_the_kv_cache_must_hold_one_context() -> None:
    one = 4 * LARGE.cached_elements * 32768
    needed = 4 * SIZE_7B + one + cpu_dtype._SERVER_BYTES + cpu_dtype._WORKER_BYTES
    memory = replace(ROOM, kv_cache=None, available=needed)
    assert fastest_dtype(LARGE, AVX512, memory).dtype == "float32"
    assert fastest_dtype(LARGE, AVX512, replace(memory, context=32769)).dtype == "bfloat16"


def test_a_kv_cache_that_holds_the_context_in_half_precision_only() -> None:
    context = 4 * GIB // (4 * LARGE.cached_elements)
    assert fastest_dtype(LARGE, AVX512, replace(ROOM, context=context)).dtype == "float32"
    short = fastest_dtype(LARGE, AVX512, replace(ROOM, context=context + 1))
    assert short.dtype == "bfloat16"
    assert f"the context of {context + 1} tokens" in short.reason
    # Two workers have twice as much for it.
    both = replace(ROOM, context=context + 1, workers=2)
    assert fastest_dtype(LARGE, AVX512, both).dtype == "float32"


def test_a_kv_cache_that_holds_the_context_in_no_dtype_is_no_reason_for_either() -> None:
    half = 4 * GIB // (2 * LARGE.cached_elements)
    fits = replace(ROOM, context=half)
    assert fastest_dtype(LARGE, AVX512, fits).dtype == "bfloat16"
    neither = fastest_dtype(LARGE, AVX512, replace(fits, context=half + 1))
    assert neither.dtype == "float32"
    assert f"does not hold the context of {half + 1} tokens in any dtype" in neither.reason
    # Then the weights decide.
    small = replace(fits, context=half + 1, available=32 * GIB)
    assert fastest_dtype(LARGE, AVX512, small).dtype == "bfloat16"


def test_a_kv_cache_in_fp8_takes_the_same_beside_every_dtype() -> None:
    fp8 = replace(LARGE, cached_bytes=(1, 1))
    context = 4 * GIB // LARGE.cached_elements
    for tokens in (context, context + 1):
        assert fastest_dtype(fp8, AVX512, replace(ROOM, context=tokens)).dtype == "float32"
    needed = 4 * SIZE_7B + fp8.cached_elements * 32768 + 3 * GIB
    memory = replace(ROOM, kv_cache=None, available=needed)
    assert fastest_dtype(fp8, AVX512, memory).dtype == "float32"
    assert fastest_dtype(fp8, AVX512, replace(memory, available=needed - 1)).dtype == "bfloat16"


def test_a_workers_share_must_fit_one_node() -> None:
    share = 4 * SIZE_7B + 4 * GIB + cpu_dtype._WORKER_BYTES
    assert fastest_dtype(LARGE, AVX512, replace(ROOM, node=share)).dtype == "float32"
    short = fastest_dtype(LARGE, AVX512, replace(ROOM, node=share - 1))
    assert short.dtype == "bfloat16"
    assert "a worker would take about 36.9 GiB of the 36.9 GiB" in short.reason
    assert "NUMA node" in short.reason
    halves = replace(ROOM, node=2 * SIZE_7B + 6 * GIB, workers=2)
    assert fastest_dtype(LARGE, AVX512, halves).dtype == "float32"


def test_every_replica_has_weights_of_its_own() -> None:
    assert fastest_dtype(LARGE, AVX512, replace(ROOM, replicas=2)).dtype == "bfloat16"


@pytest.mark.parametrize(
    ("language", "tied", "size"),
    [((2048, 11008, 36, 16, 2, 151936), True, SIZE_3B),
     ((3584, 18944, 28, 28, 4, 152064), False, SIZE_7B)],
    ids=["3B", "7B"],
)  # fmt: skip
def test_parameters_of_published_shapes(language: tuple[int, ...], tied: bool, size: int) -> None:
    hidden, inner, layers, heads, kv_heads, vocabulary = language
    config = Qwen2_5_VLConfig(
        text_config={
            "hidden_size": hidden,
            "intermediate_size": inner,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": kv_heads,
            "vocab_size": vocabulary,
        },
        vision_config={
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": 3420,
            "num_heads": 16,
            "out_hidden_size": hidden,
        },
        tie_word_embeddings=tied,
    )
    copies = 2 * vocabulary * hidden
    assert cpu_dtype.parameter_count(config) - copies == size


def small_config() -> Qwen2_5_VLConfig:
    return Qwen2_5_VLConfig.from_pretrained(random_checkpoint())


def flags(**changed: object) -> Namespace:
    given = {
        "dtype": "auto",
        "quantization": None,
        "kv_cache_dtype": "auto",
        "kv_cache_memory_bytes": GIB,
        "gpu_memory_utilization": 0.92,
        "max_model_len": 4096,
        "tensor_parallel_size": 1,
        "pipeline_parallel_size": 1,
        "nnodes": 1,
        "data_parallel_size": 1,
        "data_parallel_size_local": None,
    }
    return Namespace(**(given | changed))


@pytest.fixture
def on(monkeypatch):
    def use(processor: Processor, gib: int = 64) -> None:
        monkeypatch.setattr(cpu_dtype, "processor", lambda: processor)
        monkeypatch.setattr(cpu_dtype, "available_memory", lambda: gib * GIB)
        monkeypatch.setattr(cpu_dtype, "smallest_node", lambda: None)
        monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE", raising=False)

    return use


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, "float32"),
        ({"kv_cache_dtype": "bfloat16"}, "bfloat16"),
        ({"kv_cache_dtype": "fp8"}, "float32"),
        ({"quantization": "awq"}, "bfloat16"),
        ({"kv_cache_memory_bytes": 63 * GIB}, "bfloat16"),
        ({"kv_cache_memory_bytes": 40 * GIB, "tensor_parallel_size": 2}, "bfloat16"),
        ({"kv_cache_memory_bytes": None}, "float32"),
        ({"dtype": "bfloat16"}, "bfloat16"),
        ({"dtype": "float16"}, "float16"),
    ],
)
def test_flags(on, caplog, changed: dict[str, object], expected: str) -> None:
    on(AVX512)
    arguments = flags(**changed)
    with caplog.at_level(logging.INFO, logger=cpu_dtype.__name__):
        cpu_dtype.choose_dtype(arguments, small_config())
    assert arguments.dtype == expected
    said = [one.getMessage() for one in caplog.records if one.name == cpu_dtype.__name__]
    if "dtype" in changed:
        assert said == []
    else:
        (line,) = said
        assert line.startswith(f"--dtype auto is {expected}: ")


def chosen(monkeypatch, available: int, **changed: object) -> str:
    monkeypatch.setattr(cpu_dtype, "available_memory", lambda: available)
    cpu_dtype.choose_dtype(arguments := flags(**changed), small_config())
    return str(arguments.dtype)


@pytest.mark.parametrize(
    ("changed", "replicas", "workers"),
    [
        ({}, 1, 1),
        ({"data_parallel_size": 2}, 2, 1),
        ({"data_parallel_size": 4, "data_parallel_size_local": 3}, 3, 1),
        ({"tensor_parallel_size": 2}, 1, 2),
        ({"tensor_parallel_size": 2, "pipeline_parallel_size": 2, "nnodes": 2}, 1, 2),
    ],
)
def test_replicas_and_workers_to_the_byte(
    on, monkeypatch, changed: dict[str, object], replicas: int, workers: int
) -> None:
    on(AVX512)
    weights = 4 * cpu_dtype.parameter_count(small_config())
    engine = weights + workers * (GIB + cpu_dtype._WORKER_BYTES)
    needed = replicas * engine + cpu_dtype._SERVER_BYTES
    assert chosen(monkeypatch, needed, **changed) == "float32"
    assert chosen(monkeypatch, needed - 1, **changed) == "bfloat16"


def test_the_share_of_memory_to_the_byte(on, monkeypatch) -> None:
    on(AVX512)
    checkpoint = cpu_dtype.read_checkpoint(small_config(), flags())
    cache = 4 * checkpoint.cached_elements * 4096
    needed = 4 * checkpoint.parameters + cache + cpu_dtype._WORKER_BYTES + cpu_dtype._SERVER_BYTES
    half = {"kv_cache_memory_bytes": None, "gpu_memory_utilization": 0.5}
    assert chosen(monkeypatch, 2 * needed, **half) == "float32"
    assert chosen(monkeypatch, 2 * needed - 1, **half) == "bfloat16"
    # Of a node, too: the server's other processes are not bound to it.
    node = 2 * (needed - cpu_dtype._SERVER_BYTES)
    for available, expected in ((node, "float32"), (node - 1, "bfloat16")):
        monkeypatch.setattr(cpu_dtype, "smallest_node", lambda available=available: available)
        assert chosen(monkeypatch, 64 * GIB, **half) == expected


@pytest.mark.parametrize(
    ("dtype", "expected"), [("auto", (4, 2)), ("fp8", (1, 1)), ("fp8_e5m2", (1, 1))]
)
def test_bytes_of_the_kv_cache(dtype: str, expected: tuple[int, int]) -> None:
    checkpoint = cpu_dtype.read_checkpoint(small_config(), flags(kv_cache_dtype=dtype))
    assert checkpoint.cached_bytes == expected


def test_vllms_variable_wins_over_its_flag(on, monkeypatch) -> None:
    on(AVX512)
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "63")
    cpu_dtype.choose_dtype(arguments := flags(), small_config())
    assert arguments.dtype == "bfloat16"


def test_processors_that_nobody_knows_are_left_to_vllm(on) -> None:
    on(cpu(machine="s390x"))
    cpu_dtype.choose_dtype(arguments := flags(), small_config())
    assert arguments.dtype == "auto"


def test_parameters_of_a_folder() -> None:
    """Counted from the config, as many as the file holds."""
    folder = random_checkpoint()
    config = small_config()
    text = config.get_text_config()
    with safe_open(folder / "model.safetensors", "pt") as file:
        stored = sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    copies = 2 * text.vocab_size * text.hidden_size
    assert cpu_dtype.read_checkpoint(config, flags()).parameters == stored + copies


def test_what_doctor_says() -> None:
    assert describe_auto(BF16, 9 * GIB) == "bfloat16, multiplied in hardware"
    assert "float32 if weights and KV cache fit into the 9.0 GiB" in describe_auto(AVX512, 9 * GIB)
    assert describe_auto(cpu(machine="s390x"), GIB) == "the checkpoint's dtype"


class Groups:
    """A folder like ``/`` with control groups in it."""

    def __init__(self, root: Path, line: str) -> None:
        self.root = root
        (root / "proc/self").mkdir(parents=True)
        (root / "proc/self/cgroup").write_text(f"12:cpu:/elsewhere\n{line}\n")

    def write(self, folder: str, **files: object) -> None:
        (self.root / "sys/fs/cgroup" / folder).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (self.root / "sys/fs/cgroup" / folder / name.replace("__", ".")).write_text(f"{text}\n")


def test_the_tightest_control_group_bounds_memory(tmp_path: Path) -> None:
    groups = Groups(tmp_path, "0::/pod/server")
    groups.write("pod/server", memory__max="max", memory__current=5)
    groups.write("pod", memory__max=9000, memory__current=7000, memory__stat="inactive_file 500")
    assert available_memory(tmp_path) == 2500
    groups.write("pod/server", memory__max=6000, memory__current=5000)
    assert available_memory(tmp_path) == 1000
    groups.write("pod/server", memory__current=7000)
    assert available_memory(tmp_path) == 0


def test_in_a_container_its_group_is_at_the_top(tmp_path: Path) -> None:
    groups = Groups(tmp_path, "0::/system.slice/of/the/host")
    groups.write(".", memory__max=4000, memory__current=1000)
    assert available_memory(tmp_path) == 3000


def test_control_groups_of_version_one(tmp_path: Path) -> None:
    groups = Groups(tmp_path, "4:memory:/pod")
    files = {"memory__limit_in_bytes": 8000, "memory__usage_in_bytes": 3000}
    groups.write("memory/pod", **files, memory__stat="cache 9\ntotal_inactive_file 100")
    groups.write("memory", memory__limit_in_bytes=2**63 - 4096, memory__usage_in_bytes=10**6)
    assert available_memory(tmp_path) == 5100


def test_without_control_groups_the_machine_bounds_memory(tmp_path: Path) -> None:
    assert 0 < available_memory(tmp_path) <= psutil.virtual_memory().total


def write_node(root: Path, number: int, cpus: str, gib: int) -> None:
    """A NUMA node of which one GiB is in use and half of the rest are pages of files."""
    folder = root / f"sys/devices/system/node/node{number}"
    folder.mkdir(parents=True)
    (folder / "cpulist").write_text(f"{cpus}\n")
    free = max(0, gib - 1) * GIB // 1024
    pages = {"Active(file)": free // 4, "Inactive(file)": free // 8, "SReclaimable": free // 8}
    rows = {"MemTotal": gib * GIB // 1024, "MemFree": free // 2, "Active": free, **pages}
    lines = [f"Node {number} {name}: {value:>12} kB" for name, value in rows.items()]
    (folder / "meminfo").write_text("\n".join([*lines, f"Node {number} HugePages_Total: 0"]) + "\n")


def test_of_nodes_the_one_with_least_counts(tmp_path: Path) -> None:
    assert smallest_node(tmp_path, {0}) is None
    write_node(tmp_path, 0, "0-1,4", 33)
    write_node(tmp_path, 1, "2-3", 17)
    write_node(tmp_path, 2, "", 5)  # memory alone, such as CXL's
    write_node(tmp_path, 10, "5", 0)  # cores alone
    assert smallest_node(tmp_path, range(6)) == 16 * GIB
    assert smallest_node(tmp_path, {4}) == 32 * GIB  # bound to the cores of one
    assert smallest_node(tmp_path, {5}) is None


def test_two_nodes_that_hold_a_7b_together_only(tmp_path: Path) -> None:
    for number in range(2):
        write_node(tmp_path, number, str(number), 33)
    node = smallest_node(tmp_path, {0, 1})
    memory = Memory(available=64 * GIB, kv_cache=4 * GIB, context=32768, node=node)
    assert fastest_dtype(LARGE, AVX512, replace(memory, node=None)).dtype == "float32"
    assert fastest_dtype(LARGE, AVX512, memory).dtype == "bfloat16"
    assert fastest_dtype(LARGE, BF16, memory).dtype == "bfloat16"
    assert fastest_dtype(LARGE, AVX512, replace(memory, workers=2)).dtype == "float32"
