"""Make the pictures of the README from a run of the embedded sample.

astrid run name=demo
python docs/make_figures.py runs/demo
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

import astrid

IMAGES = Path(__file__).resolve().parent / "images"
HALF = 30  # px


def main() -> None:
    """Draw science, template, difference and light curve of a supernova that the run found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of the run")
    folder = parser.parse_args().run
    candidates = pd.read_parquet(folder / "candidates.parquet")
    objects = pd.read_parquet(folder / "objects.parquet")
    curves = pd.read_parquet(folder / "light_curves.parquet")
    (truth,) = (folder.parent.parent / "cubes").glob("simulated-*/known_events.parquet")
    best = chosen(objects, candidates, pd.read_parquet(truth))
    curve = curves[curves.object_id == best.object_id].sort_values("mjd")
    cut = {name: stamp(folder, best, name) for name in ("science", "template", "difference")}
    figure = draw(cut, curve, best)
    IMAGES.mkdir(exist_ok=True)
    figure.savefig(IMAGES / "transient.png", dpi=90)
    print(IMAGES / "transient.png")


def chosen(objects: pd.DataFrame, candidates: pd.DataFrame, events: pd.DataFrame) -> pd.Series:
    """Return the brightest detection of the supernova of the sample that was detected most often."""
    supernovae = events[events.kind == "supernova"].drop_duplicates("event_id")
    east = (objects.ra.values[:, None] - supernovae.ra.values) * np.cos(np.radians(objects.dec.values[:, None]))
    near = np.hypot(east, objects.dec.values[:, None] - supernovae.dec.values).min(axis=1) * 3600 < 1
    ranked = objects[near].sort_values(["n_candidates", "peak_flux"], ascending=False)
    own = candidates[candidates.object_id == ranked.object_id.iloc[0]]
    return own.loc[own.significance.idxmax()]


def stamp(folder: Path, candidate: pd.Series, layer: str) -> np.ndarray:
    """Return a cut-out around a candidate."""
    group, _, _ = candidate.stamp.partition(":")
    catalogue = folder.parent.parent / "cubes"
    cube = astrid.open_cube(catalogue)
    where = {"tile": int(candidate.tile), "band": list(cube.band.values).index(candidate.band)}
    if layer == "template":
        cube = astrid.open_cube(catalogue, f"templates/{candidate.template_id.partition('/')[0]}")
    else:
        where["epoch"] = int(candidate.epoch)
        cube = cube if layer == "science" else astrid.open_cube(catalogue, group)
    y, x = round(candidate.y), round(candidate.x)
    rows, columns = (slice(max(p - HALF, 0), p + HALF + 1) for p in (y, x))
    return cube.flux.isel(**where, y=rows, x=columns).compute().values


def draw(cut: dict[str, np.ndarray], curve: pd.DataFrame, best: pd.Series) -> plt.Figure:
    """Draw three cut-outs and a light curve in a row."""
    figure, axes = plt.subplots(1, 4, figsize=(10, 2.6), width_ratios=(1, 1, 1, 1.7), layout="constrained")
    noise = 1.4826 * np.median(np.abs(cut["difference"] - np.median(cut["difference"])))
    for axis, (name, image) in zip(axes, cut.items(), strict=False):
        axis.imshow(image, origin="lower", cmap="gray", vmin=-3 * noise, vmax=15 * noise)
        axis.set_title(name, fontsize=10)
        axis.set_xticks([])
        axis.set_yticks([])
    axis = axes[3]
    for band, part in curve.groupby("band"):
        axis.errorbar(part.mjd, part.flux, part.flux_error, fmt="o", ms=3, lw=1, label=band)
    axis.axhline(0, color="0.7", lw=0.8, zorder=0)
    axis.axvline(best.mjd, color="0.7", lw=0.8, ls=":", zorder=0)
    axis.set_title("light curve", fontsize=10)
    axis.set_xlabel("MJD", fontsize=9)
    axis.set_ylabel(f"difference flux ({best.flux_unit})", fontsize=9)
    axis.tick_params(labelsize=8)
    axis.ticklabel_format(useOffset=False)
    axis.legend(fontsize=8, frameon=False)
    return figure


if __name__ == "__main__":
    main()
