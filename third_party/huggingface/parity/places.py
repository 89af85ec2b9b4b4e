"""Which module of the reference shows which of our sites.

A place is a module's path, whether its input or its output is the site, and how a head axis is cut out of it. `{l}` stands for
the layer. Queries, keys and values behind positions, scores, pattern and the mix of values have no module: they are what the
reference's attention function gets and gives (`theirs.py`).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from interp_jax.models.config import TransformerConfig


class Place(NamedTuple):
    """Where the reference shows a site.

    Attributes:
      module: path from the model.
      side: "in" or "out".
      cut: from what is there to the site.
      norm: the site is the quotient of this norm, whose weights have to be undone.
    """

    module: str
    side: str
    cut: Callable[[Any, TransformerConfig], Any] = lambda x, cfg: x
    norm: bool = False


def heads(x: Any, cfg: TransformerConfig) -> Any:
    """[B P N·E] cut into heads."""
    return x.reshape(*x.shape[:2], -1, cfg.d_head)


def transposed(x: Any, cfg: TransformerConfig) -> Any:
    """[B N P E] as [B P N E]."""
    return x.transpose(1, 2)


def part(n: int, cut: Callable[[Any, TransformerConfig], list[Any]]) -> Callable[[Any, TransformerConfig], Any]:
    """One of several fused."""
    return lambda x, cfg: cut(x, cfg)[n]


def thirds(x: Any, cfg: TransformerConfig) -> list[Any]:
    """Queries, keys, values, one after the other, also where there are fewer keys."""
    sizes = [cfg.n_heads * cfg.d_head, cfg.n_groups * cfg.d_head, cfg.n_groups * cfg.d_head]
    return [heads(piece, cfg) for piece in x.split(sizes, -1)]


def head_by_head(x: Any, cfg: TransformerConfig) -> list[Any]:
    """Queries, keys, values of one head, then of the next."""
    return list(x.reshape(*x.shape[:2], cfg.n_heads, 3 * cfg.d_head).chunk(3, -1))


def halves(x: Any, cfg: TransformerConfig) -> list[Any]:
    """Gate and up."""
    return list(x.chunk(2, -1))


def places(architecture: str, cfg: TransformerConfig) -> dict[str, Place]:
    """All places of an architecture."""
    if architecture.startswith("Bert"):
        return _bert(cfg)
    if architecture == "GPT2LMHeadModel":
        return _gpt2()
    if architecture == "GPTNeoXForCausalLM":
        return _gpt_neox(cfg)
    return _decoder(cfg) | (_fused() if architecture == "Phi3ForCausalLM" else _apart())


def _stream(layer: str) -> dict[str, Place]:
    return {"blocks.resid_pre": Place(layer, "in"), "blocks.resid_post": Place(layer, "out")}


def _norm(site: str, module: str) -> dict[str, Place]:
    return {f"{site}.normalized": Place(module, "out", norm=True)}


def _decoder(cfg: TransformerConfig) -> dict[str, Place]:
    layer, sandwich = "model.layers.{l}", cfg.placement == "sandwich"
    ln2 = f"{layer}.pre_feedforward_layernorm" if sandwich else f"{layer}.post_attention_layernorm"
    found = {
        "embed": Place("model.embed_tokens", "out"),
        **_stream(layer),
        **_norm("blocks.ln1", f"{layer}.input_layernorm"),
        "blocks.attn.out": Place(
            f"{layer}.post_attention_layernorm" if sandwich else f"{layer}.self_attn.o_proj", "out"
        ),
        "blocks.resid_mid": Place(ln2, "in"),
        **_norm("blocks.ln2", ln2),
        "blocks.mlp.in": Place(f"{layer}.mlp", "in"),
        "blocks.mlp.post": Place(f"{layer}.mlp.down_proj", "in"),
        "blocks.mlp.out": Place(f"{layer}.post_feedforward_layernorm" if sandwich else f"{layer}.mlp", "out"),
        **_norm("ln_final", "model.norm"),
        "unembed.in": Place("lm_head", "in"),
    }
    if sandwich:
        found |= _norm("blocks.ln1_post", f"{layer}.post_attention_layernorm")
        found |= _norm("blocks.ln2_post", f"{layer}.post_feedforward_layernorm")
    if cfg.qk_norm:
        cut = transposed if sandwich else Place("", "").cut
        found |= {f"blocks.attn.{x}_norm": Place(f"{layer}.self_attn.{x}_norm", "out", cut) for x in "qk"}
    return found


def _apart() -> dict[str, Place]:
    """A map for each of queries, keys, values, gate and up."""
    layer = "model.layers.{l}"
    return {
        **{f"blocks.attn.{x}": Place(f"{layer}.self_attn.{x}_proj", "out", heads) for x in "qkv"},
        "blocks.mlp.pre": Place(f"{layer}.mlp.gate_proj", "out"),
        "blocks.mlp.pre_linear": Place(f"{layer}.mlp.up_proj", "out"),
    }


def _fused() -> dict[str, Place]:
    """Phi-3's two maps."""
    qkv, up = "model.layers.{l}.self_attn.qkv_proj", "model.layers.{l}.mlp.gate_up_proj"
    return {
        **{f"blocks.attn.{x}": Place(qkv, "out", part(n, thirds)) for n, x in enumerate("qkv")},
        "blocks.mlp.pre": Place(up, "out", part(0, halves)),
        "blocks.mlp.pre_linear": Place(up, "out", part(1, halves)),
    }


def _gpt2() -> dict[str, Place]:
    layer = "transformer.h.{l}"
    return {
        "embed": Place("transformer.wte", "out"),
        "pos_embed": Place("transformer.wpe", "out"),
        **_stream(layer),
        **_norm("blocks.ln1", f"{layer}.ln_1"),
        **{f"blocks.attn.{x}": Place(f"{layer}.attn.c_attn", "out", part(n, thirds)) for n, x in enumerate("qkv")},
        "blocks.attn.out": Place(f"{layer}.attn.c_proj", "out"),
        "blocks.resid_mid": Place(f"{layer}.ln_2", "in"),
        **_norm("blocks.ln2", f"{layer}.ln_2"),
        "blocks.mlp.in": Place(f"{layer}.mlp.c_fc", "in"),
        "blocks.mlp.pre": Place(f"{layer}.mlp.c_fc", "out"),
        "blocks.mlp.post": Place(f"{layer}.mlp.c_proj", "in"),
        "blocks.mlp.out": Place(f"{layer}.mlp", "out"),
        **_norm("ln_final", "transformer.ln_f"),
        "unembed.in": Place("lm_head", "in"),
    }


def _gpt_neox(cfg: TransformerConfig) -> dict[str, Place]:
    layer = "gpt_neox.layers.{l}"
    qkv = f"{layer}.attention.query_key_value"
    found = {
        "embed": Place("gpt_neox.embed_in", "out"),
        **_stream(layer),
        **_norm("blocks.ln1", f"{layer}.input_layernorm"),
        **{f"blocks.attn.{x}": Place(qkv, "out", part(n, head_by_head)) for n, x in enumerate("qkv")},
        "blocks.attn.out": Place(f"{layer}.attention.dense", "out"),
        **_norm("blocks.ln2", f"{layer}.post_attention_layernorm"),
        "blocks.mlp.in": Place(f"{layer}.mlp.dense_h_to_4h", "in"),
        "blocks.mlp.pre": Place(f"{layer}.mlp.dense_h_to_4h", "out"),
        "blocks.mlp.post": Place(f"{layer}.mlp.dense_4h_to_h", "in"),
        "blocks.mlp.out": Place(f"{layer}.mlp", "out"),
        **_norm("ln_final", "gpt_neox.final_layer_norm"),
        "unembed.in": Place("lm_head", "in"),
    }
    if not cfg.parallel:
        found["blocks.resid_mid"] = Place(f"{layer}.post_attention_layernorm", "in")
    return found


def _bert(cfg: TransformerConfig) -> dict[str, Place]:
    prefix = "bert." if cfg.head == "mlm" else ""
    layer, embeddings = f"{prefix}encoder.layer.{{l}}", f"{prefix}embeddings"
    found = {
        "embed": Place(f"{embeddings}.word_embeddings", "out"),
        "type_embed": Place(f"{embeddings}.token_type_embeddings", "out"),
        "pos_embed": Place(f"{embeddings}.position_embeddings", "out"),
        **_norm("ln_embed", f"{embeddings}.LayerNorm"),
        **_stream(layer),
        **{
            f"blocks.attn.{name[0]}": Place(f"{layer}.attention.self.{name}", "out", heads)
            for name in ("query", "key", "value")
        },
        "blocks.attn.out": Place(f"{layer}.attention.output.dense", "out"),
        **_norm("blocks.ln1", f"{layer}.attention.output.LayerNorm"),
        "blocks.resid_mid": Place(f"{layer}.attention.output.LayerNorm", "out"),
        "blocks.mlp.in": Place(f"{layer}.intermediate.dense", "in"),
        "blocks.mlp.pre": Place(f"{layer}.intermediate.dense", "out"),
        "blocks.mlp.post": Place(f"{layer}.output.dense", "in"),
        "blocks.mlp.out": Place(f"{layer}.output.dense", "out"),
        **_norm("blocks.ln2", f"{layer}.output.LayerNorm"),
    }
    if cfg.head == "mlm":
        found |= _norm("ln_final", "cls.predictions.transform.LayerNorm")
        found["unembed.in"] = Place("cls.predictions.decoder", "in")
    return found
