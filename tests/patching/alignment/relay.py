"""The relays of `models/relay_circuit.py` that searches are tested on: two layers, and places for positions 1, 2 and 3."""

from typing import Any, NamedTuple

import numpy as np

from interp_jax.models.relay_circuit import RelayTruth, relay_circuit, relay_prompts
from interp_jax.models.transformer import TransformerConfig
from interp_jax.patching.alignment.interchange import Interchanges, from_prompts

POSITIONS = (1, 2, 3)  # which members choose among
HELD = {(0, 1): 1, (1, 2): 2}  # (layer, place) of blocks.resid_post, and the plane that holds the variable there


class Relay(NamedTuple):
    """The model and its truth."""

    params: dict[str, Any]
    cfg: TransformerConfig
    truth: RelayTruth

    @property
    def answers(self) -> np.ndarray:
        return self.truth.answers


def relay(dimensions: int, bystander: float = 0.0) -> Relay:
    return Relay(*relay_circuit(dimensions, bystander=bystander))


def pairs(n: int, dimensions: int, seed: int) -> Interchanges:
    """Random bases and sources."""
    return from_prompts(relay_prompts(dimensions, n, seed=seed), POSITIONS)
