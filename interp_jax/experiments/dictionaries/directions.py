"""How the rows of trained decoders lie, and whether members that differ in their seed alone find the same ones.

Rows are in units of normalised activations; see `measures/geometry.py` and
`measures/stability.py`. What chance does is in closed form: the largest of so many cosines with random directions.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from interp_jax.dictionaries.measures.geometry import effective_dimension, nearest, plane
from interp_jax.dictionaries.measures.stability import (
    FOUND,
    Stability,
    below_by_chance,
    nearest_by_chance,
    stability,
)
from interp_jax.experiments.dictionaries.kept import load_group
from interp_jax.experiments.dictionaries.told import name_of, sparsity_name, sparsity_of
from interp_jax.experiments.experiment import GroupResult
from interp_jax.results import plots
from interp_jax.results.blocks import Block, Figure, Section, TableBlock, Text
from interp_jax.results.tables import Table
from interp_jax.train.run import ALIVE

BINS = np.linspace(-0.5, 1, 61)
DENSITIES = ((0.0, 1e-3, "in less than .1% of tokens"), (1e-3, 1e-2, ".1% to 1%"), (1e-2, 2.0, "more than 1%"))
MOST_POINTS = 4_000  # features in the plane
MOST_MATCHED = 4_096  # features that are matched: the work grows with their cube
MOST_SEEDS = 4
LYING = """The cosine of each feature's row of the decoder with the nearest other one says whether features lie apart, or some
are said twice. Beside it is what as many random directions would have. The dimension is the participation ratio of all rows.
Features that never fired on held-out text are left out."""
ALIKE = """Members that differ in their seed alone, each feature of one matched with one of the other (the best assignment), and
the nearest one of each. A feature is found again where its matched cosine is above {least:g}. Random directions would have the
cosines by chance, nearest ones: matched ones would have less."""


class Kept(NamedTuple):
    """A member: its kind, what it was told, its seed, what it shares with others of other seeds, and its rows."""

    kind: str
    told: str
    seed: int
    twins: tuple[float | int | str, ...]
    W_dec: Float[np.ndarray, "F O"]
    W_enc: Float[np.ndarray, "F D"]
    density: Float[np.ndarray, " F"]

    @property
    def fires(self) -> Bool[np.ndarray, " F"]:
        """Which features did on held-out text."""
        return self.density > 0


def blocks_of(where: str, groups: Sequence[GroupResult]) -> list[Block]:
    """Geometry of all members, which read one place, and their stability where some differ in their seed alone."""
    members = [member for group in groups if all(group.directories) for member in kept(group)]
    if not members:
        return []
    return [*lying(where, members), *alike(where, members)]


def kept(group: GroupResult) -> list[Kept]:
    """The members of a group that did not diverge; none of a kind whose rows lie layer by layer."""
    params, seen, found = load_group(group), group.observations[max(group.observations)], []
    told = dict(zip(np.flatnonzero(group.diverged_at == ALIVE), sparsity_of(group), strict=True))
    density = seen["sums.fired"].sum(1) / np.maximum(seen["sums.n"].sum(1), 1)[:, None]
    for i, level in told.items():
        own = jax.tree.map(lambda leaf: leaf[i].item(), group.config)  # noqa: B023
        if params[i]["W_dec"].ndim != 2:
            continue
        twins = (str(jax.tree.structure(own)), *jax.tree.leaves({k: v for k, v in vars(own).items() if k != "seed"}))
        used = slice(own.dictionary.width or own.dictionary.n_features)
        rows = (params[i][name][used] for name in ("W_dec", "W_enc"))
        words = f"{sparsity_name(group)} = {level:g}"
        found.append(Kept(name_of(group), words, own.seed, tuple(map(str, twins)), *rows, density[i][used]))
    return found


def lying(where: str, members: Sequence[Kept]) -> list[Block]:
    """A table of how rows lie, the cosines of nearest ones, and one member in a plane."""
    rows, lines = [], {}
    for member in members:
        W = jnp.asarray(member.W_dec[member.fires])
        if len(W) < 2:
            continue
        cosine = np.asarray(nearest(W).cosine[:, 0])
        chance, size = nearest_by_chance(len(W) - 1, W.shape[1]), float(effective_dimension(W))
        close = float((cosine > FOUND).mean())
        rows.append(
            (member.kind, member.told, member.seed, len(W), float(np.median(cosine)), chance.mean, close, size)
        )
        lines.setdefault(member.kind, []).append(np.histogram(cosine, BINS)[0] / len(W))
    if not rows:
        return []
    columns = (
        "kind",
        "told",
        "seed",
        "features that fire",
        "nearest cosine",
        "by chance",
        f"above {FOUND:g}",
        "dimension",
    )
    sparsest = min((m for m in members if m.fires.sum() > 1), key=lambda member: float(member.density.sum()))
    W = sparsest.W_dec[sparsest.fires]
    by_chance = chance_line(len(W) - 1, W.shape[1])
    drawn = [line(kind, np.mean(each, 0)) for kind, each in lines.items()]
    axes = plots.Axes("cosine with the nearest other feature", "share of features")
    return [
        Section(f"How features lie: {where}", LYING),
        TableBlock(Table(columns, rows, "The median of nearest cosines, of features that fire; the mean by chance.")),
        Figure(
            plots.lines([*drawn, by_chance], axes), "Nearest cosines of each kind: the mean over its dictionaries."
        ),
        in_plane(sparsest),
    ]


def in_plane(member: Kept) -> Figure:
    """Features by the first two principal components of their unit rows."""
    index = np.flatnonzero(member.fires)
    flat = plane(jnp.asarray(member.W_dec[index]))
    every = -(-len(index) // MOST_POINTS)
    index, at = index[::every], np.asarray(flat.points)[::every]
    density, clouds = member.density[index], []
    for low, high, words in DENSITIES:
        here = (density > low) & (density <= high)
        if here.any():
            names = [f"feature {i}, density {d:.2g}" for i, d in zip(index[here], density[here], strict=True)]
            clouds.append(plots.Points(f"fires {words}", at[here, 0], at[here, 1], names))
    share = [f"{x:.0%} of the variance" for x in np.asarray(flat.shares)]
    axes = plots.Axes(f"first component, {share[0]}", f"second component, {share[1]}")
    which = "Its features" if every == 1 else f"One feature of every {every}"
    caption = (
        f"The sparsest dictionary: {member.kind}, {member.told}, seed {member.seed}. {which}, by the first"
        " two principal components of their directions: what lies apart here is apart, what lies together need not be."
    )
    return Figure(plots.scatter(clouds, axes), caption)


def alike(where: str, members: Sequence[Kept]) -> list[Block]:
    """A table of how alike members of different seeds are, and the matched cosines."""
    sets: dict[tuple, list[Kept]] = {}
    for member in members:
        sets.setdefault(member.twins, []).append(member)
    sets = {key: each[:MOST_SEEDS] for key, each in sets.items() if len(each) > 1}
    heading = f"Whether another seed finds the same: {where}"
    if not sets:
        return [
            Section(heading),
            Text("No two members differ in their seed alone: add `--sweep seeds` to the command."),
        ]
    if (n := max(len(each[0].W_dec) for each in sets.values())) > MOST_MATCHED:
        return [
            Section(heading),
            Text(f"Dictionaries of more than {MOST_MATCHED:,} features, {n:,} here, are not matched."),
        ]
    rows, lines, several = [], {}, lambda each, name: np.stack([getattr(member, name) for member in each])
    for each in sets.values():
        W = several(each, "W_dec")
        found: Stability = stability(W)
        chance = nearest_by_chance(*W.shape[1:])
        near, again = float(found.nearest.mean()), float(found.found_again.mean())
        first = each[0]
        rows.append((first.kind, first.told, len(each), found.mean, near, chance.mean, chance.quantile, again))
        lines.setdefault(first.kind, []).append(np.histogram(found.matched, BINS)[0] / found.matched.size)
    columns = ("kind", "told", "seeds", "matched cosine", "nearest", "by chance", "95% by chance", "found again")
    caption = "Means over features and pairs of seeds; by chance, the nearest of as many directions, and what 95% stay below."
    drawn = [line(kind, np.mean(each, 0)) for kind, each in lines.items()]
    widest = max(each[0].W_dec.shape for each in sets.values())
    axes = plots.Axes("matched cosine", "share of features")
    return [
        Section(heading, ALIKE.format(least=FOUND)),
        TableBlock(Table(columns, rows, caption)),
        Figure(plots.lines([*drawn, chance_line(*widest)], axes), "Matched cosines of each kind."),
    ]


def line(name: str, shares: Float[np.ndarray, " n"]) -> plots.Line:
    """A histogram's line."""
    return plots.Line(name, (BINS[1:] + BINS[:-1]) / 2, shares)


def chance_line(n: int, d: int) -> plots.Line:
    """What the nearest of n random directions in d dimensions would have."""
    return line("by chance, nearest", np.diff(below_by_chance(BINS, n, d)))
