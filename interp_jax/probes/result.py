"""What a probe found, everywhere, with its controls beside it: arrays whose axes have names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from interp_jax.errors import InputError, nearest
from interp_jax.probes.controls import SHUFFLED, TRUE, TYPES
from interp_jax.probes.inputs import Data
from interp_jax.probes.intervals import Interval, of_means, of_shares
from interp_jax.probes.probe import Convergence, Target
from interp_jax.probes.scoring import Found
from interp_jax.probes.splits import Splits


@dataclass(frozen=True)
class Probed:
    """Results; S are the axes of sites, N seeds, C labels, K the true targets and their controls, H regularisations (one where
    splits are nested: the chosen), M fits, B examples.

    Attributes:
      axes: the names along S N C K H, by the names of the axes: those of the sites, "seed", "label", "control", "hyper".
      measures: leaves [*S N C K H], on examples held out, the mean over folds.
      elsewhere: the same on examples of no fold, by the fit of all folds; None where there are none; see `outside`.
      scores: [*S N C K H B ...], of each example by the fit that did not see it.
      chosen: [*S N C K F+1] regularisations, of outer fits and of the whole; -1 where all are kept.
      params: leaves [*S N C H ...], of the fit of all folds to the true targets.
      convergence: leaves [*S N C K H M], None of a closed form.
      hypers: leaves [H] of all regularisations.
      y: [*S C B ...].
      w: [B] or [C B].
      index: [N I B], see `controls.py`.
      splits: see `splits.py`.
      target: what y means.
    """

    axes: dict[str, tuple[Any, ...]]
    measures: Any
    elsewhere: Any
    scores: np.ndarray
    chosen: np.ndarray
    params: Any
    convergence: Convergence | None
    hypers: Any
    y: np.ndarray
    w: np.ndarray
    index: np.ndarray
    splits: Splits
    target: Target

    def measure(self, name: str, control: str = TRUE) -> np.ndarray:
        """[*S N C H] of a measure, of the true targets or of a control."""
        return np.take(self._leaf(name), self.control(control), axis=-2)

    def above(self, name: str, control: str = SHUFFLED) -> np.ndarray:
        """[*S N C H]: how far the true targets are above a control."""
        return self.measure(name) - self.measure(name, control)

    def selectivity(self, name: str | None = None) -> np.ndarray:
        """[*S N C H]: above the control task by types (Hewitt and Liang 2019); of the first measure where none is named."""
        return self.above(name or self.measures._fields[0], TYPES)

    def outside(self) -> "Probed":
        """The same of the examples of no fold (another distribution), by the fit of all folds: its measures and intervals.

        Raises:
          InputError: every example is of a fold.
        """
        if self.elsewhere is None:
            raise InputError("probe: every example is of a fold; give `elsewhere` to `cross_validation`")
        fold = (self.splits.fold == self.splits.n_folds).astype(int)
        return replace(self, measures=self.elsewhere, splits=Splits(fold, 1))

    def control(self, name: str) -> int:
        """Where along its axis a control is."""
        known = self.axes["control"]
        if name not in known:
            why = "; give `types` of examples" if name == TYPES else ""
            raise InputError(f"probe: no control {name!r}{why}; {nearest(name, known)}")
        return known.index(name)

    def targets(self, control: str = TRUE) -> np.ndarray:
        """[*S N C B ...]: what the scores of a control were measured against."""
        number = self.control(control)
        index = self.index[:, number if number < self.index.shape[1] else 0]
        n_sites = len(self.axes) - 4
        return np.stack([np.take(self.y, own, axis=n_sites + 1) for own in index], axis=n_sites)

    def weights(self, control: str = TRUE) -> np.ndarray:
        """[N C B], or 1 for C: of examples, as the scores of a control were measured; 0 where its target is not known."""
        number = self.control(control)
        index = self.index[:, number if number < self.index.shape[1] else 0]
        w = np.asarray(self.w, np.float64)
        return np.stack([w[None] if w.ndim == 1 else w * (w[:, own] > 0) for own in index])

    def each(self, name: str, control: str = TRUE) -> np.ndarray:
        """[*S N C H B]: the values of examples whose mean a measure is; nan of all others.

        Examples of no fold are measured by themselves: see `outside`.
        """
        if self.target.each is None:
            raise InputError(f"probe: {name!r} is no mean over examples")
        n_axes = len(self.axes) - 1
        z = np.take(self.scores, self.control(control), axis=n_axes - 1)
        y = np.expand_dims(self.targets(control), n_axes - 1)
        y = np.broadcast_to(y, (*z.shape[:n_axes], *y.shape[n_axes:]))
        of_one = lambda part: jnp.asarray(part.reshape(-1, *part.shape[n_axes:]))
        found = jax.vmap(self.target.each)(of_one(z), of_one(y))
        if name not in found._fields:
            raise InputError(f"probe: {name!r} is no mean over examples; {nearest(name, found._fields)}")
        there = np.isfinite(z).reshape(*z.shape[: n_axes + 1], -1).all(-1) & self._measured()[:, None, None]
        return np.where(there, np.asarray(getattr(found, name)).reshape(there.shape), np.nan)

    def interval(self, name: str, control: str = TRUE, groups: np.ndarray | None = None) -> Interval:
        """Leaves [*S N C H]: the mean over the examples of all folds, and its interval at 95%; see `intervals.py`."""
        values = self.each(name, control)
        of = of_shares if ((values == 0) | (values == 1) | np.isnan(values)).all() else of_means
        return of(values, self.own_weights(), groups)

    def difference(self, name: str, control: str = SHUFFLED, groups: np.ndarray | None = None) -> Interval:
        """Leaves [*S N C H]: how far above a control, paired by example, and its interval at 95%."""
        return of_means(self.each(name) - self.each(name, control), self.own_weights(), groups)

    def own_weights(self) -> np.ndarray:
        """[C 1 B] or [1 B]: weights of examples, as they go with [*S N C H B]."""
        return np.asarray(self.w, np.float64)[..., None, :]

    def unconverged(self) -> list[str]:
        """A line for each place where fits did not come to their tolerance: how many of how many, and the largest gradient."""
        if self.convergence is None:
            return []
        names, lines = list(self.axes), []
        failed = ~self.convergence.converged
        for place in np.argwhere(failed.any(-1)):
            at = ", ".join(f"{name} {self.axes[name][i]}" for name, i in zip(names, place, strict=True))
            own = tuple(place)
            left = self.convergence.gradient[own].max()
            lines.append(f"{at}: {failed[own].sum()} of {failed.shape[-1]} fits, gradient {left:.1e} is left")
        return lines

    def _measured(self) -> np.ndarray:
        """[N B]: which examples measures are of: those of folds; where nothing of them is held out, those of none."""
        inside = self.splits.fold < self.splits.n_folds
        return inside if self.splits.n_folds > 1 else ~inside

    def _leaf(self, name: str) -> np.ndarray:
        if name not in self.measures._fields:
            raise InputError(f"probe: no measure {name!r}; {nearest(name, self.measures._fields)}")
        return getattr(self.measures, name)


def assembled(
    found: Sequence[Found],
    kinds: Sequence[str],
    axes: Mapping[str, Sequence[Any]],
    data: Data,
    splits: Splits,
    index: np.ndarray,
    hypers: Any,
    target: Target,
) -> Probed:
    """The result, on the host, from what the program found of each x: leaves [R N T ...], T controls × labels for the first."""
    sites, n_labels = tuple(map(len, axes.values())), len(data.labels)

    def by_label(leaf: Any) -> np.ndarray:
        leaf = np.asarray(leaf)
        apart = leaf.reshape(*leaf.shape[:2], -1, n_labels, *leaf.shape[3:])
        return np.moveaxis(apart, 2, 3)  # [R N C K ...]

    def on_sites(leaf: Any) -> np.ndarray:
        return leaf.reshape(*sites, *leaf.shape[1:])

    def together(name: str) -> Any:
        leaves = [jax.tree.map(by_label, getattr(one, name)) for one in found]
        return jax.tree.map(lambda *parts: on_sites(np.concatenate(parts, 3)), *leaves)

    convergence, params = (
        together("convergence"),
        jax.tree.map(lambda leaf: on_sites(by_label(leaf)[:, :, :, 0]), found[0].params),
    )
    n_hypers = 1 if splits.nested else len(jax.tree.leaves(hypers)[0])
    names = {name: tuple(along) for name, along in axes.items()}
    names |= {
        "seed": tuple(range(len(splits.fold))),
        "label": data.labels,
        "control": tuple(kinds),
        "hyper": tuple(range(n_hypers)),
    }
    return Probed(
        names,
        together("measures"),
        together("elsewhere"),
        together("scores"),
        together("chosen"),
        params,
        convergence,
        jax.tree.map(np.asarray, hypers),
        on_sites(np.asarray(data.y)),
        data.w,
        index,
        splits,
        target,
    )
