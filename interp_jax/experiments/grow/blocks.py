"""The blocks of `grow`'s report about one run: loss, context, heads, patterns, samples, and what it learned to predict."""

import itertools
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from interp_jax.anatomy.heads import head_scores, repeated_head_scores, uniform_pattern
from interp_jax.anatomy.text_curves import Places, most_improved, places
from interp_jax.data.corpus_io import decode, pieces
from interp_jax.data.ngrams import ngram_losses
from interp_jax.data.text import Corpus
from interp_jax.experiments.grow.stream import TEMPERATURE, Config, prompts_of
from interp_jax.results import grid_plots, plots, tables
from interp_jax.results.blocks import Block, Code, Figure, Section, TableBlock, Text, Tokens

KINDS = ("previous", "duplicate", "induction")
MEANING = {
    "previous": "attention to the token just before",
    "duplicate": "attention to earlier copies of the same token",
    "induction": "attention to what followed earlier copies of the same token",
}
WHAT = {
    "windows": "held-out windows as they are",
    "held_out": "repeated segments of held-out windows (only the same place in the first copy counts)",
    "random": "repeated random tokens (only the same place in the first copy counts)",
}
CONTEXT = 24  # tokens shown before an improved one
IMPROVED = 14  # improved tokens shown


class Member(NamedTuple):
    """One run, as the report sees it; observations are {step: {name: array}} without the member axis."""

    name: str
    config: Config
    observations: dict[int, dict[str, np.ndarray]]
    metric_steps: np.ndarray
    train_loss: np.ndarray
    seconds: float

    @property
    def tokens_per_step(self) -> int:
        return self.config.batch_size * self.config.model.n_context

    def curve(self, name: str) -> np.ndarray:
        """An observed array at every observation, [T, ...]."""
        return np.stack([seen[name] for seen in self.observations.values()])

    @property
    def tokens_seen(self) -> np.ndarray:
        return np.array(list(self.observations)) * self.tokens_per_step


class Language(NamedTuple):
    """What a run's tokens stand for; `corpus` is None where they are synthetic."""

    corpus: Corpus | None
    held_out: np.ndarray

    def pieces(self, tokens: np.ndarray) -> list[str]:
        """Every token as text."""
        return [f"{t} " for t in tokens] if self.corpus is None else pieces(self.corpus.tokenizer, tokens)

    def text(self, tokens: np.ndarray) -> str:
        """Tokens as one text."""
        return "".join(self.pieces(tokens)) if self.corpus is None else decode(self.corpus.tokenizer, tokens)


def member_blocks(member: Member, language: Language, several: bool) -> list[Block]:
    """Everything about one run."""
    suffix = f" ({member.name})" if several else ""
    parts = (
        (f"Loss{suffix}", loss_blocks),
        (f"What context is worth{suffix}", context_blocks),
        (f"What the heads became{suffix}", head_blocks),
        (f"Where they look{suffix}", pattern_blocks),
        (f"What it writes{suffix}", sample_blocks),
        (f"Most-improved tokens{suffix}", improved_blocks),
    )
    return [block for heading, make in parts for block in (Section(heading), *make(member, language))]


def loss_blocks(member: Member, language: Language) -> list[Block]:
    """Training and held-out loss against what counting n-grams gives."""
    curves = [
        plots.Line("training", member.metric_steps * member.tokens_per_step, member.train_loss),
        plots.Line("held out", member.tokens_seen, member.curve("held_out_loss")),
    ]
    axes = plots.Axes("tokens read", "loss, nats per token", x_scale="log")
    if (corpus := language.corpus) is None:
        return [Figure(plots.lines(curves, axes), "The first copy of each segment cannot be predicted; the rest can.")]
    counted = ngram_losses(corpus.train, language.held_out.ravel(), member.config.model.d_vocab)  # the same windows
    names = ("unigrams", "bigrams", "trigrams")
    references = [plots.Reference(float(y), f"{name} counted") for name, y in zip(names, counted, strict=True)]
    bits = float(member.curve("held_out_loss")[-1]) / np.log(2) / corpus.bytes_per_token
    return [
        Text(
            f"{corpus.source}: {corpus.n_documents[0]:,} documents of {len(corpus.train):,} tokens to train on,"
            f" {corpus.n_documents[1]:,} held out, {corpus.bytes_per_token:.2f} bytes per token. At the end the held-out loss"
            f" is {bits:.2f} bits per byte."
        ),
        Figure(
            plots.lines(curves, axes, references),
            "Dashed: the loss on the same windows of n-grams counted in all training text. A model without attention cannot"
            " pass the bigram line; previous-token heads take it towards the trigram line; below that it uses longer context.",
        ),
    ]


def context_blocks(member: Member, language: Language) -> list[Block]:
    """Loss by position, early against late in training, and on the copies of repeated segments."""
    steps = list(member.observations)
    chosen = sorted({steps[i] for i in (len(steps) // 2, 2 * len(steps) // 3, len(steps) - 1)})
    by_position = [
        plots.Line(f"after {t * member.tokens_per_step:,} tokens", *smooth(member.observations[t]["loss_by_position"]))
        for t in chosen
    ]
    compared: Places = places(member.config.model.n_context)
    copies = [
        plots.Line(
            f"{on.replace('_', '-')}, {which} copy", member.tokens_seen, member.curve(f"{on}.{which}_copy_loss")
        )
        for on in ("held_out", "random")
        for which in ("first", "second")
    ]
    score = [plots.Line("score", member.tokens_seen, member.curve("in_context_score"))]
    loss = "loss, nats per token"
    return [
        Figure(
            plots.lines(by_position, plots.Axes("position in the window", loss, x_scale="log")),
            "Held-out loss by position, averaged over neighbouring positions.",
        ),
        Figure(
            plots.lines(score, plots.Axes("tokens read", "late - early loss, nats", x_scale="log")),
            f"In-context-learning score: mean loss at positions {compared.late.start} to {compared.late.stop - 1} less that at"
            f" {compared.early.start} to {compared.early.stop - 1}; negative where context helps. Windows begin anywhere and"
            " documents end within them, so the score is noisy.",
        ),
        Figure(
            plots.lines(copies, plots.Axes("tokens read", loss, x_scale="log")),
            "Loss on each copy of a repeated segment. A model that copies loses little on the second. Random tokens are far"
            " from text: without copying, their loss rises above log V as the model grows sure of text.",
        ),
    ]


def smooth(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions from 1 and means over logarithmic bins of them."""
    edges = np.unique(np.geomspace(1, len(values) + 1, 25).astype(int))
    bins = list(itertools.pairwise(edges))
    return np.array([(a + b - 1) / 2 for a, b in bins]), np.array([values[a - 1 : b - 1].mean() for a, b in bins])


def head_blocks(member: Member, language: Language) -> list[Block]:
    """Scores of every head along training: of all kinds on plain windows, of induction on repetitions too."""
    shown = [("windows", kind) for kind in KINDS] + [("held_out", "induction"), ("random", "induction")]
    blocks: list[Block] = []
    for on, kind in shown:
        scores = member.curve(f"{on}.{kind}")
        curves = [
            plots.Line(f"{layer}.{head}", member.tokens_seen, scores[:, layer, head])
            for layer in range(scores.shape[1])
            for head in range(scores.shape[2])
        ]
        axes = plots.Axes("tokens read", f"{kind} score", x_scale="log", y_range=(0, 1))
        level = plots.Reference(uniform_score(member, language, on, kind), "a uniform head")
        caption = f"{kind.capitalize()} score on {WHAT[on]}: {MEANING[kind]}. Curves are layer.head."
        blocks.append(Figure(plots.lines(curves, axes, [level]), caption))
    return blocks


def uniform_score(member: Member, language: Language, on: str, kind: str) -> float:
    """The score of a head that looks everywhere alike, on the same sequences."""
    period = member.config.model.n_context // 2
    if on == "windows":
        tokens = jnp.asarray(language.held_out[:, :-1])
        pattern = jnp.broadcast_to(uniform_pattern(tokens.shape[1]), (1, len(tokens), 1, *(2 * tokens.shape[1:])))
        return float(getattr(head_scores(pattern, tokens), kind)[0, 0])
    return float(getattr(repeated_head_scores(uniform_pattern(2 * period), period), kind)[0, 0])


def pattern_blocks(member: Member, language: Language) -> list[Block]:
    """Patterns of all heads on a snippet, and of the strongest of each kind with its tokens."""
    last = list(member.observations.values())[-1]
    pattern = last["pattern"]
    tokens = language.pieces(language.held_out[0, : pattern.shape[-1]])
    titles = [f"layer {layer}, head {head}" for layer in range(pattern.shape[0]) for head in range(pattern.shape[1])]
    axes = plots.Axes("key", "query")
    grid = grid_plots.heatmap_grid(list(pattern.reshape(-1, *pattern.shape[2:])), titles, axes, "attention", columns=4)
    blocks: list[Block] = [
        Text("The snippet, from a held-out window:"),
        Code("".join(tokens)),
        Figure(grid, "Attention of every head on the snippet, queries downwards."),
    ]
    for kind in KINDS:
        layer, head = np.unravel_index(last[f"windows.{kind}"].argmax(), last[f"windows.{kind}"].shape)
        labels = [f"{i} {piece!r}"[:12] for i, piece in enumerate(tokens)]
        figure = plots.heatmap(pattern[layer, head], axes, "attention", labels, labels)
        blocks.append(Figure(figure, f"The strongest {kind} head, layer {layer}, head {head}."))
    return blocks


def sample_blocks(member: Member, language: Language) -> list[Block]:
    """Texts written after held-out prompts, early, midway and at the end."""
    steps = list(member.observations)
    prompts = np.asarray(prompts_of(jnp.asarray(language.held_out), member.config))
    blocks: list[Block] = []
    for t in sorted({steps[len(steps) // 2], steps[3 * len(steps) // 4], steps[-1]}):
        blocks.append(Text(f"After {t * member.tokens_per_step:,} tokens (`▶` marks where the prompt ends):"))
        for i, sample in enumerate(member.observations[t]["samples"]):
            how = "greedy" if i == 0 else f"temperature {TEMPERATURE}"
            blocks.append(Code(f"[{how}]\n{language.text(prompts[i][-40:])}▶{language.text(sample)}"))
    return blocks


def improved_blocks(member: Member, language: Language) -> list[Block]:
    """Predictions that gained most between a checkpoint midway (in the logarithm) and the last, and one whole window."""
    steps = list(member.observations)
    early, late = steps[2 * len(steps) // 3], steps[-1]
    before, after = (member.observations[t]["token_losses"] for t in (early, late))
    best = most_improved(jnp.asarray(before), jnp.asarray(after), IMPROVED)
    rows: list[list[Any]] = []
    for window, position, was, became in zip(*(np.asarray(x) for x in best), strict=True):
        context = language.held_out[window, max(0, position - CONTEXT) : position]
        token = language.pieces(language.held_out[window, position : position + 1])[0]
        rows.append([repr(language.text(context))[1:-1], repr(token), float(was), float(became)])
    gain = (before - after).mean(1)
    window = int(gain.argmax())
    spell = f"from {early * member.tokens_per_step:,} to {late * member.tokens_per_step:,} tokens"
    columns = ["context", "token", "loss before", "loss after"]
    return [
        TableBlock(
            tables.Table(columns, rows, f"Held-out tokens whose loss fell most, one per window, in nats, {spell}.")
        ),
        Tokens(
            language.pieces(language.held_out[window, 1:]),
            before[window] - after[window],
            f"The held-out window that gained most, {spell}: blue tokens became easier, by so many nats, red ones harder.",
        ),
    ]
