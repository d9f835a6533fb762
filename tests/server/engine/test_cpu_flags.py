"""Flags that vLLM's engine fails with late, or answers wrongly with, on a CPU."""

import json
import logging
from types import SimpleNamespace

import pytest
import torch
import yaml

from saccade.kernels.cpu.processor import limit
from saccade.model.cpu import cache_dtype
from saccade.model.cpu.cache_dtype import refuse_cache_dtype
from saccade.server.cli import main
from saccade.server.core import settings
from saccade.server.engine import cpu_flags
from saccade.server.engine import flags as vllm_arguments

HALF = ("bfloat16", "float16")
FP8 = ("fp8", "fp8_e4m3", "fp8_e5m2")


def parse(*flags):
    """The flags as `saccade serve` parses them."""
    parser = vllm_arguments.make_parser()
    vllm_arguments.add_engine_arguments(parser)
    settings.add_settings_arguments(parser)
    return parser.parse_args(["model", *flags])


def check(*flags, dtype=torch.bfloat16, method=None, **details):
    """Checks flags beside a checkpoint's dtype and the method that has quantised it."""
    quantization = {"quant_method": method, **details} if method else None
    config = SimpleNamespace(dtype=dtype, quantization_config=quantization)
    cpu_flags.check_cpu_engine(parse(*flags), config)


def imitate(monkeypatch, *features):
    """Has the checks meet a processor with these features."""
    processor = limit("x86_64", features, "DEFAULT", {})
    for module in (cache_dtype, cpu_flags):
        monkeypatch.setattr(module, "processor", lambda: processor)


def refusal(*flags, **checkpoint):
    """The line that refuses them."""
    with pytest.raises(ValueError, match="--") as caught:
        check(*flags, **checkpoint)
    line = str(caught.value)
    assert "\n" not in line
    return line


def all_cache_dtypes():
    """Every value that vLLM's flag takes."""
    (flag,) = (a for a in parse_actions() if "--kv-cache-dtype" in a.option_strings)
    return list(flag.choices)


def parse_actions():
    parser = vllm_arguments.make_parser()
    vllm_arguments.add_engine_arguments(parser)
    return parser._actions


def test_a_cache_dtype_is_taken_where_it_answers_rightly_and_nowhere_else(monkeypatch):
    imitate(monkeypatch, "AVX512")
    values = all_cache_dtypes()
    assert len(values) > 10
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        right = {"auto", *FP8} | (set() if dtype == torch.float32 else set(HALF))
        for value in values:
            if value in right:
                refuse_cache_dtype(value, dtype)
            else:
                with pytest.raises(ValueError, match=f"--kv-cache-dtype {value} .* auto, fp8"):
                    refuse_cache_dtype(value, dtype)


def test_fp8_in_the_cache_needs_wide_vectors(monkeypatch):
    imitate(monkeypatch, "AVX2")
    assert "AVX-512" in refusal("--kv-cache-dtype", "fp8")
    check("--kv-cache-dtype", "bfloat16")


def test_every_spelling_is_heard(tmp_path):
    file = tmp_path / "flags.yaml"
    file.write_text(yaml.safe_dump({"kv-cache-dtype": "bfloat16", "dtype": "float32"}))
    for flags in (
        ["--kv-cache-dtype", "bfloat16", "--dtype", "float32"],
        ["--kv_cache_dtype=bfloat16", "--dtype=float"],
        ["--config", str(file)],
    ):
        line = refusal(*flags)
        assert line.startswith("--kv-cache-dtype bfloat16 is not supported on a CPU beside --dtype")
    # The checkpoint's dtype counts, and for float32 vLLM computes in bfloat16.
    for dtype in (torch.bfloat16, torch.float16, torch.float32, None):
        check("--kv-cache-dtype=float16", dtype=dtype)


@pytest.mark.parametrize(
    "flags", [["--distributed-executor-backend", "ray"], ["--data_parallel_backend=ray"]]
)
def test_ray_is_refused(flags):
    name = flags[0].partition("=")[0].replace("_", "-")
    assert refusal(*flags).startswith(f"{name} ray is not supported on a CPU: leave it out")


def test_rays_executor_is_refused_by_the_name_of_its_class():
    executor = "vllm.v1.executor.ray_executor.RayDistributedExecutor"
    assert "ray" in refusal("--distributed-executor-backend", executor)
    check("--distributed-executor-backend", "mp")


def test_weights_quantised_at_the_start_need_an_operation(monkeypatch):
    imitate(monkeypatch, "AVX512")
    for method in ("fp8", "fp8_per_tensor", "fp8_per_block", "mxfp8", "mxfp4"):
        line = refusal("--quantization", method)
        assert line.startswith(f"--quantization {method} of a checkpoint that is not quantised")
        assert "fp8_per_channel" in line
    refusal("--quantization=FP8")  # vLLM takes any case
    check("--quantization=fp8_per_channel")
    # A checkpoint of such weights is another thing.
    check("--quantization=fp8", method="fp8")
    imitate(monkeypatch, "AVX512", "AMX-BF16")
    check("--quantization=fp8_per_block")
    refusal("--quantization=fp8_per_tensor")


@pytest.mark.parametrize("method", ["awq", "gptq", "fp8"])
def test_quantised_weights_that_need_half_precision_say_so(method):
    line = refusal("--dtype", "float32", method=method)
    assert line == (f"--dtype float32 is not supported with {method} weights: use --dtype bfloat16")
    check(method=method)
    check("--dtype", "half", method=method)


@pytest.mark.parametrize(
    "details",
    [
        {"format": "pack-quantized"},
        {"format": "mixed-precision", "config_groups": {"group_0": {"format": "pack-quantized"}}},
    ],
)
def test_packed_weights_of_compressed_tensors_need_half_precision(details):
    line = refusal("--dtype", "float32", method="compressed-tensors", **details)
    assert line.endswith("with compressed-tensors weights: use --dtype bfloat16")
    check(method="compressed-tensors", **details)
    check("--dtype=float32", method="compressed-tensors", format="int-quantized")


def test_other_quantised_weights_are_left_to_vllm():
    check("--dtype", "float32", method="compressed-tensors")
    check("--dtype", "float32", method="unheard-of")
    assert "--quantization fp8_per_channel" in refusal(
        "--quantization=fp8_per_channel", "--dtype=float32"
    )


@pytest.mark.parametrize("in_hardware", [False, True])
def test_float16_in_software_is_said(in_hardware, monkeypatch, caplog):
    imitate(monkeypatch, "AVX512-FP16" if in_hardware else "AVX512")
    with caplog.at_level(logging.WARNING, logger=cpu_flags.__name__):
        check(dtype=torch.bfloat16)
        check("--dtype=float32")
        assert caplog.messages == []
        check("--dtype=half")
        check(dtype=torch.float16)
    said = [message for message in caplog.messages if "--dtype bfloat16 or float32" in message]
    assert len(said) == (0 if in_hardware else 2)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--kv-cache-dtype", "bfloat16"], "--kv-cache-dtype bfloat16"),  # the demo's is float32
        (["--data-parallel-backend", "ray"], "--data-parallel-backend ray"),
    ],
)
def test_the_command_ends_with_one_line(flags, told, capsys):
    assert main(["serve", "demo", *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"saccade serve: error: {told} is not supported on a CPU")


def test_a_quantised_checkpoint_is_read_from_its_config(tmp_path, capsys):
    from saccade.server.checkpoint.bundled import bundled_checkpoint

    config = json.loads((bundled_checkpoint() / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "awq", "bits": 4, "group_size": 32}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert main(["serve", str(tmp_path), "--dtype", "float32"]) == 2
    assert "float32 is not supported with awq weights" in capsys.readouterr().err
