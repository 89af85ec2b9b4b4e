"""The harness: a diagnoser, run on all models of a family with either rule declared, in one program.

A diagnoser is a file with

    TIER                            of access, 0 to 3: see `view.py`
    COST                            about how many forward passes over the examples a score takes: cheap ones run first
    score(view, declared, key)      -> scalar; the higher, the more it speaks for a cheat, a sign that is fixed in advance

and, where it needs them,

    positions(view, declared, key)  -> [P]: where the shortcut sits, larger for more
    fit(references, key)            -> anything, a fourth argument of score and positions; references are of other families
    ON_HOST = True                  score is not pure JAX: models come one after another, and numbers instead of tracers

It is told the declared rule as a table and nothing of its rival; f and g are declared in turn, which it does not know.
"""

import ast
import hashlib
import inspect
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from interp_jax import randomness
from interp_jax.diagnosis.answering import Edits
from interp_jax.diagnosis.asked import Tokens
from interp_jax.diagnosis.declared import Declared
from interp_jax.diagnosis.family import source_of
from interp_jax.diagnosis.tellings import Looked, hide_variables, in_turn, side_by_side
from interp_jax.diagnosis.view import TIERS, View, guarded
from interp_jax.errors import InputError
from interp_jax.models.transformer import Params, TransformerConfig

RULES = ("f", "g")
OWN = "interp_jax.diagnosis."


class Diagnoser(NamedTuple):
    """See the module; `source` is a digest of its file and of those of `interp_jax.diagnosis` that it is made of."""

    name: str
    tier: int
    cost: float
    score: Callable[..., Any]
    positions: Callable[..., Any] | None = None
    fit: Callable[..., Any] | None = None
    on_host: bool = False
    source: str = ""


class Model(NamedTuple):
    """Weights, and edits that are part of the model."""

    params: Params
    edits: Edits | None = None


class Examinees(NamedTuple):
    """Models of one family, and what is told of both rules.

    Attributes:
      family: its name. cfg, labels: of the models. params: leaves [R …]. seeds: [R], the same for members of a pair.
      x: the examples. declared: by f, by g; or other tellings, N of them.
      edits: that are part of each model, leaves [R …]; None for none.
    """

    family: str
    cfg: TransformerConfig
    labels: int
    params: Params
    seeds: Int[np.ndarray, " R"]
    x: Tokens
    declared: tuple[Declared, ...]
    edits: Edits | None = None

    def member(self, r: int) -> Model:
        """One model."""
        return jax.tree.map(lambda leaf: jnp.asarray(leaf[r]), Model(self.params, self.edits))


class Reference(NamedTuple):
    """Models of another family whose truth is known: `cheated` [R 2] with f and with g declared."""

    examinees: Examinees
    cheated: Bool[np.ndarray, "R 2"]


def diagnoser_of(module: ModuleType) -> Diagnoser:
    """The diagnoser that a module describes.

    Raises:
      InputError: it is none.
    """
    names = vars(module)
    if missing := [name for name in ("TIER", "COST", "score") if name not in names]:
        raise InputError(f"diagnoser {module.__name__}: it lacks {', '.join(missing)}")
    if names["TIER"] not in TIERS:
        raise InputError(
            f"diagnoser {module.__name__}: TIER = {names['TIER']!r}; tiers are {', '.join(map(str, TIERS))}"
        )
    name = names.get("NAME", module.__name__.rpartition(".")[2].replace("_", " "))
    optional = (names.get("positions"), names.get("fit"), names.get("ON_HOST", False))
    source = hashlib.sha256("".join(sorted(map(source_of, made_of(module)))).encode()).hexdigest()[:16]
    return Diagnoser(name, names["TIER"], names["COST"], names["score"], *optional, source)


def made_of(module: ModuleType) -> list[ModuleType]:
    """A module, those of `interp_jax.diagnosis` that it imports names from, and theirs."""
    found, left = {module.__name__: module}, [module]
    while left:
        for name in imported(left.pop()):
            if name not in found:
                found[name] = sys.modules[name]
                left.append(found[name])
    return list(found.values())


def imported(module: ModuleType) -> list[str]:
    """Names of modules of `interp_jax.diagnosis` in its imports; none where it has no text."""
    try:
        tree = ast.parse(inspect.getsource(module))
    except (OSError, TypeError):
        return []
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    names = {f"{node.module}.{one.name}" for node in froms for one in node.names} | {node.module for node in froms}
    return sorted(name for name in names if name.startswith(OWN) and name in sys.modules)


def examine(
    diagnoser: Diagnoser,
    examinees: Examinees,
    references: Sequence[Reference] = (),
    what: str = "score",
    seed: int = 0,
) -> Float[np.ndarray, "R N ..."]:
    """Scores of all models with each rule declared; or what else a diagnoser tells.

    Args:
      diagnoser: of `diagnoser_of`.
      examinees: of one family.
      references: of others, for a diagnoser that fits.
      what: "score", or "positions" [R N P].
      seed: of its randomness, which members of a pair share, whichever rule is declared.

    Raises:
      AccessError: it asks for more than its tier allows. InputError: it says NaN, or something that is not of that shape.
    """
    function = getattr(diagnoser, what)
    stream = f"diagnosis/{diagnoser.name}/{what}"
    fitted = () if diagnoser.fit is None else (fit(diagnoser, references, seed),)
    wanted = () if what == "score" else (examinees.x.shape[1],)
    both = [jax.tree.map(jnp.asarray, each) for each in examinees.declared]

    def one(model: Model, own: Any, *fitted: Any, of: Callable[..., Array]) -> Any:
        view, key = view_of(diagnoser, examinees, model), randomness.key(seed, stream, own)

        def said(declared: Declared) -> Array:
            with guarded():
                told = jnp.asarray(function(view, declared, key, *fitted), jnp.float32)
            if told.shape != wanted:
                raise InputError(
                    f"diagnoser {diagnoser.name!r}: {what} must have shape {list(wanted)}, not {list(told.shape)}"
                )
            return told

        return of(said, both)

    if diagnoser.on_host:
        each = [
            one(examinees.member(r), int(examinees.seeds[r]), *fitted, of=in_turn) for r in range(len(examinees.seeds))
        ]
        found = np.stack(each)
    else:
        found = np.asarray(of_all(one, examinees, fitted))
    check_numbers(diagnoser, examinees, found)
    return found


def of_all(one: Callable[..., Array], examinees: Examinees, fitted: tuple[Any, ...]) -> Array:
    """What is said of all models, in one program: smaller where the rules' variables are not asked for."""
    seeds = jnp.asarray(examinees.seeds, jnp.int32)

    def every(of: Callable[..., Array]) -> Array:
        each = lambda models, fitted: jax.lax.map(lambda model: one(*model, *fitted, of=of), models)
        return jax.jit(each)((Model(examinees.params, examinees.edits), seeds), fitted)

    try:
        return every(side_by_side)
    except Looked:
        return every(in_turn)


def view_of(diagnoser: Diagnoser, examinees: Examinees, model: Model) -> View:
    """What a diagnoser sees of a model."""
    name = f"diagnoser {diagnoser.name!r}"
    return View(model.params, examinees.cfg, examinees.labels, examinees.x, diagnoser.tier, name, model.edits)


def heeds_variables(diagnoser: Diagnoser, examinees: Examinees) -> bool:
    """Whether a score asks for the rule's variables, found without computing it; if not, it is the same however it is told.

    Of a diagnoser that fits, or runs on the host, it is not found out, and true.
    """
    if diagnoser.fit is not None or diagnoser.on_host:
        return True
    declared = jax.tree.map(jnp.asarray, examinees.declared[0])
    hide_variables(declared)

    def score(model: Model) -> Any:
        view = view_of(diagnoser, examinees, model)
        with guarded():
            return diagnoser.score(view, declared, jax.random.key(0))

    try:
        jax.eval_shape(score, examinees.member(0))
    except Looked:
        return True
    return False


def fit(diagnoser: Diagnoser, references: Sequence[Reference], seed: int) -> Any:
    """What a diagnoser learns from other families.

    Raises:
      InputError: there is none.
    """
    if not references:
        raise InputError(f"diagnoser {diagnoser.name!r} fits on models of other families, and there are none")
    return diagnoser.fit(references, randomness.key(seed, f"diagnosis/{diagnoser.name}/fit"))


def check_numbers(diagnoser: Diagnoser, examinees: Examinees, found: Float[np.ndarray, "R N ..."]) -> None:
    """Raise where a number is none.

    Raises:
      InputError: the first model of which NaN, or what is not finite, is said.
    """
    bad = ~np.isfinite(found.reshape(*found.shape[:2], -1)).all(-1)
    if bad.any():
        r, which = (int(i) for i in np.argwhere(bad)[0])
        said = "NaN" if np.isnan(found[r, which]).any() else "what is not finite"
        raise InputError(
            f"diagnoser {diagnoser.name!r} says {said} of model {r} of family {examinees.family!r}"
            f" (seed {examinees.seeds[r]}, {RULES[which]} declared)"
        )
