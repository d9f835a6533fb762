"""A training run on disk: what is needed to go on, and the checkpoint made from it."""

import copy
import dataclasses
import json
import os
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from saccade.demo.checkpoints.checkpoint import write_checkpoint
from saccade.demo.checkpoints.specification import CheckpointSpec, LanguageSpec
from saccade.demo.training.batch import tower_batch
from saccade.demo.training.data import tower_examples
from saccade.demo.training.model.heads import DenseHeads, TalkHeads
from saccade.demo.training.model.language import TrainingModel
from saccade.demo.training.optimizer import Muon

SPEC = CheckpointSpec(
    language=LanguageSpec(
        layers=6,
        intermediate=512,
        heads=4,
        kv_heads=2,
        mrope_section=(5, 5, 22),
        rope_theta=400.0,
    ),
    repetition_penalty=1.0,
)
"""The model that is trained.

No penalty for repetition: the digits of coordinates repeat.

Rotary positions alone tell where a cell is: in a plain image all patches of the tower are alike.
With the published base, 1e6, the angles of a column differ by less than 0.0002; in trials places
took over twice as many steps to learn at angles below 0.06. Columns get most of the rotary pairs,
since time and rows come first and have the fast ones.
"""

TALK_SPEC = dataclasses.replace(SPEC, language=dataclasses.replace(SPEC.language, layers=8))
"""The model that learns to talk: two layers more, between what it knows already."""

_CELLS_LAYER, _ASKED_LAYER = 2, 3  # of the language model, after which the heads read
_GROWN = {0: 0, 1: 1, 2: 3, 3: 5, 4: 6, 5: 7}  # where the layers of `SPEC` are in `TALK_SPEC`
_AVERAGE = 0.999  # what the averaged weights keep of themselves each step
_BETAS = (0.9, 0.98)
_MUON_RATE, _ADAMW_RATE = 0.01, 7e-4  # at their peak
# Of the pixels' filters: a patch's 1,176 values are nearly alike, so that a small step of every
# weight is a large one of the sum.
_FILTER_RATE = 2e-5


def default_folder() -> Path:
    """Where a run is kept."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "saccade" / "training"


class Run:
    """Model, heads, averaged weights, optimisers and counters of one run."""

    def __init__(self, folder: Path, seed: int, fast: bool = False, talk: bool = False) -> None:
        """Args:
        talk: train the language model of `TALK_SPEC` alone.
        """
        torch.manual_seed(seed)
        self.folder = folder
        self.talk = talk
        self.spec = TALK_SPEC if talk else SPEC
        self.seed = seed
        self.step = 0
        self.saved_step = 0
        self.seconds = 0.0
        self.model = TrainingModel(self.spec, fast)
        self.heads: DenseHeads | TalkHeads
        if talk:
            self.model.visual.requires_grad_(False)
            self.heads = TalkHeads(SPEC.language.hidden, 2, 3, 4, 5)
        else:
            start = [*tower_examples(seed, 0), *tower_examples(seed, 1)]
            self.model.visual.patch_embed.start_from_cosines(tower_batch(start).tower.patches)
            self.heads = DenseHeads(SPEC.language.hidden, _CELLS_LAYER, _ASKED_LAYER)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        matrices: list[torch.nn.Parameter] = []
        stacked: list[torch.nn.Parameter] = []
        others: list[torch.nn.Parameter] = list(self.heads.parameters())
        filters: list[torch.nn.Parameter] = []
        for name, parameter in self.model.named_parameters():
            if not parameter.requires_grad:
                continue
            if "patch_embed" in name:
                filters.append(parameter)
            elif parameter.dim() != 2 or "embed" in name:
                others.append(parameter)
            else:
                (stacked if "qkv" in name else matrices).append(parameter)
        muon = [{"params": matrices, "parts": 1}, {"params": stacked, "parts": 3}]
        adamw = [{"params": others, "lr": _ADAMW_RATE}, {"params": filters, "lr": _FILTER_RATE}]
        muon, adamw = ([group for group in groups if group["params"]] for groups in (muon, adamw))
        self.optimizers = {
            "muon": Muon(muon, _MUON_RATE),
            "adamw": torch.optim.AdamW(adamw, betas=_BETAS, weight_decay=0.0, fused=True),
        }
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["peak"] = group["lr"]

    def set_rate(self, share: float) -> None:
        """Set every learning rate to this share of its peak."""
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * share

    def parameters(self) -> list[torch.nn.Parameter]:
        """Everything that is trained."""
        everything = (*self.model.parameters(), *self.heads.parameters())
        return [parameter for parameter in everything if parameter.requires_grad]

    def update_average(self) -> None:
        """Let the averaged weights follow: quickly at first, then over a thousand steps."""
        share = 1 - min(_AVERAGE, self.step / (self.step + 10))
        targets: list[Tensor] = list(self.average.parameters())
        torch._foreach_lerp_(targets, [p.detach() for p in self.model.parameters()], share)

    @property
    def state_file(self) -> Path:
        """The file that `save` writes and `load` reads."""
        return self.folder / "state.pt"

    def save(self) -> None:
        """Write the state; a reader sees the old file or the new one, whole."""
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.state_file.with_suffix(".draft")
        torch.save(
            {
                "seed": self.seed,
                "step": self.step,
                "seconds": self.seconds,
                "model": self.model.state_dict(),
                "heads": self.heads.state_dict(),
                "average": self.average.state_dict(),
                "optimizers": {
                    name: optimizer.state_dict() for name, optimizer in self.optimizers.items()
                },
            },
            draft,
        )
        draft.replace(self.state_file)
        self.saved_step = self.step

    def load(self) -> bool:
        """Go on from the state on disk; False if there is none."""
        if not self.state_file.exists():
            return False
        state = torch.load(self.state_file, weights_only=True)
        if state["seed"] != self.seed:
            raise ValueError(f"{self.state_file} is of seed {state['seed']}, not {self.seed}")
        self.step, self.seconds = state["step"], state["seconds"]
        self.saved_step = self.step
        for name in ("model", "heads", "average"):
            getattr(self, name).load_state_dict(state[name])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        return True

    def start_from(self, checkpoint: Path) -> None:
        """Begin with the weights of a checkpoint that `export` wrote.

        Layers that it does not have pass on what they are given, until they have learned better.
        """
        weights = load_file(checkpoint / "model.safetensors")
        if self.talk and "model.layers.7.mlp.up_proj.weight" not in weights:
            weights = _grown(weights, self.model.state_dict())
        for model in (self.model, self.average):
            model.load_state_dict(weights)

    def export(self) -> Path:
        """Write the averaged weights as a bfloat16 checkpoint; returns its folder.

        The folder is replaced as a whole, so that nobody loads half of two checkpoints.
        """
        target, draft = self.folder / "checkpoint", self.folder / "checkpoint.draft"
        export_checkpoint(self.average.state_dict(), draft, spec=self.spec)
        shutil.rmtree(target, ignore_errors=True)
        return draft.rename(target)


def export_checkpoint(
    weights: dict[str, Tensor],
    folder: Path,
    dtype: torch.dtype = torch.bfloat16,
    spec: CheckpointSpec = SPEC,
) -> Path:
    """Write ``weights`` with the configuration and tokenizer of ``spec``."""
    write_checkpoint(spec, folder)
    config_file = folder / "config.json"
    config = json.loads(config_file.read_text(encoding="utf-8"))
    config["torch_dtype"] = str(dtype).removeprefix("torch.")
    config_file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    stored = {name: weight.to(dtype).contiguous() for name, weight in weights.items()}
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _grown(weights: dict[str, Tensor], blank: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of `SPEC` as those of `TALK_SPEC`; layers between them add nothing yet."""
    grown = dict(blank)
    for name in blank:
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            grown[name] = torch.zeros_like(blank[name])
    for name, weight in weights.items():
        if name.startswith("model.layers."):
            _, _, layer, *rest = name.split(".")
            name = ".".join(("model", "layers", str(_GROWN[int(layer)]), *rest))
        grown[name] = weight
    return grown
