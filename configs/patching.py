"""Which activations cause a behaviour: every node and path patched, exactly and by estimate, in both directions.

./launch/local --config configs/patching.py         the induction circuit built by hand, whose truth is known: half a minute
./launch/local --config configs/patching.py:tiny    the same on few pairs, to see that it works
./launch/local --config configs/patching.py --config.model.path=runs/grow-induction            a model that was grown here
./launch/local --config configs/patching.py --config.model.path=~/gpt2 --config.task.name=ioi       published weights
    … --config.task.file=pairs.jsonl     pairs of your own        … --sweep seeds     five draws of the pairs, taken together
    … --config.task.corruption=noise     Meng's noise, or resample        … --config.source=mean     mean ablation, or zero

Expect, of the circuit: head 0.0 writes the previous token, which the keys of head 1.0 read; each of the two heads, and the path
from the one into the keys of the other, carries the whole effect. Of the model that `configs/grow.py:induction` grows: the same
kind of circuit, with its work shared among several induction heads.
"""

from collections.abc import Iterator
from typing import Any

import ml_collections

from interp_jax.experiments.config import compose, variant

TINY: dict[str, Any] = {
    "task.pairs": 8,
    "task.length": 12,
    "random_nodes": 4,
    "repeats.sequences": 2,
    "repeats.period": 8,
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    return compose("interp_jax.experiments.patching", **variant(arg, {"": {}, "tiny": TINY}))


def sweep_seeds() -> Iterator[dict[str, Any]]:
    """Five draws of the pairs."""
    for seed in range(5):
        yield {"seed": seed}
