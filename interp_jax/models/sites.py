"""The table of sites: every activation of the transformer family that has a name.

Docs and tests are made from it: a test records every site of every kind of model and compares shape and existence with the
table. A site under `blocks.` gains a leading L axis when it is recorded.
"""

from collections.abc import Callable
from typing import NamedTuple

from interp_jax.models.transformer import TransformerConfig

Exists = Callable[[TransformerConfig], bool]


class Site(NamedTuple):
    """One named activation.

    Attributes:
      shape: its axes, in the letters of the glossary; of one layer where `name` begins with "blocks.".
      meaning: what it is, and where it stands with respect to scale, bias and mask.
      exists: whether a model has it.
      alias: the name of HookedTransformer (TransformerLens) for it, `{l}` standing for the layer; "" where it has none.
    """

    name: str
    shape: str
    meaning: str
    exists: Exists
    alias: str = ""


def _always(cfg: TransformerConfig) -> bool:
    return True


def _mlp(cfg: TransformerConfig) -> bool:
    return cfg.d_mlp > 0


def _norm(cfg: TransformerConfig) -> bool:
    return cfg.norm != "none"


def _norm_and_mlp(cfg: TransformerConfig) -> bool:
    return _norm(cfg) and _mlp(cfg)


def _sandwich(cfg: TransformerConfig) -> bool:
    return _norm(cfg) and cfg.placement == "sandwich"


def _rotary(cfg: TransformerConfig) -> bool:
    return cfg.positions == "rotary"


def _logits(cfg: TransformerConfig) -> bool:
    return cfg.head != "none"


SITES = (
    Site("embed", "B P D", "rows of W_E, times the embedding's scale", _always, "hook_embed"),
    Site(
        "type_embed", "B P D", "rows of W_type, one per token type", lambda cfg: cfg.d_types > 0,
        "embed.hook_token_type_embed",
    ),
    Site(
        "pos_embed", "1 P D", "rows of W_pos, shared by the batch where positions are",
        lambda cfg: cfg.positions in ("learned", "shortformer"), "hook_pos_embed",
    ),
    Site(
        "ln_embed.scale", "B P 1", "divisor of the norm of the embeddings", lambda cfg: cfg.embed_norm and _norm(cfg),
        "embed.ln.hook_scale",
    ),
    Site(
        "ln_embed.normalized", "B P D", "its quotient, before w and b", lambda cfg: cfg.embed_norm and _norm(cfg),
        "embed.ln.hook_normalized",
    ),
    Site("blocks.resid_pre", "B P D", "the stream before the layer", _always, "blocks.{l}.hook_resid_pre"),
    Site(
        "blocks.ln1.scale", "B P 1", "the first norm's divisor; with post-norms, of the stream after attention", _norm,
        "blocks.{l}.ln1.hook_scale",
    ),
    Site("blocks.ln1.normalized", "B P D", "its quotient, before w and b", _norm, "blocks.{l}.ln1.hook_normalized"),
    Site(
        "blocks.attn.q", "B P H E", "queries with bias, before norm and positions", _always,
        "blocks.{l}.attn.hook_q",
    ),
    Site("blocks.attn.k", "B P G E", "keys with bias, before norm and positions", _always, "blocks.{l}.attn.hook_k"),
    Site("blocks.attn.v", "B P G E", "values with bias", _always, "blocks.{l}.attn.hook_v"),
    Site("blocks.attn.q_norm", "B P H E", "queries after their norm", lambda cfg: cfg.qk_norm),
    Site("blocks.attn.k_norm", "B P G E", "keys after their norm", lambda cfg: cfg.qk_norm),
    Site("blocks.attn.rot_q", "B P H E", "queries turned by position", _rotary, "blocks.{l}.attn.hook_rot_q"),
    Site("blocks.attn.rot_k", "B P G E", "keys turned by position", _rotary, "blocks.{l}.attn.hook_rot_k"),
    Site(
        "blocks.attn.scores", "B H Q K", "q·k times its scale, capped, with any distance bias, before the mask", _always,
        "blocks.{l}.attn.hook_attn_scores",
    ),
    Site("blocks.attn.pattern", "B H Q K", "softmax of the masked scores", _always, "blocks.{l}.attn.hook_pattern"),
    Site("blocks.attn.z", "B P H E", "each head's mix of values", _always, "blocks.{l}.attn.hook_z"),
    Site("blocks.attn.result", "B P H D", "each head's output, before b_O", _always, "blocks.{l}.attn.hook_result"),
    Site(
        "blocks.ln1_post.scale", "B P 1", "divisor of the norm of what attention says", _sandwich,
        "blocks.{l}.ln1_post.hook_scale",
    ),
    Site(
        "blocks.ln1_post.normalized", "B P D", "its quotient, before w and b", _sandwich,
        "blocks.{l}.ln1_post.hook_normalized",
    ),
    Site(
        "blocks.attn.out", "B P D", "what attention adds to the stream: the heads' sum with b_O, after any norm of it",
        _always, "blocks.{l}.hook_attn_out",
    ),
    Site(
        "blocks.resid_mid", "B P D", "the stream between attention and MLP; with post-norms, after the norm",
        lambda cfg: _mlp(cfg) and not cfg.parallel, "blocks.{l}.hook_resid_mid",
    ),
    Site(
        "blocks.ln2.scale", "B P 1", "the second norm's divisor; with post-norms, of the stream after the MLP",
        _norm_and_mlp, "blocks.{l}.ln2.hook_scale",
    ),
    Site(
        "blocks.ln2.normalized", "B P D", "its quotient, before w and b", _norm_and_mlp,
        "blocks.{l}.ln2.hook_normalized",
    ),
    Site("blocks.mlp.in", "B P D", "what W_in reads", _mlp),
    Site(
        "blocks.mlp.pre", "B P M", "neurons with bias, before the activation; of W_gate where there is one", _mlp,
        "blocks.{l}.mlp.hook_pre",
    ),
    Site(
        "blocks.mlp.pre_linear", "B P M", "what W_in says with bias, where there is W_gate",
        lambda cfg: _mlp(cfg) and cfg.gated, "blocks.{l}.mlp.hook_pre_linear",
    ),
    Site(
        "blocks.mlp.post", "B P M", "neurons after the activation, times pre_linear where there is one", _mlp,
        "blocks.{l}.mlp.hook_post",
    ),
    Site("blocks.ln2_post.scale", "B P 1", "divisor of the norm of what the MLP says",
         lambda cfg: _sandwich(cfg) and _mlp(cfg), "blocks.{l}.ln2_post.hook_scale"),
    Site("blocks.ln2_post.normalized", "B P D", "its quotient, before w and b",
         lambda cfg: _sandwich(cfg) and _mlp(cfg), "blocks.{l}.ln2_post.hook_normalized"),
    Site(
        "blocks.mlp.out", "B P D", "what the MLP adds to the stream, with b_out, after any norm of it", _mlp,
        "blocks.{l}.hook_mlp_out",
    ),
    Site(
        "blocks.resid_post", "B P D", "the stream after the layer; with post-norms, after the norm", _always,
        "blocks.{l}.hook_resid_post",
    ),
    Site(
        "ln_final.scale", "B P 1", "the last norm's divisor", lambda cfg: _norm(cfg) and _logits(cfg),
        "ln_final.hook_scale",
    ),
    Site(
        "ln_final.normalized", "B P D", "its quotient, before w and b", lambda cfg: _norm(cfg) and _logits(cfg),
        "ln_final.hook_normalized",
    ),
    Site("unembed.in", "B P D", "what W_U reads", _logits, "unembed.hook_in"),
    Site("logits", "B P V", "logits with bias, capped", _logits),
)  # fmt: skip


def sites(cfg: TransformerConfig) -> tuple[Site, ...]:
    """The sites that a model has, in the order of the table."""
    return tuple(site for site in SITES if site.exists(cfg))


def shape(site: Site, cfg: TransformerConfig, batch: int, positions: int) -> tuple[int, ...]:
    """The shape of a recorded site, its layer axis included."""
    sizes = {
        "1": 1, "B": batch, "P": positions, "Q": positions, "K": positions, "D": cfg.d_model, "H": cfg.n_heads,
        "G": cfg.n_groups, "E": cfg.d_head, "M": cfg.d_mlp, "V": cfg.d_vocab,
    }  # fmt: skip
    layers = (cfg.n_layers,) if site.name.startswith("blocks.") else ()
    return layers + tuple(sizes[axis] for axis in site.shape.split())


def markdown() -> str:
    """The table for the docs."""
    lines = ["| site | shape | meaning | TransformerLens |", "| --- | --- | --- | --- |"]
    return "\n".join(
        lines + [f"| `{s.name}` | `{s.shape}` | {s.meaning} | {s.alias and f'`{s.alias}`'} |" for s in SITES]
    )
