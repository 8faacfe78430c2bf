import numpy as np
import pytest

from astrid.detection.matched_filter import MatchedFilter
from astrid.detection.unet.detector import Unet
from astrid.ranking import Ranker
from astrid.ranking.models import KINDS
from astrid.schema import CANDIDATES
from astrid.simulation.harsh import harsh_tile
from astrid.simulation.seeds import seed_of
from astrid.stores.tables import read_json, read_table
from astrid.workflow.examples import harsh_difference
from astrid.workflow.ranked import RankedDetector
from tests.workflow.conftest import night

SHIPPED = ("trees", "combined", "isolation_forest", "one_class_svm")


@pytest.fixture(scope="module")
def tiles():
    made = [harsh_tile(seed_of(23, number)) for number in range(8)]
    return [(tile, harsh_difference(tile)) for tile in made]


@pytest.mark.parametrize("kind", SHIPPED)
def test_rankers_in_the_package_leave_artefacts(tiles, kind):
    detector = RankedDetector(MatchedFilter(threshold=4.0, both_signs=False, max_chi2=None), Ranker(kind))
    assert detector.name == f"matched_filter+{kind}"
    false = found = bright = 0
    for tile, difference in tiles:
        ranked = detector(difference)
        assert ((ranked.score >= 0) & (ranked.score <= 1)).all()
        assert (np.diff(ranked.score) <= 0).all()
        away = np.hypot(ranked.y[:, None] - tile.y, ranked.x[:, None] - tile.x)
        false += int((away.min(axis=1, initial=99) > 3).sum())
        good = (tile.snr > 10) & (difference.mask[tuple(np.rint([tile.y, tile.x]).astype(int))] == 0)
        bright += int(good.sum())
        found += int((away[:, good].min(axis=0, initial=99) < 2).sum())
    assert false <= 6  # of some 180
    assert found >= (0.75 if kind in ("trees", "combined") else 0.2) * bright


def test_a_detector_may_be_ranked_by_any_kind():
    for kind in KINDS:
        assert RankedDetector(Unet(), Ranker(kind, least=0.0)).threshold == 0.0


@pytest.fixture(scope="module")
def learned(undisturbed, tmp_path_factory):
    import shutil

    from tests.workflow.conftest import Place

    folder = tmp_path_factory.mktemp("learned")
    shutil.copytree(undisturbed.folder, folder / "copy")
    place = Place(folder / "copy")
    for name, words in (("unet", ("detection=unet",)), ("trees", ("ranking=trees",))):
        ended = place("run", *night(name, *words))
        assert ended.code == 0, ended.out + ended.err
    return place


@pytest.mark.parametrize(("name", "detector"), [("unet", "unet"), ("trees", "matched_filter+trees")])
def test_a_run_scores_its_candidates_and_sets_the_matched_filter_beside(learned, name, detector):
    folder = learned.run(name)
    candidates = read_table(folder / "candidates.parquet", CANDIDATES)
    scores = candidates["score"].to_numpy()
    assert len(scores)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert set(candidates["detector"].to_pylist()) == {detector}
    rows = [row for row in read_json(folder / "metrics.json")["rows"] if row["truth"] == "injections"]
    assert [row["detector"] for row in rows] == [detector, "matched_filter"]
    assert rows[0]["n_true"] == rows[1]["n_true"]
    assert rows[0]["recall"] > 0.5


def test_the_matched_filter_beside_is_that_of_a_run_of_its_own(learned, undisturbed):
    alone = next(r for r in read_json(undisturbed.run("night") / "metrics.json")["rows"] if r["truth"] == "injections")
    beside = read_json(learned.run("trees") / "metrics.json")["rows"]
    beside = next(r for r in beside if (r["truth"], r["detector"]) == ("injections", "matched_filter"))
    for name in ("recall", "precision", "n_false", "localization"):
        assert beside.get(name) == pytest.approx(alone.get(name))
