"""The configuration of the transformer family, and what its layers do not have in common, as data.

Models differ by these fields and by nothing else. Layers of one model differ by the numbers in `LayerData`, which are scanned
with their weights: how far back a layer sees, how fast its rotary pairs turn, and whether it sees positions at all.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer

from interp_jax.errors import InputError, nearest
from interp_jax.models.norms import NORMS, Norm
from interp_jax.parts import part

POSITIONS = ("learned", "shortformer", "rotary", "relative", "none")
PLACEMENTS = ("pre", "post", "sandwich")
BIASES = ("all", "layers", "qkv", "none")
HEADS = ("linear", "mlm", "none")
DTYPES = ("", "float32", "float64")
ACTIVATIONS = {
    "gelu": jax.nn.gelu,  # in its tanh form
    "gelu_erf": lambda x: jax.nn.gelu(x, approximate=False),
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
}
Ids = Integer[Array | np.ndarray, "B P"]
Places = Integer[Array | np.ndarray, "#B P"]  # positions; -1 marks padding
EVERYWHERE = np.iinfo(np.int32).max  # a window that no context fills


@part
class TransformerConfig:
    """A member of the family; all fields are static.

    Attributes:
      n_kv_heads: key/value heads G, a divisor of `n_heads`; 0 means as many as heads.
      d_mlp: width of the MLPs; 0 makes the model attention-only.
      d_types: token types, of which each has a vector that is added to the embedding; 0 for none.
      n_context: most positions.
      activation: of the MLPs and of an "mlm" head.
      gated: MLPs are W_out (act(W_gate x) · (W_in x)).
      norm: "layer", "rms" or "none"; `norm_eps` is added to the mean square, `norm_offset` to the weight (Gemma's 1 + w).
      norm_dtype, softmax_dtype: norms and softmax compute at least in this dtype; "" in that of the stream.
      norm_cast_first: rounds to the stream's dtype before the weight (Llama) and not after it (Gemma, layer norm).
      placement: norms before attention and MLP ("pre"), after their sum with the stream ("post": BERT), or before them and
        on their outputs ("sandwich": Gemma 2).
      parallel: attention and MLP both read the stream before the layer (GPT-NeoX).
      qk_norm: queries and keys are RMS-normalised per head, with a weight [E] (Qwen 3, Gemma 3).
      causal: a position sees none after it.
      attention_scale: factor on q·k; 0 means 1/sqrt(d_head).
      attention_cap, logit_cap: c tanh(· / c) on scores and logits; 0 for none (Gemma 2).
      window: a local layer sees this many positions, its own included; 0 means all.
      local_layers: which layers are local; () means all of them.
      positions: see `transformer.py`.
      position_layers: the first so many layers see positions, those above them only content (0: all layers see them).
      rotary_base, rotary_dims: pair i turns by position · base^(-2i/R), over the first R dimensions of a head (0: all).
      rotary_factors: factor on each pair's frequency [R/2]; () means 1. Published "rope scalings" are of this form.
      rotary_gain: factor on the turned dimensions of q and k.
      local_rotary_base: the base of local layers, without `rotary_factors`; 0 means as the others (Gemma 3).
      embed_scale: factor on the rows of W_E.
      embed_norm: the sum of the embeddings is normalised (BERT).
      head: "linear": ln_final, then W_U; "mlm": act(x W_head + b_head) before those; "none": no logits.
      tied: W_U is W_E transposed.
      biases: "all", "layers" (all but b_U), "qkv" or "none"; an "mlm" head has b_head and b_U in any case.
      query_key_gain: factor on the initial W_Q and W_K; above 1, attention starts less uniform.
    """

    n_layers: int = 2
    d_model: int = 128
    n_heads: int = 8
    n_kv_heads: int = 0
    d_head: int = 16
    d_mlp: int = 0
    d_vocab: int = 512
    d_types: int = 0
    n_context: int = 256
    activation: str = "gelu"
    gated: bool = False
    norm: str = "layer"
    norm_eps: float = 1e-5
    norm_offset: float = 0.0
    norm_dtype: str = "float32"
    norm_cast_first: bool = False
    softmax_dtype: str = "float32"
    placement: str = "pre"
    parallel: bool = False
    qk_norm: bool = False
    causal: bool = True
    attention_scale: float = 0.0
    attention_cap: float = 0.0
    logit_cap: float = 0.0
    window: int = 0
    local_layers: tuple[bool, ...] = ()
    positions: str = "shortformer"
    position_layers: int = 0
    rotary_base: float = 10_000.0
    rotary_dims: int = 0
    rotary_factors: tuple[float, ...] = ()
    rotary_gain: float = 1.0
    local_rotary_base: float = 0.0
    embed_scale: float = 1.0
    embed_norm: bool = False
    head: str = "linear"
    tied: bool = False
    biases: str = "all"
    query_key_gain: float = 1.0

    def check(self) -> None:
        """Raise `InputError` for impossible values."""
        for name in ("n_layers", "d_model", "n_heads", "d_head", "d_vocab", "n_context"):
            if getattr(self, name) < 1:
                raise InputError(f"model.{name} = {getattr(self, name)}: must be at least 1")
        for name in ("n_kv_heads", "d_mlp", "d_types", "position_layers", "window", "attention_cap", "logit_cap"):
            if getattr(self, name) < 0:
                raise InputError(f"model.{name} = {getattr(self, name)}: must be at least 0")
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise InputError(f"model.{name} = {getattr(self, name)!r}: {nearest(getattr(self, name), known)}")
        if self.n_heads % self.n_groups:
            raise InputError(f"model.n_kv_heads = {self.n_kv_heads}: must divide model.n_heads = {self.n_heads}")
        if self.parallel and self.placement != "pre":
            raise InputError(f"model.parallel: needs model.placement = 'pre', not {self.placement!r}")
        if self.local_layers and len(self.local_layers) != self.n_layers:
            raise InputError(f"model.local_layers: {len(self.local_layers)} entries for {self.n_layers} layers")
        if self.positions == "rotary":
            self._check_rotary()

    def _check_rotary(self) -> None:
        turned = self.n_turned
        if turned % 2 or not 2 <= turned <= self.d_head:
            name, value = ("rotary_dims", self.rotary_dims) if self.rotary_dims else ("d_head", self.d_head)
            raise InputError(
                f"model.{name} = {value}: rotary positions turn pairs, so it must be even, at most d_head"
            )
        if self.rotary_factors and len(self.rotary_factors) != turned // 2:
            raise InputError(f"model.rotary_factors: {len(self.rotary_factors)} entries for {turned // 2} pairs")

    @property
    def n_groups(self) -> int:
        """Key/value heads G."""
        return self.n_kv_heads or self.n_heads

    @property
    def n_turned(self) -> int:
        """Dimensions R of a head that rotary positions turn."""
        return self.rotary_dims or self.d_head

    @property
    def norm_rule(self) -> Norm:
        """The norm of the stream."""
        return Norm(self.norm, self.norm_eps, self.norm_offset, self.norm_dtype, self.norm_cast_first)


CHOICES: dict[str, tuple[str, ...]] = {
    "norm": NORMS,
    "positions": POSITIONS,
    "activation": tuple(ACTIVATIONS),
    "placement": PLACEMENTS,
    "biases": BIASES,
    "head": HEADS,
    "norm_dtype": DTYPES,
    "softmax_dtype": DTYPES,
}


class LayerData(NamedTuple):
    """What tells layers apart, but for their weights.

    Attributes:
      sees_positions: 1, or 0 in a layer for which all positions are alike but for the causal mask.
      window: how many positions a query sees, its own included.
      frequency: angle per position of each rotary pair; [L 0] where positions are not rotary.
    """

    sees_positions: Float[Array, " L"]
    window: Int[Array, " L"]
    frequency: Float[Array, "L N"]


def layer_data(cfg: TransformerConfig, dtype: Any) -> LayerData:
    """The data of all layers; floats in `dtype`, frequencies at least in float32."""
    sees = np.arange(cfg.n_layers) < (cfg.position_layers or cfg.n_layers)
    local = np.array(cfg.local_layers or (True,) * cfg.n_layers) & bool(cfg.window)
    return LayerData(
        jnp.asarray(sees, dtype),
        jnp.asarray(np.where(local, cfg.window, EVERYWHERE), jnp.int32),
        jnp.asarray(_frequencies(cfg, local), jnp.promote_types(dtype, jnp.float32)),
    )


def _frequencies(cfg: TransformerConfig, local: np.ndarray) -> np.ndarray:
    """base^(-2i/R) and its published scalings, in float64; [L R/2]."""
    if cfg.positions != "rotary":
        return np.zeros((cfg.n_layers, 0))
    exponent = -np.arange(cfg.n_turned // 2) / (cfg.n_turned // 2)
    usual = cfg.rotary_base**exponent * np.array(cfg.rotary_factors or 1.0)
    near = cfg.local_rotary_base**exponent if cfg.local_rotary_base else usual
    return np.where(local[:, None], near, usual)
