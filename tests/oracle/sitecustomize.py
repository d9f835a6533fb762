"""Python runs this at its start in every process that has this folder on PYTHONPATH.

PyPI's torchvision is a CUDA build: beside CPU torch it imports only once two operators exist.
"""

import torch

_library = torch.library.Library("torchvision", "DEF")
for _name in ("nms", "qnms"):
    _library.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
