"""The models of rankers: how each is fitted, and what its score is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, IsolationForest
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import QuantileTransformer
from sklearn.svm import OneClassSVM

from astrid.ranking.features import FEATURES, NETWORK

Floats = NDArray[np.float64]

KINDS = (
    "trees",
    "combined",
    "isolation_forest",
    "isolation_forest_on_all",
    "one_class_svm",
    "one_class_svm_on_all",
)
MOST_FOR_SVM = 4000  # examples: its time goes with their square


def names_of(kind: str) -> tuple[str, ...]:
    """Return the features that a model of a kind sees."""
    return (*FEATURES, NETWORK) if kind == "combined" else FEATURES


def fitted(kind: str, features: Floats, is_real: NDArray[np.bool_], seed: int = 1) -> Any:
    """Fit a model.

    "trees" and "combined" are gradient-boosted trees that learn from real and false candidates (Ke et al. 2017; the
    combined one sees the output of the U-Net too). "isolation_forest" (Liu et al. 2008) and "one_class_svm" (Schoelkopf
    et al. 2001) learn what real ones look like; with "_on_all" they learn from all candidates, not told which are real,
    and what stands out counts.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    features : (n, k) array
        See `astrid.ranking.features.features_of`.
    is_real : (n,) bool array
        Which are.
    seed : int
        Of what is drawn.

    Raises
    ------
    ValueError
        If there is no such kind, the features are not those, or examples are missing.
    """
    if kind not in KINDS:
        raise ValueError(f"no ranking model {kind!r}; there are {', '.join(KINDS)}")
    if features.ndim != 2 or features.shape[1] != len(names_of(kind)):
        raise ValueError(f"{kind} needs {len(names_of(kind))} features, got an array of {features.shape}")
    if not np.isfinite(features).all():
        raise ValueError("features must be finite; see astrid.ranking.features.features_of")
    if is_real.sum() < 2 or (~is_real).sum() < 2:
        raise ValueError(f"two examples of each kind at least, got {is_real.sum()} real and {(~is_real).sum()} false")
    if kind in ("trees", "combined"):
        trees = HistGradientBoostingClassifier(
            max_iter=300, learning_rate=0.06, max_leaf_nodes=15, l2_regularization=1.0, random_state=seed
        )
        return trees.fit(features, is_real)
    some = features if kind.endswith("_on_all") else features[is_real]
    if kind.startswith("isolation_forest"):
        return IsolationForest(max_samples=min(256, len(some)), random_state=seed).fit(some)
    rng = np.random.default_rng(seed)
    some = some[rng.permutation(len(some))[:MOST_FOR_SVM]]
    scaled = QuantileTransformer(n_quantiles=min(200, len(some)), output_distribution="normal", random_state=seed)
    return Pipeline([("scale", scaled), ("svm", OneClassSVM(nu=0.1, gamma="scale"))]).fit(some)


def raw_score(kind: str, model: Any, features: Floats) -> Floats:
    """Return what a model says of candidates, higher for likelier ones, (n,).

    The probability of trees; of the others how normal a candidate is, with "_on_all" how much it stands out.
    """
    if not len(features):
        return np.zeros(0)
    if kind in ("trees", "combined"):
        return np.asarray(model.predict_proba(features)[:, 1], np.float64)
    normal = np.asarray(model.score_samples(features), np.float64)
    return -normal if kind.endswith("_on_all") else normal
