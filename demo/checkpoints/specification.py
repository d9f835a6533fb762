"""The shape of a Qwen2.5-VL checkpoint, as small or as large as wanted."""

from dataclasses import dataclass, field
from typing import Literal

Layout = Literal["published", "nested"]
"""Weight names: `published` is what the hub's checkpoints have (`visual.*`, `model.layers.*`),
`nested` is what newer tools save (`model.visual.*`, `model.language_model.*`)."""

DataType = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class TowerSpec:
    """The vision tower. The defaults are the demo checkpoint's."""

    depth: int = 6
    hidden: int = 160
    heads: int = 2
    intermediate: int = 432
    fullatt_block_indexes: tuple[int, ...] = (2, 5)
    window_size: int = 112
    patch_size: int = 14
    temporal_patch_size: int = 2
    merge_size: int = 2

    def __post_init__(self) -> None:
        if self.hidden % (4 * self.heads):
            raise ValueError(f"hidden {self.hidden} must be a multiple of 4 * {self.heads} heads")
        if not all(0 <= index < self.depth for index in self.fullatt_block_indexes):
            raise ValueError(f"fullatt_block_indexes must lie below depth {self.depth}")


@dataclass(frozen=True)
class LanguageSpec:
    """The language model; `hidden` is also the width of the tower's output."""

    layers: int = 4
    hidden: int = 256
    heads: int = 2
    kv_heads: int = 1
    intermediate: int = 704
    mrope_section: tuple[int, int, int] = (16, 24, 24)
    rope_theta: float = 1e6
    max_position_embeddings: int = 32768
    tie_word_embeddings: bool = True

    @property
    def head_dim(self) -> int:
        """The width of one head; the architecture has no setting of its own for it."""
        return self.hidden // self.heads

    def __post_init__(self) -> None:
        if self.hidden % self.heads or self.heads % self.kv_heads:
            raise ValueError("heads must divide hidden, and kv_heads must divide heads")
        if 2 * sum(self.mrope_section) != self.head_dim:
            raise ValueError(f"mrope_section must sum to half the head_dim {self.head_dim}")


@dataclass(frozen=True)
class CheckpointSpec:
    """Everything that decides the bytes of a random checkpoint. Defaults: the demo's."""

    tower: TowerSpec = field(default_factory=TowerSpec)
    language: LanguageSpec = field(default_factory=LanguageSpec)
    tokens_per_second: int = 2
    repetition_penalty: float = 1.05
    dtype: DataType = "bfloat16"
    seed: int = 0
    layout: Layout = "published"
