"""Growing a transformer: what is measured is right on a model that is known, and a tiny run goes from config to page."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import parts
from interp_jax.data.corpus_io import CACHE
from interp_jax.data.text import TextConfig
from interp_jax.errors import InputError
from interp_jax.experiments import grow
from interp_jax.experiments.experiment import GroupResult
from interp_jax.experiments.grow import page as page_module
from interp_jax.experiments.grow import runs, stream
from interp_jax.models.induction_circuit import induction_circuit
from interp_jax.models.transformer import TransformerConfig
from interp_jax.train.optimizer import Optimizer
from interp_jax.train.population import population
from interp_jax.train.run import Span

TINY = grow.Config(
    steps=40,
    batch_size=4,
    model=TransformerConfig(d_model=16, n_heads=2, d_head=8, d_vocab=260, n_context=16),
    optimizer=Optimizer(learning_rate=1e-2),
    measure=stream.Measurements(observations=4, windows=3, snippet=12, samples=2, sample_length=5),
)
SYNTHETIC = dataclasses.replace(TINY, stream="repeats", model=dataclasses.replace(TINY.model, d_vocab=12))


@pytest.fixture
def text(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    (tmp_path / "texts").mkdir()
    for i in range(30):
        (tmp_path / "texts" / f"{i}.txt").write_text(f"<b>{i}</b> is a number & a token. " * 10)
    return TextConfig(path=str(tmp_path / "texts"), held_out=0.2)


def run_group(config, n_seeds):
    """What the engine does, without disk."""
    made = grow.experiment(config)
    members = parts.stack([dataclasses.replace(config, seed=i) for i in range(n_seeds)])
    start = population(lambda hypers, _: (made.run.init(hypers.seed, hypers), hypers), 1, jax.devices()[:1])

    def advance(member, shared):
        (state, hypers), (span, data) = member, shared
        state, metrics = made.run.advance(state, hypers, span, data)
        return (state, hypers), metrics

    advance = population(advance, 1, jax.devices()[:1])
    observe = population(lambda member, shared: runs.observe(*member, shared), 1, jax.devices()[:1])
    seen, losses, first, now = {}, [], 0, start(members, ())
    for step in made.observe_at:
        now, metrics = advance(now, (Span(np.int32(first), np.int32(step)), made.shared))
        seen[step], first = jax.device_get(observe(now, made.shared)), step
        losses.append(metrics["loss"])
    hashes = tuple(f"{i:06d}" for i in range(n_seeds))
    diverged = np.full(n_seeds, -1)
    steps = np.array(made.observe_at)
    return GroupResult(members, hashes, diverged, seen, {"loss": np.array(losses)}, steps, (), np.ones(n_seeds))


def test_measurements_of_a_known_circuit():
    """Repeated random tokens: loss log V on the first copy, nearly none on the second, and the heads that do it."""
    params, cfg = induction_circuit(d_vocab=200, n_context=64)
    tokens = runs.repeated_random(0, 0, 8, 32, 200)
    found = jax.jit(runs.measure_repeats, static_argnums=2)(params, tokens, cfg)
    assert float(found["previous"][0, 0]) > 0.999 and float(found["induction"][1, 0]) > 0.85
    assert float(found["induction"][1, 1]) < 0.05
    assert float(found["second_copy_loss"]) < 0.2 * float(found["first_copy_loss"])


@pytest.mark.slow
def test_a_text_run_learns_and_becomes_a_page(text):
    config = dataclasses.replace(TINY, data=text)
    group = run_group(config, 2)
    losses = [float(seen["held_out_loss"][0]) for seen in group.observations.values()]
    assert losses[-1] < losses[0] - 1 and losses[0] == pytest.approx(np.log(260), abs=0.5)
    last = group.observations[40]
    np.testing.assert_allclose(last["token_losses"].mean((1, 2)), last["held_out_loss"], rtol=1e-5)
    np.testing.assert_allclose(last["pattern"].sum(-1), 1.0, rtol=1e-5)
    assert not np.array_equal(last["token_losses"][0], last["token_losses"][1])
    page = grow.report([group])
    assert page.title == "Transformers grown on real text" and "SYNTHETIC" not in page.summary
    headings = [block.heading for block in page.blocks if hasattr(block, "heading")]
    assert "Loss (seed 0)" in headings and "Most-improved tokens (seed 1)" in headings
    samples = [block.text for block in page.blocks if type(block).__name__ == "Code"]
    assert sum("▶" in sample for sample in samples) >= 4


@pytest.mark.slow
def test_a_synthetic_run_says_so_and_needs_no_text():
    page = grow.report([run_group(SYNTHETIC, 1)])
    assert "synthetic" in page.title and page.summary.startswith(page_module.SYNTHETIC)
    assert not any("held-out text" in getattr(block, "text", "") for block in page.blocks)


def test_data_is_a_function_of_seed_and_step(text):
    config = dataclasses.replace(TINY, data=text)
    shared = jax.tree.map(jnp.asarray, stream.shared_arrays(config))
    draw = lambda seed, step: np.asarray(stream.training_batch(config, shared, jnp.int32(seed), jnp.int32(step)))
    assert draw(0, 3).shape == (4, 17)
    np.testing.assert_array_equal(draw(0, 3), draw(0, 3))
    assert (draw(0, 3) != draw(0, 4)).any() and (draw(0, 3) != draw(1, 3)).any()


def test_observations_are_logarithmic_and_end_with_the_run():
    steps = runs.observation_steps(dataclasses.replace(TINY, steps=1000))
    assert steps == (1, 10, 100, 1000)
    assert runs.observation_steps(dataclasses.replace(TINY, steps=2)) == (1, 2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stream": "repeat"}, "did you mean 'repeats'"),
        ({"batch_size": 0}, "batch_size"),
        ({"model": dataclasses.replace(TINY.model, n_context=8)}, "at least 16"),
        ({"measure": dataclasses.replace(TINY.measure, snippet=17)}, "measure.snippet"),
    ],
)
def test_impossible_values_are_named(change, words):
    with pytest.raises(InputError, match=words):
        dataclasses.replace(TINY, **change).check()


def test_a_corpus_smaller_than_a_context_is_named(text):
    config = dataclasses.replace(TINY, data=text, model=dataclasses.replace(TINY.model, n_context=4096))
    with pytest.raises(InputError, match="fewer than one context of 4096"):
        grow.experiment(config)
