"""How the transformer's parameters lie over the devices of an axis, by their paths (Shoeybi et al. 2019, Megatron-LM).

Heads and the neurons of an MLP are apart, so a layer sends two sums, one for what attention adds to the stream and one for what
the MLP adds; tables lie by their rows of the vocabulary. Norms, biases of the stream and positions are everywhere.

    blocks.attn.W_Q [L H D E]  W_O [L H E D]   heads          blocks.mlp.W_in [L D M]  W_out [L M D]    neurons
    blocks.attn.W_K, W_V [L G D E]             key heads      embed.W_E [V D]  unembed.W_U [D V]        vocabulary
"""

from jax.sharding import PartitionSpec as P

from interp_jax.errors import InputError
from interp_jax.models.config import TransformerConfig


def partition_rules(axis: str) -> list[tuple[str, P]]:
    """(pattern in a parameter's path, how it lies), in order; what none is found in lies everywhere."""
    return [
        (r"\battn\.(W_[QKVO]|b_[QKV]|b_distance)$", P(None, axis)),
        (r"\bmlp\.(W_in|W_gate)$", P(None, None, axis)),
        (r"\bmlp\.(W_out|b_in|b_gate)$", P(None, axis)),
        (r"\bembed\.W_E$", P(axis)),
        (r"\bunembed\.W_U$", P(None, axis)),
        (r"\bunembed\.b_U$", P(axis)),
    ]


def check_partition(cfg: TransformerConfig, n: int) -> None:
    """Raise `InputError` where the model cannot lie over n devices."""
    lengths = {"n_heads": cfg.n_heads, "n_kv_heads": cfg.n_groups, "d_vocab": cfg.d_vocab, "d_mlp": cfg.d_mlp}
    for name, length in lengths.items():
        if length % n:
            below = length // n * n
            near = f"{below} and {below + n}" if below else f"{n} and {2 * n}"
            raise InputError(
                f"model.{name} = {length} is not divisible by the {n} devices it lies over; nearest are {near}"
            )
