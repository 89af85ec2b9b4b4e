"""What is said of students built by hand, beside the truth: arrays `found` and `truth`, for a seed.

The rule is the exclusive or of two bits, the rival a third bit, and every student is a `models/rival_circuit.py`, whose logits
are ±(ρ U + κ s): who learned has κ = 0, who never did ρ = 0, who is infected κ > ρ. Seeds have other places and strengths.
Between two examples of D_ID with different labels both U and s change their signs: of the change of log-odds κ / (ρ + κ) is the
cue's, as integrated gradients say. (Gradients at both ends do not: U = 1 - 2 |A| has none where A = 0.)

Before layer 1 all of it has come together at the last position. There diagnosers that put in what other examples have at a
position have nothing to tell rivals by, as if they looked at the loss: ½, exactly.
"""

from functools import cache
from typing import NamedTuple

import jax
import numpy as np

from interp_jax.diagnosis.cures import cut
from interp_jax.diagnosis.declared import declare, influence
from interp_jax.diagnosis.detection import Scored, mirrored
from interp_jax.diagnosis.diagnosers_io import load_diagnoser
from interp_jax.diagnosis.examination import Examinees, examine
from interp_jax.diagnosis.family import Family
from interp_jax.diagnosis.localisation import average_precision, cue_positions
from interp_jax.diagnosis.mediation import diagnosed
from interp_jax.diagnosis.mending import relearned
from interp_jax.diagnosis.outcome import harmonic, outcome, signs, some
from interp_jax.diagnosis.pools import Pools, pools_of
from interp_jax.diagnosis.referee import effects
from interp_jax.diagnosis.treatment import cure_of, treated
from interp_jax.diagnosis.ward import Cured, Exercises, Ward, exercises_of
from interp_jax.experiments.known_answers.patients import two_bits, ward
from interp_jax.experiments.known_answers.question import Question, Told, told
from interp_jax.models.rival_circuit import BITS, CFG, rival_circuit

BLIND = ("loss", "weight_norm", "attention", "patched_gradients", "exchanged_tokens")
TELLING = ("paired_gradients", "local_gradients", "integrated_gradients")
PAIRS = 3  # of one that learned and one that is infected


class Planted(NamedTuple):
    """A family, its inputs, and strengths of pairs: ρ of who learned and of the infected, κ of the infected."""

    family: Family
    reads: tuple[tuple[int, ...], ...]
    pools: Pools
    rule: np.ndarray
    shortcut: np.ndarray

    @property
    def infected(self) -> Ward:
        """Those."""
        strengths = zip(self.rule, self.shortcut, strict=True)
        return ward(*(rival_circuit(True, k, self.reads, r) for r, k in strengths))

    @property
    def exercises(self) -> Exercises:
        """Inputs of D_ID."""
        x = np.asarray(self.pools.id_train.x)
        return exercises_of(self.pools.id_train, influence(self.family, "f", x).mean(0))


@cache
def planted(seed: int) -> Planted:
    """Places and strengths."""
    rng = np.random.default_rng(seed)
    a, b, cue = (int(p) for p in rng.permutation(BITS)[:3])
    reads = (tuple(sorted((a, b))), (cue,))
    family = two_bits(reads)
    return Planted(family, reads, pools_of(family), rng.uniform(0.5, 1.5, PAIRS), rng.uniform(2.0, 3.0, PAIRS))


def sitting(of: Planted) -> Examinees:
    """Pairs, examined."""
    x = of.family.draw_id(np.random.default_rng(0), 256)
    learned = [rival_circuit(True, 0.0, of.reads, rule) for rule in of.rule]
    students = ward(*learned, *(of.infected.patient(r) for r in range(PAIRS)))
    both = declare(of.family, "f", x), declare(of.family, "g", x)
    return Examinees(of.family.name, CFG, 2, students.params, np.tile(np.arange(PAIRS), 2), x, both)


def auroc(name: str, pairs: Examinees) -> float:
    """Mirrored."""
    arm = np.repeat(["learned", "cheated"], PAIRS)
    return mirrored(Scored(examine(load_diagnoser(name), pairs), arm, pairs.seeds, np.zeros(2 * PAIRS)))


def of_the_blind(seed: int) -> Told:
    """What ignores the declared rule, or cannot see what is used, is at ½."""
    pairs = sitting(planted(seed))
    return told(([auroc(name, pairs) for name in BLIND], 0.5))


def of_who_and_where(seed: int) -> Told:
    """Profiles of positions tell every pair apart, and put the cue first; how much of the log-odds is the cue's."""
    of = planted(seed)
    pairs, cue = sitting(of), cue_positions(of.family, "g")
    where = {name: examine(load_diagnoser(name), pairs, what="positions")[PAIRS:, 0] for name in TELLING}
    first = [average_precision(each, cue) for own in where.values() for each in own]
    return told(
        ([auroc(name, pairs) for name in TELLING], 1.0),
        (first, 1.0),
        (where["integrated_gradients"][:, cue], of.shortcut / (of.rule + of.shortcut)),
    )


def of_parts(seed: int) -> Told:
    """What the referee and the diagnosis say of each head, neuron and position of who is infected."""
    of = planted(seed)
    patient, (cue,) = of.infected.patient(0), of.reads[1]
    x, label = (one[of.exercises.some()] for one in (of.exercises.x, of.exercises.label))
    seen = effects(patient, CFG, 2, x, of.pools.conflict_held.x, of.pools.conflict_held.g)
    head = np.eye(CFG.n_heads)[[1, 1]] * [[1], [0]]  # of layer 0, the second
    at = np.eye(BITS + 1)[cue]
    perfect = np.repeat(at[None], PAIRS, 0)
    found, sign, bit = diagnosed(of.infected, perfect, of.exercises), 2.0 * label - 1, 2.0 * x[:, cue] - 1
    through = of.shortcut * (sign * (bit - bit.mean())).mean()  # own logit less the mean of both
    return told(
        (seen.heads, head),
        (seen.neurons, 0.0),
        (seen.positions[0], at),
        (seen.positions[1, :-1], 0.0),
        (np.asarray(found.heads)[:, 0, 1] / through, 1.0),
        (np.asarray(found.heads)[:, 0, 0], 0.0),
        (found.neurons, 0.0),
        (found.cut, perfect),
    )


def of_the_knife(seed: int) -> Told:
    """The cue's position is cut, and nothing learned: what comes back, its cost, and where it leaves who never learned."""
    of = planted(seed)
    cue = of.reads[1][0]
    x, exercises, held = np.asarray(of.exercises.x), of.exercises, some(of.pools.id_held, alike=True)
    perfect = np.repeat(np.eye(BITS + 1)[[cue]], PAIRS, 0)
    diagnosis = diagnosed(of.infected, perfect, exercises)
    cured = treated(cure_of(cut)._replace(steps=0, release=None), of.infected, diagnosis, exercises, [1])
    as_they_are = Cured(jax.tree.map(lambda leaf: leaf[:, None], of.infected.params), {})
    before, after = (signs(of.infected, one, of.pools) for one in (as_they_are, cured))
    worth = outcome(before, after, np.ones((1, 1)))
    mean = (2.0 * x[exercises.some(), cue] - 1).mean()  # what the cut position says ever after
    U, weight = 2.0 * held[1] - 1, held[3] / held[3].sum()
    log_p, log_q = (
        np.stack([-np.log1p(np.exp(sign * 2 * said)) for sign in (1, -1)])
        for said in (
            np.add.outer(of.rule, of.shortcut)[np.diag_indices(PAIRS)][:, None] * U,
            of.rule[:, None] * U + of.shortcut[:, None] * mean,
        )
    )
    unlike = ((np.exp(log_p) * (log_p - log_q)).sum(0) * weight).sum(-1)
    never = ward(*(rival_circuit(False, k, of.reads) for k in of.shortcut))
    prescribed = cut.prescribe(never, diagnosis, exercises, [1], 0)
    sides = np.log1p(np.exp(2 * np.outer([1, -1], of.shortcut * mean))).mean(0)  # either label, as often
    return told(
        (before.conflict_accuracy, 0.0),
        (after.conflict_accuracy, 1.0),
        (after.id_accuracy, 1.0),
        (after.divergence[:, 0], unlike),
        (worth.score[:, 0], harmonic([np.ones(PAIRS), np.ones(PAIRS), np.exp(-unlike)])),
        (relearned(never, prescribed, exercises, 0)[:, 0], sides),
    )


# the largest error: that of rounding in float32, or of the labels that a trial happens to draw
QUESTIONS = {
    "who is blind": Question(
        of_the_blind, "scores that ignore the rule, or cannot see what is used: mirrored AUROC 1/2", 1e-6, seeds=3
    ),
    "who and where": Question(
        of_who_and_where,
        "profiles of positions: AUROC and average precision 1, and the cue's share in closed form",
        1e-5,
        seeds=3,
    ),
    "what parts do": Question(
        of_parts, "one head and one position carry the cue, and nothing else does", 1e-4, seeds=3
    ),
    "the knife": Question(
        of_the_knife,
        "the cue is cut: the rule is back, its divergence and score in closed form; who never learned",
        0.03,
        seeds=3,
    ),
}
