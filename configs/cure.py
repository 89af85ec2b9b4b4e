"""Learned or cheated, and then? Patients that answer by a shortcut, what is found in them, and what cures them.

./launch/local --config configs/cure.py:tiny     one family, a patient of each kind
./launch/local --config configs/cure.py          every family, infected and cheating students: 36 minutes on two cores
./launch/local --config configs/cure.py --sweep beside --config.family=mine.py      these, and a family of your own

Given again, the command goes on where it was. Expect: fine-tuning alone cures no one but of a table; what the diagnosis
prescribes (cut the shortcut's place where it has one of its own, else hide positions at random while the patient learns to say
as much as the declared rule still can) cures most of the infected.
"""

from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from interp_jax.experiments.config import compose, variant
from interp_jax.experiments.exam.runs import students

# On a CPU nothing is gained by several at once, and a program is compiled the less; cores take members in turn.
ONE = {"engine.batch": 1, "engine.cpu_devices": 0}
FAMILIES = ["parity", "leak", "majority", "key_value", "brackets", "table"]
COUNTS = {"learned": 6, "cheated": 6, "nuisance": 4, "infected": 6}


def get_config(arg: str = "") -> ConfigDict:
    return compose("interp_jax.experiments.exam.record_page", **variant(arg, {"": ONE, "tiny": ONE}))


def sweep_tiny() -> Iterator[dict[str, Any]]:
    """One family, few students, fewer steps."""
    yield from students(["parity"], {"learned": 2, "cheated": 1, "infected": 1}, shares=0.4)


def sweep_default() -> Iterator[dict[str, Any]]:
    """Every family."""
    yield from students(FAMILIES, COUNTS)


def sweep_beside(config: ConfigDict) -> Iterator[dict[str, Any]]:
    """The default, and families of `--config.family`, by name or path, with commas between several."""
    yield from students([*FAMILIES, *config.family.split(",")], COUNTS)
