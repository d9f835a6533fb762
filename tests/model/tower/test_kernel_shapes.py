"""The sizes at which kernels prove themselves are those of the model."""

import pytest
import torch
from vllm.config import set_current_vllm_config
from vllm.engine.arg_utils import EngineArgs

from saccade.kernels import dispatch
from saccade.kernels.self_test import proof
from saccade.kernels.self_test.cases import Shapes
from saccade.model.compat import refuse_graphs
from saccade.model.tower import kernel_shapes
from saccade.server.checkpoint.bundled import bundled_checkpoint


def test_sizes_of_the_bundled_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_shapes, "tower_tp_size", lambda: 2)
    config = EngineArgs(model=str(bundled_checkpoint()), enforce_eager=True).create_engine_config()
    with set_current_vllm_config(config):
        found = kernel_shapes.read_shapes(config)
    assert found == Shapes(
        attention=((1, 80),),
        longest_window=64,
        mrope=((4, 2, 64, (5, 5, 22), False),),
        hidden=(160,),
        patch_size=14,
        merge_size=2,
    )


@pytest.mark.parametrize("operation", ["window_attention", "merge_input"])
def test_graphs_are_refused_where_a_kernel_is_out_of_use(
    operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(dispatch.KERNELS_ENV, raising=False)
    reasons = {(operation, "triton", torch.bfloat16): "off by 3"}
    monkeypatch.setattr(proof, "_REASONS", reasons)
    with pytest.raises(ValueError, match=f"{operation}: triton is out of use: off by 3$"):
        refuse_graphs(None, "cuda")
