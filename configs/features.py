r"""Every feature of a dictionary, to be searched: where it fires, what it makes likely, what it does when it is clamped.

./launch/local --config configs/grow.py:mlp
./launch/local --config configs/dictionaries.py --config.model.path=runs/grow-mlp
./launch/local --config configs/features.py --config.dictionary.path=runs/dictionaries \
    --config.dictionary.member="batch_topk k=16"
    … --config.neuronpedia=true        writes the files that Neuronpedia reads, too
    … --config.dictionary.piece=1      of a crosscoder, in the second place or model that it reads

Expect: features for brackets, indentation, `self.`, quotes, parts of words; clamped, most change what comes next by more than a
random direction of their length does.
"""

from typing import Any

import ml_collections

from interp_jax.experiments.config import compose, variant

TINY: dict[str, Any] = {
    "text.windows": 16, "text.at_once": 4, "shown.strongest": 3, "shown.drawn": 4, "shown.quantiles": 2, "shown.before": 4,
    "shown.after": 3, "shown.tokens": 3, "shown.neighbours": 2, "clamp.windows": 2, "clamp.length": 8, "clamp.controls": 1,
}  # fmt: skip
VARIANTS = {"": {}, "tiny": TINY}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    return compose("interp_jax.experiments.features", **variant(arg, VARIANTS))
