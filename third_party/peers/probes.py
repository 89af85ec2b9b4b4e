"""Probes at all sites, regularisations, folds and controls: against scikit-learn.

    ./launch/peers probes [--quick] [--widths 256 768] [--rounds 3]

12 layers × 16 positions × 17 regularisations × 5 folds × 3 targets (the label, its shuffle, its control task), 4,000 examples
of float32 activations with a decaying spectrum. First single fits of both sides must agree in float64: ridge and discriminants
to 1e-6, logistic regression to 1e-6 in its loss and 1e-3 in its coefficients. What the engine and the loop rank alike of the
examples held out is told too.

Then they take turns. The library runs whole sites, `--sites` of the 192, with what it always does besides: a random direction,
and the fit of all folds. scikit-learn runs some folds of sites in turn. Both are multiplied up to the 192 sites; both measure
what they hold out (accuracy, balanced accuracy, AUROC). Sides:

    loop         a fit for each site × fold × regularisation × target, as people write it
    RidgeCV      a fit for each site × fold, of all targets: leaving one out over all regularisations, scored at the best
    warm start   logistic fits from the strongest regularisation to the weakest, each beginning where the last one ended

The floor is the time of the products that cannot be left out, at the rate that a large product reaches here: the Gram matrix
of all examples once, a Cholesky factorisation (d³/3) for each fold and regularisation, also of the fit of all folds; of
logistic regression two products with x for each of Newton's steps of each member.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

from interp_jax.probes import lda, logistic, ridge
from interp_jax.probes.everywhere import Examples, everywhere
from interp_jax.probes.result import Probed
from interp_jax.probes.splits import Splits, cross_validation
from third_party.peers._rate import product_rate

SITES, FOLDS, TARGETS = 12 * 16, 5, ("true", "shuffled", "types")
PENALTIES = np.geomspace(1e-2, 1e6, 17)
TOLERANCE = 1e-4  # scikit-learn's default: the largest entry of the mean gradient
OURS = "interp_jax"
BARS = {"loop": {"ridge": 20.0, "logistic": 4.0}, "RidgeCV": {"ridge": 4.0}}


class Data(NamedTuple):
    """Activations of some sites [S B D], the label, and types of examples."""

    x: np.ndarray
    y: np.ndarray
    types: np.ndarray


def make(n_sites: int, n: int, d: int) -> Data:
    """Features of variance about 1, in a basis turned from that of their power-law spectrum. The label is linear, with noise.

    The first site has it in directions of all sizes; others besides along one direction of their own, where it is easy.
    """
    rng = np.random.default_rng(0)
    scale = (1 + np.arange(d)) ** -0.5
    turn = np.linalg.qr(rng.normal(size=(d, d)))[0] * (d / np.square(scale).sum()) ** 0.5
    s = rng.normal(size=(n_sites, n, d))
    w = rng.normal(size=d)
    y = s[0] @ w / np.linalg.norm(w) + 0.7 * rng.normal(size=n) > 0
    x = (s * scale) @ turn + rng.normal(size=d)
    x[1:] += 2 * (y[None, :, None] - 0.5) * rng.normal(size=(n_sites - 1, 1, d)) * 3 / d**0.5
    return Data(x.astype(np.float32), y.astype(np.float32), rng.integers(0, n // 20, n))


def check(data: Data) -> dict[str, float]:
    """Relative differences of single fits, in float64."""
    x, y = data.x[0].astype(np.float64), data.y.astype(np.float64)
    away = lambda a, b: float(np.abs(np.asarray(a) - b).max() / np.abs(b).max())
    with jax.enable_x64(True):
        arguments = None, jnp.array(x), jnp.array(y), jnp.ones(len(y))
        ours = ridge.fit(*arguments, ridge.Hypers(3.0))
        theirs = Ridge(alpha=3.0).fit(x, y)
        found = {"ridge": max(away(ours.weights, theirs.coef_), away(ours.bias, theirs.intercept_))}
        ours = lda.fit(*arguments, lda.Hypers(0.01))
        theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.01).fit(x, y)
        found["lda"] = max(away(ours.weights, theirs.coef_[0]), away(ours.bias, theirs.intercept_))
        ours = logistic.fit(*arguments, logistic.Hypers(3.0), tolerance=1e-10)
        theirs = LogisticRegression(C=1 / 3.0, tol=1e-8, max_iter=10_000).fit(x, y)
        loss = lambda w, b: np.logaddexp(0, x @ w + b).sum() - y @ (x @ w + b) + 1.5 * w @ w
        best = loss(theirs.coef_[0], theirs.intercept_[0])
        found["logistic loss"] = abs(loss(np.asarray(ours.weights), float(ours.bias)) - best) / best
        found["logistic coefficients"] = away(ours.weights, theirs.coef_[0])
    limits = {"ridge": 1e-6, "lda": 1e-6, "logistic loss": 1e-6, "logistic coefficients": 1e-3}
    if wrong := {name: value for name, value in found.items() if not value <= limits[name]}:
        raise SystemExit(f"single fits differ, so nothing was timed: {wrong}")
    return found


def ours(kind: str, data: Data, splits: Splits) -> Probed:
    """All of these sites."""
    probe = ridge.CLASSIFIER if kind == "ridge" else LOGISTIC
    hypers = (ridge if kind == "ridge" else logistic).Hypers(PENALTIES)
    axes = {"site": tuple(range(len(data.x)))}
    return everywhere(
        probe, Examples(data.x, data.y, types=data.types), splits, hypers, axes=axes, without=("untrained",)
    )


LOGISTIC = logistic.PROBE._replace(fit=partial(logistic.fit, tolerance=TOLERANCE))


def measured(z: np.ndarray, y: np.ndarray, middle: float) -> tuple[float, ...]:
    """What both sides measure."""
    said = z > middle
    return accuracy_score(y, said), balanced_accuracy_score(y, said), roc_auc_score(y, z)


def loop(kind: str, x: np.ndarray, targets: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """AUROC [T H] of one fold of one site."""
    found = []
    for y in targets:
        for penalty in PENALTIES:
            model = Ridge(alpha=penalty) if kind == "ridge" else regression(penalty)
            model.fit(x[train], y[train])
            z = model.predict(x[test]) if kind == "ridge" else model.decision_function(x[test])
            found.append(measured(z, y[test], 0.5 if kind == "ridge" else 0.0)[2])
    return np.reshape(found, (len(targets), -1))


def regression(penalty: float, warm: bool = False) -> LogisticRegression:
    """Scikit-learn's, of the same penalty and tolerance."""
    return LogisticRegression(C=1 / penalty, tol=TOLERANCE, max_iter=10_000, warm_start=warm)


def ridge_cv(x: np.ndarray, targets: np.ndarray, train: np.ndarray, test: np.ndarray) -> None:
    """One fold of one site, all targets at once."""
    model = RidgeCV(alphas=PENALTIES, alpha_per_target=True).fit(x[train], targets[:, train].T)
    for z, y in zip(model.predict(x[test]).T, targets, strict=True):
        measured(z, y[test], 0.5)


def warm_start(x: np.ndarray, targets: np.ndarray, train: np.ndarray, test: np.ndarray) -> None:
    """One fold of one site, along the path."""
    for y in targets:
        model = regression(PENALTIES[-1], warm=True)
        for penalty in PENALTIES[::-1]:
            model.set_params(C=1 / penalty).fit(x[train], y[train])
            measured(model.decision_function(x[test]), y[test], 0.0)


def floor(kind: str, n: int, d: int, rate: float, steps: float) -> float:
    """Seconds of all sites' products."""
    if kind == "ridge":
        return SITES * (n * d**2 + (FOLDS + 1) * len(PENALTIES) * d**3 / 3) / rate
    return SITES * 4.0 * n * d * steps / rate


def measure(kind: str, data: Data, rounds: int, rate: float, console: Console) -> dict[str, Any]:
    """One row: seconds of all 192 sites."""
    n, d = data.x.shape[1:]
    splits = cross_validation(n, FOLDS, strata=data.y)
    started = time.perf_counter()
    probed = ours(kind, data, splits)
    compiled = time.perf_counter() - started
    targets = np.stack([probed.targets(name)[0, 0, 0] for name in TARGETS])
    fold = splits.fold[0]
    parts = [(np.flatnonzero(fold != f), np.flatnonzero(fold == f)) for f in range(FOLDS)]
    sides: dict[str, Callable[[int], Any]] = {"loop": lambda r: loop(kind, data.x[0], targets, *parts[r % FOLDS])}
    if kind == "ridge":
        sides["RidgeCV"] = lambda r: ridge_cv(data.x[0], targets, *parts[r % FOLDS])
    else:
        sides["warm start"] = lambda r: warm_start(data.x[0], targets, *parts[r % FOLDS])
    seconds: dict[str, list[float]] = {OURS: [], **{who: [] for who in sides}}
    away = 0.0
    for r in range(rounds):
        started = time.perf_counter()
        ours(kind, data, splits)
        seconds[OURS].append((time.perf_counter() - started) * SITES / len(data.x))
        for who, run in sides.items():
            started = time.perf_counter()
            found = run(r)
            seconds[who].append((time.perf_counter() - started) * SITES * FOLDS)
            if who == "loop":
                away = max(away, difference(probed, targets, found, r % FOLDS))
    steps = 0.0 if probed.convergence is None else float(probed.convergence.steps[0, 0, 0, :3].sum())
    row = {
        "kind": kind,
        "d": d,
        "n": n,
        "seconds": {who: statistics.median(taken) for who, taken in seconds.items()},
        "ratios": {who: statistics.median(np.array(t) / np.array(seconds[OURS])) for who, t in seconds.items()},
        "floor": floor(kind, n, d, rate, steps),
        "first call": compiled,
        "AUROC differ by": away,
        "unconverged": len(probed.unconverged()),
    }
    told = ", ".join(f"{who} {ratio:.1f}×" for who, ratio in row["ratios"].items() if who != OURS)
    console.print(
        f"{kind}, d = {d}: {row['seconds'][OURS]:.1f} s; {told}; AUROC differ by {away:.1e}; first call {compiled:.1f} s",
        highlight=False,
    )
    return row


def difference(probed: Probed, targets: np.ndarray, found: np.ndarray, fold: int) -> float:
    """The largest of the AUROC [T H] of a fold of the first site."""
    rows = probed.splits.fold[0] == fold
    z = probed.scores[0, 0, 0, : len(targets), :, rows]
    own = [
        [roc_auc_score(y[rows], scores) for scores in of_target]
        for y, of_target in zip(targets, np.moveaxis(z, 0, -1), strict=True)
    ]
    return float(np.abs(np.array(own) - found).max())


def show(rows: list[dict[str, Any]], console: Console) -> None:
    """The table."""
    peers = ("loop", "RidgeCV", "warm start")
    table = Table("kind", "d", OURS, "times the floor", *(f"{who}: we are" for who in peers))
    for row in rows:
        own = row["seconds"][OURS]
        told = [row["kind"], f"{row['d']}", f"{own:.1f} s", f"{own / row['floor']:.1f}"]
        for who in peers:
            bar = BARS.get(who, {}).get(row["kind"])
            ratio = row["ratios"].get(who)
            told.append("" if ratio is None else f"{ratio:.1f}×" + ("" if bar is None else f" (bar {bar:g})"))
        table.add_row(*told)
    console.print(table)


def main() -> None:
    """Check, measure, print, and end with a line of JSON."""
    parser = argparse.ArgumentParser(prog="probes.py", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small shapes")
    parser.add_argument("--widths", nargs="+", type=int, default=[256, 768])
    parser.add_argument("--kinds", nargs="+", default=["ridge", "logistic"], choices=["ridge", "logistic"])
    parser.add_argument("--sites", type=int, default=2, help="how many of the 192 the library runs in a turn")
    parser.add_argument("--rounds", type=int, default=3, help="how often the sides take turns")
    options = parser.parse_args()
    console, rate, rows, checks = Console(width=140), product_rate(jnp.float32, 2_048), [], {}
    console.print(f"floor: matrix products at {rate / 1e9:.0f} GFLOP/s", highlight=False)
    for d in [32] if options.quick else options.widths:
        data = make(options.sites, 400 if options.quick else 4_000, d)
        checks[d] = check(data)
        console.print(
            f"single fits, d = {d}: " + ", ".join(f"{k} {v:.0e}" for k, v in checks[d].items()), highlight=False
        )
        for kind in options.kinds:
            rows.append(measure(kind, data, 1 if options.quick else options.rounds, rate, console))
    show(rows, console)
    print(json.dumps({"benchmark": "probes", "gflops": rate / 1e9, "checks": checks, "rows": rows}))


if __name__ == "__main__":
    main()
