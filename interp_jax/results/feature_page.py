"""The features of a dictionary as a part of a report that is searched and sorted: what they are, and the files beside the page.

    features/<name>/index.js     what the table shows of all features, and the texts of tokens
    features/<name>/<k>.js       all there is of features 256 k … 256 k + 255, read when one of them is looked at

A page opened from a disk may not read JSON files, but scripts: so each file is a call that hands its data over,
`features.receive("<name>", "<k>", {...})`. Arrays in it are base64 of little-endian numbers with their type and shape;
activations around examples are whole numbers of 16 bits, in units of 1/32,767 of the largest of their feature. Tokens are
numbered anew, in the order in which they are first met, so that only those that occur have a text.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from interp_jax.results.blocks import Insert

FEATURES_PER_FILE = 256
FULL = 32_767  # the largest activation of a feature
TYPES = {"f4": np.float32, "i2": np.int16, "i4": np.int32, "u1": np.uint8}
NO_TOKEN = -1
IN_TABLE = 3  # tokens that the table shows of a feature


class Snippets(NamedTuple):
    """Examples of every feature, S tokens each, the example's own at `place`.

    Attributes:
      tokens: ids; -1 beyond the text.
      values: activation of each.
      there: which examples there are.
      place: index among the S.
    """

    tokens: Int[np.ndarray, "F E S"]
    values: Float[np.ndarray, "F E S"]
    there: Bool[np.ndarray, "F E"]
    place: int


class Named(NamedTuple):
    """Tokens, or features, of every feature with a number each; -1 is none."""

    ids: Int[np.ndarray, "F T"]
    values: Float[np.ndarray, "F T"]


class Concepts(NamedTuple):
    """What features tell: concepts by name, and of every feature the best ones with their scores, best first; -1 is none."""

    names: Sequence[str]
    best: Named


class Features(NamedTuple):
    """All that is shown of the features of one dictionary.

    Attributes:
      names: the text of each token of the vocabulary.
      columns: numbers that the table shows and sorts by, one for each feature, by title; NaN is nothing.
      flags: what features are called, by word.
      edges, histogram: tokens by size of the activation.
      strongest: examples, the strongest first.
      quantiles: examples from the weakest to the strongest.
      bounds: sizes between which each of these stands for an equal share.
      tokens: lists of tokens with a number each, by title; two with the same beginning stand side by side.
      neighbours: nearest features with the cosine, the first lists; `overlap` is theirs.
      concepts: what they tell, where that was asked.
    """

    names: Sequence[str]
    columns: Mapping[str, Float[np.ndarray, " F"]]
    flags: Mapping[str, Bool[np.ndarray, " F"]]
    edges: Float[np.ndarray, " K+1"]
    histogram: Int[np.ndarray, "F K"]
    strongest: Snippets
    quantiles: Snippets
    bounds: Float[np.ndarray, "F Q+1"]
    tokens: Mapping[str, Named]
    neighbours: Named
    overlap: Float[np.ndarray, "F N"]
    concepts: Concepts | None = None


def explorer(name: str, features: Features, caption: str) -> tuple[Insert, dict[str, str]]:
    """The block of a report, and the files that it reads.

    Args:
      name: of the dictionary's directory: letters, digits, "-" and "_".
      features: what is shown.
      caption: below it.
    """
    order = occurring(features)
    number = np.full(len(features.names) + 1, NO_TOKEN, np.int32)  # the last, of no token, is none
    number[order] = np.arange(len(order))
    index = {
        "names": [features.names[i] for i in order],
        "perFile": FEATURES_PER_FILE,
        "full": FULL,
        "place": [features.strongest.place, features.quantiles.place],
        "columns": {title: packed(values, "f4") for title, values in features.columns.items()},
        "flags": {word: packed(values, "u1") for word, values in features.flags.items()},
        "edges": packed(features.edges, "f4"),
        "firesOn": packed(number[fires_on(features.strongest)], "i4"),
        "lists": {title: packed(number[of.ids[:, :IN_TABLE]], "i4") for title, of in features.tokens.items()},
    }
    if features.concepts is not None:
        best = {"ids": packed(features.concepts.best.ids[:, 0], "i4")}
        best["values"] = packed(features.concepts.best.values[:, 0], "f4")
        index["concepts"] = {"names": list(features.concepts.names), **best}
    files = {f"features/{name}/index.js": handed(name, "index", index)}
    for k in range(-(-len(features.histogram) // FEATURES_PER_FILE)):
        files[f"features/{name}/{k}.js"] = handed(name, str(k), portion(features, k, number))
    return Insert("features", name, caption), files


def portion(features: Features, k: int, number: Int[np.ndarray, " V"]) -> dict[str, Any]:
    """All there is of one file's features."""
    part = slice(k * FEATURES_PER_FILE, (k + 1) * FEATURES_PER_FILE)
    full = np.stack([np.abs(x.values[part]).max((1, 2), initial=0) for x in (features.strongest, features.quantiles)])
    full = full.max(0)
    found = {"full": packed(full, "f4"), "histogram": packed(features.histogram[part], "i4")}
    found["bounds"] = packed(features.bounds[part], "f4")
    for name in ("strongest", "quantiles"):
        snippets = getattr(features, name)
        share = snippets.values[part] / np.where(full > 0, full, 1)[:, None, None]
        found[name] = {
            "tokens": packed(number[snippets.tokens[part]], "i4" if len(number) > FULL else "i2"),
            "values": packed(np.round(share * FULL), "i2"),
            "there": packed(snippets.there[part], "u1"),
        }
    found["tokens"] = {
        title: {"ids": packed(number[of.ids[part]], "i4"), "values": packed(of.values[part], "f4")}
        for title, of in features.tokens.items()
    }
    near = features.neighbours
    found["neighbours"] = {
        "ids": packed(near.ids[part], "i4"),
        "values": packed(near.values[part], "f4"),
        "overlap": packed(features.overlap[part], "f4"),
    }
    if features.concepts is not None:
        best = features.concepts.best
        found["concepts"] = {"ids": packed(best.ids[part], "i4"), "values": packed(best.values[part], "f4")}
    return found


def fires_on(strongest: Snippets) -> Int[np.ndarray, "F T"]:
    """The different tokens that the strongest examples stand on, the most frequent first, then the one met first."""
    own = np.where(strongest.there, strongest.tokens[:, :, strongest.place], NO_TOKEN)
    found = np.full((len(own), IN_TABLE), NO_TOKEN, np.int32)
    for row, ids in zip(found, own, strict=True):
        ids = ids[ids != NO_TOKEN]
        different, first, count = np.unique(ids, return_index=True, return_counts=True)
        best = different[np.lexsort((first, -count))][:IN_TABLE]
        row[: len(best)] = best
    return found


def occurring(features: Features) -> Int[np.ndarray, " N"]:
    """The tokens that are shown anywhere."""
    shown = [features.strongest.tokens, features.quantiles.tokens, *(of.ids for of in features.tokens.values())]
    ids = np.unique(np.concatenate([np.unique(x) for x in shown]))
    return ids[ids != NO_TOKEN]


def packed(values: Shaped[np.ndarray, "..."], kind: str) -> dict[str, Any]:
    """An array as it is written; see `unpacked`."""
    array = np.ascontiguousarray(values, np.dtype(TYPES[kind]).newbyteorder("<"))
    return {"type": kind, "shape": list(array.shape), "data": base64.b64encode(array.tobytes()).decode()}


def unpacked(written: Mapping[str, Any]) -> Shaped[np.ndarray, "..."]:
    """The array."""
    raw = np.frombuffer(base64.b64decode(written["data"]), np.dtype(TYPES[written["type"]]).newbyteorder("<"))
    return raw.reshape(written["shape"])


def handed(name: str, file: str, content: Mapping[str, Any]) -> str:
    """A script that hands data to the page; ASCII, so that no encoding can spoil it."""
    return f"features.receive({json.dumps(name)}, {json.dumps(file)}, {json.dumps(content, separators=(',', ':'))});\n"


def received(script: str) -> Any:
    """What a file that `handed` made holds."""
    return json.loads(f"[{script[script.index('(') + 1 : script.rindex(')')]}]")[2]
