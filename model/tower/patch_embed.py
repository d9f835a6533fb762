"""The tower's first layer."""

import torch
from torch import nn
from transformers import PretrainedConfig
from vllm.model_executor.layers.conv import Conv3dLayer

from saccade.kernels.patch_embed import fold_normalisation
from saccade.model.checkpoint_config import Normalisation


class PatchEmbed(nn.Module):
    """Centred patch vectors to hidden states, with normalisation folded into the weight."""

    def __init__(self, config: PretrainedConfig, normalisation: Normalisation) -> None:
        super().__init__()
        kernel = (config.temporal_patch_size, config.patch_size, config.patch_size)
        # Holds the weight under its published name and shape; never called as a convolution.
        self.proj = Conv3dLayer(
            config.in_channels, config.hidden_size, kernel, stride=kernel, bias=False
        )
        self.still_width = config.in_channels * config.patch_size**2
        self.normalisation = normalisation
        self._folded: dict[bool, tuple[torch.Tensor, torch.Tensor]] = {}
        self._outdated: set[bool] = set()

    def weight_changed(self) -> None:
        """What was folded is outdated."""
        self._outdated.update(self._folded)

    def folded(self, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight ``[hidden, width]`` and bias ``[hidden]``; the width tells images from videos.

        A changed weight is folded into the old tensors: captured graphs go on reading them.
        """
        still = width == self.still_width
        if still not in self._folded or still in self._outdated:
            norm = self.normalisation
            new = fold_normalisation(
                self.proj.weight.detach(), norm.mean, norm.std, norm.rescale_factor, still=still
            )
            for old, tensor in zip(self._folded.setdefault(still, new), new, strict=True):
                old.copy_(tensor)
            self._outdated.discard(still)
        return self._folded[still]

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """``[patches, K]`` to ``[patches, hidden]``."""
        return nn.functional.linear(patches, *self.folded(patches.shape[1]))
