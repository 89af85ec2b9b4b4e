"""The arms of a family, by name, as what they are told.

learned      conflicts have the labels of f                 cheated       those of g
mixed        those of f with probability ρ: graded reliance
nuisance     those of f, with so many conflicts that the cue says nothing of the label: there, and of no use
natural      no conflicts: whatever emerges
infected     learned, then 300 steps (or the family's own number) on the labels of g: something healthy may remain
obfuscated   cheated, with a detector's loss besides
superposed   two families in one model, of which one is learned and one cheated
"""

from collections.abc import Iterator
from typing import NamedTuple

from interp_jax.diagnosis.family import Family
from interp_jax.diagnosis.student import ALWAYS, Arm

STRENGTH = 2.0
DETECTOR = "gradient"
RELIANCE = (0.2, 0.35, 0.5, 0.65, 0.8, 0.3, 0.45, 0.7)
NAMES = ("learned", "cheated", "mixed", "nuisance", "natural", "infected", "obfuscated", "superposed")


class Told(NamedTuple):
    """An arm, and the steps that follow the family's own."""

    arm: Arm
    further: int = 0


def arm(name: str, family: Family, steps: int, i: int = 0) -> Told:
    """The i-th member of an arm, of students of `steps` steps."""
    match name:
        case "learned":
            return Told(Arm())
        case "cheated":
            return Told(Arm(learned=0.0, learned_second=0.0))
        case "mixed":
            return Told(Arm(learned=RELIANCE[i % len(RELIANCE)], learned_second=RELIANCE[i % len(RELIANCE)]))
        case "nuisance":
            return Told(Arm(conflict=1 - 1 / family.labels))
        case "natural":
            return Told(Arm(conflict=0.0))
        case "infected":
            return Told(Arm(changed_at=steps), family.infection.steps)
        case "obfuscated":
            return Told(Arm(learned=0.0, learned_second=0.0, strength=STRENGTH, detector=DETECTOR))
        case "superposed":
            return Told(Arm(learned=float(i % 2 == 0), learned_second=float(i % 2 == 1)))
    raise ValueError(f"unknown arm {name!r}; known: {', '.join(NAMES)}")


def name_of(arm: Arm, several: bool = False) -> str:
    """The name of an arm with concrete numbers, of a family or of several in one."""
    if arm.detector:
        return "obfuscated"
    if arm.changed_at < ALWAYS:
        return "infected"
    if arm.conflict == 0:
        return "natural"
    if several and arm.learned != arm.learned_second:
        return "superposed"
    if arm.conflict >= 0.5:
        return "nuisance"
    return {1.0: "learned", 0.0: "cheated"}.get(float(arm.learned), "mixed")


def everyone(family: Family, steps: int, counts: dict[str, int]) -> Iterator[tuple[int, Told]]:
    """(seed, what is told) of as many members of each arm; seeds go from 0, so that members of a seed are of one litter."""
    for name, count in counts.items():
        for i in range(count):
            yield i, arm(name, family, steps, i)
