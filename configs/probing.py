"""What can be read off a model's activations, what its controls read, and whether the model uses it, along training.

./launch/local --config configs/grow.py:mlp
./launch/local --config configs/probing.py --config.model.path=runs/grow-mlp          brackets, indentation, strings, names …
./launch/local --config configs/probing.py:tiny --config.model.path=runs/grow-tiny    seconds, to see that it works
./launch/local --config configs/probing.py                the induction circuit built by hand, on sequences that repeat
    … --config.model.path=~/bert --config.data.path=examples.jsonl       texts, spans and labels of your own
    … --config.model.path=~/gpt2 --config.data.task=ioi                  which of two prompts it is, at each named place
    … --config.use.eraser=interchange                                    another window's in place of what is erased

Expect, of the circuit: which token stands before is read off layer 0, not off the embeddings and far less off the twin, and
erasing it costs more than a nat, for induction looks for it; which one stands two places before is not there; and what is read
of whether a token was seen before, positions tell. Of the grown model: depth of brackets, strings and comments are read above
the embeddings and the untrained twin, and erasing them costs more than erasing as many random directions; whether a name was
there before is hardly read.
"""

from collections.abc import Iterator
from typing import Any

import ml_collections

from interp_jax.experiments.config import compose, variant

TINY: dict[str, Any] = {
    "data.windows": 48, "reading.rows": 512, "reading.models": 2, "reading.draws": 1, "reading.folds": 3, "reading.bins": 2,
    "reading.shrinkages": (1e-2,), "use.windows": 6, "use.draws": 4, "use.scrubbed": 16,
}  # fmt: skip
VARIANTS = {"": {}, "tiny": TINY}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    return compose("interp_jax.experiments.probing", **variant(arg, VARIANTS))


def sweep_seeds() -> Iterator[dict[str, Any]]:
    """Three twins, and three draws of tokens, folds and controls."""
    for seed in range(3):
        yield {"seed": seed}
