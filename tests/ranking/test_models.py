import json
import pickle

import numpy as np
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression

from astrid.errors import DataError
from astrid.evaluation.ranked import Ranked, average_precision
from astrid.ranking import Ranker, stored
from astrid.ranking.models import KINDS, fitted, names_of, raw_score


def candidates(n, seed, kind="trees"):
    """Real candidates are alike, false ones of three kinds."""
    rng = np.random.default_rng(seed)
    width = len(names_of(kind))
    is_real = rng.random(n) < 0.15
    features = rng.normal(0, 0.4, (n, width))
    false = rng.integers(3, size=n)
    for one in range(3):
        features[np.ix_(~is_real & (false == one), range(4 * one, 4 * one + 4))] += 1.5 + rng.normal(0, 0.3)
    return features, is_real


def precision(kind, model, features, is_real):
    score = raw_score(kind, model, features)
    return average_precision(Ranked(score, is_real, np.zeros(len(score), int), np.array([is_real.sum()])))


@pytest.fixture(scope="module")
def models():
    return {kind: fitted(kind, *candidates(800, 1, kind)) for kind in KINDS}


@pytest.mark.parametrize(
    ("kind", "least", "most"),
    [
        ("trees", 0.9, 1.0),
        ("combined", 0.9, 1.0),
        ("isolation_forest", 0.5, 1.0),
        ("one_class_svm", 0.4, 1.0),
        ("isolation_forest_on_all", 0.0, 0.3),
        ("one_class_svm_on_all", 0.0, 0.3),
    ],
)
def test_what_knows_reals_ranks_them_first_and_what_stands_out_is_an_artefact(models, kind, least, most):
    assert least <= precision(kind, models[kind], *candidates(800, 2, kind)) <= most


@pytest.mark.parametrize("kind", KINDS)
def test_models_come_back_from_disk_as_they_were(models, kind, tmp_path):
    path = tmp_path / f"{kind}.skops"
    stored.write(path, models[kind], stored.RankingCard(kind, 0.5, (0.0, 1.0), (0.0, 1.0)))
    model, card = stored.read(path)
    features, _ = candidates(100, 3, kind)
    np.testing.assert_array_equal(raw_score(kind, model, features), raw_score(kind, models[kind], features))
    assert card.features == names_of(kind)
    assert Ranker(kind, str(path)).threshold == 0.5


def test_the_same_seed_gives_the_same_model():
    features, is_real = candidates(300, 4)
    first, again = (fitted("isolation_forest", features, is_real, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.score_samples(features), again.score_samples(features))


@pytest.fixture
def path(models, tmp_path):
    stored.write(tmp_path / "own.skops", models["trees"], stored.RankingCard("trees", 0.5, (0.0, 1.0), (0.0, 1.0)))
    return tmp_path / "own.skops"


def test_a_changed_model_is_refused(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="sha256"):
        stored.read(path)


class Bomb:
    def __reduce__(self):
        return exec, ("raise RuntimeError('unpickled')",)


@pytest.mark.parametrize("name", ["model.pkl", "model.joblib", "model.skops"])
def test_nothing_is_unpickled(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match="pickles could run code"):
        stored.read(path)


def test_types_that_are_not_trusted_are_refused_before_they_are_made(path):
    import hashlib

    class Own(LogisticRegression):
        pass

    Own.__module__ = "elsewhere"
    content = skops.io.dumps(Own())
    path.write_bytes(content)
    card = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**card, "sha256": hashlib.sha256(content).hexdigest()}))
    with pytest.raises(DataError, match="not trusted"):
        stored.read(path)


@pytest.mark.parametrize("change", [{"version": 9}, {"kind": "oracle"}, {"features": ["significance"]}])
def test_models_of_other_features_are_refused(path, change):
    card = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**card, **change}))
    with pytest.raises(DataError, match="read here are"):
        stored.read(path)


def test_what_is_missing_is_named(path):
    path.with_suffix(".json").unlink()
    with pytest.raises(DataError, match=r"own\.json"):
        stored.read(path)
    with pytest.raises(DataError, match="no ranking model"):
        stored.path_of("trees", "nowhere.skops")


@pytest.mark.parametrize(
    ("kind", "features", "is_real", "message"),
    [
        ("oracle", np.zeros((9, 17)), [True] * 9, "no ranking model 'oracle'"),
        ("trees", np.zeros((9, 3)), [True] * 9, "needs 17 features"),
        ("trees", np.full((9, 17), np.nan), [True] * 9, "finite"),
        ("trees", np.zeros((9, 17)), [True] * 9, "9 real and 0 false"),
    ],
)
def test_examples_without_sense_are_refused(kind, features, is_real, message):
    with pytest.raises(ValueError, match=message):
        fitted(kind, features, np.array(is_real))


def test_a_ranker_without_sense_is_refused():
    with pytest.raises(ValueError, match="no ranking 'oracle'"):
        Ranker("oracle")
    with pytest.raises(ValueError, match="finite"):
        Ranker(least=float("nan"))
    with pytest.raises(ValueError, match="output of the U-Net"):
        Ranker("combined").score({}, 3.0)
