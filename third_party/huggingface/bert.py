"""BERT (Devlin et al. 2019): an encoder that sees both ways, normalised after each part, with token types.

`BertModel` ends with the stream and has no logits (its pooler is left out); `BertForMaskedLM` has a head for masked words.
"""

import functools

from interp_jax.models.config import TransformerConfig
from third_party.huggingface.adapter import Adapter
from third_party.huggingface.fields import ACTIVATIONS, MOST_LAYERS, Fields
from third_party.huggingface.layouts import Entry, entry, head_biases, linear, reading_heads, same, writing_heads

PREFIX = "bert."
HEAD = "cls.predictions."


def configure(fields: Fields, head: str) -> TransformerConfig:
    """The family member that `BertModel` (head "none") or `BertForMaskedLM` ("mlm") is."""
    fields.only("is_decoder", False)
    fields.only("position_embedding_type", "absolute")
    return TransformerConfig(
        n_layers=fields.integer("num_hidden_layers", most=MOST_LAYERS),
        d_model=fields.integer("hidden_size"),
        n_heads=fields.integer("num_attention_heads"),
        d_head=fields.head_width("num_attention_heads", "hidden_size"),
        d_mlp=fields.integer("intermediate_size"),
        d_vocab=fields.integer("vocab_size"),
        d_types=fields.integer("type_vocab_size", 2),
        n_context=fields.integer("max_position_embeddings"),
        activation=fields.choice("hidden_act", ACTIVATIONS, "gelu"),
        norm_eps=fields.number("layer_norm_eps", 1e-12),
        placement="post",
        causal=False,
        positions="learned",
        embed_norm=True,
        head=head,
        tied=fields.flag("tie_word_embeddings", True),
        biases="layers",
    )


def table(cfg: TransformerConfig) -> list[Entry]:
    """Its rows; `BertModel` publishes them without the prefix."""
    prefix = PREFIX if cfg.head == "mlm" else ""
    D, M, H, E = cfg.d_model, cfg.d_mlp, cfg.n_heads, cfg.d_head
    embeddings, layer = f"{prefix}embeddings.", f"{prefix}encoder.layer.{{l}}."
    rows = [
        entry(f"{embeddings}word_embeddings.weight", same(cfg.d_vocab, D), "embed/W_E"),
        entry(f"{embeddings}position_embeddings.weight", same(cfg.n_context, D), "embed/W_pos"),
        entry(f"{embeddings}token_type_embeddings.weight", same(cfg.d_types, D), "embed/W_type"),
        *norm(f"{embeddings}LayerNorm", D, "embed/ln"),
        *norm(f"{layer}attention.output.LayerNorm", D, "blocks/ln1"),
        *norm(f"{layer}output.LayerNorm", D, "blocks/ln2"),
    ]
    for theirs, letter in (("query", "Q"), ("key", "K"), ("value", "V")):
        name = f"{layer}attention.self.{theirs}"
        rows.append(entry(f"{name}.weight", reading_heads(H, E, D), f"blocks/attn/W_{letter}"))
        rows.append(entry(f"{name}.bias", head_biases(H, E), f"blocks/attn/b_{letter}"))
    rows += [
        entry(f"{layer}attention.output.dense.weight", writing_heads(H, E, D), "blocks/attn/W_O"),
        entry(f"{layer}attention.output.dense.bias", same(D), "blocks/attn/b_O"),
        entry(f"{layer}intermediate.dense.weight", linear(D, M), "blocks/mlp/W_in"),
        entry(f"{layer}intermediate.dense.bias", same(M), "blocks/mlp/b_in"),
        entry(f"{layer}output.dense.weight", linear(M, D), "blocks/mlp/W_out"),
        entry(f"{layer}output.dense.bias", same(D), "blocks/mlp/b_out"),
    ]
    return rows + head_table(cfg) if cfg.head == "mlm" else rows


def norm(name: str, d_model: int, path: str) -> list[Entry]:
    """The two rows of a layer norm."""
    return [entry(f"{name}.weight", same(d_model), f"{path}/w"), entry(f"{name}.bias", same(d_model), f"{path}/b")]


def head_table(cfg: TransformerConfig) -> list[Entry]:
    """The head for masked words. Tied, its bias goes by the name of the head's; untied, by that of the decoder's."""
    D, V = cfg.d_model, cfg.d_vocab
    rows = [
        entry(f"{HEAD}transform.dense.weight", linear(D, D), "unembed/W_head"),
        entry(f"{HEAD}transform.dense.bias", same(D), "unembed/b_head"),
        *norm(f"{HEAD}transform.LayerNorm", D, "ln_final"),
    ]
    if cfg.tied:
        return [*rows, entry(f"{HEAD}bias", same(V), "unembed/b_U")]
    decoder = f"{HEAD}decoder."
    return [
        *rows,
        entry(f"{decoder}weight", linear(D, V), "unembed/W_U"),
        entry(f"{decoder}bias", same(V), "unembed/b_U"),
    ]


def adapter(architecture: str, head: str) -> Adapter:
    """One of the two."""
    return Adapter(
        architecture,
        functools.partial(configure, head=head),
        table,
        PREFIX,
        buffers=(r"embeddings\.position_ids$",),
        ties={
            f"{HEAD}decoder.weight": f"{PREFIX}embeddings.word_embeddings.weight",
            f"{HEAD}decoder.bias": f"{HEAD}bias",
        },
        # untied, the head's own bias is kept by the reference and not added
        unused=(
            r"^(bert\.)?pooler\.",
            r"^cls\." if head == "none" else r"^cls\.(seq_relationship\.|predictions\.bias$)",
        ),
    )


ENCODER = adapter("BertModel", "none")
MASKED = adapter("BertForMaskedLM", "mlm")
