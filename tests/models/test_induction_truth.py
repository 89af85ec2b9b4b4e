"""The induction circuit answers its prompts, and patching it the slow way gives what its truth says."""

import numpy as np
import pytest

from interp_jax.errors import InputError
from interp_jax.models.induction_circuit import induction_circuit
from interp_jax.models.induction_truth import CORRUPTION, induction_prompts, induction_truth
from tests.models import circuit_oracle


def test_patching_gives_what_the_truth_says():
    """Every head at every site, and the edge, both ways; the circuit's weights are float32."""
    prompts = induction_prompts(7, 8)
    params, cfg = induction_circuit(7, 8, sharpness=50.0)
    circuit_oracle.check(params, cfg, induction_truth(), CORRUPTION, prompts, 1e-5)
    for which in ("clean", "corrupted"):
        assert circuit_oracle.right(params, cfg, prompts, which).all()


def test_pairs_differ_where_two_tokens_change_places_and_nowhere_else():
    prompts = induction_prompts(9, 7)
    assert len(prompts.clean) == 9 * 6
    different = prompts.clean != prompts.corrupted
    assert (different.sum(1) == 2).all() and not different[:, [0, -1]].any()
    np.testing.assert_array_equal(np.sort(prompts.clean, 1), np.sort(prompts.corrupted, 1))
    for tokens, said in ((prompts.clean, prompts.answers), (prompts.corrupted, prompts.others)):
        first = (tokens[:, :-1] == tokens[:, -1:]).argmax(1)
        np.testing.assert_array_equal(tokens[np.arange(len(tokens)), first + 1], said[:, 0])


def test_prompts_that_cannot_be_are_refused():
    for arguments in ((9, 5), (5, 7)):
        with pytest.raises(InputError, match=f"{arguments[1]} tokens of {arguments[0]}: prompts have at least 6"):
            induction_prompts(*arguments)
