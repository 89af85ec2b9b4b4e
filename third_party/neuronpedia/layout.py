"""The layout of a batch file: its fields and their types."""

from collections.abc import Mapping
from typing import Any

from interp_jax.errors import InputError, nearest

NUMBERS, WHOLE, TEXTS = ("numbers", "whole numbers", "texts")
BATCH = {"model_id": str, "layer": int, "sae_set": str, "sae_id_suffix": (str, type(None)), "features": list}
FEATURE = {
    "feature_index": int,
    "neuron_alignment_indices": WHOLE,
    "neuron_alignment_values": NUMBERS,
    "neuron_alignment_l1": NUMBERS,
    "correlated_neurons_indices": WHOLE,
    "correlated_neurons_l1": NUMBERS,
    "correlated_neurons_pearson": NUMBERS,
    "correlated_features_indices": WHOLE,
    "correlated_features_l1": NUMBERS,
    "correlated_features_pearson": NUMBERS,
    "neg_str": TEXTS,
    "neg_values": NUMBERS,
    "pos_str": TEXTS,
    "pos_values": NUMBERS,
    "frac_nonzero": float,
    "freq_hist_data_bar_values": NUMBERS,
    "freq_hist_data_bar_heights": NUMBERS,
    "logits_hist_data_bar_heights": NUMBERS,
    "logits_hist_data_bar_values": NUMBERS,
    "n_prompts_total": int,
    "n_tokens_in_prompt": int,
    "dataset": str,
    "activations": list,
    "decoder_weights_dist": NUMBERS,
    "vector": NUMBERS,
}
ACTIVATION = {
    "bin_min": float,
    "bin_max": float,
    "bin_contains": float,
    "tokens": TEXTS,
    "values": NUMBERS,
    "qualifying_token_index": int,
}
ELEMENTS = {NUMBERS: float, WHOLE: int, TEXTS: str}
TOGETHER = (("pos_str", "pos_values"), ("neg_str", "neg_values"), ("freq_hist_data_bar_values", "freq_hist_data_bar_heights"),
            ("logits_hist_data_bar_values", "logits_hist_data_bar_heights"))  # fmt: skip


def check(batch: Mapping[str, Any], where: str = "batch") -> None:
    """Raise `InputError` for a field that is missing, not known, or of another type or length than its neighbour."""
    check_fields(batch, BATCH, where)
    for feature in batch["features"]:
        here = f"{where}: feature {feature.get('feature_index')}"
        check_fields(feature, FEATURE, here)
        for a, b in TOGETHER:
            if len(feature[a]) != len(feature[b]):
                raise InputError(f"{here}: {a} has {len(feature[a])} entries, {b} {len(feature[b])}")
        for activation in feature["activations"]:
            check_fields(activation, ACTIVATION, f"{here}: activation")
            n, at = len(activation["tokens"]), activation["qualifying_token_index"]
            if len(activation["values"]) != n or not 0 <= at < n:
                raise InputError(
                    f"{here}: an activation has {n} tokens, {len(activation['values'])} values, and token {at}"
                )


def check_fields(found: Mapping[str, Any], known: Mapping[str, Any], where: str) -> None:
    """Raise `InputError` where the fields of one object are not those."""
    for name, wanted in known.items():
        if name not in found:
            raise InputError(f"{where}: no field {name!r}; {nearest(name, found)}")
        value = found[name]
        if isinstance(wanted, str):
            if not isinstance(value, list) or not all(type(x) is ELEMENTS[wanted] for x in value):
                raise InputError(f"{where}: {name} must be a list of {wanted}")
        elif not isinstance(value, wanted) or isinstance(value, bool):
            raise InputError(f"{where}: {name} = {value!r} is of another type")
    if unknown := [name for name in found if name not in known]:
        raise InputError(f"{where}: field {unknown[0]!r} is not one of the layout's; {nearest(unknown[0], known)}")
