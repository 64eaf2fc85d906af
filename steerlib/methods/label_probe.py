r"""A small network that reads the true class from an activation, mixed into the model's answer.

Chapter: mera. What steers by the activations competes with what only reads them: if a probe knows
the answer, the answer can be corrected behind the model, log p <- log p_model + weight * log
p_probe. Nothing in the model changes, so this is no intervention.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import linear

from steerlib.core.classification import Answers, Problem, shared_classes
from steerlib.core.interventions import Origin
from steerlib.core.model import Model
from steerlib.core.positions import Positions, as_positions, last
from steerlib.core.sites import Site
from steerlib.methods.error_probes import known_answers, read_problems

HIDDEN = 32
DECAYS = (1.0, 10.0, 100.0, 1000.0, 10000.0)
_STEPS = 500


@dataclass(frozen=True)
class LabelQuality:
    """How well a probe reads the classes of problems that it was not fitted on.

    Args:
        accuracy: of its likeliest class.
        log_loss: in nats.
        dummy: the log loss of the shares of the classes, which reads nothing.
        auroc: of -log p_probe(what the model answers), for "the answer is wrong"; compares with
            that of an error probe. nan where all answers are right, or all wrong.
        n: problems.
    """

    accuracy: float
    log_loss: float
    dummy: float
    auroc: float
    n: int


@dataclass(frozen=True, eq=False)
class LabelProbe:
    """p_probe(class | h) = softmax(w2 relu(w1 h + b1) + b2).

    It corrects answers that are there: it is no intervention, and there is nothing to steer.

    Args:
        site: where it reads.
        classes: in the order of its outputs.
        w1, b1, w2, b2: (hidden, d), (hidden,), (classes, hidden), (classes,); it reads plain rows.
        decay: the weight decay that cross-validation chose.
        quality: cross-validated, on the problems that it was fitted on.
        positions: which token it reads.
        origin: the model.

    Chapter: mera.
    """

    site: Site
    classes: tuple[str, ...]
    w1: Float[Tensor, "hidden d"]
    b1: Float[Tensor, " hidden"]
    w2: Float[Tensor, "classes hidden"]
    b2: Float[Tensor, " classes"]
    decay: float
    quality: LabelQuality
    positions: Positions = last
    origin: Origin | None = None

    def log_p(self, h: Float[Tensor, "n d"]) -> Float[Tensor, "n classes"]:
        """log p_probe(class) of activations."""
        hidden = linear(h, self.w1, self.b1).relu()
        return linear(hidden, self.w2, self.b2).log_softmax(1)

    def answers(
        self,
        model: Model,
        problems: Sequence[Problem],
        weight: float,
        *,
        answers: Answers | None = None,
        batch_size: int = 64,
    ) -> Answers:
        """The model's answers, corrected: log p <- log p_model + weight * log p_probe, normalised.

        Args:
            weight: 0 is the model, exactly; from a large one on, the probe alone decides. A weight
                that is chosen has to be chosen on other problems than it is reported on.
            answers: the model's, where they are known already. One without a label stays so.

        Raises:
            ValueError: a weight below 0 or not finite, other classes than those of the probe, or
                answers to other problems.

        Chapter: mera.

        Example:
            >>> probe.answers(model, problems, 1.0).accuracy
        """
        if not 0 <= weight < math.inf:
            raise ValueError(f"a weight is a finite number of at least 0, got {weight}")
        known = known_answers(model, problems, answers, batch_size)
        if known.classes != self.classes:
            raise ValueError(f"the probe reads {self.classes}, the problems have {known.classes}")
        if weight == 0:
            return known
        h = read_problems(model, problems, [self.site], self.positions, batch_size)[self.site]
        mixed = (known.log_p + weight * self.log_p(h)).log_softmax(1)
        return replace(known, log_p=torch.where(known.found[:, None], mixed, known.log_p))


def label_probe(
    model: Model,
    problems: Sequence[Problem],
    site: Site,
    at: Positions | str = last,
    *,
    answers: Answers | None = None,
    folds: int = 5,
    seed: int = 0,
    batch_size: int = 64,
) -> LabelProbe:
    """A probe of the true class: one hidden layer of 32 units on standardised activations.

    A reconstruction of the idea of CORAL, not of its recipe. What CORAL reports: MLP probes with
    weight decay read correctness from activations, and their signal changes the answers to
    multiple-choice questions while the model runs; accuracy gains 10 points, the calibration error
    halves, on three models of 7B parameters. Here the probe is fitted on the true class and its
    log-probabilities are added behind the model.

    Args:
        site: where to read.
        at: which token, one in each prompt.
        answers: of these problems, where they are known already; only the quality needs them.
        folds: of the cross-validation that chooses the weight decay by its log loss.
        seed: of the folds and of the network's start.

    Raises:
        ValueError: a class with fewer problems than folds, answers to other problems, or positions
            that select several tokens of a prompt, or none.

    Source: after Miao, Cho and Ungar 2026 (CORAL, 2602.06022). Chapter: mera.

    Example:
        >>> probe = st.label_probe(model, problems, st.resid(3))
        >>> probe.quality.accuracy, probe.answers(model, problems, 1.0).accuracy
    """
    classes = shared_classes(problems)
    y = np.array([classes.index(problem.label) for problem in problems])
    _check(y, classes, folds)
    known = known_answers(model, problems, answers, batch_size)
    h = read_problems(model, problems, [site], at, batch_size)[site].double().numpy()
    best, decay, read = _fitted(h, y, folds, seed)
    quality = _quality(y, read, known)
    origin = Origin(model.id, model.revision, "label probe", seed)
    return LabelProbe(site, classes, *_folded(best), decay, quality, as_positions(at), origin)


def _check(y: Int[np.ndarray, " n"], classes: tuple[str, ...], folds: int) -> None:
    counts = {name: int((y == number).sum()) for number, name in enumerate(classes)}
    if folds < 2 or min(counts.values()) < folds:
        raise ValueError(
            f"{folds} folds (at least 2) need {folds} problems of each class, got {counts}"
        )


def _fitted(
    h: Float[np.ndarray, "n d"], y: Int[np.ndarray, " n"], folds: int, seed: int
) -> tuple[Any, float, Float[np.ndarray, "n classes"]]:
    """The pipeline, its weight decay, and p of each class by others that did not see the row."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_predict
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    network = MLPClassifier((HIDDEN,), solver="lbfgs", max_iter=_STEPS, random_state=seed)
    pipeline, name = make_pipeline(StandardScaler(), network), "mlpclassifier__alpha"
    inner, outer = (StratifiedKFold(folds, shuffle=True, random_state=seed + i) for i in (0, 1))
    grid = {name: DECAYS}
    search = GridSearchCV(pipeline, grid, scoring="neg_log_loss", cv=inner, refit=False)
    with warnings.catch_warnings():
        # Too weak a decay may not converge: it is not chosen then.
        warnings.simplefilter("ignore", ConvergenceWarning)
        best = pipeline.set_params(**search.fit(h, y).best_params_)
    # Other folds than those that chose the weight decay.
    read = cross_val_predict(best, h, y, cv=outer, method="predict_proba")
    return best.fit(h, y), search.best_params_[name], read


def _folded(pipeline: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The layers, with the standardisation folded in; two classes get two outputs, 0 and x."""
    scaler, network = pipeline[0], pipeline[1]
    w1 = network.coefs_[0].T / scaler.scale_
    b1 = network.intercepts_[0] - w1 @ scaler.mean_
    w2, b2 = network.coefs_[1].T, network.intercepts_[1]
    if len(w2) == 1:
        w2, b2 = np.concatenate([0 * w2, w2]), np.concatenate([0 * b2, b2])
    w1, b1, w2, b2 = (torch.from_numpy(x).float() for x in (w1, b1, w2, b2))
    return w1, b1, w2, b2


def _quality(
    y: Int[np.ndarray, " n"], read: Float[np.ndarray, "n classes"], known: Answers
) -> LabelQuality:
    from sklearn.metrics import log_loss, roc_auc_score

    kinds = list(range(read.shape[1]))
    shares = np.bincount(y) / len(y)
    answered = known.found.numpy()
    said = known.predicted.numpy()[answered]
    wrong = said != y[answered]
    score = -np.log(np.maximum(read[answered, said], np.finfo(float).tiny))
    auroc = float(roc_auc_score(wrong, score)) if 0 < wrong.sum() < len(wrong) else math.nan
    return LabelQuality(
        accuracy=float((read.argmax(1) == y).mean()),
        log_loss=float(log_loss(y, read, labels=kinds)),
        dummy=float(-(shares * np.log(shares)).sum()),
        auroc=auroc,
        n=len(y),
    )
