"""Operations of the vision tower, each beside its reference in plain PyTorch.

Nothing here knows of models or of vLLM: tensors and numbers in, tensors out. `check`, the GPU
kit, compares with vLLM where it is installed.
"""
