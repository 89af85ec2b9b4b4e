"""The table of sites is true: what it lists exists, with that shape, and what it does not list cannot be recorded."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from interp_jax import taps
from interp_jax.models import sites, transformer
from tests.models.transformer_oracle import FAMILY


@pytest.mark.parametrize("name", FAMILY)
def test_every_site_has_the_shape_in_the_table(name):
    cfg = FAMILY[name]
    params = transformer.init(jax.random.key(0), cfg)
    model = lambda tokens: transformer.apply(params, tokens, cfg)
    here = sites.sites(cfg)
    record = taps.record(model, [site.name for site in here])
    _, acts = jax.eval_shape(record, jnp.zeros((3, 7), jnp.int32))
    assert {s: a.shape for s, a in acts.items()} == {s.name: sites.shape(s, cfg, 3, 7) for s in here}
    for absent in {s.name for s in sites.SITES} - {s.name for s in here}:
        with pytest.raises(taps.TapError):
            jax.eval_shape(taps.record(model, [absent]), jnp.zeros((3, 7), jnp.int32))


def test_names_and_aliases_are_unique():
    names = [s.name for s in sites.SITES]
    aliases = [s.alias for s in sites.SITES if s.alias]
    assert len(set(names)) == len(names) and len(set(aliases)) == len(aliases)
    assert all(f"`{name}`" in sites.markdown() for name in names)


def test_the_docs_hold_the_table():
    assert sites.markdown() in (Path(__file__).parents[2] / "docs" / "models.md").read_text()
