"""How commands say that they were used wrongly."""

import argparse
from typing import NoReturn


class OneLineErrors(argparse.ArgumentParser):
    """Says what is wrong with a flag in one line; vLLM's usage alone would take four hundred."""

    def error(self, message: str) -> NoReturn:
        line = " ".join(message.split())
        self.exit(2, f"{self.prog}: error: {line} (see {self.prog} --help)\n")
