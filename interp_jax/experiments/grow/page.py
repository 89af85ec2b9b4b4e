"""The report of `grow`: all runs in a table, and the first few in full."""

from collections.abc import Sequence

import jax
import numpy as np

from interp_jax.experiments.experiment import GroupResult
from interp_jax.experiments.grow.blocks import KINDS, WHAT, Language, Member, member_blocks
from interp_jax.experiments.grow.stream import corpus_of, shared_arrays
from interp_jax.results import tables
from interp_jax.results.blocks import Block, Page, Section, TableBlock

MOST_MEMBERS = 3  # members that are shown in full; the table lists all
SYNTHETIC = "This run was trained on synthetic sequences, random segments that repeat themselves. It has seen no text."


def report(groups: Sequence[GroupResult]) -> Page:
    """All runs in one table, the first few in full."""
    found = [member for group in groups for member in members(group)]
    blocks: list[Block] = []
    for member in found[:MOST_MEMBERS]:
        corpus = corpus_of(member.config) if member.config.stream == "text" else None
        language = Language(corpus, shared_arrays(member.config).held_out)
        blocks += member_blocks(member, language, several=len(found) > 1)
    overview = Section("All runs", SYNTHETIC if any(m.config.stream != "text" for m in found) else "")
    blocks = [overview, TableBlock(overview_table(found)), *blocks]
    return Page(title_of(found), summary_of(found[0]), blocks)


def members(group: GroupResult) -> list[Member]:
    """The runs of a group, one by one."""
    names = [f"seed {int(seed)}" for seed in group.config.seed]
    if len(set(names)) < len(names):
        names = [f"{name}, {digest[:6]}" for name, digest in zip(names, group.hashes, strict=True)]
    return [
        Member(
            name=name,
            config=jax.tree.map(lambda leaf: leaf[i].item(), group.config),  # noqa: B023
            observations={t: {k: v[i] for k, v in seen.items()} for t, seen in group.observations.items()},
            metric_steps=group.metric_steps,
            train_loss=group.metrics["loss"][:, i],
            seconds=float(group.seconds[i]),
        )
        for i, name in enumerate(names)
    ]


def title_of(found: Sequence[Member]) -> str:
    """What was done."""
    streams = {m.config.stream for m in found}
    if streams == {"repeats"}:
        return "An induction circuit, grown on synthetic repeated sequences"
    return "Transformers grown on real text" if streams == {"text"} else "Transformers grown on text and on sequences"


def summary_of(member: Member) -> str:
    """What came out of the first run."""
    cfg, last = member.config.model, list(member.observations.values())[-1]
    kind = "attention-only" if cfg.d_mlp == 0 else f"with MLPs of {cfg.d_mlp} neurons"
    text = (
        f"A transformer of {cfg.n_layers} layers, {cfg.n_heads} heads of {cfg.d_head} and a stream of {cfg.d_model}, {kind}"
        f" (positions: {cfg.positions}), read {member.tokens_seen[-1]:,} tokens in windows of {cfg.n_context}. Its loss on"
        f" held-out {'text' if member.config.stream == 'text' else 'sequences'} fell from"
        f" {member.curve('held_out_loss')[0]:.2f} to {last['held_out_loss']:.2f} nats per token."
    )
    on = "windows" if member.config.stream == "text" else "random"
    strongest = "; ".join(f"{kind} {describe(last[f'{on}.{kind}'])}" for kind in KINDS)
    text += f" Strongest heads on {WHAT[on]}: {strongest}."
    return text if member.config.stream == "text" else f"{SYNTHETIC}\n\n{text}"


def describe(scores: np.ndarray) -> str:
    """The strongest head and its score."""
    layer, head = np.unravel_index(scores.argmax(), scores.shape)
    return f"{scores.max():.2f} (layer {layer}, head {head})"


def overview_table(found: Sequence[Member]) -> tables.Table:
    """A row per run."""
    columns = ["run", "stream", "tokens", "held-out loss", *KINDS, *(f"{kind} (random)" for kind in KINDS), "minutes"]
    rows = []
    for member in found:
        last = list(member.observations.values())[-1]
        scores = [float(last[f"{on}.{kind}"].max()) for on in ("windows", "random") for kind in KINDS]
        run = [member.name, member.config.stream, int(member.tokens_seen[-1]), float(last["held_out_loss"])]
        rows.append([*run, *scores, member.seconds / 60])
    return tables.Table(
        columns,
        rows,
        "Losses in nats per token. Scores are of the strongest head of each kind, on held-out windows and on repeated random"
        " tokens.",
    )
