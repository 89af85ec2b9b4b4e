"""The arithmetic of paths is that counted by hand."""

import dataclasses

import jax
import numpy as np
import pytest

from interp_jax.models import transformer
from interp_jax.models.transformer import TransformerConfig
from interp_jax.patching import metrics
from interp_jax.patching.paths.patch import Sender, every_head, patch_paths
from interp_jax.patching.paths.plan import plan_paths
from interp_jax.patching.paths.routes import route_of
from interp_jax.patching.prompts import prompts_of
from tests.patching.exact.test_grids import METRIC, MODELS, prompts

SMALL = TransformerConfig(
    n_layers=2, d_model=4, n_heads=2, d_head=2, d_mlp=3, d_vocab=5, n_context=8, positions="none"
)
# Of a row in a layer: keys and values 2·2·4·4 = 64, queries and W_O 64, the MLP 2·2·4·3 = 48; of a look at a key 4·4 = 16.
# Of a row of a head's Δ, its query or its W_O: 2·2·4 = 16; of its look at a key 8. Two logits: 2·4·2 = 16. Three columns: a
# layer's cone is 3·176 + 6·16 = 624, and the last layer as it is run 3·64 + (112 + 3·16) = 352. Senders: 0.0, the MLP of layer
# 0, 1.1: four pairs of heads. Δ of all three, the MLP's too, is made once; of a cone it is the heads' that have a receiver.
DELTAS, SAID = (
    3 * 3 * 16,
    3 * 8 + 16 + 48 + 16,
)  # what a head of the last layer says at one row, the MLP, and the logits
COUNTS = {
    ("k", "each", "nothing", "all"): (  # it is heard at all rows, by a query that is made anew
        DELTAS + 4 * (3 * 16 + 16 + SAID),
        3 * 16 + 4 * (3 * 16 + 16 + SAID),
    ),
    ("q", "each", "nothing", "all"): (  # in the last layer only the measured row asks
        DELTAS + 4 * (16 + SAID),
        3 * 16 + 4 * (16 + SAID),
    ),
    ("v", "together", "nothing", "all"): (  # two heads receive, of either sender
        DELTAS + 2 * (2 * 3 * 16 + 352 + 16),
        3 * 16 + 2 * (2 * 3 * 16 + 624 + 16),
    ),
    ("q", "each", "nothing", "direct"): (  # one row's look at three keys by a head of width 2, and its W_O
        DELTAS + 4 * (16 + 3 * 8 + 16 + 16),
        3 * 16 + 4 * (16 + 3 * 8 + 16 + 16),
    ),
    ("mlp", "together", "nothing", "direct"): (  # 0.0 into both MLPs; that of layer 0 and head 1.1 into the last
        DELTAS + (2 + 1 + 1) * 48 + 3 * 16,
        2 * 3 * 16 + (2 + 1 + 1) * 48 + 3 * 16,
    ),
    ("logits", "each", "mlps", "all"): (  # 0.0 through both MLPs, the MLP through the other, 1.1 through its own
        DELTAS + (2 + 2 + 1) * 3 * 48 + 3 * 16,
        2 * 3 * 16 + (2 + 1 + 1) * 3 * 48 + 3 * 16,
    ),
    ("k", "each", "all", "all"): (  # 0.0 through its layer's MLP, that through nothing; 1.1 is run and reaches nobody
        DELTAS + (2 + 2 + 1) * 3 * (176 + 3 * 16) + 4 * (3 * 16 + 16 + SAID),
        3 * 16 + 3 * 48 + 4 * (3 * 16 + 16 + SAID),
    ),
}  # fmt: skip


@pytest.mark.parametrize("asked", COUNTS, ids="-".join)
def test_arithmetic_is_that_counted_by_hand(asked):
    words = dict(zip(("receiver", "receivers", "between", "onward"), asked, strict=True))
    seen = prompts_of(np.zeros((2, 3)), np.ones((2, 3)))
    metric = metrics.logit_difference(np.array([1, 2]), np.array([3, 4]))
    senders, devices = [Sender(0, 0), Sender(0), Sender(1, 1)], jax.devices()[:1]
    params = transformer.init(jax.random.key(0), SMALL)
    plan = plan_paths(params, route_of(SMALL, words), words["receiver"], senders, seen, metric, devices=devices)
    assert plan.work == COUNTS[asked]
    if asked == ("q", "each", "nothing", "direct"):
        assert patch_paths(params, SMALL, seen, senders, metric=metric, **words, devices=devices).work == plan.work


def test_a_receiver_below_the_last_layer_says_it_at_all_rows():
    """Three layers: four pairs with receivers in the second, six in the last; steps of two pairs leave no place empty."""
    cfg, seen = dataclasses.replace(SMALL, n_layers=3), prompts_of(np.zeros((2, 3)), np.ones((2, 3)))
    words = {"receiver": "q", "receivers": "each", "between": "nothing", "onward": "all"}
    senders = [Sender(0, 0), Sender(0), Sender(1, 1)]
    metric = metrics.logit_difference(np.array([1, 2]), np.array([3, 4]))
    params = transformer.init(jax.random.key(0), cfg)
    found = plan_paths(params, route_of(cfg, words), "q", senders, seen, metric, devices=jax.devices()[:1]).work
    heard, said = (
        3 * 16,
        3 * 16 + 3 * 48,
    )  # W_O and the MLP; a row's looks are at three keys, of which one or two are hidden
    assert found.done == DELTAS + 4 * (heard + 3 * 3 * 8 + said + 352 + 16) + 6 * (16 + SAID)
    assert found.cone == 2 * 3 * 16 + 4 * (heard + 6 * 8 + said + 624 + 16) + 6 * (16 + SAID)


def test_little_arithmetic_is_wasted():
    """Of all pairs of heads of a model with several layers, whatever the memory that they are cut to."""
    cfg = dataclasses.replace(MODELS["mlp"], n_layers=6, n_context=16)
    params = transformer.init(jax.random.key(0), cfg)
    for receiver in ("q", "k", "v"):
        for receivers, memory in (("each", 2.0**30), ("each", 3e5), ("together", 2.0**30)):
            words = {"receiver": receiver, "receivers": receivers, "between": "nothing", "onward": "all"}
            route, seen = route_of(cfg, words), prompts(cfg, columns=16)
            work = plan_paths(params, route, receiver, every_head(cfg), seen, METRIC, memory).work
            assert 0.7 < work.done / work.cone < 1.2
