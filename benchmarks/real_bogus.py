"""Real or bogus: how the scores tell real events of alert stamps from what the survey's own classifier calls bogus.

python -m benchmarks.real_bogus --out FILE.json survey=ztf_alerts survey.path=FILE [key=value ...]

Each alert gets a difference of its own and is scored at its place, in its own sign, whether a detector finds it or
not: by the significance, the output of the U-Net, and the rankers in the package. None of them ever saw a stamp. An
object counts once, with its best epoch; the threshold is where 90 % of the bogus objects are rejected. Bogus are
those with a low score of the survey, which are mostly, not always, bogus; beside them stand the figures published for
braai (Duev et al. 2019, ADS 2019MNRAS.489.3582D) on labels made by people, which are another sample.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from astrid.cli import build, compose
from astrid.detection import Detections
from astrid.detection.features import measure_candidates
from astrid.detection.unet.detector import Unet, turned
from astrid.errors import AstridError
from astrid.evaluation.intervals import wilson
from astrid.image import Difference
from astrid.imaging.photometry import equivalent_fwhm
from astrid.ranking import Ranker
from astrid.workflow.evaluate import with_exposures
from astrid.workflow.pipeline import execute
from astrid.workflow.ranked import network_at
from astrid.workflow.stamps import event_in
from astrid.workflow.subtract import cells, differences_of
from benchmarks.noise_honesty import Silent
from benchmarks.provenance import provenance

BOGUS = ("score:drb<0.3", "score:rb<0.3", "survey: dipole")
REJECTED = 0.9
BRAAI = {"false_negative_rate": 0.011, "false_positive_rate": 0.029, "at": "score 0.5", "equal_error_rate": 0.017}
RANKERS = ("trees", "combined", "isolation_forest", "one_class_svm")


def main() -> None:
    """Subtract, score, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real_bogus", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--model", default="base")
    given, options = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = replace(build(compose("run", ["name=real_bogus", *options])), root=Path(folder))
        execute(settings, "subtract", Silent())
        rows = scored(settings, Unet(model=given.model))
    found = {"methods": summary(rows), "braai, as published": BRAAI}
    print(json.dumps(found, indent=1))
    if given.out:
        given.out.write_text(json.dumps({**found, **provenance()}, indent=1) + "\n")


def scored(settings: Any, network: Unet) -> list[dict[str, Any]]:
    """Return the scores of every alert at its place."""
    differences = differences_of(settings)
    rows = []
    for key in with_exposures(settings, cells(settings, settings.cube_store.layout("cube").bands)):
        try:
            science, template, _ = differences.inputs(key.cell)
            difference = differences.of(key.cell, science, template)
        except AstridError:
            continue
        extra = key.info.extra
        if extra["is_negative"]:
            difference = turned(difference)
        y, x = event_in(difference.flux.shape, key.info)
        row = {"object": str(extra["object_id"]), "label": str(extra.get("label_basis"))}
        rows.append(row | at_place(difference, float(y), float(x), network))
    return rows


def at_place(difference: Difference, y: float, x: float, network: Unet) -> dict[str, float]:
    """Return all scores of one place."""
    here = np.array([y]), np.array([x])
    near = difference.significance[max(0, int(y) - 1) : int(y) + 3, max(0, int(x) - 1) : int(x) + 3]
    significance = float(np.nan_to_num(near).max())
    found = Detections(*here, np.array([max(significance, 1e-3)]))
    output = network_at(network, difference, found)
    columns = measure_candidates(difference, difference.science, difference.template, found)
    scores = {"significance": significance, "U-Net": float(output[0])}
    for kind in RANKERS:
        scores[kind] = float(Ranker(kind).score(columns, equivalent_fwhm(difference.psf), output)[0])
    return scores


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return, for each method, what is kept of each label where nine of ten bogus objects are rejected."""
    found: dict[str, Any] = {}
    for method in ("significance", "U-Net", *RANKERS):
        best: dict[str, dict[str, float]] = defaultdict(dict)
        for row in rows:
            objects = best[row["label"]]
            objects[row["object"]] = max(objects.get(row["object"], -np.inf), row[method])
        bogus = np.array([score for label in BOGUS for score in best.get(label, {}).values()])
        if not len(bogus):
            continue
        threshold = float(np.quantile(bogus, REJECTED, method="higher"))
        kept = {}
        for label, objects in sorted(best.items()):
            n, above = len(objects), sum(score > threshold for score in objects.values())
            kept[label] = {"objects": n, "kept": above, "interval": list(wilson(above, n))}
        found[method] = {"threshold": threshold, "bogus_objects": len(bogus), "kept": kept}
    return found


if __name__ == "__main__":
    main()
