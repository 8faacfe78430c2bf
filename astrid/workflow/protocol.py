"""What an evaluation says beyond the rows of its metrics: curves, intervals, differences between detectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from astrid.evaluation.compared import REPEATS, curves, paired, resampled
from astrid.evaluation.metrics import IGNORED_BELOW_SNR
from astrid.evaluation.places import completeness_by_magnitude, completeness_by_place, place_of
from astrid.evaluation.ranked import Ranked
from astrid.schema import SCORED

SEED = 1  # of the bootstrap
FEWEST_CELLS = 10  # that an interval is made of
_CELL = ("tile", "epoch", "band")


def scored_table(verdicts: pa.Table, found: pa.Table) -> pa.Table:
    """Join the detections of both passes.

    Parameters
    ----------
    verdicts : table
        `astrid.workflow.verdicts.VERDICTS`: of the pass without injections.
    found : table
        `astrid.schema.SCORED`: what lies at injections in the pass with them.

    Returns
    -------
    table
        `astrid.schema.SCORED`, in a fixed order.
    """
    plain = verdicts.append_column("is_injected", pa.array([False] * len(verdicts), pa.bool_()))
    both = pa.concat_tables([plain.select(SCORED.names).cast(SCORED), found.cast(SCORED)])
    return both.sort_by([(name, "ascending") for name in ("detector", *_CELL, "is_injected", "y", "x")])


def compared(
    detectors: Sequence[str], scored: pa.Table, injections: pa.Table, counts: pa.Table
) -> dict[str, dict[str, Any] | list[dict[str, Any]]]:
    """Return the curves of each detector, and by how much the first exceeds each other.

    True are recovered injections; false are the false alarms of the same cells without injections, and second
    detections of injections. What ranks is the score, without one the absolute significance. Curves begin at what a
    detector reports: below its threshold nothing is known. Bootstrap samples are of cells, the same for all detectors.

    Parameters
    ----------
    detectors : sequence of str
        The configured one first.
    scored, injections, counts : tables
        `SCORED`, `INJECTIONS` and `astrid.workflow.verdicts.COUNTS` of all of them.

    Returns
    -------
    dict
        ``curves``: of each detector, see `astrid.evaluation.compared.curves`; ``paired``: one entry for each other
        detector: ``detector, against``, and the differences ``average_precision`` and ``recall_at_false_alarms`` with
        intervals. Intervals of fewer than ten cells are null.
    """
    cells = sorted({_place(row) for row in counts.select(_CELL).to_pylist()})
    weights = resampled(len(cells), np.random.default_rng(SEED), REPEATS if len(cells) >= FEWEST_CELLS else 0)
    rankings, said = {}, {}
    for name in detectors:
        ranked, probability = ranking_of(name, cells, scored, injections)
        area = _areas(name, cells, counts)
        rankings[name] = ranked
        said[name] = curves(ranked, area, weights, probability)
    differences = []
    for other in detectors[1:]:
        gains = paired(rankings[detectors[0]], rankings[other], _areas(detectors[0], cells, counts), weights)
        names = ("average_precision", "recall_at_false_alarms")
        values = {name: gain.as_dict() for name, gain in zip(names, gains, strict=True)}
        differences.append({"detector": detectors[0], "against": other, **values})
    return {"curves": said, "paired": differences}


def ranking_of(
    detector: str, cells: Sequence[tuple[Any, ...]], scored: pa.Table, injections: pa.Table
) -> tuple[Ranked, NDArray[np.float64] | None]:
    """Return the ranking of a detector over some cells, and the probabilities where it has them."""
    number = {cell: i for i, cell in enumerate(cells)}
    rows = scored.filter(pc.equal(scored["detector"], detector)).to_pylist()
    used = [
        row
        for row in rows
        if _place(row) in number and row["verdict"] in (("true", "duplicate") if row["is_injected"] else ("false",))
    ]
    has_score = bool(used) and all(row["score"] is not None for row in used)
    score = np.array([row["score"] if has_score else abs(row["significance"]) for row in used], np.float64)
    is_true = np.array([row["verdict"] == "true" for row in used], bool)
    tile = np.array([number[_place(row)] for row in used], np.intp)
    n_true = np.zeros(len(cells), np.intp)
    own = injections.filter(pc.equal(injections["detector"], detector))
    for row in own.select([*_CELL, "snr", "mask_bits"]).to_pylist():
        if _place(row) in number and row["mask_bits"] == 0 and not row["snr"] < IGNORED_BELOW_SNR:
            n_true[number[_place(row)]] += 1
    return Ranked(score, is_true, tile, n_true), score if has_score else None


def apart(injections: pa.Table, zero_point: NDArray[np.float64], bands: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the completeness of each detector by place and by magnitude, masked injections left out.

    Parameters
    ----------
    injections : table
        `astrid.schema.INJECTIONS`.
    zero_point : (n_tiles, n_epochs, n_bands) array
        AB magnitude of one unit of flux, NaN where unknown.
    bands : sequence of str
        Of the last axis.
    """
    said: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(injections["detector"].to_pylist()):
        own = injections.filter(pc.and_(pc.equal(injections["detector"], name), pc.equal(injections["mask_bits"], 0)))
        found = np.array([one is not None for one in own["recovered_by"].to_pylist()], bool)
        snr, flux = (own[column].to_numpy() for column in ("snr", "flux"))
        near = np.array([bool(one) for one in own["is_near_star"].to_pylist()], bool)
        good = np.isfinite(snr) & (snr > 0)
        place = place_of(own["host"].to_pylist(), near)
        band = np.array([bands.index(one) for one in own["band"].to_pylist()], np.intp)
        points = zero_point[own["tile"].to_numpy(), own["epoch"].to_numpy(), band]
        said[name] = {
            "place": completeness_by_place(snr[good], found[good], place[good]),
            "magnitude": completeness_by_magnitude(flux, points, found),
        }
    return said


def _place(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in _CELL)


def _areas(detector: str, cells: Sequence[tuple[Any, ...]], counts: pa.Table) -> NDArray[np.float64]:
    rows = counts.filter(pc.equal(counts["detector"], detector)).to_pylist()
    area = {_place(row): float(row["megapixels"]) for row in rows}
    return np.array([area.get(cell, 0.0) for cell in cells])
