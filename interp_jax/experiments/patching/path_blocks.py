"""The blocks of the report about paths: the circuit in numbers, matrices of all paths, and the strongest ones."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from interp_jax.anatomy.heads import HeadScores
from interp_jax.experiments.patching.circuit import WAYS, chain_of, sentence
from interp_jax.experiments.patching.maps import reach_of, share_grid
from interp_jax.experiments.patching.ranking import plain
from interp_jax.experiments.patching.routes import INPUTS
from interp_jax.experiments.patching.view import DONE, View
from interp_jax.experiments.subjects.kinds import uniform_scores
from interp_jax.patching.effects.intervals import bootstrap_interval
from interp_jax.patching.prompts import DENOISING, DIRECTIONS, NOISING
from interp_jax.results import model_plots, plots
from interp_jax.results.report import Block, Figure, Section, TableBlock
from interp_jax.results.tables import Table

LEAST = 5e-4  # share of a path that is listed
ENDS = {"q": "into queries", "k": "into keys", "v": "into values"}


class Path(NamedTuple):
    """A single path: names of its ends, its way, and its effects [B] by direction."""

    sender: str
    receiver: str
    way: str
    effects: dict[str, Float[np.ndarray, " B"]]

    @property
    def size(self) -> float:
        """The mean of what it restores and loses."""
        return float(np.mean([abs(effect.mean()) for effect in self.effects.values()]))


def circuit_blocks(view: View) -> list[Block]:
    """The chain, what is needed to believe it, and what kinds of head there are."""
    chain = chain_of(view)
    blocks: list[Block] = [
        Section(
            "The circuit",
            f"{sentence(view, chain)}\n\nA direct path from a head into the keys of another: `k' = W_K norm(stream + Δ)`,"
            " where Δ is by how much the head's output differs between the two runs, and all else is the base run's; what"
            " follows is computed anew. Likewise queries and values. Where several heads do the same work, no single path"
            " shows what all do together: so a head is asked as well what it does through the keys of all later heads at"
            " once.",
        )
    ]
    if chain is not None:
        blocks.append(TableBlock(at_once_table(view)))
    return [*blocks, *kind_blocks(view)]


def at_once_table(view: View) -> Table:
    """What senders do through all later heads at once, by way; the strongest first."""
    both = {direction: view.shares(direction, "path_all") for direction in DIRECTIONS}
    size = np.mean([np.abs(shares).max(1) for shares in both.values()], axis=0)
    columns = ["speaks", *(f"{WAYS[way]}: {DONE[d]}" for way in INPUTS for d in DIRECTIONS)]
    rows = []
    speak = [i for i in np.argsort(-size, kind="stable") if view.layer_of(int(view.senders[i])) < view.n_layers - 1]
    for i in speak[: view.config.show.paths]:
        shares = [plain(float(both[d][i, j])) for j in range(len(INPUTS)) for d in DIRECTIONS]
        rows.append((view.described(int(view.senders[i])), *shares))
    caption = (
        f"What a head{or_mlp(view)} does through the queries, keys or values of all later heads at once: shares of the effect"
        f" restored ({DENOISING}) and lost ({NOISING})."
    )
    return Table(columns, rows, caption)


def kind_blocks(view: View) -> list[Block]:
    """Where heads look on repeated random tokens."""
    level = uniform_scores(view.about["period"])
    figure = model_plots.matrix_grid(
        [score.mean(0) for score in view.kinds],
        HeadScores._fields,
        [str(h) for h in range(view.n_heads)],
        [str(layer) for layer in range(view.n_layers)],
        plots.Axes("head", "layer"),
        "score",
        (0.0, 1.0),
    )
    chance = ", ".join(f"{kind} {value:.2f}" for kind, value in level.items())
    caption = (
        "Kinds of head, on random tokens and their repetition: attention on the token before (previous), on the earlier copy"
        f" (duplicate), on what followed it (induction). A head that looks everywhere alike has {chance}."
    )
    return [Figure(figure, caption)]


def path_blocks(view: View) -> list[Block]:
    """All single paths: matrices, and the strongest in a table."""
    if not view.has("path_logits"):
        why = "The norms of this model rescale the stream after each layer, so no path is direct."
        return [Section("Direct paths", why)]
    everyone, asked = view.n_layers * view.n_heads, sum(map(view.is_head, map(int, view.senders)))
    some = "" if asked == everyone else (
        f" The {asked} heads with the largest effects of {everyone} were asked; `senders` asks more."
    )  # fmt: skip
    mlps = " and MLPs" if asked < len(view.senders) else ""
    text = (
        f"One by one: rows are the heads{mlps} that speak, columns the heads that read, as layer.head. Paths into"
        f" the logits are what a head{or_mlp(view)} says to them directly.{some}"
    )
    blocks: list[Block] = [Section("Direct paths", text)]
    if view.has("path_q") and any(view.layer_of(int(sender)) < view.n_layers - 1 for sender in view.senders):
        reach = reach_of(view, [f"path_{way}" for way in INPUTS])
        for direction in DIRECTIONS:
            for ways in [INPUTS] if same_heads(view) else [INPUTS[:1], INPUTS[1:]]:
                figure, left_out = path_figure(view, direction, ways, reach)
                what = f"share of the effect that is {DONE[direction]} by each direct path"
                blocks.append(Figure(figure, f"{direction.capitalize()}: {what}.{left_out}"))
    return [*blocks, TableBlock(path_table(view))]


def or_mlp(view: View) -> str:
    """Whether MLPs send too, for a sentence."""
    return "" if all(map(view.is_head, map(int, view.senders))) else " or MLP"


def same_heads(view: View) -> bool:
    """Whether keys and values have as many heads as queries."""
    return view.effects[DENOISING]["path_q"].shape == view.effects[DENOISING]["path_k"].shape


def path_figure(view: View, direction: str, ways: Sequence[str], reach: tuple[float, float]) -> tuple[go.Figure, str]:
    """Senders by receivers, the strongest of both; what is left out."""
    shares = np.stack([view.shares(direction, f"path_{way}") for way in ways])  # W S L G
    per_layer = shares.shape[-1]
    flat = shares.reshape(*shares.shape[:2], -1)
    speak = np.flatnonzero([view.layer_of(int(sender)) < view.n_layers - 1 for sender in view.senders])
    read = np.arange(per_layer, flat.shape[-1])
    most, size = view.config.show.heads, np.abs(flat).max(0)
    rows = np.sort(speak[np.argsort(-size[speak][:, read].max(1), kind="stable")[:most]])
    columns = np.sort(read[np.argsort(-size[speak][:, read].max(0), kind="stable")[:most]])
    figure = share_grid(
        [matrix[np.ix_(rows, columns)] for matrix in flat],
        [ENDS[way] for way in ways],
        [f"{i // per_layer}.{i % per_layer}" for i in columns],
        [view.node_name(int(view.senders[i])) for i in rows],
        plots.Axes("reads", "speaks"),
        direction,
        reach,
    )
    cut = len(rows) < len(speak) or len(columns) < len(read)
    return figure, f" The strongest {len(rows)} that speak and {len(columns)} that read." if cut else ""


def path_table(view: View) -> Table:
    """The strongest single paths, with intervals."""
    strong = [path for path in all_paths(view) if path.size >= LEAST * abs(view.total)]
    found = sorted(strong, key=lambda path: -path.size)[: view.config.show.paths]
    columns = ["speaks", "reads", "by", *(part for d in DIRECTIONS for part in (DONE[d], "from", "to"))]
    rows = []
    for path in found:
        numbers = [number for d in DIRECTIONS for number in interval(path.effects[d] / view.total)]
        rows.append((path.sender, path.receiver, path.way, *numbers))
    caption = (
        f"The {len(rows)} strongest of {len(all_paths(view)):,} paths, by the mean of what they restore ({DENOISING}) and lose"
        f" ({NOISING}). Intervals are 95%, over {len(view.clean)} pairs, and not corrected for having chosen the strongest."
    )
    return Table(columns, rows, caption)


def interval(effect: Float[np.ndarray, " B"]) -> list[float]:
    """Mean, low and high."""
    return [plain(float(part)) for part in bootstrap_interval(jnp.asarray(effect, jnp.float32), 0)]


def all_paths(view: View) -> list[Path]:
    """Every single path from a head or MLP into a later head, and to the logits."""
    found = []
    for i, sender in enumerate(map(int, view.senders)):
        name, layer = view.described(sender), view.layer_of(sender)
        of = lambda what, at: {d: view.effects[d][what][i][at] for d in DIRECTIONS}  # noqa: B023
        found.append(Path(name, "logits", "directly", of("path_logits", ...)))
        for way in INPUTS if view.has("path_q") else ():
            n_readers = view.effects[DENOISING][f"path_{way}"].shape[2]
            for later in range(layer + 1, view.n_layers):
                for unit in range(n_readers):
                    reader = later * n_readers + unit
                    named = view.described(reader) if n_readers == view.n_heads else f"key/value head {later}.{unit}"
                    found.append(Path(name, named, WAYS[way], of(f"path_{way}", (later, unit))))
    return found
