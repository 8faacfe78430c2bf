import numpy as np
import pyarrow as pa
import pytest

from astrid.evaluation.ranked import average_precision
from astrid.schema import INJECTIONS, SCORED
from astrid.workflow.protocol import apart, compared, ranking_of, scored_table
from astrid.workflow.verdicts import COUNTS, VERDICTS


def table(schema, rows):
    return pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)


def cell(number):
    return {"tile": 0, "epoch": number, "band": "r"}


def night(n_cells=12, *, found=(("one", 0.9, 3), ("other", 0.6, 3))):
    """Each cell has ten injections, of which each detector finds some, and false alarms below them."""
    rng = np.random.default_rng(1)
    scored, injections, counts = [], [], []
    for number in range(n_cells):
        for detector, part, n_false in found:
            for k in range(10):
                hit = rng.random() < part
                place = {"y": 10.0 * k, "x": 5.0, "host": "galaxy" if k % 2 else "field", "is_near_star": k == 9}
                injections.append(
                    {**cell(number), **place, "detector": detector, "snr": 10.0 + k, "flux": 100.0 + k, "mask_bits": 0,
                     "recovered_by": detector if hit else None}
                )  # fmt: skip
                if hit:
                    said = {"significance": 10.0 + k, "score": 0.9, "verdict": "true", "is_injected": True}
                    scored.append({**cell(number), **place, "detector": detector, **said})
            for k in range(n_false):
                said = {"significance": -6.0, "score": 0.2, "verdict": "false", "is_injected": False}
                scored.append({**cell(number), "y": 1.0 * k, "x": 90.0, "detector": detector, **said})
            counts.append({**cell(number), "detector": detector, "megapixels": 0.1, "n_false": n_false})
    return table(SCORED, scored), table(INJECTIONS, injections), table(COUNTS, counts)


def test_the_configured_detector_is_compared_with_each_other_on_the_same_cells():
    said = compared(["one", "other"], *night())
    assert set(said["curves"]) == {"one", "other"}
    gain = said["paired"][0]
    assert (gain["detector"], gain["against"]) == ("one", "other")
    assert gain["average_precision"]["low"] > 0
    ends = [said["curves"][name]["recall"][-1] for name in ("one", "other")]
    assert gain["recall_at_false_alarms"]["value"] == pytest.approx(ends[0] - ends[1])
    assert said["curves"]["one"]["calibration_error"] == pytest.approx(
        np.average([0.1, 0.2], weights=[ends[0] * 120, 36]), abs=1e-6
    )


def test_few_cells_have_curves_without_intervals():
    said = compared(["one"], *night(3))
    assert said["paired"] == []
    assert said["curves"]["one"]["average_precision"]["low"] is None


def test_without_scores_the_absolute_significance_ranks():
    scored, injections, _ = night()
    blind = scored.set_column(scored.column_names.index("score"), "score", pa.nulls(len(scored), pa.float64()))
    cells = [(0, number, "r") for number in range(12)]
    ranked, probability = ranking_of("one", cells, blind, injections)
    assert probability is None
    assert ranked.score.min() == 6.0
    assert average_precision(ranked) == pytest.approx(ranked.is_true.sum() / 120)


def test_faint_and_masked_injections_and_what_was_ignored_do_not_count():
    scored, injections, _ = night(1)
    rows = injections.to_pylist()
    rows[0]["snr"], rows[1]["mask_bits"] = 4.0, 1
    extra = {**scored.to_pylist()[0], "verdict": "ignored"}
    ranked, _ = ranking_of(
        "one", [(0, 0, "r")], pa.concat_tables([scored, table(SCORED, [extra])]), table(INJECTIONS, rows)
    )
    assert ranked.n_true.tolist() == [8]
    assert len(ranked.score) == len(scored.filter(pa.compute.equal(scored["detector"], "one")))


def test_both_passes_are_joined_in_a_fixed_order():
    scored, _, _ = night(2)
    plain = [
        {"detector": "a", **cell(k), "y": 3.0, "x": 4.0, "significance": 7.0, "verdict": "false", "is_near_star": False}
        for k in (1, 0)
    ]
    both = scored_table(table(VERDICTS, plain), scored)
    assert both.schema == SCORED
    assert len(both) == len(scored) + 2
    assert both["epoch"].to_pylist()[:2] == [0, 1]
    assert both["is_injected"].to_pylist()[:2] == [False, False]


def test_magnitudes_take_the_zero_point_of_their_own_cell():
    _, injections, _ = night(2, found=(("one", 0.5, 0),))
    zero_point = np.full((1, 2, 2), np.nan)
    zero_point[0, :, 1] = 25.0, 27.0
    said = apart(injections, zero_point, ("g", "r"))["one"]
    assert list(said["place"]) == ["empty field", "galaxy", "near a bright star"]
    assert [one["n"] for one in said["place"].values()] == [10, 8, 2]
    bins = said["magnitude"]["bins"]
    assert bins[0]["magnitude_bright"] == pytest.approx(25 - 2.5 * np.log10(109))
    assert bins[-1]["magnitude_faint"] == pytest.approx(27 - 2.5 * np.log10(100))
    assert apart(injections, np.full((1, 2, 2), np.nan), ("g", "r"))["one"]["magnitude"] is None
