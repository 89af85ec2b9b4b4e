"""Made-up features of a dictionary of any size: every number is drawn, every text is made to be hard to show."""

import numpy as np

from interp_jax.results.feature_page import Concepts, Features, Named, Snippets

WORDS = (
    "self", "return", "def ", "import", "\n    ", "\n        ", "(", ")", "()", ":\n", "==", '"""', "'", "x", "_name",
    " in", "for ", "<b>&amp;</b>", "</script>", "\t", " ", "é", "\ufffd", "0", "None", ", ", ".", "raise ", "[", "]",
)  # fmt: skip

CONCEPTS = ("in comment", "next class name", "<b>bold</b>", "not in string", "bracket depth 2+")


def features(n, seed=0, vocabulary=512, strongest=12, quantiles=8, length=37):
    """Of n features; one in twenty never fires."""
    rng = np.random.default_rng(seed)
    names = [*WORDS, *(f"{a}{b}" for a in "abcdefghijklmnopqrstuvwxyz" for b in "aeiou xyzklmnrst")][:vocabulary]
    alive = rng.random(n) > 0.05
    density = np.where(alive, 10 ** rng.uniform(-5, -0.5, n), 0)
    size = rng.uniform(0.5, 20, n)
    edges = np.geomspace(0.01, 100, 41).astype(np.float32)
    centre = np.clip(np.log(size[:, None] / np.sqrt(edges[:-1] * edges[1:])), -9, 9)
    histogram = np.where(alive[:, None], rng.poisson(1e6 * density[:, None] * np.exp(-(centre**2)) / 10), 0)

    def snippets(count):
        tokens = rng.integers(0, len(names), (n, count, length), dtype=np.int32)
        tokens[:, 0, :5] = -1
        tokens[:, :, 24] = rng.integers(0, len(names), (n, 1))
        values = np.where(rng.random(tokens.shape) < 0.1, rng.random(tokens.shape), 0) * size[:, None, None]
        values[:, :, 24] = size[:, None] * np.linspace(1, 0.5, count)
        there = np.broadcast_to(alive[:, None], (n, count)) & (rng.random((n, count)) > 0.02)
        return Snippets(tokens, np.where(there[..., None], values, 0).astype(np.float32), there, 24)

    def tokens(largest):
        values = -np.sort(-np.abs(rng.normal(size=(n, 8))), axis=1) * largest
        return Named(rng.integers(0, len(names), (n, 8), dtype=np.int32), values.astype(np.float32))

    kl = np.where(alive, 10 ** rng.normal(-1, 0.7, n), np.nan)
    columns = {"density": density, "max": np.where(alive, size, np.nan), "clamped KL": kl,
               "random KL": kl / rng.uniform(0.5, 30, n)}  # fmt: skip
    score = np.where(alive[:, None], np.sort(rng.uniform(0.4, 1, (n, 3)))[:, ::-1], np.nan)
    concept = np.where(alive[:, None], rng.integers(0, len(CONCEPTS), (n, 3)), -1)
    columns["probe score"] = score[:, 0]
    return Features(
        names,
        {title: values.astype(np.float32) for title, values in columns.items()},
        {"dead": ~alive, "dense": density > 0.1, "split": rng.random(n) < 0.1},
        edges,
        histogram,
        snippets(strongest),
        snippets(quantiles),
        np.sort(rng.random((n, quantiles + 1)), 1) * size[:, None],
        {
            "makes likely": tokens(1),
            "makes unlikely": tokens(-1),
            "clamped, rises": tokens(0.1),
            "clamped, falls": tokens(-0.1),
        },
        Named(rng.integers(0, n, (n, 5), dtype=np.int32), np.sort(rng.random((n, 5)))[:, ::-1].astype(np.float32)),
        rng.random((n, 5)),
        Concepts(CONCEPTS, Named(concept.astype(np.int32), score.astype(np.float32))),
    )
