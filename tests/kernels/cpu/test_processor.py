"""What the processor does in hardware, by its features and the limits of libraries."""

import pytest

from saccade.kernels.cpu.processor import limit, named_features

AVX2 = "fma avx2"
AVX512 = f"{AVX2} avx512f avx512dq avx512bw avx512vl avx512_vnni"
BF16 = f"{AVX512} avx512_bf16"
AMX = f"{BF16} avx512_fp16 amx_bf16 amx_tile amx_int8"
AMX_FP16 = f"{AMX} amx_fp16"


def imitated(flags: str, machine: str = "x86_64", aten: str = "AVX512", **environment: str):
    has = dict.fromkeys(flags.split(), True)
    features = named_features(machine, has, linux=True)
    return limit(machine, features, aten, environment)


@pytest.mark.parametrize(
    ("flags", "bfloat16", "emulated", "float16"),
    [
        ("sse4_1", False, False, False),
        (AVX2, False, False, False),
        (AVX512, False, True, False),
        (f"{AVX2} avx512f", False, False, False),  # not all that oneDNN wants
        (BF16, True, False, False),
        (AMX, True, False, True),
        (AMX_FP16, True, False, True),
    ],
)
def test_products_by_features(flags: str, bfloat16: bool, emulated: bool, float16: bool) -> None:
    found = imitated(flags)
    assert found.bfloat16_matmul == bfloat16
    assert found.bfloat16_matmul_emulated == emulated
    assert found.float16_matmul == float16
    assert found.limits == ()


@pytest.mark.parametrize(
    ("flags", "bfloat16", "float16"),
    [
        ("asimd", False, False),
        ("asimd asimdhp", False, True),
        ("asimd asimdhp sve bf16", True, True),
    ],
)
def test_aarch64(flags: str, bfloat16: bool, float16: bool) -> None:
    found = imitated(flags, "aarch64", "DEFAULT", ONEDNN_MAX_CPU_ISA="ASIMD")
    assert (found.bfloat16_matmul, found.float16_matmul) == (bfloat16, float16)
    assert not found.bfloat16_matmul_emulated


def test_pairs_of_rows_are_multiplied_on_x86_alone() -> None:
    arm = limit("aarch64", {"NEON", "BF16"}, "DEFAULT", {})
    assert arm.bfloat16_matmul
    assert not arm.bfloat16_brgemm
    assert imitated(BF16).bfloat16_brgemm


def test_another_machine_promises_nothing() -> None:
    found = imitated("vx vxe", "s390x", "ZVECTOR")
    assert not any((found.bfloat16_matmul, found.float16_matmul, found.bfloat16_matmul_emulated))


@pytest.mark.parametrize(
    ("value", "bfloat16", "emulated", "float16"),
    [
        ("SSE41", False, False, False),
        ("AVX2", False, False, False),
        ("AVX2_VNNI_2", False, False, False),
        ("avx512_core", False, True, False),
        ("AVX512_CORE_VNNI", False, True, False),
        ("AVX512_CORE_BF16", True, False, False),
        ("AVX512_CORE_FP16", True, False, True),
        ("AVX10_1_512", True, False, True),
        ("AVX512_CORE_AMX", True, False, True),
        ("AVX10_1_512_AMX_FP16", True, False, True),
        ("DEFAULT", True, False, True),
        ("AVX512", True, False, True),  # no name of oneDNN's
    ],
)
def test_onednns_limit(value: str, bfloat16: bool, emulated: bool, float16: bool) -> None:
    found = imitated(AMX_FP16, ONEDNN_MAX_CPU_ISA=value)
    assert found.bfloat16_matmul == bfloat16
    assert found.bfloat16_matmul_emulated == emulated
    assert found.float16_matmul == float16
    assert found.features == imitated(AMX_FP16).features
    shown = f"ONEDNN_MAX_CPU_ISA={value}"
    unlimited = {"DEFAULT", "AVX10_1_512_AMX_FP16"}
    assert found.limits == (() if value in unlimited or value == "AVX512" else (shown,))
    assert found.ignored == ((shown,) if value == "AVX512" else ())
    assert value == "DEFAULT" or value in unlimited or shown in found.describe()


def test_no_limit_gives_what_is_not_there() -> None:
    assert not imitated(AVX2, aten="AVX2", ONEDNN_MAX_CPU_ISA="AVX512_CORE_BF16").bfloat16_matmul


def test_the_older_name_of_the_variable_gives_way() -> None:
    assert not imitated(BF16, DNNL_MAX_CPU_ISA="AVX2").bfloat16_matmul
    both = {"DNNL_MAX_CPU_ISA": "AVX2", "ONEDNN_MAX_CPU_ISA": "DEFAULT"}
    assert imitated(BF16, **both).bfloat16_matmul


def test_atens_limit_is_named_and_leaves_products_alone() -> None:
    found = imitated(BF16, aten="AVX2", ATEN_CPU_CAPABILITY="avx2")
    assert found.bfloat16_matmul
    assert found.limits == ("ATEN_CPU_CAPABILITY=avx2",)
    assert imitated(BF16, ATEN_CPU_CAPABILITY="avx512").limits == ()


def test_a_line_for_people() -> None:
    assert imitated(AVX512, ONEDNN_MAX_CPU_ISA="AVX2").describe() == (
        "x86_64 AVX2 AVX512 AVX512-VNNI; bfloat16 products in software, slowly; float16 products "
        "in software, slowly; oneDNN keeps to AVX2; ATen uses AVX512; "
        "limits: ONEDNN_MAX_CPU_ISA=AVX2"
    )
