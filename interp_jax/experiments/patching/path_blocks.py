"""The blocks of the report about paths: the circuit in numbers, matrices of all paths, and the strongest ones."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from interp_jax.anatomy.heads import HeadScores
from interp_jax.experiments.patching.circuit import WAYS, chain_of, no_paths, sentence
from interp_jax.experiments.patching.listing import Cells, listed, strongest
from interp_jax.experiments.patching.maps import reach_of, reader_name, share_grid
from interp_jax.experiments.patching.routes import INPUTS
from interp_jax.experiments.patching.view import DONE, View
from interp_jax.experiments.subjects.kinds import uniform_scores
from interp_jax.patching.prompts import DENOISING, DIRECTIONS
from interp_jax.results import model_plots, plots
from interp_jax.results.blocks import Block, Figure, Section, TableBlock

ENDS = {"q": "into queries", "k": "into keys", "v": "into values"}


def circuit_blocks(view: View) -> list[Block]:
    """The chain, what is needed to believe it, and what kinds of head there are."""
    chain, said = chain_of(view), sentence(view, chain_of(view))
    if view.has("path_all"):
        said += (
            "\n\nA direct path from a head into the keys of another: `k' = W_K norm(stream + Δ)`,"
            " where Δ is by how much the head's output differs from what is put in, and all else is the base run's; what"
            " follows is computed anew. Likewise queries and values. Where several heads do the same work, no single path"
            " shows what all do together: so a head is asked as well what it does through the keys of all later heads at"
            " once."
        )
    blocks: list[Block] = [Section("The circuit", said)]
    if chain is not None:
        cells = at_once_cells(view)
        speak = dict.fromkeys(i // len(INPUTS) for i in strongest(view, cells, view.config.show.paths))
        chosen = [i * len(INPUTS) + way for i in speak for way in range(len(INPUTS))][: view.config.show.paths]
        what = f"What a head{or_mlp(view)} does through the queries, keys or values of all later heads at once."
        blocks.append(TableBlock(listed(view, cells, chosen, what)))
    return [*blocks, *kind_blocks(view)]


def at_once_cells(view: View) -> Cells:
    """What senders do through all later heads at once, three ways each; those of the last layer have none after them."""
    speak = [i for i, sender in enumerate(view.senders) if view.layer_of(int(sender)) < view.n_layers - 1]
    names = [(view.described(int(view.senders[i])), f"all {WAYS[way]}") for i in speak for way in INPUTS]
    of = {d: view.effects[d]["path_all"][speak].reshape(len(names), -1) for d in DIRECTIONS}
    return Cells(("speaks", "into"), names, of)


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
        return [Section("Direct paths", no_paths(view))]
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
    return [*blocks, path_table(view)]


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


def path_table(view: View) -> Block:
    """The strongest single paths."""
    cells = all_paths(view)
    chosen = strongest(view, cells, view.config.show.paths)
    return TableBlock(
        listed(view, cells, chosen, f"The {len(chosen)} strongest of {len(cells.names):,} single paths.")
    )


def all_paths(view: View) -> Cells:
    """Every single path from a head or MLP into a later head, and to the logits."""
    names: list[tuple[str, ...]] = []
    effects = {d: [] for d in DIRECTIONS}
    for i, sender in enumerate(map(int, view.senders)):
        name, layer = view.node_name(sender), view.layer_of(sender)
        names.append((name, "logits"))
        for d in DIRECTIONS:
            effects[d].append(view.effects[d]["path_logits"][i][None])
        for way in INPUTS if view.has("path_q") else ():
            units = view.effects[DENOISING][f"path_{way}"].shape[2]
            later = range((layer + 1) * units, view.n_layers * units)
            names += [(name, f"{WAYS[way]} of {reader_name(view, unit, units)}") for unit in later]
            for d in DIRECTIONS:
                effects[d].append(view.effects[d][f"path_{way}"][i].reshape(-1, len(view.clean))[later.start :])
    return Cells(("speaks", "into"), names, {d: np.concatenate(parts) for d, parts in effects.items()})
