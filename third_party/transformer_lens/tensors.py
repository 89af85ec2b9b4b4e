"""The tensors of a state dict, by name, and which parameter each of them is.

TransformerLens has one set of tensors for each kind of model: every bias, an unembedding of its own, and in all but rotary
models a table of positions. What our model lacks is zero there. The rows are to be read

    tensor = factor · (parameter + offset)

as TransformerLens has Gemma's 1 + w of norms and its embedding's scale multiplied out.
"""

from typing import Any, NamedTuple

import jax
import ml_dtypes
import numpy as np

from interp_jax.models.config import TransformerConfig
from interp_jax.models.initialisation import init

UNEMBED, EMBED = "unembed/W_U", "embed/W_E"
# 1 + w in the dtype of w would lose most of a small w, so it is written in the next wider one
WIDER = {np.dtype(ml_dtypes.bfloat16): np.float32, np.dtype(np.float16): np.float32, np.dtype(np.float32): np.float64}
BUFFERS = (r"attn\.(mask|IGNORE|rotary_sin|rotary_cos)$",)  # constants that a HookedTransformer keeps with its weights
UNUSED = (r"^(pooler|nsp_head)\.[Wb]$",)  # a HookedEncoder's other heads


class Row(NamedTuple):
    """One tensor, of each layer where the name has an `{l}`.

    Attributes:
      name: in the state dict.
      path: of the parameter; "" where there is never one.
      axes: in the letters of the glossary, and C for the context, T for the types of token.
      offset: see above.
      factor: see above.
      folded: whether it is missing where TransformerLens folded the norms into what reads from them.
    """

    name: str
    path: str
    axes: str
    offset: float = 0.0
    factor: float = 1.0
    folded: bool = False

    def shape(self, cfg: TransformerConfig) -> tuple[int, ...]:
        """Of one layer."""
        sizes = {
            "C": cfg.n_context, "D": cfg.d_model, "E": cfg.d_head, "G": cfg.n_groups, "H": cfg.n_heads, "M": cfg.d_mlp,
            "T": 2, "V": cfg.d_vocab,
        }  # fmt: skip
        return tuple(sizes[axis] for axis in self.axes.split())

    def tensor(self, parameter: np.ndarray) -> np.ndarray:
        """The tensor of a parameter; a factor is multiplied as the model does it."""
        if self.offset:
            parameter = parameter.astype(WIDER.get(parameter.dtype, parameter.dtype)) + self.offset
        return parameter * np.asarray(self.factor, parameter.dtype) if self.factor != 1 else parameter

    def parameter(self, tensor: np.ndarray) -> np.ndarray:
        """The parameter of a tensor."""
        if self.factor != 1:
            tensor = tensor / np.asarray(self.factor, tensor.dtype)
        return tensor.astype(np.float64) - self.offset if self.offset else tensor


def tensors(cfg: TransformerConfig, grouped: bool) -> dict[str, tuple[Row, int | None]]:
    """Every name with its row and its layer (None outside of layers); `grouped` says how keys and values are named."""
    outer = _encoder(cfg) if cfg.placement == "post" else _decoder(cfg)
    rows = [*outer, *_attention(cfg, "_" if grouped else ""), *_mlp(cfg)]
    for norm in ("ln1", "ln1_post", *(("ln2", "ln2_post") if cfg.d_mlp else ())):
        if cfg.placement == "sandwich" or not norm.endswith("post"):
            rows += _norm(cfg, f"blocks.{{l}}.{norm}", f"blocks/{norm}", folded=not norm.endswith("post"))
    named: dict[str, tuple[Row, int | None]] = {}
    for row in rows:
        layers = range(cfg.n_layers) if "{l}" in row.name else [None]
        named |= {row.name.format(l=layer): (row, layer) for layer in layers}
    return named


def parameters(cfg: TransformerConfig) -> dict[str, Any]:
    """The shapes of a model's parameters, in their tree."""
    return jax.eval_shape(lambda: init(jax.random.key(0), cfg))


def paths(tree: dict[str, Any]) -> dict[str, Any]:
    """Leaves by path, "blocks/attn/W_Q"."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _decoder(cfg: TransformerConfig) -> list[Row]:
    rows = [Row("embed.W_E", EMBED, "V D", factor=cfg.embed_scale)]
    if cfg.positions != "rotary":
        rows.append(Row("pos_embed.W_pos", "embed/W_pos", "C D"))
    return rows + _norm(cfg, "ln_final", "ln_final", folded=True) + _unembed()


def _encoder(cfg: TransformerConfig) -> list[Row]:
    rows = [
        Row("embed.embed.W_E", EMBED, "V D", factor=cfg.embed_scale),
        Row("embed.pos_embed.W_pos", "embed/W_pos", "C D"),
        Row("embed.token_type_embed.W_token_type", "embed/W_type", "T D"),
        Row("mlm_head.W", "unembed/W_head", "D D"),
        Row("mlm_head.b", "unembed/b_head", "D"),
    ]
    return rows + _norm(cfg, "embed.ln", "embed/ln") + _norm(cfg, "mlm_head.ln", "ln_final") + _unembed()


def _unembed() -> list[Row]:
    return [Row("unembed.W_U", UNEMBED, "D V"), Row("unembed.b_U", "unembed/b_U", "V")]


def _norm(cfg: TransformerConfig, name: str, path: str, folded: bool = False) -> list[Row]:
    if cfg.norm == "none":
        return []
    folded = folded and cfg.placement != "post"
    weight = Row(f"{name}.w", f"{path}/w", "D", offset=cfg.norm_offset, folded=folded)
    return [weight, Row(f"{name}.b", f"{path}/b", "D", folded=folded)] if cfg.norm == "layer" else [weight]


def _attention(cfg: TransformerConfig, grouped: str) -> list[Row]:
    rows = [
        Row(f"blocks.{{l}}.attn.{name}", f"blocks/attn/{name.removeprefix('_')}", axes)
        for name, axes in (
            ("W_Q", "H D E"), (f"{grouped}W_K", "G D E"), (f"{grouped}W_V", "G D E"), ("W_O", "H E D"),
            ("b_Q", "H E"), (f"{grouped}b_K", "G E"), (f"{grouped}b_V", "G E"), ("b_O", "D"),
        )
    ]  # fmt: skip
    norms = ("q_norm", "k_norm") if cfg.qk_norm else ()
    return rows + [Row(f"blocks.{{l}}.attn.{n}.w", f"blocks/attn/{n}/w", "E", offset=cfg.norm_offset) for n in norms]


def _mlp(cfg: TransformerConfig) -> list[Row]:
    """A gated MLP of TransformerLens adds b_in after the product, where no parameter of ours is, and has no b_gate."""
    if not cfg.d_mlp:
        return []
    names = ["W_in", "W_out", "b_in", "b_out", *(["W_gate"] if cfg.gated else [])]
    axes = {"W_in": "D M", "W_gate": "D M", "W_out": "M D", "b_in": "M", "b_out": "D"}
    return [
        Row(f"blocks.{{l}}.mlp.{n}", "" if cfg.gated and n == "b_in" else f"blocks/mlp/{n}", axes[n]) for n in names
    ]
