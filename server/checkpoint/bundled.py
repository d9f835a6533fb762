"""The trained checkpoint that comes with Saccade, served as ``demo``."""

from importlib.resources import files
from pathlib import Path

DEMO = "demo"
"""Its name, where a model is asked for."""


def bundled_checkpoint() -> Path:
    """Its folder; ``TRAINING.md`` beside it says how it was made."""
    return Path(str(files("saccade.demo"))) / "trained"
