"""A transformer over a mesh takes the steps that it takes on one device; what lies where is what its rules say."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from interp_jax import randomness
from interp_jax.data.sequences import induction_batch
from interp_jax.errors import InputError
from interp_jax.models import transformer
from interp_jax.models.partition import check_partition, partition_rules
from interp_jax.models.transformer import TransformerConfig
from interp_jax.parts import hyper, part
from interp_jax.train.language import next_token_losses
from interp_jax.train.mesh import MODEL, grid, grid_for, largest_divisor, mesh_here, on_mesh, over_examples, shardings
from interp_jax.train.optimizer import Optimizer, gradient_transformation
from interp_jax.train.run import Span, training_run

SHAPE = {"n_layers": 2, "d_model": 16, "n_heads": 4, "d_head": 4, "d_vocab": 32, "n_context": 12}
KINDS = {
    "attention only": TransformerConfig(**SHAPE, positions="relative"),
    "gated, tied, fewer key heads": TransformerConfig(
        **SHAPE, d_mlp=24, gated=True, activation="silu", tied=True, n_kv_heads=2, positions="rotary", biases="none"
    ),
    "biases": TransformerConfig(**SHAPE, d_mlp=24, biases="all", positions="learned"),
}


@part
class Config:
    seed: int = hyper(0)
    model: TransformerConfig = TransformerConfig()
    optimizer: Optimizer = Optimizer(learning_rate=1e-2, clip_norm=1.0)


def loss(params, hypers, seed, step, shared):
    tokens = over_examples(induction_batch(seed, step, 8, 13, hypers.model.d_vocab))
    return next_token_losses(params, tokens, hypers.model).mean(), {}


RUN = training_run(
    lambda seed, hypers: transformer.init(randomness.key(seed, "init"), hypers.model),
    loss,
    lambda hypers: gradient_transformation(hypers.optimizer, 10),
)
SPAN = Span(np.int32(0), np.int32(4))


def over(config, shape):
    """The run's first steps over a mesh, and their compiled program."""
    mesh, state = grid(*shape), RUN.init(0, config)
    where = shardings(state, partition_rules(MODEL), mesh)
    advance = jax.jit(on_mesh(RUN, mesh).advance, out_shardings=(where, None)).lower(
        jax.device_put(state, where), config, SPAN, ()
    )
    program = advance.compile()
    return program(jax.device_put(state, where), config, SPAN, ()), program.as_text()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_steps_over_a_mesh_are_those_of_one_device(kind):
    """Without Adam, which makes a step of rounding errors where a gradient is zero, as that of a key's bias."""
    config = Config(model=KINDS[kind], optimizer=Optimizer(name="momentum", learning_rate=0.1, clip_norm=1.0))
    alone, said = jax.jit(RUN.advance)(RUN.init(0, config), config, SPAN, ())
    (spread, metrics), program = over(config, (2, 2))
    np.testing.assert_allclose(metrics["loss"], said["loss"], rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), spread.params, alone.params)
    assert "all-reduce" in program, "gradients are summed over examples"


def test_each_device_has_its_part_of_parameters_and_of_their_moments():
    config = Config(model=KINDS["gated, tied, fewer key heads"])
    (state, _), _ = over(config, (2, 2))
    parts = {
        "W_Q": (2, 2, 16, 4),
        "W_K": (2, 1, 16, 4),
        "W_O": (2, 2, 4, 16),
        "W_in": (2, 16, 12),
        "W_out": (2, 12, 16),
    }
    parts |= {"W_gate": (2, 16, 12), "W_E": (16, 16)}
    held = jax.tree_util.tree_flatten_with_path((state.params, state.opt_state))[0]
    for name, shape in parts.items():
        leaves = [leaf for path, leaf in held if path[-1] == jax.tree_util.DictKey(name)]
        assert len(leaves) == 3, "a parameter and its two moments"
        assert {part.data.shape for leaf in leaves for part in leaf.addressable_shards} == {shape}


FITS = [(4, 2, (2, 2)), (3, 2, (1, 2)), (1, 2, (1, 1)), (4, 8, (1, 4)), (4, 1, (4, 1))]


@pytest.mark.parametrize(("n", "model", "shape"), FITS)
def test_fewer_devices_than_asked_for_take_what_divides(n, model, shape):
    assert grid_for(model, 8, jax.devices()[:n]).devices.shape == shape


def test_examples_lie_over_as_many_devices_as_divide_a_batch():
    assert grid_for(1, 6).devices.shape == (3, 1)
    assert [largest_divisor(12, most) for most in (1, 5, 7, 99)] == [1, 4, 6, 12]


def test_without_a_mesh_a_batch_is_as_it_is():
    x = jax.numpy.ones((3, 2))
    assert mesh_here() is None and over_examples(x) is x


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="3 × 4 devices were asked for; there are 4"):
        grid(3, 4)
    with pytest.raises(InputError, match=r"a.b \[6\]: 6 is not divisible by the 4 devices .* nearest are 4 and 8"):
        shardings({"a": {"b": np.zeros(6)}}, [("b$", P(MODEL))], grid(1, 4))
    with pytest.raises(
        InputError, match="model.n_kv_heads = 2 is not divisible by the 4 devices .* nearest are 4 and 8"
    ):
        check_partition(KINDS["gated, tied, fewer key heads"], 4)
