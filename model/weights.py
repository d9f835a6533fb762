"""Which weights a checkpoint must hold, so that a wrong one is refused by name.

vLLM's loader reports parameters that nothing was loaded into and names it has no place for. It
does not notice a stacked parameter of which only a part came (q and v, but no k), nor a bias the
model does not have.
"""

from collections.abc import Iterable, Iterator

import torch

# Parameter of the model -> what a checkpoint may hold instead of it.
_STACKED = {
    ".qkv_proj.": (".q_proj.", ".k_proj.", ".v_proj."),
    ".attn.qkv.": (".attn.q.", ".attn.k.", ".attn.v."),
    ".gate_up_proj.": (".gate_proj.", ".up_proj."),
}


class CheckpointNames:
    """Records the names that pass by while a checkpoint is loaded."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def record(
        self, weights: Iterable[tuple[str, torch.Tensor]]
    ) -> Iterator[tuple[str, torch.Tensor]]:
        for name, weight in weights:
            self.seen.add(name)
            yield name, weight

    def check(self, parameters: Iterable[str]) -> None:
        """Compare with the model's parameters.

        Args:
            parameters: Names of the model's parameters, without those tied to another.

        Raises:
            ValueError: names the weights that are missing, or the biases that have no place.
        """
        accepted: set[str] = set()
        missing: list[str] = []
        for parameter in parameters:
            parts = _parts(parameter)
            accepted.update(parts, (parameter,))
            if parameter not in self.seen:
                missing += [part for part in parts if part not in self.seen]
        if missing:
            raise ValueError(f"the checkpoint lacks the weights {_listing(missing)}")
        surplus = sorted(name for name in self.seen - accepted if name.endswith(".bias"))
        if surplus:
            raise ValueError(f"the model has no place for the weights {_listing(surplus)}")


def _parts(parameter: str) -> tuple[str, ...]:
    for stacked, names in _STACKED.items():
        if stacked in parameter:
            return tuple(parameter.replace(stacked, name) for name in names)
    return (parameter,)


def _listing(names: list[str]) -> str:
    shown = ", ".join(sorted(names)[:8])
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "")
