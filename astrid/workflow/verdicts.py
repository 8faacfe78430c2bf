"""What detections are, once catalogues have been asked: at a catalogued variable, AGN or asteroid none is false."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from astrid.detection.crossmatch import MatchRule
from astrid.schema import CANDIDATES
from astrid.stores.journal import Journal
from astrid.stores.tables import read_table
from astrid.workflow.settings import Settings

CHANGING = ("variable", "agn", "asteroid")
"""Classes of sources that change or move by themselves."""
SAME_PIXELS = 1.5
"""Detections of different detectors at most so far apart are of the same thing."""
_CELL = ("tile", "epoch", "band")
_Place = tuple[object, ...]

VERDICTS = pa.schema(
    [
        ("detector", pa.string()),
        ("candidate_id", pa.string()),
        ("tile", pa.int32()),
        ("epoch", pa.int32()),
        ("band", pa.string()),
        *((name, pa.float64()) for name in ("y", "x", "significance", "score")),
        ("verdict", pa.string()),
        ("is_near_star", pa.bool_()),
    ]
)
COUNTS = pa.schema(
    [
        ("detector", pa.string()),
        ("tile", pa.int32()),
        ("epoch", pa.int32()),
        ("band", pa.string()),
        *(
            (name, pa.int32())
            for name in ("n_detections", "n_false", "n_false_near_stars", "n_ignored", "n_duplicates")
        ),
        ("megapixels", pa.float64()),
    ]
)


def read_verdicts(settings: Settings, journal: Journal) -> tuple[pa.Table, pa.Table]:
    """Return verdicts on detections and counts by cell, catalogue matches of the run's candidates heeded."""
    candidates = read_table(settings.run_folder / "candidates.parquet", CANDIDATES)
    flagged = candidates.filter(pa.array(is_catalogued(candidates, settings.crossmatch)))
    return settle(journal.table("verdicts", VERDICTS), journal.table("counts", COUNTS), flagged)


def is_catalogued(candidates: pa.Table, rule: MatchRule) -> NDArray[np.bool_]:
    """Return which candidates lie at a catalogued variable, AGN or asteroid, by the limits of the match.

    Parameters
    ----------
    candidates : table
        `astrid.schema.CANDIDATES`; without match columns, or where nobody was asked, none does.
    rule : MatchRule
        Limits; see `astrid.detection.crossmatch.lies_at`.

    Returns
    -------
    (n,) bool array
    """
    found = np.zeros(len(candidates), bool)
    for kind in CHANGING:
        if f"{kind}_sigma" not in candidates.column_names:
            continue
        sigma, separation = (
            candidates[f"{kind}_{name}"].to_numpy(zero_copy_only=False).astype(float)
            for name in ("sigma", "separation")
        )
        with np.errstate(invalid="ignore"):
            found |= rule.is_at(kind, sigma, separation)
    return found


def settle(verdicts: pa.Table, counts: pa.Table, flagged: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Ignore the false alarms that lie at flagged candidates.

    Parameters
    ----------
    verdicts : table
        `VERDICTS`, of any detectors.
    counts : table
        `COUNTS`.
    flagged : table
        Candidates, of one detector; detections of others within 1.5 px in the same cell are of the same thing.

    Returns
    -------
    (verdicts, counts)
    """
    if not len(flagged) or not len(verdicts):
        return verdicts, counts
    places: dict[_Place, list[tuple[float, float]]] = {}
    for row in flagged.select([*_CELL, "y", "x"]).to_pylist():
        places.setdefault(tuple(row[name] for name in _CELL), []).append((row["y"], row["x"]))
    said, moved, near_stars = verdicts["verdict"].to_pylist(), Counter[_Place](), Counter[_Place]()
    for number, row in enumerate(verdicts.to_pylist()):
        here = places.get(tuple(row[name] for name in _CELL), ())
        if row["verdict"] == "false" and any(np.hypot(y - row["y"], x - row["x"]) <= SAME_PIXELS for y, x in here):
            said[number] = "ignored"
            place = row["detector"], *(row[name] for name in _CELL)
            moved[place] += 1
            near_stars[place] += bool(row["is_near_star"])
    verdicts = verdicts.set_column(verdicts.column_names.index("verdict"), "verdict", pa.array(said, pa.string()))
    rows = [(row["detector"], *(row[name] for name in _CELL)) for row in counts.to_pylist()]
    for name, sign, moves in (("n_false", -1, moved), ("n_ignored", 1, moved), ("n_false_near_stars", -1, near_stars)):
        shift = sign * np.array([moves[row] for row in rows], np.int32)
        changed = pc.add(counts[name], pa.array(shift, pa.int32()))
        counts = counts.set_column(counts.column_names.index(name), name, changed)
    return verdicts, counts
