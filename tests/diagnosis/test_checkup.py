"""Check-ups: a view of a model under edits is that of the model without the part, and the best of several cures is told."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.diagnosis.checkup import apparent_score, chosen, found_again
from interp_jax.diagnosis.declared import declare
from interp_jax.diagnosis.diagnosers_io import load_diagnoser
from interp_jax.diagnosis.examination import Examinees, examine
from interp_jax.diagnosis.mediation import cut_at, mean_embedding
from interp_jax.diagnosis.outcome import Signs
from interp_jax.diagnosis.pools import pools_of
from interp_jax.diagnosis.view import Swap, View
from interp_jax.diagnosis.ward import Cured
from interp_jax.experiments.known_answers.patients import two_bits, ward
from interp_jax.models.rival_circuit import CFG, rival_circuit
from interp_jax.taps import Edit

CUE_HEAD = 1
SITE = "blocks.resid_pre"
WITHOUT_HEAD = {"blocks.attn.z": (Edit("scale", 0.0, np.arange(2)[:, None] == CUE_HEAD, 0),)}


@pytest.fixture(scope="module")
def x():
    return jnp.asarray(pools_of(two_bits()).id_held.x)


def without_cue():
    """The same circuit with its shortcut's head writing nothing."""
    params = jax.tree.map(np.array, rival_circuit())
    params["blocks"]["attn"]["W_O"][0, CUE_HEAD] = 0
    return jax.tree.map(jnp.asarray, params)


def whole():
    """The circuit as it is."""
    return jax.tree.map(jnp.asarray, rival_circuit())


def everything(view):
    """All that a view tells."""
    n = jnp.arange(view.n)
    told = view.record([SITE, "blocks.mlp.post"])
    put = view.swapped(n, [Swap(SITE, 1, n[::-1], jnp.arange(9)[:, None] < 4)])
    tokens = view.tokens[:, ::-1]
    embedded = view.embedded(tokens)
    return (
        view.logits(),
        told,
        put,
        view.input_gradient(lambda logits: logits[:, 1]),
        view.logits_with({**jax.tree.map(lambda leaf: leaf / 2, view.weights), "embed": view.weights["embed"]}),
        view.logits_of_tokens(tokens),
        embedded,
        view.logits_of_stream(embedded),
    )


def test_a_part_that_is_edited_away_is_as_if_it_were_not_there(x):
    seen = everything(View(whole(), CFG, 2, x, 3, "mine", WITHOUT_HEAD))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), seen, everything(View(without_cue(), CFG, 2, x, 3))
    )
    assert np.abs(seen[0] - View(whole(), CFG, 2, x, 3).logits()).max() > 1


def test_what_is_cut_on_the_way_in_is_the_mean_to_every_question(x):
    params = whole()
    view = View(params, CFG, 2, x, 3, "mine", cut_at(jnp.eye(9)[5], mean_embedding(params, x, CFG)))
    stream = view.record([SITE])[1][SITE][0]
    np.testing.assert_allclose(stream[:, 5], np.broadcast_to(stream[:1, 5], stream[:, 5].shape), atol=1e-6)
    np.testing.assert_allclose(stream, view.input_gradient(lambda logits: logits[:, 1])[0], atol=1e-6)
    np.testing.assert_allclose(stream, view.embedded(x), atol=1e-6)
    np.testing.assert_allclose(view.logits_of_stream(stream), view.logits(), atol=1e-5)
    here = view.logits()[:, 1] > view.logits()[:, 0]  # by the rule, which is the cue's on D_ID, and the cue is gone
    assert (here == (x[:, 0] != x[:, 2])).all()


def test_the_judge_finds_a_cheat_healthy_once_its_cue_is_cut_and_not_before(x):
    family, judge = two_bits(), load_diagnoser("paired_gradients")
    both = ward(rival_circuit(), rival_circuit(shortcut=0.0))
    seen = Examinees(
        "two bits", CFG, 2, both.params, both.seeds, x, tuple(declare(family, which, np.asarray(x)) for which in "fg")
    )
    before = examine(judge, seen)[:, 0]
    mean = np.stack([mean_embedding(both.patient(r), x, CFG) for r in range(2)])
    share = np.eye(9)[5][None, None, None, :, None] * np.array([0.0, 1.0])[None, :, None, None, None]  # not cut; cut
    edits = {"embed": (Edit("replace", mean[:, None].repeat(2, 1), np.float32(share.repeat(2, 0))),)}
    cured = Cured(jax.tree.map(lambda leaf: np.asarray(leaf)[:, None].repeat(2, 1), both.params), edits)
    as_it_was, afterwards = (found_again(judge, seen, cured, (np.arange(2), np.full(2, n))) for n in (0, 1))
    np.testing.assert_allclose(as_it_was, before, atol=1e-5)
    assert before[0] > before[1] + 0.1 and afterwards[0] == pytest.approx(before[1], abs=1e-5)


def signs(right, divergence):
    return Signs(np.array([right]), np.zeros(1), np.array([divergence]), np.zeros(1))


def test_how_well_a_patient_is_has_a_closed_form():
    before, after = (
        signs(0.8, 0.0),
        {
            "none": (signs(0.8, 0.0), np.array([0.5])),
            "best": (signs(0.8, 0.0), np.array([-0.5])),
            "half": (signs(0.4, np.log(2.0)), np.array([0.0])),
            "worse": (signs(1.0, 0.0), np.array([0.9])),
        },
    )
    found = apparent_score(before, np.array([0.5]), after)
    expected = {"none": 0.0, "best": 1.0, "half": 0.5, "worse": 0.0}
    np.testing.assert_allclose([found[name][0] for name in after], [expected[name] for name in after], atol=1e-6)


def test_where_nothing_is_gained_what_was_prescribed_is_kept():
    same = {name: (signs(1.0, 0.0), np.zeros(1)) for name in ("one", "other")}
    assert chosen(apparent_score(signs(1.0, 0.0), np.zeros(1), same), ["other"]) == ["other"]
    told = {"one": np.array([0.2, 0.9, 0.5]), "other": np.array([0.3, 0.1, 0.5])}
    assert chosen(told, ["one", "one", "other"]) == ["other", "one", "other"]
