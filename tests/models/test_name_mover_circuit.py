"""The name mover circuit does what its page says, and patching it the slow way gives what its truth says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import taps
from interp_jax.errors import InputError
from interp_jax.models.name_mover_circuit import name_mover_circuit
from interp_jax.models.name_mover_truth import BACKUP, CORRUPTIONS, MOVER, name_mover_prompts
from tests.models import circuit_oracle


@pytest.mark.parametrize("backup", [True, False])
@pytest.mark.parametrize("length", [5, 9])
def test_it_answers_every_prompt(backup, length):
    params, cfg, _ = name_mover_circuit(n_names=6, n_context=9, backup=backup)
    assert cfg.n_layers == (4 if backup else 3)
    for corruption in CORRUPTIONS:
        prompts = name_mover_prompts(6, length, corruption)
        assert len(prompts.clean) == 6 * 5 * 2 * (4 if corruption == "third" else 1)
        assert circuit_oracle.right(params, cfg, prompts, "clean").all()
    assert circuit_oracle.right(params, cfg, name_mover_prompts(6, length, "swapped"), "corrupted").all()


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_pairs_differ_in_the_second_place_of_the_repeated_name_and_nowhere_else(corruption):
    prompts = name_mover_prompts(4, 7, corruption)
    np.testing.assert_array_equal((prompts.clean != prompts.corrupted).any(0), np.arange(7) == 5)
    np.testing.assert_array_equal(prompts.clean[:, 5:6], prompts.others)
    for name, times in ((prompts.answers, 1), (prompts.others, 2)):
        np.testing.assert_array_equal((prompts.clean == name).sum(1), times)


@pytest.mark.parametrize("backup", [True, False])
def test_patching_gives_what_the_truth_says(backup):
    """Every head at every site, every edge, every corruption, both ways, in float64."""
    with jax.enable_x64(True):
        params, cfg, truth = name_mover_circuit(3, 7, sharpness=50.0, backup=backup)
        for corruption in CORRUPTIONS:
            prompts = name_mover_prompts(3, 7, corruption)
            circuit_oracle.check(params, cfg, truth, corruption, prompts, 1e-8)


def test_the_truth_names_the_heads_that_matter_and_the_others_change_without_effect():
    params, cfg, truth = name_mover_circuit(3, 7)
    true = {(node.layer, node.head) for node in truth.nodes}
    by_z = [truth.expected[corruption].heads["z"] for corruption in CORRUPTIONS]
    found = np.any([(e.denoised != 0) | (e.noised != 1) for e in by_z], axis=0)
    assert set(map(tuple, np.argwhere(found))) == true - {BACKUP}  # silent in both runs: no single patch shows it
    prompts = name_mover_prompts(3, 7, "third")
    read = lambda tokens: circuit_oracle.activations(params, tokens, cfg, ("blocks.attn.z",))["blocks.attn.z"]
    clean, corrupted = read(prompts.clean), read(prompts.corrupted)
    changed = np.asarray(jnp.abs(clean - corrupted).max((1, 2, 4)) > 0.4)
    assert changed[:, 1].all() and not changed[BACKUP]


def logit_difference(params, cfg, prompts, silenced):
    """The clean metric, in units of W_U, with the outputs of some heads set to zero."""
    where = np.zeros((cfg.n_layers, 1, 1, cfg.n_heads, 1), bool)
    for layer, head in silenced:
        where[layer, :, :, head] = True
    edits = {"blocks.attn.z": taps.Edit("replace", 0.0, where)}
    return circuit_oracle.metric(params, prompts.clean, cfg, prompts, edits) / 50


def test_the_backup_takes_over_where_the_mover_is_ablated_and_only_there():
    prompts = name_mover_prompts(3, 7, "filler")
    for backup, silenced, expected in (
        (True, [MOVER], 1),
        (True, [BACKUP], 1),
        (True, [MOVER, BACKUP], 0),
        (False, [], 1),
        (False, [MOVER], 0),
    ):
        params, cfg, _ = name_mover_circuit(3, 7, backup=backup)
        difference = logit_difference(params, cfg, prompts, silenced)
        np.testing.assert_allclose(difference, np.full(len(prompts.clean), expected), atol=1e-5)


def test_patterns_are_exact_in_the_limit_and_known_before_it():
    """At any sharpness s the duplicate head has exp(s) / (exp(s) + exp(s/2) + the number of others it sees)."""
    prompts = name_mover_prompts(4, 8, "third")
    places = (prompts.clean == prompts.answers).argmax(1)
    read = lambda params, cfg: circuit_oracle.activations(params, prompts.clean, cfg, ("blocks.attn.pattern",))
    params, cfg, _ = name_mover_circuit(4, 8)
    pattern = read(params, cfg)["blocks.attn.pattern"]
    np.testing.assert_allclose(pattern[2, np.arange(len(places)), 0, -1, places], 1, atol=1e-6)
    np.testing.assert_allclose(pattern[3, :, 0, -1, 0], 1, atol=1e-6)  # the backup rests
    first = (prompts.clean == prompts.others).argmax(1)
    for sharpness in (1.0, 4.0):
        params, cfg, _ = name_mover_circuit(4, 8, sharpness)
        match = read(params, cfg)["blocks.attn.pattern"][0, np.arange(len(first)), 0, 6, first]
        expected = np.exp(sharpness) / (np.exp(sharpness) + np.exp(sharpness / 2) + 5)
        np.testing.assert_allclose(match, np.full(len(match), expected), rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((4, 7, "swaped"), "unknown corruption 'swaped': did you mean 'swapped'?"),
        ((2, 7, "third"), "'third' prompts need 3 names and 5 tokens"),
        ((2, 4, "filler"), "2 names and 4 tokens"),
    ],
)
def test_prompts_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        name_mover_prompts(*arguments)
