"""Meta-dictionaries: a dictionary of another dictionary's rows, which takes features apart that are made of others (Leask et
al. 2025, arXiv:2502.04878).

    examples     W_dec,f / ‖W_dec,f‖, each a batch's row drawn at random                              [F D]
    meta-feature a direction that several features share; what it is of a feature is its entry of encode(Ŵ_f)
    explained    1 - Σ_f ‖Ŵ_f - said_f‖² / Σ_f ‖Ŵ_f - mean‖²

The meta-dictionary is any of this project's kinds (the paper's is BatchTopK, four on average), trained by `dictionary_run`; a
population over seeds, k and widths is one program.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from interp_jax import parts, randomness
from interp_jax.dictionaries import dictionary
from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.encoders import unit_rows
from interp_jax.dictionaries.judged import Batch
from interp_jax.dictionaries.measures.fidelity import Fidelity, Sums, dictionary_sums, merge
from interp_jax.dictionaries.parameters import Params
from interp_jax.dictionaries.run import dictionary_run
from interp_jax.errors import InputError
from interp_jax.parts import hyper, part
from interp_jax.train.optimizer import Optimizer
from interp_jax.train.population import population
from interp_jax.train.run import Span


@part
class Meta:
    """A meta-dictionary and its training.

    Attributes:
      seed: of its parameters and batches.
      steps: of training.
      batch_size: rows of a step, drawn with replacement.
      dictionary: its `d_in` is the width of the rows.
      optimizer: of training.
    """

    seed: int = hyper(0)
    steps: int = 2_000
    batch_size: int = 512
    dictionary: Dictionary = Dictionary(kind="batch_topk", k=4, most=4)
    optimizer: Optimizer = Optimizer(learning_rate=3e-3, decay="cosine")


class MetaDictionaries(NamedTuple):
    """Of every member, [R …]: its parameters, the meta-features of every feature, and how well these explain the rows."""

    params: Params
    f: Float[np.ndarray, "R F M"]
    fidelity: Fidelity


def meta_dictionaries(W_dec: Float[Array, "F D"], members: Sequence[Meta], at_once: int = 0) -> MetaDictionaries:
    """Train meta-dictionaries of a decoder's rows.

    Args:
      W_dec: the rows; those of dead features had better be left out.
      members: of equal static fields.
      at_once: members that are computed together; 0 is all.

    Raises:
      InputError: members that are no one program, or of another width than the rows.
    """
    if len({jax.tree.structure(member) for member in members}) != 1:
        raise InputError("meta: members must have equal static fields, and there must be one; only hypers may differ")
    if (width := members[0].dictionary.d_in) != W_dec.shape[1] or members[0].dictionary.d_out:
        raise InputError(
            f"meta.dictionary.d_in = {width}: rows have width {W_dec.shape[1]}, so d_in is that, and d_out 0"
        )
    for member in members:
        member.dictionary.check()
    grow = population(trained, at_once or len(members), devices=jax.devices()[:1])
    params, f, sums = jax.device_get(grow(parts.stack(members), unit_rows(W_dec)))
    return MetaDictionaries(params, f, merge(sums, axis=1, width=parts.stack(members).dictionary.width))


def trained(member: Meta, rows: Float[Array, "F D"]) -> tuple[Params, Float[Array, "F M"], Sums]:
    """One member, of rows of length 1: its parameters, the meta-features of the rows, and the sums of one block of them."""

    def draw(hypers: Meta, shared: Array, seed: Array, step: Array) -> Batch:
        chosen = jax.random.randint(randomness.key(seed, "meta", step), (member.batch_size,), 0, len(shared))
        return Batch(shared[chosen], shared[chosen])

    run = dictionary_run(draw, lambda hypers: (hypers.dictionary, hypers.optimizer, hypers.steps))
    state, _ = run.advance(run.init(member.seed, member), member, Span(0, member.steps), rows)
    sums = dictionary_sums(state.params, Batch(rows, rows), member.dictionary)
    f = dictionary.encode(state.params, rows, member.dictionary)
    return state.params, f, jax.tree.map(lambda x: x[None], sums)
