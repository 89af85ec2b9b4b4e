"""The blocks of the report about the prompt: what the layers say, who says it, and where the heads look."""

import numpy as np
import plotly.graph_objects as go

from interp_jax.anatomy.decomposition import component_names
from interp_jax.experiments.inside.runs import lens_layers
from interp_jax.experiments.inside.view import View, head_name
from interp_jax.results import model_plots, plots, token_plots
from interp_jax.results.blocks import Block, Figure, Section, TableBlock
from interp_jax.results.model_plots import signed
from interp_jax.results.plot_style import shorten
from interp_jax.results.tables import Table

KNOWN = (
    "Of this circuit the truth is known: head 0.0 copies the previous token; head 1.0 uses the copy to look at what followed"
    " its token the last time, and says that. So the whole logit difference must be owed to 1.0, and of all pairs of heads only"
    " 0.0 and the keys of 1.0 compose. Heads 0.1 and 1.1 look at copies and everywhere, and say nothing. By weights alone,"
    " only 1.0 makes likely what it looks at, and only 0.1 looks for its own token: 1.0 does by way of 0.0."
)
POSITION = "position: the token that is read"


def model_blocks(view: View) -> list[Block]:
    """What the model is, the prompt, and what it predicts next."""
    cfg = view.cfg
    mlp = f"{cfg.d_mlp:,} neurons{', gated' if cfg.gated else ''}, {cfg.activation}" if cfg.d_mlp else "none"
    groups = "" if cfg.n_groups == cfg.n_heads else f", {cfg.n_groups} for keys and values"
    facts = [
        ("model", view.subject.name),
        ("parameters", f"{view.n_parameters:,}"),
        ("layers", str(cfg.n_layers)),
        ("width of the stream, D", f"{cfg.d_model:,}"),
        ("heads per layer", f"{cfg.n_heads} of width {cfg.d_head}{groups}"),
        ("MLP per layer", mlp),
        ("vocabulary, context", f"{cfg.d_vocab:,} tokens, {cfg.n_context:,} positions"),
        ("positions, norm", f"{cfg.positions}, {cfg.norm if cfg.norm == 'none' else f'{cfg.norm} ({cfg.placement})'}"),
        ("prompt", f"{len(view.tokens)} tokens: {view.text}"),
        ("answer against other", f"{view.answer!r} against {view.against!r}"),
    ]
    top = zip(view.names(view.seen["lens_ids"][-1, -1]), view.seen["lens_probability"][-1, -1], strict=True)
    caption = f"The likeliest tokens after the prompt. The logit of {view.answer!r} is {view.seen['difference']:.3g} above that"
    return [
        Section("The model and the prompt", "" if view.config.model.path else KNOWN),
        TableBlock(Table(("", ""), facts, "What is looked at.")),
        TableBlock(Table(("next token", "probability"), [(repr(t), float(p)) for t, p in top],
                         f"{caption} of {view.against!r}.")),
    ]  # fmt: skip


def lens_blocks(view: View) -> list[Block]:
    """The logit lens."""
    ids, probability = view.seen["lens_ids"], view.seen["lens_probability"]
    named = np.array(view.names(ids.ravel()), object).reshape(ids.shape)
    hover = [
        ["\n".join(f"{t!r}  {p:.1%}" for t, p in zip(*cell, strict=True)) for cell in zip(*row, strict=True)]
        for row in zip(named, probability, strict=True)
    ]
    layers = lens_layers(view.config, view.cfg)
    figure = token_plots.token_grid(
        named[..., 0].tolist(),
        probability[..., 0],
        view.shown_tokens,
        [f"layer {layer}" for layer in layers],
        plots.Axes(POSITION, ""),
        "probability",
        hover,
    )
    left_out = cut(len(layers), view.cfg.n_layers, "layers") + cut(
        len(view.shown_tokens), len(view.tokens), "positions"
    )
    return [
        Section(
            "Logit lens: what each layer would say",
            "Each layer's stream is read as if it were the last: `softmax(norm(stream[l]) W_U + b_U)`, with the model's own"
            " last norm. Go up a column to see where the prediction of the token after it was made; the last row is what the"
            " model says. Early layers are read in the last one's basis: nonsense there does not mean that nothing is known.",
        ),
        Figure(figure, f"The likeliest next token after each layer; the five likeliest when pointed at.{left_out}"),
    ]


def attribution_blocks(view: View) -> list[Block]:
    """Direct logit attribution to components, heads and neurons."""
    seen, cfg = view.seen, view.cfg
    what = f"logit of {shorten(repr(view.answer), 14)} less that of {shorten(repr(view.against), 14)}"
    names = [*(part_name(name) for name in component_names(cfg)), "constant (b_U, last norm's shift)"]
    values = np.append(seen["component"], seen["constant"])
    capped = f" Logits are capped at {cfg.logit_cap:g}; this is before the cap." if cfg.logit_cap else ""
    blocks = [
        Section(
            "Direct logit attribution: who says it",
            "The stream is a sum of what the parts of the model add to it, so the logit difference at the last position is one"
            " too: `Σ norm'(part) · (W_U[:, answer] - W_U[:, other]) + constant`, where norm' is the last norm with its divisor"
            f" held at its value here. Blue speaks for {view.answer!r}, orange and red for {view.against!r}. What a part does"
            f" by way of later layers counts as theirs, so a part at 0 may still be needed.{capped}",
        ),
        Figure(
            model_plots.contributions(names, values, what, view.config.show.bars),
            f"What each part adds to the difference, {seen['difference']:.4g}: the largest first.",
        ),
        Figure(
            head_map(seen["head"]),
            f"What each head adds. {strongest(view)} Biases of attention, which belong to no head, add"
            f" {signed(seen['head_rest'])} in all.",
        ),
    ]
    return [*blocks, *neuron_blocks(view, what)] if cfg.d_mlp else blocks


def head_map(head: np.ndarray) -> go.Figure:
    """What each head adds, [L H]."""
    figure = plots.heatmap(head, plots.Axes("head", "layer"), "adds, logits")
    if head.min() < 0:
        figure.update_traces(colorscale="RdBu")  # blue speaks for the answer, as it does where all heads do
    return figure


def neuron_blocks(view: View, what: str) -> list[Block]:
    """The neurons that add most."""
    seen, width = view.seen, view.cfg.d_mlp
    names = [f"neuron {i % width} of layer {i // width}" for i in seen["neuron_index"].tolist()]
    rest = model_plots.Rest(view.cfg.n_layers * width - len(names), float(seen["neuron_rest"]))
    figure = model_plots.contributions(names, seen["neuron"], what, len(names), rest)
    return [
        Figure(
            figure,
            "The neurons that add most. The others' bar holds the biases of the MLPs too, so the sum is what all MLPs add.",
        )
    ]


def pattern_blocks(view: View) -> list[Block]:
    """Where some heads look."""
    seen, cfg = view.seen, view.cfg
    titles = [
        f"{head_name(i, cfg)} adds {signed(seen['head'].ravel()[i])}{view.kind_of(i)}" for i in seen["shown"].tolist()
    ]
    figure = model_plots.pattern_grid(seen["pattern"], titles, view.shown_tokens, len(titles), seen["head"].size)
    left_out = cut(len(view.shown_tokens), len(view.tokens), "positions, the last ones,")
    return [
        Section(
            "Attention patterns: where the heads look",
            "`softmax(q·k · scale)` over the positions that a query may see: a row says where the position at its left looks,"
            " and adds up to 1. The last row is the one that makes the prediction. Shown are the strongest head of each kind"
            " (see below) and those that add most to the logit difference, in order of layers.",
        ),
        Figure(figure, f"Titles are layer.head, and what the head adds to the logit difference.{left_out}"),
    ]


def part_name(site: str) -> str:
    """A component for a reader: "blocks.3.mlp.out" is "layer 3 MLP"."""
    names = {"embed": "token embedding", "pos_embed": "position embedding", "type_embed": "type embedding"}
    if not site.startswith("blocks."):
        return names.get(site, site)
    _, layer, part, _ = site.split(".")
    return f"layer {layer} {'attention' if part == 'attn' else 'MLP'}"


def strongest(view: View) -> str:
    """A sentence that names the head that adds most."""
    head = view.seen["head"]
    best = int(np.abs(head).argmax())
    return f"The one that adds most, for or against: {head_name(best, view.cfg)}, {signed(head.ravel()[best])}."


def cut(shown: int, total: int, what: str) -> str:
    """A sentence that says what is left out."""
    return f" {shown} of {total} {what} are shown." if shown < total else ""
