"""The library's side of `patching.py`: each grid as one call of its public functions."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from interp_jax.models.transformer import TransformerConfig
from interp_jax.patching.exact.grids import Patched, patch_grid
from interp_jax.patching.exact.nodes import each
from interp_jax.patching.metrics import Metric
from interp_jax.patching.paths.patch import every_head, patch_paths
from interp_jax.patching.prompts import prompts_of


class Found(NamedTuple):
    """A grid's metric, and the floating operations that computing it took, where the engine counts them."""

    values: Float[np.ndarray, "*cells B"]
    operations: float | None


def ours(
    params: Any,
    cfg: TransformerConfig,
    clean: np.ndarray,
    corrupted: np.ndarray,
    metric: Metric,
    devices: Sequence[jax.Device],
) -> dict[str, Callable[[], Found]]:
    """A call for each grid. Axes of the values are those of `patching.py`'s list of grids, paths' [L H L H], and then B."""
    prompts, length = prompts_of(clean, corrupted), clean.shape[1]
    layouts = {
        "residual pre": each("blocks.resid_pre", cfg, length, over=("layer", "position")),
        "head outputs": each("blocks.attn.z", cfg, length, over=("layer", "head")),
    } | {f"head {c}": each(f"blocks.attn.{c}", cfg, length, over=("layer", "position", "head")) for c in "qkv"}
    grids = {}

    def add(name: str, shape: tuple[int, ...], patch: Callable[..., Patched], *what: Any, **how: Any) -> None:
        def run() -> Found:
            patched = patch(params, cfg, prompts, *what, metric, devices=devices, **how)
            done = patched.work.done * len(clean)
            return Found(patched.metric.reshape(*shape, len(clean)), None if np.isnan(done) else done)

        grids[name] = run

    for name, layout in layouts.items():
        add(name, layout.shape, patch_grid, layout)
    for c in "qkv":
        for name, onward in ((f"paths to {c}", "all"), (f"direct paths to {c}", "direct")):
            add(name, (cfg.n_layers, cfg.n_heads) * 2, patch_paths, every_head(cfg), c, onward=onward)
    return grids
