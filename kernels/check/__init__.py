"""The GPU kit: ``python -m saccade.kernels.check``.

Holds every kernel against float64 on real and edge shapes, then times it beside PyTorch and, where
they can be imported, flash-attn and vLLM. Needs torch, triton and numpy, and nothing of Saccade but
`saccade.kernels`. `contenders/vllm.py` alone knows vLLM, and is imported only where that is
installed.
"""
