"""Learned or cheated: students of two rules that agree wherever an examiner may look; which diagnosers tell them apart?

./launch/local --config configs/exam.py:tiny     two families, small, the cheapest diagnosers: two minutes
./launch/local --config configs/exam.py          every family, 12 + 12 students and the control arms: under an hour on two cores
./launch/local --config configs/exam.py:arms     two families and both in one model, every arm, small: half an hour of one core
./launch/local --config configs/exam.py:full     24 + 24 of every family, every arm, some along their training: for a GPU
./launch/local --config configs/exam.py --sweep beside --config.family=mine.py       the default, and a family of your own

Given again, the command goes on where it was. Expect: loss, norms and margins at exactly .5 once every model is
entered with either rule declared, whatever they show on the natural track; attribution near 1 where the rival reads
other tokens, and near .5 where it reads the same (brackets).
"""

from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from interp_jax.experiments.config import compose, variant
from interp_jax.experiments.exam.runs import students

# On a CPU nothing is gained by several at once, and a program is compiled the less; cores take members in turn.
ONE = {"engine.batch": 1, "engine.cpu_devices": 0}
FAMILIES = ["parity", "leak", "majority", "key_value", "brackets", "table"]
COUNTS = {"learned": 12, "cheated": 12, "mixed": 6, "nuisance": 6, "natural": 4, "infected": 4}
ARMS = {
    "learned": 2,
    "cheated": 2,
    "mixed": 2,
    "nuisance": 1,
    "natural": 1,
    "infected": 1,
    "obfuscated": 1,
    "superposed": 4,
}
FULL = {
    "learned": 24,
    "cheated": 24,
    "mixed": 8,
    "nuisance": 8,
    "natural": 8,
    "infected": 8,
    "obfuscated": 4,
    "superposed": 8,
}


def get_config(arg: str = "") -> ConfigDict:
    overrides = variant(arg, {"": ONE, "tiny": ONE, "arms": ONE, "full": {}})
    return compose(f"interp_jax.experiments.exam{'.first_look' if arg == 'tiny' else ''}", **overrides)


def sweep_tiny() -> Iterator[dict[str, Any]]:
    """Two families, few students, fewer steps."""
    counts = {"learned": 2, "cheated": 2, "mixed": 2, "nuisance": 1, "natural": 1}
    yield from students(["parity", "leak"], counts, shares=0.4)


def sweep_default() -> Iterator[dict[str, Any]]:
    """Every family."""
    yield from students(FAMILIES, COUNTS)


def sweep_beside(config: ConfigDict) -> Iterator[dict[str, Any]]:
    """The default, and families of `--config.family`, by name or path, with commas between several."""
    yield from students([*FAMILIES, *config.family.split(",")], COUNTS)


def sweep_arms() -> Iterator[dict[str, Any]]:
    """Every arm of two families, and of both superposed in one model; a pair of each along its training."""
    yield from students(["parity", "leak", "parity+leak"], ARMS, shares=0.4, checkpointed=1)


def sweep_full() -> Iterator[dict[str, Any]]:
    """Every family and arm, two superposed in one model, and four pairs along their training."""
    yield from students([*FAMILIES, "parity+leak"], FULL, checkpointed=4)
