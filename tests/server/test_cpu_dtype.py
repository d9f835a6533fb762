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

from saccade.demo.checkpoint import random_checkpoint
from saccade.kernels.processor import Processor
from saccade.server import cpu_dtype
from saccade.server.cpu_dtype import Checkpoint, Memory, describe_auto, fastest_dtype
from saccade.server.memory import available_memory

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
