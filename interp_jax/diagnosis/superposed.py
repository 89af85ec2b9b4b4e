"""Two families in one model: a first token tells which is asked, so one may be learned and the other cheated.

    x = (task, x of that task, and where it is shorter the other's filling, before its last token)

Tokens of the second family follow those of the first; answers of both are counted from 0.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from interp_jax.diagnosis.family import Draw, Family, Rule, Variable, check


def superposed(first: Family, second: Family) -> Family:
    """The family of both."""
    both, length = (first, second), 1 + max(first.positions, second.positions)
    offsets = (0, first.vocabulary)
    task = first.vocabulary + second.vocabulary  # and the token after it; the one after that fills

    def inner(x: np.ndarray, which: int) -> np.ndarray:
        """Rows of a task as its own family writes them."""
        return np.concatenate([x[:, 1 : both[which].positions], x[:, -1:]], axis=1) - offsets[which]

    def by_task(functions: list[Callable[[Any], Any] | None], like: tuple[int, ...] = ()) -> Callable[[Any], Any]:
        """Each row by the function of its task; zeros where that is None."""

        def answer(x: Any) -> np.ndarray:
            x = np.asarray(x)
            said = np.zeros((len(x), *like), np.int64)
            for which, function in enumerate(functions):
                own = tasks(x) == which
                if function is not None and own.any():
                    found = np.asarray(function(inner(x[own], which)))
                    said[(own, *(slice(n) for n in found.shape[1:]))] = found
            return said

        return answer

    def tasks(x: Any) -> Any:
        return x[:, 0] - task

    def outer(x: np.ndarray, which: int) -> np.ndarray:
        filling = np.full((len(x), length - 1 - x.shape[1]), task + 2)
        body = np.concatenate([x[:, :-1] + offsets[which], filling, x[:, -1:] + offsets[which]], axis=1)
        return np.concatenate([np.full((len(x), 1), task + which), body], axis=1)

    def draws(name: str) -> Draw:
        def draw(rng: np.random.Generator, n: int) -> np.ndarray:
            return np.concatenate(
                [outer(np.asarray(getattr(own, name)(rng, n // 2)), i) for i, own in enumerate(both)]
            )

        return draw

    def rule(which: str) -> Rule | None:
        parts = [own.rule(which) for own in both]
        if None in parts:
            return None
        variables = {
            f"{own.name}: {name}": Variable(one.values, by_task([one.of if j == i else None for j in range(2)]))
            for i, (own, part) in enumerate(zip(both, parts, strict=True))
            for name, one in part.variables.items()
        }
        last = [own.positions - 1 for own in both]
        reads = {length - 1 if p == last[i] else p + 1 for i, part in enumerate(parts) for p in part.reads}
        return Rule(by_task([part.answer for part in parts]), variables, tuple(sorted(reads)))

    bare = by_task([own.without_nuisances for own in both], (length,))
    made = Family(
        f"{first.name}+{second.name}",
        max(first.kind, second.kind),
        task + 3,
        length,
        max(first.labels, second.labels),
        rule("f"),
        rule("g"),
        rule("again"),
        draws("draw_id"),
        draws("draw_conflict"),
        lambda x: np.c_[x[:, 0], bare(x)],
        first.table_g or second.table_g,
        first.noisy or second.noisy,
        2 * max(first.steps, second.steps),
        {**first.training, **second.training},
        {**first.model, **second.model},
        f"{first.source}+{second.source}",
        tasks,
    )
    check(made)
    return made
