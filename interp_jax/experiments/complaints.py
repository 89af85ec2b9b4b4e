"""What a person should know at once of a chunk that runs: said on the terminal, the first time it is seen."""

import sys
from collections.abc import Callable

import numpy as np

Complain = Callable[[int, dict[str, np.ndarray]], str]


class Complaints:
    """A metric log that keeps nothing, and prints the first complaint."""

    def __init__(self, complain: Complain):
        self.complain, self.done = complain, False

    def append(self, step: int, metrics: dict[str, np.ndarray]) -> None:
        """Look at a line of metrics."""
        if not self.done and (text := self.complain(step, metrics)):
            print(f"warning: {text}", file=sys.stderr)
            self.done = True

    def rewind(self, step: int) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Nothing is open."""
