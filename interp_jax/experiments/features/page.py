"""The report: what kind of features a dictionary has, and a table of all of them with a view of each."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from interp_jax.dictionaries.measures.activity import log_edges
from interp_jax.dictionaries.measures.neighbours import overlap
from interp_jax.experiments.experiment import GroupResult
from interp_jax.experiments.features import source
from interp_jax.experiments.features.concepts import names as concept_names
from interp_jax.experiments.features.config import Config
from interp_jax.experiments.features.source import Found, Text
from interp_jax.experiments.features.summary import Seen, overview, place_told
from interp_jax.results.blocks import Block, Page, Section
from interp_jax.results.feature_page import Concepts, Features, Named, Snippets, explorer
from third_party import neuronpedia

SUMMARY = """Every feature of a dictionary on held-out text: where it fires, which tokens it makes likely by itself, which
features are near it, and what the model predicts when it is clamped, beside what it predicts under a random direction of the
same length."""
ABOUT = """Choose a feature by its number, by a token, or by sorting; the arrow keys go through the table. A clamped feature is
set to a multiple of its largest activation at every token of some held-out windows: the table has the divergence of the
model's next token from what it was, in nats, and the same for random directions. The shade of a token is the feature's
activation on it, in units of its largest; the outlined token is the example's own. What a feature makes likely is what its row
of the decoder adds to the logits directly, for one unit of activation; what rises and falls are probabilities, in the whole
model with the feature clamped, as means over tokens. The probe score says how well the feature alone tells the concept beside
it, a label that Python's own tokenizer gives the token: the chance that a token with the concept has the larger activation
(AUROC, .5 for a feature that knows nothing); "moved labels" is the best such score of labels moved along the text."""


def report(groups: list[GroupResult]) -> Page:
    """A section for each dictionary."""
    blocks: list[Block] = []
    files: dict[str, str] = {}
    data: dict[str, Any] = {}
    for group in groups:
        for i in range(len(group.hashes)):
            config = jax.tree.map(lambda leaf: leaf[i].item(), group.config)  # noqa: B023
            seen = {name: value[i] for name, value in group.observations[config.steps].items()}
            found = source.find(config.dictionary)
            text, name = source.text_of(found.trained), group.hashes[i][:8]
            shown = features_of(config, seen, found, text)
            insert, written = explorer(
                name, shown, "Hover over a token for its activation, over a bar for its number."
            )
            blocks += [
                Section(found.name, place_told(found, config.dictionary.piece)),
                *overview(config, seen, shown, text),
                Section("Features", ABOUT),
                insert,
            ]
            files |= written
            if config.neuronpedia:
                data |= neuronpedia_files(config, seen, shown, found, text)
    return Page("Features of a dictionary", SUMMARY, blocks, data, files)


def features_of(config: Config, seen: Seen, found: Found, text: Text) -> Features:
    """What is observed of the features in use, as it is shown."""
    own = found.trained.dictionary
    used = slice(own.width or own.n_features)
    fired, density = seen["fired"][used], seen["fired"][used] / max(int(seen["n"]), 1)
    near = Named(seen["neighbours.feature"][used], seen["neighbours.cosine"][used])
    shared = overlap(seen["neighbours.together"], seen["fired"], seen["neighbours.feature"])[used]
    there = Snippets(
        seen["strongest.tokens"], seen["strongest.around"], seen["strongest.window"] >= 0, config.shown.before
    )
    drawn = Snippets(seen["quantile.tokens"], seen["quantile.around"], seen["quantile.there"], config.shown.before)
    clamped = clamped_by_feature(seen)
    columns = {
        "density": density,
        "max": np.where(fired > 0, seen["strongest.value"][used, 0], np.nan),
        "clamped KL": clamped["kl"][used],
        "KL ratio": ratio(clamped["kl"], clamped["control"])[used],
        "random KL": clamped["control"][used],
        "largest rise": clamped["rise"][used, 0],
        "random rise": clamped["control_rise"][used],
    }
    if "lengths" in seen:
        share = seen["lengths"][used] / np.maximum(seen["lengths"][used].sum(1, keepdims=True), 1e-12)
        columns = {"density": density, "share of the piece": share[:, config.dictionary.piece]} | columns
    found = concepts_of(config, seen, used)
    if found is not None:
        columns = {"density": density, "probe score": found.best.values[:, 0]} | columns
        columns["moved labels"] = np.where(fired > 0, best_scores(config, seen, used, "control").max(0), np.nan)
    return Features(
        text.names,
        {title: np.asarray(values, np.float32) for title, values in columns.items()},
        flags(config, fired, density, near, shared),
        log_edges(config.shown.low, config.shown.high, config.shown.per_decade),
        seen["histogram"][used],
        part(there, used),
        part(drawn, used),
        seen["quantile.bounds"][used],
        {title: Named(of.ids[used], of.values[used]) for title, of in tokens_of(seen, clamped).items()},
        near,
        shared,
        found,
    )


def concepts_of(config: Config, seen: Seen, used: slice) -> Concepts | None:
    """The concepts that each feature tells best; None where the text has no labels. A feature that never fired tells none."""
    if "concepts.auroc" not in seen:
        return None
    score = best_scores(config, seen, used, "auroc")
    order = np.argsort(-score, axis=0, kind="stable")[: config.concepts.listed].T
    values = np.take_along_axis(score.T, order, 1)
    told = values > 0
    best = Named(np.where(told, order, -1).astype(np.int32), np.where(told, values, np.nan).astype(np.float32))
    return Concepts(concept_names(), best)


def best_scores(config: Config, seen: Seen, used: slice, name: str) -> Float[np.ndarray, "C F"]:
    """Scores of features that fired, of concepts with enough tokens on either side; 0 elsewhere."""
    enough = np.minimum(seen["concepts.n"], seen["concepts.without"]) >= config.concepts.least
    counts = enough[:, None] & (seen["fired"][used] > 0)
    return np.where(counts, np.nan_to_num(seen[f"concepts.{name}"][:, used]), 0.0)


def part(snippets: Snippets, used: slice) -> Snippets:
    """Those of some features."""
    return Snippets(*(x[used] for x in snippets[:3]), snippets.place)


def flags(
    config: Config, fired: Int[np.ndarray, " F"], density: Float[np.ndarray, " F"], near: Named, shared: Any
) -> dict[str, Bool[np.ndarray, " F"]]:
    """What each feature is called."""
    f = config.flags
    split = ((near.values >= f.split_cosine) & (shared >= f.split_overlap)).any(1)
    return {"dead": fired == 0, "dense": density > f.dense, "split": split & (fired > 0)}


def clamped_by_feature(seen: Seen) -> dict[str, np.ndarray]:
    """What clamping did, for every feature: NaN, or token -1, for one that was not clamped; the mean over random directions."""
    n, index = len(seen["fired"]), seen["clamped.feature"]
    index, spread = index[seen["fired"][index] > 0], {}
    rows = np.flatnonzero(seen["fired"][seen["clamped.feature"]] > 0)
    for name in ("kl", "control", "rise_ids", "rise", "fall_ids", "fall", "control_rise"):
        value = seen[f"clamped.{name}"]
        value = value.mean(1) if name == "control" else value
        spread[name] = np.full((n, *value.shape[1:]), -1 if name.endswith("_ids") else np.nan, value.dtype)
        spread[name][index] = value[rows]
    return spread


def tokens_of(seen: Seen, clamped: Mapping[str, np.ndarray]) -> dict[str, Named]:
    """Lists of tokens, by title."""
    found = {}
    if "logits.top" in seen:
        found["makes likely"] = Named(seen["logits.top_ids"], seen["logits.top"])
        found["makes unlikely"] = Named(seen["logits.bottom_ids"], seen["logits.bottom"])
    found["clamped, rises"] = Named(clamped["rise_ids"], clamped["rise"])
    found["clamped, falls"] = Named(clamped["fall_ids"], clamped["fall"])
    return found


def ratio(a: Float[np.ndarray, " F"], b: Float[np.ndarray, " F"]) -> Float[np.ndarray, " F"]:
    """A / b; NaN where b is nothing."""
    return np.divide(a, b, out=np.full(len(a), np.nan, np.float32), where=b > 0)


def neuronpedia_files(config: Config, seen: Seen, shown: Features, found: Found, text: Text) -> dict[str, Any]:
    """The files that Neuronpedia reads."""
    piece = config.dictionary.piece
    batches = neuronpedia.batches(
        shown,
        neuronpedia.Source(found.model_of(piece), found.place_of(piece)[2], found.name, text.title),
        logits_histogram(seen, len(shown.histogram)),
        (config.text.windows, seen["strongest.tokens"].shape[-1]),
    )
    return {f"neuronpedia/{name}": content for name, content in batches.items()}


def logits_histogram(seen: Seen, n: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Bins' centres and heights of each feature's direct logits."""
    if "logits.heights" not in seen:
        return None
    heights, low, high = (seen[f"logits.{name}"][:n] for name in ("heights", "low", "high"))
    centres = (np.arange(heights.shape[1]) + 0.5) / heights.shape[1]
    return low[:, None] + centres * (high - low)[:, None], heights
