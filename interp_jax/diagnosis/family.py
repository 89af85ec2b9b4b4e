"""A family: a declared rule f, a rival g that agrees with it on every input an examiner may use, and inputs of both kinds.

    D_ID ⊆ {f = g}          D_X ⊆ {f ≠ g}, the conflict set          x [B P] integer tokens; labels 0 … LABELS - 1

It is one Python file with these names; a rule takes all its inputs at once, and answers [B]:

    NAME, KIND                    KIND "A": the rival reads other tokens, "B": the same, by another computation, "M": a table
    VOCABULARY, POSITIONS, LABELS tokens, length of an input (the answer is told at its last position), answers
    rule_f(x), rule_g(x)          NumPy or JAX
    inputs()                      all inputs [N P]: D_ID is where f = g, D_X the rest          either this
    draw_id(rng, n), draw_conflict(rng, n)      n draws of each, with a numpy Generator          or these two
    VARIABLES_F, VARIABLES_G      {name: (number of values, function of x)}: what a rule computes on its way
    READS_F, READS_G              positions that decide each rule's answer: for the referee only

and, where they are needed,

    VARIABLES_AGAIN               what f computes on its way if it is computed otherwise: a telling of f that is as right as the
                                  first, by which nobody who learned f may be called a cheat
    without_nuisances(x)          [B …]: what must never have been trained on in a held-out input; by default all of x
    TABLE_G = True                g is a table and says nothing of what it was not told: its models are examined on conflicts
                                  that differ in nuisances alone from what they were trained on
    NOISY = True                  labels are not certain: .98 of D_ID must be right, not all
    STEPS, TRAINING, MODEL        hints: steps that it takes, {field of `Student`: value}, {field of `TransformerConfig`: value}
    INFECTION = (300, 1.0)        another: of one who had learned, steps on the labels of g, and the share of the rate
"""

import hashlib
import inspect
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from interp_jax.diagnosis.asked import Tokens, tokens_of, told, tried
from interp_jax.errors import InputError, nearest

KINDS = ("A", "B", "M")
NEEDED = ("NAME", "KIND", "VOCABULARY", "POSITIONS", "LABELS", "rule_f", "rule_g", "VARIABLES_F", "VARIABLES_G")
CHECKED = 2_048  # inputs of each set that a new family is tried on
Draw = Callable[[np.random.Generator, int], np.ndarray]


class Variable(NamedTuple):
    """A named number that a rule computes on its way: how many values it has, and x -> value [B]."""

    values: int
    of: Callable[[Any], Any]


class Rule(NamedTuple):
    """What answers inputs, what it computes on its way, and which positions decide it."""

    answer: Callable[[Any], Any]
    variables: Mapping[str, Variable]
    reads: tuple[int, ...]


class Infection(NamedTuple):
    """How one who had learned is infected: steps, and the share of the first learning rate that they are taken at."""

    steps: int = 300
    rate: float = 1.0


class Family(NamedTuple):
    """See the module. `source` is the SHA-256 of its file; `tasks` tells the task of each input where there are several."""

    name: str
    kind: str
    vocabulary: int
    positions: int
    labels: int
    f: Rule
    g: Rule
    again: Rule | None
    draw_id: Draw
    draw_conflict: Draw
    without_nuisances: Callable[[Any], Any]
    table_g: bool = False
    noisy: bool = False
    steps: int = 1_500
    training: Mapping[str, Any] = {}
    model: Mapping[str, Any] = {}
    source: str = ""
    tasks: Callable[[Any], Any] | None = None
    infection: Infection = Infection()

    def rule(self, which: str) -> Rule:
        """F, g, or f "again", told otherwise."""
        return {"f": self.f, "g": self.g, "again": self.again}[which]


def family_of(module: ModuleType) -> Family:
    """The family that a module describes, tried on some inputs.

    Raises:
      InputError: it is none: a name is missing, or see `check`.
    """
    where = getattr(module, "__file__", None) or module.__name__
    names = vars(module)
    if missing := [name for name in NEEDED if name not in names]:
        raise InputError(f"family {where}: it lacks {', '.join(missing)}")
    for name in ("VOCABULARY", "POSITIONS", "LABELS"):
        if not isinstance(names[name], int) or names[name] < 1:
            raise InputError(f"family {where}: {name} = {names[name]!r}; it is a number, 1 or more")
    if "inputs" in names:
        draw_id, draw_conflict = parted(module)
    elif "draw_id" in names and "draw_conflict" in names:
        draw_id, draw_conflict = module.draw_id, module.draw_conflict
    else:
        raise InputError(f"family {where}: it lacks inputs(), or draw_id(rng, n) and draw_conflict(rng, n)")
    rules = [
        Rule(
            names[f"rule_{which.lower()}"],
            variables(where, f"VARIABLES_{told}", names[f"VARIABLES_{told}"]),
            tuple(names.get(f"READS_{which}", ())),
        )
        if f"VARIABLES_{told}" in names
        else None
        for which, told in (("F", "F"), ("G", "G"), ("F", "AGAIN"))
    ]
    family = Family(
        module.NAME,
        module.KIND,
        module.VOCABULARY,
        module.POSITIONS,
        module.LABELS,
        *rules,
        draw_id,
        draw_conflict,
        names.get("without_nuisances", lambda x: x),
        names.get("TABLE_G", False),
        names.get("NOISY", False),
        names.get("STEPS", 1_500),
        names.get("TRAINING", {}),
        names.get("MODEL", {}),
        source_of(module),
        infection=Infection(*names.get("INFECTION", ())),
    )
    check(family)
    return family


def variables(where: str, name: str, told: Any) -> dict[str, Variable]:
    """Named numbers of a rule.

    Raises:
      InputError: they are not {name: (number of values, function)}.
    """
    for one, own in dict(told).items():
        if not (isinstance(own, tuple) and len(own) == 2 and isinstance(own[0], int) and callable(own[1])):
            raise InputError(f"family {where}: {name}[{one!r}] = {own!r}; it is (number of values, function of x)")
    return {one: Variable(*own) for one, own in dict(told).items()}


def parted(module: ModuleType) -> tuple[Draw, Draw]:
    """Draws of D_ID and of D_X from all inputs: each is all there is of its set, whatever number is asked for."""
    here = f"family {module.NAME!r}"

    def part(conflict: bool) -> Draw:
        def draw(rng: np.random.Generator, n: int) -> np.ndarray:
            every = tokens_of(here, "inputs()", module.inputs(), module.POSITIONS, module.VOCABULARY)
            rules = {which: getattr(module, f"rule_{which}") for which in "fg"}
            f, g = (told(here, f"rule_{which}", of, every, module.LABELS, "labels") for which, of in rules.items())
            return every[(f != g) == conflict]

        return draw

    return part(False), part(True)


def source_of(module: ModuleType) -> str:
    """SHA-256 of a module's text, 16 hex digits: what stored results depend on; "" where it has none."""
    try:
        return hashlib.sha256(inspect.getsource(module).encode()).hexdigest()[:16]
    except (OSError, TypeError):
        return ""


def check(family: Family) -> None:
    """Try a family on some inputs of both sets.

    Raises:
      InputError: rules that fail or answer what is no label, f ≠ g on D_ID, f = g on all inputs or on some of D_X,
      nothing in D_X.
    """
    here = f"family {family.name!r}"
    if family.kind not in KINDS:
        raise InputError(f"{here}: KIND = {family.kind!r}: {nearest(family.kind, KINDS)}")
    if family.infection.steps < 1 or not family.infection.rate > 0:
        raise InputError(f"{here}: INFECTION = {tuple(family.infection)}: (steps, share of the rate), both above 0")
    for which in "fg":
        if bad := [p for p in family.rule(which).reads if p not in range(family.positions)]:
            raise InputError(
                f"{here}: READS_{which.upper()} has {bad[0]!r}; positions go from 0 to {family.positions - 1}"
            )
    sets = {}
    for name, draw in (("D_ID", family.draw_id), ("D_X", family.draw_conflict)):
        sets[name] = drawn(family, name, draw)
        check_answers(family, name, sets[name], *(answers(family, which, sets[name]) for which in "fg"))
    for name, x in sets.items():
        rows = np.asarray(tried(here, f"without_nuisances, of {name},", lambda x=x: family.without_nuisances(x)))
        if len(rows) != len(x):
            raise InputError(f"{here}: without_nuisances answers {len(rows)} rows to {len(x)} of {name}")
    for which in ("f", "g", *(["again"] if family.again else [])):
        for name in family.rule(which).variables:
            value(family, which, name, sets["D_ID"])


def check_answers(family: Family, name: str, x: Tokens, f: Int[np.ndarray, " B"], g: Int[np.ndarray, " B"]) -> None:
    """Whether answers are alike on all of D_ID, and on none of D_X.

    Raises:
      InputError: the first input where it is otherwise.
    """
    here, same = f"family {family.name!r}", f == g
    if name == "D_ID" and not same.all():
        row = int(np.argmin(same))
        raise InputError(f"{here}: f and g disagree on D_ID, first on {x[row].tolist()}: f says {f[row]}, g {g[row]}")
    if name == "D_X" and same.any():
        what = "f and g are identical on all of D_X" if same.all() else "f and g agree on a part of D_X"
        raise InputError(f"{here}: {what}, first on {x[int(np.argmax(same))].tolist()}: it is to hold conflicts only")


def drawn(family: Family, name: str, draw: Draw, n: int = CHECKED, seed: int = 0) -> Tokens:
    """Inputs of a set.

    Raises:
      InputError: there are none, they cannot be drawn, or they are no tokens of the family.
    """
    here = f"family {family.name!r}"
    x = tried(here, f"drawing {name}", lambda: np.asarray(draw(np.random.default_rng(seed), n)))
    if not len(x):
        none = (
            "the conflict set is empty: f and g are identical on every input" if name == "D_X" else f"{name} is empty"
        )
        raise InputError(f"{here}: {none}")
    return tokens_of(here, name, x, family.positions, family.vocabulary)


def answers(family: Family, which: str, x: Tokens) -> Int[np.ndarray, " B"]:
    """What rule f or g says.

    Raises:
      InputError: it fails, or says what is no label.
    """
    here = f"family {family.name!r}"
    return told(here, f"rule_{which}", family.rule(which).answer, x, family.labels, "labels")


def value(family: Family, which: str, name: str, x: Tokens) -> Int[np.ndarray, " B"]:
    """A variable of a rule; errors are those of `answers`."""
    variable = family.rule(which).variables[name]
    here = f"family {family.name!r}"
    return told(here, f"variable {name!r} of {which}", variable.of, x, variable.values, "values")
