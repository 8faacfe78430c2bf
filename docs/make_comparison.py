"""Draw own differences beside those of a survey, from a run on alert stamps.

astrid run name=beside survey=ztf_alerts survey.path=FILE \\
    'survey.objects=[ZTF18abslpjy,ZTF18acenqto,ZTF18aayhyjr,ZTF17aaafidr,ZTF17aaakkav]'
python docs/make_comparison.py runs/beside ztf_differences.png

The objects are the first by name of each label: two transients, an asteroid, a variable star, a bogus alert.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot as plt
from omegaconf import OmegaConf
from PIL import Image

from astrid.cli import build
from astrid.report.data import Stamps
from astrid.schema import ALERTS
from astrid.stores.tables import read_table
from astrid.workflow.event_pictures import event_stamps
from astrid.workflow.ingest import read_exposures
from astrid.workflow.reporting import Pictures
from astrid.workflow.settings import Settings
from astrid.workflow.stamps import with_usual_zero_points

IMAGES = Path(__file__).resolve().parent / "images"
LAYERS = ("science", "template", "survey_difference", "difference", "significance")
TITLES = ("science", "template", "difference of the survey", "difference of AstrID", "score of AstrID")
FAINT, BRIGHT = -5.0, 10.0  # of the stretch, times the noise


def main() -> None:
    """Draw the strongest alert of each object of a run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("name", help="file in docs/images")
    options = parser.parse_args()
    folder = options.run.resolve()
    config: Any = OmegaConf.load(folder / "config.yaml")
    settings = replace(build(config), root=folder.parent.parent)
    figure = draw(chosen(read_table(folder / "alerts.parquet", ALERTS).to_pylist()), settings)
    figure.savefig(IMAGES / options.name, dpi=64)
    with Image.open(IMAGES / options.name) as picture:  # noise does not compress: 16 greys are enough for it
        picture.convert("L").quantize(16).save(IMAGES / options.name, optimize=True)
    print(IMAGES / options.name)


def chosen(alerts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the strongest alert of each object, ordered by label and name."""
    strongest: dict[str, dict[str, Any]] = {}
    for row in alerts:
        best = strongest.get(row["object_id"])
        if best is None or abs(row["survey_significance"] or 0) > abs(best["survey_significance"] or 0):
            strongest[row["object_id"]] = row
    rank = ("catalogue:transient", "catalogue:solar-system", "catalogue:variable")
    return sorted(
        strongest.values(),
        key=lambda row: (rank.index(row["label_basis"]) if row["label_basis"] in rank else 9, row["object_id"]),
    )


def draw(rows: list[dict[str, Any]], settings: Settings) -> plt.Figure:
    """Draw a row of pictures for each alert; both differences have one stretch."""
    exposures = with_usual_zero_points(read_exposures(settings.cube_folder / "exposures.parquet"))
    infos = {info.exposure_id: info for info, _ in exposures}
    found = event_stamps(rows, settings.survey, infos, Pictures(settings))
    figure, grid = plt.subplots(len(found), len(LAYERS), figsize=(9, 1.75 * len(found)), layout="constrained")
    for row, stamps, axes in zip(rows, found, grid, strict=True):
        stretch = stretches(stamps)
        for axis, layer in zip(axes, LAYERS, strict=True):
            axis.imshow(getattr(stamps, layer), cmap="gray", vmin=stretch[layer][0], vmax=stretch[layer][1])
            axis.set(xticks=[], yticks=[])
        label = (row["label"] or row["label_basis"]).removeprefix("catalogue:").removeprefix("score:")
        axes[0].set_ylabel(f"{row['object_id']}\n{label}", fontsize=7)
    for axis, title in zip(grid[0], TITLES, strict=True):
        axis.set_title(title, fontsize=8)
    return figure


def stretches(stamps: Stamps) -> dict[str, tuple[float, float]]:
    """Return the faintest and the brightest flux shown of each layer."""
    noise = spread(stamps.survey_difference)
    both = FAINT * noise, BRIGHT * noise
    found = {"survey_difference": both, "difference": both, "significance": (FAINT, BRIGHT)}
    for layer in ("science", "template"):
        image = getattr(stamps, layer)
        sky, width = float(np.nanmedian(image)), spread(image)
        found[layer] = sky + FAINT * width, sky + 2 * BRIGHT * width
    return found


def spread(image: np.ndarray) -> float:
    """Return the robust standard deviation."""
    return float(1.4826 * np.nanmedian(np.abs(image - np.nanmedian(image))))


if __name__ == "__main__":
    main()
