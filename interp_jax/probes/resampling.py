"""Examples drawn again with replacement, as weights: fits to many draws are labels of one program (Efron 1979).

    w_n' = w_n k_n          k: how often an example is drawn of as many; a group's examples are drawn together

What a fit varies by over the draws is what it would vary by over other examples of the same kind.
"""

import numpy as np

from interp_jax.errors import InputError
from interp_jax.probes.everywhere import Examples


def bootstrap(examples: Examples, n: int, seed: int = 0) -> Examples:
    """With n draws of each label: targets [n·C B ...], draw by draw, and their weights [n·C B].

    Args:
      examples: with targets [B], or [C B ...] that all sites share.
      n: how many draws.
      seed: of the draws.

    Raises:
      InputError: targets of sites by themselves; no draw.
    """
    y = np.asarray(examples.y)
    y = y[None] if y.ndim == 1 else y
    B = np.shape(y)[1]
    if n < 1 or B not in np.shape(examples.x):
        raise InputError(
            f"bootstrap: {n} draws of targets {y.shape}; give 1 or more, of targets [labels, examples, …]"
        )
    group = np.arange(B) if examples.groups is None else np.unique(np.asarray(examples.groups), return_inverse=True)[1]
    n_groups = group.max() + 1
    drawn = np.random.default_rng([seed, 2]).multinomial(n_groups, np.full(n_groups, 1 / n_groups), n)[:, group]
    w = np.ones(B) if examples.w is None else np.asarray(examples.w)
    w = np.broadcast_to(w, y.shape[:2]) * drawn[:, None]
    return examples._replace(y=np.tile(y, (n, *[1] * (y.ndim - 1))), w=np.float32(w.reshape(-1, B)))
