"""A dictionary over a mesh takes the steps that it takes on one device, each device having its part only."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.judged import Batch
from interp_jax.dictionaries.over_mesh import of_all, of_rows
from interp_jax.dictionaries.run import dictionary_run
from interp_jax.dictionaries.sharded import placed, sharded_advance
from interp_jax.errors import InputError
from interp_jax.parts import hyper, part
from interp_jax.train.mesh import grid, mesh_here
from interp_jax.train.optimizer import Optimizer
from interp_jax.train.run import Span

D, F, B = 16, 64, 32


@part
class Config:
    seed: int = hyper(0)
    dictionary: Dictionary = Dictionary(d_in=D, n_features=F, most=4, k=3, products="dense", dead_after=100)
    optimizer: Optimizer = Optimizer(
        learning_rate=1e-2, clip_norm=1.0, epsilon=1e-4
    )  # or Adam makes steps of rounding


def draw(hypers, shared, seed, t):
    x = jax.lax.dynamic_index_in_dim(shared, t, keepdims=False)
    return Batch(x, x)


RUN = dictionary_run(draw, lambda hypers: (hypers.dictionary, hypers.optimizer, 10))
DATA = np.random.default_rng(0).normal(size=(10, B, D)).astype(np.float32)
SPAN = Span(np.int32(0), np.int32(5))


BY_K = ("topk", "abs_topk", "batch_topk", "matryoshka")


PAIRS = [(kind, (2, 2)) for kind in ("standard", "jumprelu", *BY_K)]
PAIRS += [(kind, shape) for kind in ("topk", "batch_topk") for shape in ((1, 4), (4, 1))]


@pytest.mark.parametrize(("kind", "shape"), PAIRS, ids=str)
def test_a_step_is_the_same_over_a_mesh(kind, shape):
    own = dataclasses.replace(Config().dictionary, kind=kind, first_threshold=0.3, sparsity=0.1, dead_after=30)
    config = Config(dictionary=own)
    state = RUN.init(0, config)
    alone, said = jax.jit(RUN.advance)(state, config, SPAN, jnp.asarray(DATA))
    mesh = grid(*shape)
    advance = sharded_advance(RUN, state, own, mesh)
    spread, metrics = advance(placed(state, own, mesh), config, SPAN, DATA)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=5e-6), spread.params, alone.params)
    np.testing.assert_array_equal(spread.memory.silent, alone.memory.silent)
    np.testing.assert_allclose(metrics["loss"], said["loss"], rtol=1e-5)
    moments = [leaf for leaf in jax.tree.leaves(spread.opt_state) if leaf.shape == (F, D)]
    assert len(moments) == 4, "of encoder and decoder, two each"
    for leaf in (spread.params["W_enc"], spread.params["W_dec"], *moments):
        assert {part.data.shape for part in leaf.addressable_shards} == {(F // shape[1], D)}
    assert kind not in BY_K or np.asarray(alone.memory.silent).max() >= own.dead_after, (
        "the auxiliary loss is among it"
    )


def masks(z, shape, find):
    """What is found over a mesh."""
    mesh = grid(*shape)

    def over(z):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return find(z)

    return np.asarray(jax.jit(over, in_shardings=jax.sharding.NamedSharding(mesh, P("data", "model")))(z))


@pytest.mark.parametrize("shape", [(2, 2), (1, 4), (4, 1)], ids=str)
@pytest.mark.parametrize("drawn", ["continuous", "ties", "mostly nothing"])
def test_the_largest_over_a_mesh_are_those_of_the_reference(drawn, shape):
    """By the lowest index among equals, whichever device has it; more than a device's part, too."""
    rng = np.random.default_rng(1)
    z = rng.normal(size=(8, 32)).astype(np.float32)
    z = {"continuous": z, "ties": np.round(z), "mostly nothing": np.where(rng.random(z.shape) < 0.1, z, -np.inf)}[
        drawn
    ]
    z = z.astype(np.float32)
    for k, most in ((1, 1), (5, 5), (3, 5), (20, 20)):
        want = np.zeros(z.shape, bool)
        np.put_along_axis(want, np.argsort(-z, axis=1, kind="stable")[:, :k], True, 1)
        np.testing.assert_array_equal(masks(z, shape, lambda z, k=k, most=most: of_rows(z, jnp.int32(k), most)), want)
    for n in (1, 8, 40, 200):
        want = np.isin(np.arange(z.size), np.argsort(-z.ravel(), kind="stable")[:n]).reshape(z.shape)
        np.testing.assert_array_equal(masks(z, shape, lambda z, n=n: of_all(z, jnp.int32(n))), want)
    assert mesh_here() is None


COLLECTIVE = re.compile(r"= (.*?) (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\(")


@pytest.mark.parametrize("kind", ["topk", "abs_topk", "batch_topk", "standard"])
def test_a_steps_program_sends_no_more_than_it_says(kind):
    """Of the real step, auxiliary loss and all: gradients and what is said are summed, candidates and counts are gathered."""
    own = dataclasses.replace(Config().dictionary, kind=kind)
    config, mesh = Config(dictionary=own), grid(2, 2)
    state = placed(RUN.init(0, config), own, mesh)
    program = sharded_advance(RUN, state, own, mesh).lower(state, config, SPAN, DATA).compile().as_text()
    sent = {"sums": [0], "gathers": [0]}
    for shapes, what in COLLECTIVE.findall(program):
        sizes = [int(np.prod([int(n) for n in dims.split(",") if n])) for dims in re.findall(r"\[([\d,]*)\]", shapes)]
        sent["sums" if what == "all-reduce" else "gathers"] += sizes
    n, rows = 2, B // 2
    candidates = rows * n * max(own.most, D // 2) if kind != "standard" else 0
    assert max(sent["gathers"]) <= max(candidates, B * n if kind == "batch_topk" else 0), sent
    assert max(sent["sums"]) <= max(F // n * D, rows * D) and rows * F > 2 * candidates, "all of z is far more"


def test_what_does_not_fit_a_mesh_is_refused():
    state, mesh = RUN.init(0, Config()), grid(1, 3)
    with pytest.raises(InputError, match="n_features = 64: not divisible by the 3 devices .* nearest are 63 and 66"):
        placed(state, Config().dictionary, mesh)
    with pytest.raises(InputError, match="products = 'auto'"):
        placed(state, dataclasses.replace(Config().dictionary, products="auto"), grid(2, 2))
    with pytest.raises(InputError, match="3 × 4 devices were asked for; there are 4"):
        grid(3, 4)
