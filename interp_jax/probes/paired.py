"""Whether one reader says more than another of examples that neither has seen, where both were fitted by folds.

    p_k = P(T ≥ mean(d) / se(d))        d: differences of the groups of fold k, G_k of them; T: Student's, of G_k - 1
    p   = min(1, 2 × the ⌈K/2⌉-th smallest of p_1 … p_K)        over all folds of all splits

Given its fits, the groups of a fold are independent and new, so each p_k is valid. Folds share what they were fitted on, and so
how their p_k depend on each other is not known; twice the median is valid whatever it is (Rüschendorf 1982; Meinshausen, Meier
and Bühlmann 2009). One interval over all folds is not: it takes groups for independent that are not.
"""

import numpy as np
import scipy.special
from jaxtyping import Float, Int


def paired_p(differences: Float[np.ndarray, "N *S G"], fold: Int[np.ndarray, "N G"]) -> Float[np.ndarray, "*S"]:
    """P that the first reader is no better than the second.

    Args:
      differences: the first reader's figure less the second's, of each group, by the fits that have not seen it, N splits.
      fold: of each group in each split.
    """
    each = [fold_p(own[..., of == f]) for own, of in zip(differences, fold, strict=True) for f in np.unique(of)]
    return merged(np.stack(each))


def fold_p(differences: Float[np.ndarray, "*S G"]) -> Float[np.ndarray, "*S"]:
    """Student's test of one fold, one-sided; where all groups have the same difference, that of signs, 2^-G."""
    n = differences.shape[-1]
    if n < 2:
        return np.ones(differences.shape[:-1])
    mean, se = (np.asarray(of) for of in (differences.mean(-1), differences.std(-1, ddof=1) / np.sqrt(n)))
    t = np.divide(mean, se, out=np.zeros_like(mean), where=se > 0)
    same = np.where(mean > 0, 0.5**n, 1.0)
    return np.asarray(np.where(se > 0, scipy.special.stdtr(n - 1, -t), same))


def merged(p: Float[np.ndarray, "K *S"]) -> Float[np.ndarray, "*S"]:
    """One p of K that depend on each other in any way: twice their median."""
    return np.asarray(np.minimum(1.0, 2 * np.sort(p, axis=0)[(len(p) + 1) // 2 - 1]))
