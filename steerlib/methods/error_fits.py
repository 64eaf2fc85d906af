r"""Fitting a linear estimate of the error to activations, and how well it reads other answers.

Chapter: mera. Activations are standardised for the fit and the log-odds of the error too, so that a
penalty means the same at every layer; both are folded back into w and b.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float

Kind = Literal["lasso", "ridge", "logistic"]
Fit = Kind | Literal["along"]  # least squares along one direction: no penalty to choose
PENALTIES: dict[Kind, tuple[float, ...]] = {
    "lasso": (0.5, 0.25, 0.1, 0.05, 0.01, 0.005),  # as in the paper's code
    "ridge": tuple(10.0**k for k in range(7)),
    "logistic": (0.001, 0.01, 0.1, 1.0, 10.0),  # C: the inverse strength of the penalty
}
_STEPS = 5000  # of a solver, at most


@dataclass(frozen=True)
class Quality:
    """How well a probe reads the error of answers that it was not fitted on.

    Args:
        rmse: of y = logit E, in nats; nan for a logistic probe.
        dummy: the same of the mean of y, which reads nothing.
        r2: 1 - (rmse / dummy)^2; nan for a logistic probe.
        auroc: of the score for "the answer is wrong"; .5 reads nothing, nan without both classes.
        n: answers.
    """

    rmse: float
    dummy: float
    r2: float
    auroc: float
    n: int


def quality_of(
    y: Float[np.ndarray, " n"],
    estimate: Float[np.ndarray, " n"] | None,
    score: Float[np.ndarray, " n"],
    wrong: Bool[np.ndarray, " n"],
    dummy: Float[np.ndarray, " n"] | None = None,
) -> Quality:
    """The quality of an estimate of y (None: it estimates something else) and of a score.

    Args:
        dummy: the estimate that reads nothing; None: the mean of y.
    """
    from sklearn.metrics import roc_auc_score

    nothing = _rmse(y, np.full_like(y, y.mean()) if dummy is None else dummy)
    rmse = math.nan if estimate is None else _rmse(y, estimate)
    both = 0 < wrong.sum() < len(wrong)
    auroc = float(roc_auc_score(wrong, score)) if both else math.nan
    r2 = 1 - (rmse / nothing) ** 2 if nothing else math.nan
    return Quality(rmse, nothing, r2, auroc, len(y))


def _rmse(y: Float[np.ndarray, " n"], estimate: Float[np.ndarray, " n"]) -> float:
    return float(np.sqrt(np.mean((y - estimate) ** 2)))


def check_targets(
    kind: Fit, y: Float[np.ndarray, " n"], wrong: Bool[np.ndarray, " n"], folds: int
) -> None:
    """Raise a ValueError if there is too little to fit, or nothing that varies."""
    if folds < 2 or len(y) < 2 * folds:
        raise ValueError(
            f"{folds} folds (at least 2) need {2 * folds} problems, but {len(y)} are left after "
            "the choice by label and answer"
        )
    if kind == "logistic" and min(wrong.sum(), (~wrong).sum()) < folds:
        raise ValueError(
            f"a logistic probe needs right and wrong answers, {folds} of each; of {len(y)} are "
            f"{wrong.sum()} wrong. Take more problems, or harder ones"
        )
    if np.ptp(y) == 0:
        raise ValueError(f"the error is the same for all {len(y)} problems: nothing to fit")


def fit_error(
    h: Float[np.ndarray, "n d"],
    y: Float[np.ndarray, " n"],
    wrong: Bool[np.ndarray, " n"],
    kind: Fit,
    folds: int,
    seed: int,
) -> tuple[Float[np.ndarray, " d"], float, Quality]:
    """w and b in the raw basis, fitted on all rows, and the cross-validated quality.

    Both the estimate and the dummy of a row come from the other folds. The score of the AUROC is
    their difference: offsets of different fits would not compare. In each fold "lasso" and "ridge"
    choose their penalty anew; "logistic", where that would take long, keeps the one of all rows,
    chosen by other folds.
    """
    from sklearn.dummy import DummyRegressor
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    logistic = kind == "logistic"
    centre, scale = (0.0, 1.0) if logistic else (float(y.mean()), float(y.std()))
    target = wrong if logistic else (y - centre) / scale
    fitted = make_pipeline(StandardScaler(), _estimator(kind, folds, seed)).fit(h, target)
    if logistic:
        fitted = make_pipeline(fitted[0], fitted[1].best_estimator_)
    others = _folds(kind, folds, seed + 1)
    method = "decision_function" if logistic else "predict"
    read = cross_val_predict(fitted, h, target, cv=others, method=method)
    base = cross_val_predict(DummyRegressor(), h, target.astype(float), cv=others.split(h, target))
    if logistic:
        quality = quality_of(y, None, read - np.log(base / (1 - base)), wrong)
    else:
        estimate, dummy = centre + scale * read, centre + scale * base
        quality = quality_of(y, estimate, read - base, wrong, dummy)
    scaler, linear = fitted
    w = scale * np.ravel(linear.coef_) / scaler.scale_
    b = centre + scale * float(np.ravel(linear.intercept_)[0]) - float(w @ scaler.mean_)
    return w, b, quality


def _estimator(kind: Fit, folds: int, seed: int) -> Any:
    """An estimator that chooses its penalty by held-out rows: folds, or each row alone (ridge)."""
    from sklearn import linear_model as linear
    from sklearn.model_selection import GridSearchCV

    if kind == "along":
        return linear.LinearRegression()
    grid = PENALTIES[kind]
    if kind == "ridge":
        return linear.RidgeCV(alphas=grid)
    cv = _folds(kind, folds, seed)
    if kind == "lasso":
        return linear.LassoCV(alphas=grid, cv=cv, max_iter=_STEPS)
    model = linear.LogisticRegression(max_iter=_STEPS)
    return GridSearchCV(model, {"C": grid}, scoring="neg_log_loss", cv=cv)


def _folds(kind: Fit, folds: int, seed: int) -> Any:
    from sklearn.model_selection import KFold, StratifiedKFold

    split = StratifiedKFold if kind == "logistic" else KFold
    return split(folds, shuffle=True, random_state=seed)
