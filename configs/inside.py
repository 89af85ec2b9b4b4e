"""Look inside a model on a prompt: what each layer would say, which parts make the prediction, where heads look, what they are.

./launch/local --config configs/inside.py           an induction circuit built by hand, whose truth is known: ten seconds
./launch/local --config configs/inside.py --config.model.path=~/gpt2        published weights with their tokenizer
    … --config.prompt="The Eiffel Tower is in" --config.answer=" Paris" --config.against=" Rome"        another question
./launch/local --config configs/inside.py --config.model.path=EleutherAI/pythia-70m --config.model.revision=step3000

Expect, of the circuit: the whole logit difference comes from head 1.0, which looks where its token was followed last time;
head 0.0 is a previous-token head, and composes with the keys of 1.0. By weights alone only 1.0 copies, and only 0.1 matches.
"""

from collections.abc import Iterator
from typing import Any

import ml_collections

from interp_jax.experiments.config import compose, variant


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    return compose("interp_jax.experiments.inside", **variant(arg, {"": {}}))


def sweep_default() -> Iterator[dict[str, Any]]:
    """Four draws of the random tokens on which kinds of head are told; all else is the same for each."""
    for seed in range(4):
        yield {"seed": seed}
