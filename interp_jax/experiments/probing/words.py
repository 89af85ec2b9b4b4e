"""What was found, in words: of each variable, what is read where, and which of its controls it does not survive."""

from typing import NamedTuple

import numpy as np

from interp_jax.experiments.probing.claims import Claim, one_survives, survives
from interp_jax.experiments.probing.findings import (
    ALL,
    TURNS,
    Finding,
    View,
    above_twin,
    finding,
    reliance_along,
)
from interp_jax.experiments.probing.tallies import Score


def interval(score: Score) -> str:
    """A score with its interval: "0.930 [0.901, 0.959]"."""
    return f"{score.mean:.3f} [{score.low:.3f}, {score.high:.3f}]"


def chance(claim: Claim) -> str:
    """A p: "p = .03"."""
    return "p < .001" if claim.p < 1e-3 else f"p = {float(claim.p):.2g}".replace("0.", ".")


def failed(found: Finding) -> list[str]:
    """The controls that a variable does not survive, as clauses."""
    said = []
    if not survives(found.above_noise):
        said.append(f"shuffled labels are read as well ({interval(found.shuffled)}; {chance(found.above_noise)})")
    if not survives(found.above_token):
        told = f"{interval(found.token)} at the embeddings; {chance(found.above_token)}"
        said.append(f"the token alone tells as much ({told})")
    if not survives(found.learned):
        said.append(f"a model with random weights is read as well ({interval(found.twin)}; {chance(found.learned)})")
    return said


def use(found: Finding) -> str:
    """Whether the model uses it."""
    if found.used is None:
        return "Whether it is used was not measured."
    told = lambda claim: f"{interval(claim.above)} ({chance(claim)})"
    cost = f"erasing it there costs {told(found.used)} nats per token more than erasing as many random directions"
    if found.used_at_turns is not None:
        cost += f", and {told(found.used_at_turns)} more on the tokens at which it changes"
    if found.scrubbed is not None:
        cost += f"; erasing it at every layer costs {told(found.scrubbed)} more"
    if failed(found):
        return f"It says nothing about use that {cost}: what is erased is what the controls read, too."
    return f"{'It is used' if is_used(found) else 'Use is not shown'}: {cost}."


def is_used(found: Finding) -> bool:
    """Whether erasing it costs more than erasing at random: at its place, on all tokens or where it changes; or everywhere."""
    return bool(one_survives((found.used, found.used_at_turns, found.scrubbed)))


def sentence(found: Finding, view: View) -> str:
    """One variable."""
    score = "a balanced accuracy" if found.values else "an R²"
    read = (
        f"{found.name}: read best at {view.places[found.place]}, with {score} of {interval(found.accuracy)}"
        f" (a constant has {found.chance:.2g})."
    )
    if lost := failed(found):
        told = f"It does not survive its controls: {'; '.join(lost)}."
    elif found.types is None:
        told = (
            "It survives every control. There is none by kinds of tokens, for these are so few"
            f" ({view.about['tokens']}) that a probe of {view.about['width']} dimensions has any labels of theirs by heart."
        )
    elif survives(found.selectivity):
        told = "It survives every control."
    else:
        told = (
            "It lies above the token alone and the untrained twin, but is not selective: the probe learns random"
            f" labels of tokens as well ({interval(found.types)}; {chance(found.selectivity)})."
        )
    return f"{read} {told} {use(found)}"


def verdict(found: Finding) -> str:
    """A few words for a table."""
    if not survives(found.above_noise):
        return "not read"
    if failed(found):
        return "read, not learned"
    selective = found.selectivity is None or survives(found.selectivity)
    return f"learned{'' if selective else ', not selective'}{', used' if is_used(found) else ''}"


class Since(NamedTuple):
    """The steps from which on a variable is read above the best of the twin, and used, at all later models; None is never.

    What is not read is not used, whatever erasing costs.
    """

    read: int | None
    used: int | None


def first_steps(view: View, v: int) -> Since:
    """Of a variable, at the place where the model itself is read best."""
    read = [survives(above_twin(view, v, m)) for m in range(1, len(view.steps))]
    along = [claim for claim in (reliance_along(view, v, which) for which in (ALL, TURNS)) if claim is not None]
    used = np.logical_and(read, one_survives(along)).tolist() if along else []
    return Since(since(read, view.trained), since(used, view.trained))


def since(holds: list[bool], steps: list[int]) -> int | None:
    """The first step from which on something holds."""
    n = next((i for i, one in enumerate(reversed(holds)) if not one), len(holds))
    return steps[len(holds) - n] if n else None


def summary(view: View) -> str:
    """All variables in a few sentences."""
    found = [finding(view, v) for v in range(len(view.variables))]
    names = lambda chosen: ", ".join(f.name for f in chosen) or "none"
    learned = [f for f in found if not failed(f)]
    selective = [f for f in learned if survives(f.selectivity)]
    steps = f", and at {len(view.trained)} steps of its training" if len(view.trained) > 1 else ""
    said = [
        f"Linear probes of {counted(found, 'variable')} at {len(view.places)} places of {view.about['title']} and"
        f" of its untrained twin{steps}. Read above what the token alone tells and above the twin:"
        f" {names(learned)}.",
    ]
    if any(f.selectivity for f in found):
        said.append(f"Of these selective, above what the probe can learn by heart: {names(selective)}.")
    if lost := [f for f in found if failed(f)]:
        said.append(f"What does not survive its controls: {names(lost)}.")
    if not view.about["windows_of_use"]:
        return " ".join([*said, "Whether they are used was not measured."])
    used = [f for f in learned if is_used(f)]
    said.append(f"Of what is learned the model uses, by what erasing costs above erasing at random: {names(used)}.")
    for f in used[:1] if len(view.trained) > 1 else ():
        first = first_steps(view, view.variables.index(f.name))
        if first.read is not None and first.used is not None:
            said.append(f"{f.name} is readable from step {first.read:,} on, and used from step {first.used:,} on.")
    return " ".join(said)


def counted(things: list[Finding], what: str) -> str:
    """How many: "7 variables"."""
    return f"{len(things)} {what}{'s' * (len(things) != 1)}"
