"""Text that is written after decision points, steered and not: by the direction that does most at the bound, in its dose."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from interp_jax import randomness
from interp_jax.experiments.steering.findings import best_direction
from interp_jax.experiments.steering.methods import DIRECTIONS, Methods
from interp_jax.experiments.steering.reading import SITE, Asked, Read
from interp_jax.experiments.steering.targets import Source
from interp_jax.models.generation import Sampling, generate
from interp_jax.models.transformer import Params, TransformerConfig
from interp_jax.steering.interventions import added

TIMES = (0.0, 1.0, 2.0)  # the dose at the bound


def written(
    asked: Asked, source: Source, params: Params, methods: Methods, seen: Read, arrays: dict[str, np.ndarray]
) -> list[dict[str, Any]]:
    """For each target: what was given, prompts, and what was written after each at each of `TIMES`."""
    found = []
    for t, target in enumerate(asked.targets):
        best = best_direction(arrays, t, asked.config.doses)
        if best is None:
            continue
        prompts = prompts_of(asked, target.decides & ~target.positive)
        vector = jnp.asarray(methods.vectors[best.method, t, best.layer] * seen.scale[best.layer])
        rows = [write(asked, params, prompts, vector * best.dose * times, best.layer) for times in TIMES]
        said = [[text(source, row) for row in rows_of] for rows_of in (prompts, *rows)]
        found.append(
            {
                "target": target.name,
                "method": DIRECTIONS[best.method],
                "layer": best.layer,
                "dose": best.dose,
                "prompts": said[0],
                "written": said[1:],
            }
        )
    return found


def prompts_of(asked: Asked, where: Any) -> Int[np.ndarray, "S P"]:
    """Tokens up to decision points of the windows that are measured, each of another window."""
    n = min(asked.config.written.length, asked.data.tokens.shape[1] - 1)
    rows = [(w, np.flatnonzero(where[w, n - 1 :])) for w in asked.measured]
    rows = [(w, places[0] + n - 1) for w, places in rows if len(places)] or [(asked.measured[0], n - 1)]
    chosen = np.unique(np.linspace(0, len(rows) - 1, asked.config.written.prompts).round().astype(int))
    return np.stack([asked.data.tokens[w, p + 1 - n : p + 1] for w, p in (rows[i] for i in chosen)])


def write(asked: Asked, params: Params, prompts: Int[np.ndarray, "S P"], vector: Array, layer: int) -> np.ndarray:
    """What the model writes with a vector added in every pass, through its cache; the same chances for every vector."""
    of = asked.config.written
    room = 10**9 if asked.cfg.positions == "none" else asked.cfg.n_context - prompts.shape[1]
    key = randomness.key(asked.seed, "steering.samples")
    n = max(1, min(of.tokens, room))
    return np.asarray(
        _write(params, jnp.asarray(prompts), vector, jnp.int32(layer), key, asked.cfg, n, of.temperature)
    )


@partial(jax.jit, static_argnames=("cfg", "n", "temperature"))
def _write(
    params: Params,
    prompts: Int[Array, "S P"],
    vector: Array,
    layer: Array,
    key: Array,
    cfg: TransformerConfig,
    n: int,
    temperature: float,
) -> Array:
    edits = {SITE: added(vector, 1.0, layer)}
    return generate(params, prompts, cfg, n, key, Sampling(temperature), edits=edits)


def text(source: Source, row: Int[np.ndarray, " N"]) -> str:
    """Of tokens."""
    return source.tokenizer.backend.decode([int(i) for i in row if i >= 0], skip_special_tokens=False)
