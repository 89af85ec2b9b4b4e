"""The rule of all calibration tests: fail only where an exact binomial test rejects the promised rate at p < .001."""

import scipy.stats

N_SEEDS = 2000


def check_rate(hits, expected, alternative="two-sided"):
    """`hits` [N]: what happened; `alternative` "greater" fails only rates above what is promised."""
    count, n = int(hits.sum()), len(hits)
    p = scipy.stats.binomtest(count, n, expected, alternative=alternative).pvalue
    assert p >= 0.001, f"{count} of {n} = {count / n:.4f}, promised {expected}: p = {p:.2g}"
