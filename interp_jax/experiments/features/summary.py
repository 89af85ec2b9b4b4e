"""What a dictionary is like as a whole: where it reads, how often its features fire, and what they do when they are clamped."""

from collections.abc import Mapping

import numpy as np

from interp_jax.experiments.features.config import Config
from interp_jax.experiments.features.source import Found, Text
from interp_jax.results import plots
from interp_jax.results.blocks import Block, Figure, TableBlock
from interp_jax.results.feature_page import Features
from interp_jax.results.tables import Table

MOST_POINTS = 4_000  # features in a figure
Seen = Mapping[str, np.ndarray]


def place_told(found: Found, piece: int) -> str:
    """Where it reads and writes, in words; of several places, which one is looked at."""
    told = [f"{site_told(read, written)}, layer {layer}" for read, written, layer in found.trained.read]
    models = [f"`{found.model_of(i)}`" for i in range(0, found.trained.dictionary.pieces, len(told))]
    where = f"It reads {'; '.join(told)}, of {' and of '.join(models)}; its hash is `{found.member.hash}`."
    if found.trained.dictionary.pieces == 1:
        return where
    read, written, layer = found.place_of(piece)
    return (
        f"{where} Its features are looked at in piece {piece}: {site_told(read, written)}, layer {layer}, of"
        f" `{found.model_of(piece)}`; there their rows make tokens likely, and there they are clamped. A feature's share of the"
        " piece is the length of its row there over the sum of its lengths in all."
    )


def site_told(read: str, written: str) -> str:
    """A site, or two."""
    return f"`{read}`" if read == written else f"`{read}` (and says `{written}`)"


def overview(config: Config, seen: Seen, shown: Features, text: Text) -> list[Block]:
    """What the dictionary is like as a whole."""
    density, kl, control = (shown.columns[name] for name in ("density", "clamped KL", "random KL"))
    clamped = np.isfinite(kl)
    above = float((kl > control)[clamped].mean()) if clamped.any() else float("nan")
    c = config.clamp
    facts = [
        ("features", f"{len(density):,}"),
        ("held-out text", f"{text.title}: {int(seen['n']):,} tokens that count"),
        ("active features of a token, L0", f"{density.sum():.3g}"),
        *((word, f"{int(which.sum()):,} ({which.mean():.1%})") for word, which in shown.flags.items()),
        ("clamped", f"{int(clamped.sum()):,} features, to {c.multiple:g} × their largest activation"),
        ("clamped on", f"{c.windows} windows of {c.length} tokens"),
        ("clamped, with more effect than a random direction", f"{above:.1%}"),
    ]  # fmt: skip
    facts.append(("probed for", probed_for(config, seen, shown)))
    blocks: list[Block] = [TableBlock(Table(("", ""), facts, "The dictionary as a whole."))]
    alive = density > 0
    if alive.any():
        edges = np.geomspace(density[alive].min() * 0.999, density.max() * 1.001, 31)
        heights = np.histogram(density[alive], edges)[0]
        line = plots.Line("features", np.sqrt(edges[:-1] * edges[1:]), heights)
        axes = plots.Axes("density: share of tokens in which it fires", "features", x_scale="log")
        blocks.append(Figure(plots.lines([line], axes), "How often features fire, dead ones left out."))
    there = np.flatnonzero(clamped & (kl > 0) & (control > 0) & alive)
    if len(there):
        every = -(-len(there) // MOST_POINTS)
        there = there[::every]
        names = [f"feature {i}" for i in there]
        clouds = [
            plots.Points("clamped", density[there], kl[there], names),
            plots.Points("random directions", density[there], control[there], names),
        ]
        axes = plots.Axes("density", "KL, nats", x_scale="log", y_scale="log")
        which = "Every feature" if every == 1 else f"One feature of every {every}"
        caption = f"{which}, twice: clamped, and the mean over random directions of its length."
        blocks.append(Figure(plots.scatter(clouds, axes), caption))
    return blocks


def probed_for(config: Config, seen: Seen, shown: Features) -> str:
    """For which concepts features were probed, and how much better they tell true labels than moved ones."""
    if shown.concepts is None:
        return "nothing: the held-out text has no document of Python, which alone has labels"
    n = int((np.minimum(seen["concepts.n"], seen["concepts.without"]) >= config.concepts.least).sum())
    score, moved = shown.columns["probe score"], shown.columns["moved labels"]
    alive = np.isfinite(score)
    if not n or not alive.any():
        return f"nothing: no concept has {config.concepts.least} tokens on either side"
    bar = float(np.quantile(moved[alive], 0.95))
    above = float((score[alive] > bar).mean())
    return (
        f"{n} of {len(seen['concepts.n'])} concepts of source code: {above:.1%} of the features that fire tell one of them"
        f" better than {bar:.3f}, which 5% reach where labels are moved along the text"
    )
