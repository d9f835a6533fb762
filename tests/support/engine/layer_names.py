"""Script: ``layer_names.py FOLDER`` prints the layers and parameters of the model that vLLM
chooses for a checkpoint, as JSON. Quantisation and LoRA find layers by these names."""

import json
import sys

from single_process import load_model, single_process

if __name__ == "__main__":
    from vllm.model_executor.layers.linear import LinearBase

    with single_process():
        model = load_model(sys.argv[1], load_format="dummy")
    layers = {m.prefix: type(m).__name__ for m in model.modules() if isinstance(m, LinearBase)}
    parameters = {name: list(p.shape) for name, p in model.named_parameters()}
    print(json.dumps({"class": type(model).__module__, "layers": layers, "parameters": parameters}))
