"""A node whose gradient vanishes where it matters, built by hand: its two paths cancel to first order and to no other.

    cue  END        the cue is one of the ON tokens (clean, x = 1, answer YES) or of the OFF tokens (corrupted, x = 0, NO)

    layer 0, head 0   signal    carries x to END, into a coordinate that W_U reads: + x
    layer 1, head 0   damper    END looks at the cue with score βx, at itself with 0, and says - (4/β) σ(βx)
    head 1 of each    decoy     looks everywhere alike and writes what nothing reads

    metric m(x) = logit YES - logit NO = x - (4/β) σ(βx)        dm/dx = 1 - 4 σ(βx) (1 - σ(βx)) = tanh²(βx/2)

with β = `sharpness`. The total effect is T = 1 - (2/β) tanh(β/2), nearly 1, and all of it passes through the signal. Its
gradient at the corrupted run is 1 - 1 = 0, exactly: denoising by gradient · difference misses the one node there is. With the
gradient that flows through layer 1's attention dropped, the signal has 1/T (GradDrop: Kramár et al. 2024, "AtP*"). At the
clean run the damper is saturated, and noising by gradient sees tanh²(β/2)/T. The damper's own share is -(2/β) tanh(β/2) / T.
"""

import numpy as np

from interp_jax.errors import InputError
from interp_jax.models.circuit_truth import Edge, Effects, Expected, Node, Prompts, Truth, head_effects
from interp_jax.models.circuit_weights import Head, circuit_weights, stream_blocks
from interp_jax.models.transformer import Params, TransformerConfig

SIGNAL, DAMPER = (0, 0), (1, 0)


def cancelling_circuit(n_cues: int, sharpness: float = 20.0) -> tuple[Params, TransformerConfig, Truth]:
    """The parameters, the config, and what patching and attribution give, for any sharpness above 4.

    Tokens are `n_cues` kinds of ON, as many of OFF, then END, YES and NO: see `cancelling_prompts`.

    Raises:
      InputError: a sharpness up to 4, with which ON is not answered by YES.
    """
    if sharpness <= 4:
        raise InputError(f"sharpness = {sharpness}: the damper outweighs the signal unless it is above 4")
    token, position, signal, said, scratch = stream_blocks(2 * n_cues + 3, 2, 1, 1, 1)
    on, first = token[:, :n_cues].sum(1, keepdims=True), position[:, :1]
    nowhere = np.zeros_like(first)
    decoy = Head(nowhere, nowhere, on, scratch)
    heads = [
        [Head(nowhere, nowhere, 2 * on, signal), decoy],  # half of the pattern is on the cue
        [Head(signal, first, -4 / sharpness * first, said), decoy],
    ]
    W_U = np.pad((signal + said) @ np.array([[0.5, -0.5]]), ((0, 0), (2 * n_cues + 1, 0)))
    params, cfg = circuit_weights(heads, token.T, position.T, W_U, sharpness)
    return params, cfg, _truth(sharpness)


def total_effect(sharpness: float) -> float:
    """T, the difference of the metric between the two runs."""
    return float(1 - 2 / sharpness * np.tanh(sharpness / 2))


def signal_without_damper(sharpness: float) -> float:
    """The normalised attribution of the signal's output with the gradient through layer 1's attention dropped, both ways."""
    return 1 / total_effect(sharpness)


def _truth(sharpness: float) -> Truth:
    total, slope = total_effect(sharpness), float(np.tanh(sharpness / 2) ** 2)
    damper = (total - 1) / total

    def effects(denoised: dict[tuple[int, int], float], noised: dict[tuple[int, int], float]) -> Effects:
        return head_effects((2, 2), denoised, noised)

    exact = {
        "z": effects({SIGNAL: 1.0, DAMPER: damper}, {SIGNAL: 0.0, DAMPER: 1 - damper}),
        "q": effects({DAMPER: damper}, {DAMPER: 1 - damper}),
        "k": effects({}, {}),
        "v": effects({SIGNAL: 1.0}, {SIGNAL: 0.0}),
    }
    attributed = {
        "z": effects({SIGNAL: 0.0, DAMPER: damper}, {SIGNAL: 1 - slope / total, DAMPER: 1 - damper}),
        "q": effects({DAMPER: -1 / total}, {DAMPER: 1 + (1 - slope) / total}),
        "k": effects({}, {}),
        "v": effects({SIGNAL: 0.0}, {SIGNAL: 1 - slope / total}),
    }
    edges = (Edge(SIGNAL, DAMPER, "q"),)
    along = Effects(np.array([damper]), np.array([1 - damper]))
    nodes = (Node(*SIGNAL, "signal"), Node(*DAMPER, "damper"))
    return Truth(nodes, edges, {"cue": Expected(exact, along, attributed)})


def cancelling_prompts(n_cues: int) -> Prompts:
    """Every ON with every OFF; two tokens each."""
    on, off = map(np.ravel, np.meshgrid(np.arange(n_cues), n_cues + np.arange(n_cues), indexing="ij"))
    end, yes, no = (np.full(len(on), 2 * n_cues + i) for i in range(3))
    parts = np.stack([on, end], 1), np.stack([off, end], 1), yes[:, None], no[:, None]
    return Prompts(*(part.astype(np.int32) for part in parts))
