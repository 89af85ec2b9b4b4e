"""What becomes of features on their way into batch files.

Numbers have three decimals there, densities six. Features that never fired are left out, as SAEDashboard leaves them out.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from interp_jax.results.feature_page import Features, Named, Snippets

FEATURES_PER_FILE = 128
STRONGEST = -1.0  # as lower end, and as share, of the group of the strongest examples
EMPTY = (
    "neuron_alignment_indices", "neuron_alignment_values", "neuron_alignment_l1", "correlated_neurons_indices",
    "correlated_neurons_l1", "correlated_neurons_pearson", "correlated_features_pearson", "decoder_weights_dist", "vector",
)  # fmt: skip
LISTS = {"pos": "makes likely", "neg": "makes unlikely"}


class Source(NamedTuple):
    """What the features are of: model, layer, name of the dictionary, and the text."""

    model: str
    layer: int
    dictionary: str
    text: str


def batches(
    features: Features,
    source: Source,
    logits: tuple[Float[np.ndarray, "F K"], Shaped[np.ndarray, "F K"]] | None,
    text: tuple[int, int],
) -> dict[str, dict[str, Any]]:
    """Content of the batch files, by name.

    Args:
      features: as they are shown.
      source: of them.
      logits: centres and heights of the bins of each feature's direct logits, if it has any.
      text: windows that were read, and tokens of an example.
    """
    alive = np.flatnonzero(features.columns["density"] > 0)
    found = {}
    for k in range(0, len(alive), FEATURES_PER_FILE):
        some = [feature(features, int(i), logits, source, text) for i in alive[k : k + FEATURES_PER_FILE]]
        found[f"batch-{k // FEATURES_PER_FILE}.json"] = {
            "model_id": source.model,
            "layer": source.layer,
            "sae_set": source.dictionary,
            "sae_id_suffix": None,
            "features": some,
        }
    return found


def feature(features: Features, i: int, logits: Any, source: Source, text: tuple[int, int]) -> dict[str, Any]:
    """One feature."""
    said = {f"{sign}_{field}": value for sign, title in LISTS.items() for field, value in named(features, title, i)}
    used = np.flatnonzero(features.histogram[i])
    centres = np.sqrt(features.edges[:-1] * features.edges[1:])
    near = features.neighbours
    there = near.ids[i] >= 0
    return {
        "feature_index": i,
        **{name: [] for name in EMPTY},
        "correlated_features_indices": near.ids[i][there].tolist(),
        "correlated_features_l1": rounded(near.values[i][there]),
        **said,
        "frac_nonzero": round(float(features.columns["density"][i]), 6),
        "freq_hist_data_bar_values": rounded(centres[used[0] : used[-1] + 1]),
        "freq_hist_data_bar_heights": rounded(features.histogram[i, used[0] : used[-1] + 1]),
        "logits_hist_data_bar_heights": [] if logits is None else rounded(logits[1][i]),
        "logits_hist_data_bar_values": [] if logits is None else rounded(logits[0][i]),
        "n_prompts_total": text[0],
        "n_tokens_in_prompt": text[1],
        "dataset": source.text,
        "activations": activations(features, i),
    }


def named(features: Features, title: str, i: int) -> list[tuple[str, list[Any]]]:
    """Texts and numbers of a list of tokens."""
    of: Named | None = features.tokens.get(title)
    if of is None:
        return [("str", []), ("values", [])]
    return [("str", [features.names[t] for t in of.ids[i]]), ("values", rounded(of.values[i]))]


def activations(features: Features, i: int) -> list[dict[str, Any]]:
    """Examples: the strongest as one group, and each quantile as a group of its own, the strongest first."""
    n, bounds = features.quantiles.tokens.shape[1], features.bounds[i]
    found = [
        example(features, features.strongest, i, e, (STRONGEST, float(features.columns["max"][i]), STRONGEST))
        for e in np.flatnonzero(features.strongest.there[i])
    ]
    for e in np.flatnonzero(features.quantiles.there[i])[::-1]:
        found.append(example(features, features.quantiles, i, e, (float(bounds[e]), float(bounds[e + 1]), 1 / n)))
    return found


def example(features: Features, of: Snippets, i: int, e: int, group: tuple[float, float, float]) -> dict[str, Any]:
    """One example, without what lies beyond its text."""
    inside = of.tokens[i, e] >= 0
    return {
        "bin_min": round(group[0], 3),
        "bin_max": round(group[1], 3),
        "bin_contains": round(group[2], 3),
        "tokens": [features.names[t] for t in of.tokens[i, e][inside]],
        "values": rounded(of.values[i, e][inside]),
        "qualifying_token_index": int(inside[: of.place].sum()),
    }


def rounded(values: Any) -> list[float]:
    """To three decimals."""
    return np.round(np.asarray(values, np.float64), 3).tolist()
