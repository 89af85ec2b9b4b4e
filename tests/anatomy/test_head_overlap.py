"""Heads against a pattern of one's own."""

import jax.numpy as jnp
import numpy as np

from interp_jax.anatomy import heads


def test_overlap_is_one_for_the_pattern_itself_and_less_by_what_lies_elsewhere():
    """Head 0 is the target, head 1 looks everywhere alike, head 2 always at the first key."""
    uniform = heads.uniform_pattern(4)[0, 0, 0]
    last_two = jnp.array([[0, 0, 0, 0], [0.5, 0.5, 0, 0], [0, 0.5, 0.5, 0], [0, 0, 0.5, 0.5]])
    first = jnp.zeros((4, 4)).at[:, 0].set(1)
    pattern = jnp.stack([last_two.at[0, 0].set(1.0), uniform, first])[None, None]
    got = heads.head_overlap(pattern, last_two[None])
    np.testing.assert_allclose(got, [[1, (1 + 2 / 3 + 1 / 2) / 3, 0.5 / 3]], rtol=1e-6)


def test_with_one_key_per_query_it_is_the_head_score():
    pattern = jnp.asarray(np.random.default_rng(0).dirichlet(np.ones(5), (2, 3, 4, 5)), jnp.float32)
    previous = heads.previous_targets(5)
    np.testing.assert_allclose(
        heads.head_overlap(pattern, previous.astype(jnp.float32)), heads.head_score(pattern, previous), rtol=1e-6
    )
