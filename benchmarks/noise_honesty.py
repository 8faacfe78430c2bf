"""Whether five sigma mean five sigma: the score of differences against white noise through the same filter.

    python -m benchmarks.noise_honesty --out noise_honesty.json

Simulated exposures without transients, cosmic rays, trails or defects go through the steps of a run, resampling by
fractions of a pixel included. What is left in the differences is noise, and what subtraction does wrong.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from astrid.cli import build, compose
from astrid.detection.matched_filter import find_peaks
from astrid.errors import CellSkipped
from astrid.image import Difference, Image
from astrid.imaging.photometry import equivalent_fwhm
from astrid.schema import MaskBit
from astrid.subtraction.calibration import source_free
from astrid.workflow.images import read_image
from astrid.workflow.pipeline import execute
from astrid.workflow.preprocess import read_tiles
from astrid.workflow.runner import Outcome
from astrid.workflow.settings import Settings
from astrid.workflow.subtract import cells, differences_of

CLEAN = (
    "survey.transients_on=false",
    "survey.cosmic_rays=0",
    "survey.bad_columns=0",
    "survey.hot_pixels=0",
    "survey.satellite_trail_probability=0",
)
AWAY = 25  # px from a pixel that is saturated in any epoch
WHITE = 4  # times as much white noise as there are pixels


class Silent:
    """Progress that nobody watches."""

    def start(self, step: str, total: int, already: int = 0) -> None: ...

    def advance(self, step: str, outcome: Outcome) -> None: ...

    def finish(self, step: str) -> None: ...

    def note(self, message: str) -> None: ...


@dataclass(frozen=True)
class Peak:
    """A peak of the score, and how significant the template is there."""

    seed: int
    cell: str
    y: int
    x: int
    score: float
    template_snr: float


@dataclass(frozen=True)
class Honesty:
    """What the score of differences is like, beside white noise.

    Attributes
    ----------
    megapixels, n_differences : float, int
        Unmasked pixels of cores away from saturated stars, and in how many differences.
    width, width_off_sources : float
        Robust standard deviation of the score.
    smallest_width, largest_width : float
        Of the differences one by one.
    peaks, white_peaks : dict
        Threshold -> number of peaks of either sign; that of white noise is a mean of `WHITE` draws.
    worst : tuple of Peak
        The most significant peaks.
    """

    megapixels: float
    n_differences: int
    width: float
    width_off_sources: float
    smallest_width: float
    largest_width: float
    peaks: dict[str, int]
    white_peaks: dict[str, float]
    worst: tuple[Peak, ...]


def measure(
    folder: Path,
    *,
    seeds: Sequence[int],
    n_epochs: int,
    side: int = 1000,
    options: Sequence[str] = (),
    say: Callable[[str], None] = lambda line: None,
) -> Honesty:
    """Run the steps up to subtraction for each seed and gather the statistics of the score."""
    scores, off, widths, worst = [], [], [], []
    peaks = {"4": 0, "5": 0}
    white = {"4": 0.0, "5": 0.0}
    rng = np.random.default_rng(20)
    for seed in seeds:
        for cell, difference, template, used in differences(
            folder / f"seed{seed}", seed=seed, n_epochs=n_epochs, side=side, options=options
        ):
            score = difference.significance
            scores.append(score[used])
            off.append(score[used & source_free(difference, template)])
            widths.append(width_of(score[used]))
            for threshold in (4, 5):
                found = peaks_of(score, used, difference, threshold)
                peaks[str(threshold)] += len(found)
                if threshold == 5:
                    worst += [described(seed, cell, score, template, y, x) for y, x in found]
            for _ in range(WHITE):
                noise = white_score(rng, difference)
                for threshold in (4, 5):
                    white[str(threshold)] += len(peaks_of(noise, used, difference, threshold)) / WHITE
        say(f"after seed {seed}: {sum(map(len, scores)) / 1e6:.1f} Mpx, {peaks} peaks, {white} in white noise")
    worst.sort(key=lambda peak: -abs(peak.score))
    return Honesty(
        megapixels=sum(len(part) for part in scores) / 1e6,
        n_differences=len(scores),
        width=width_of(np.concatenate(scores)),
        width_off_sources=width_of(np.concatenate(off)),
        smallest_width=min(widths),
        largest_width=max(widths),
        peaks=peaks,
        white_peaks=white,
        worst=tuple(worst[:20]),
    )


def differences(
    root: Path, *, seed: int, n_epochs: int, side: int, options: Sequence[str] = ()
) -> Iterator[tuple[str, Difference, Image, NDArray[np.bool_]]]:
    """Make the differences of one simulated field; yield name, difference, template and the pixels to judge."""
    root.mkdir(parents=True, exist_ok=True)
    settings = settings_of(root, seed, n_epochs, side, options)
    failures = execute(settings, "subtract", Silent())
    if failures:
        raise RuntimeError(f"{failures} keys failed; see {settings.run_folder / 'astrid.log'}")
    made = differences_of(settings)
    tiles = read_tiles(settings.cube_folder)
    keys = cells(settings, settings.cube_store.layout("cube").bands)
    saturated = np.logical_or.reduce(
        [(read_image(made.reader, cell).mask & MaskBit.SATURATED.value) != 0 for cell in keys]
    )
    far = ndimage.distance_transform_edt(~saturated) > AWAY
    for cell in keys:
        try:
            science, template, _ = made.inputs(cell)
        except CellSkipped:
            continue
        difference = made.of(cell, science, template)
        tile = tiles[cell.tile]
        y, x = np.indices(difference.mask.shape)
        core = tile.in_core(y.ravel(), x.ravel()).reshape(y.shape)
        used = core & (difference.mask == 0) & far
        yield str(cell), difference, template, used


def settings_of(root: Path, seed: int, n_epochs: int, side: int, options: Sequence[str]) -> Settings:
    """Return the settings of a run on one clean simulated field, one tile and one band."""
    size = (f"survey.height={side}", f"survey.width={side}", f"grid.core={side + 24}")
    given = (f"survey.seed={seed}", f"survey.n_epochs={n_epochs}", "survey.bands=[r]", "cluster=inline", "name=noise")
    return replace(build(compose("subtract", [*CLEAN, *size, *given, *options])), root=root)


def white_score(rng: np.random.Generator, difference: Difference) -> NDArray[np.float32]:
    """Return white noise seen through the matched filter of a difference, of unit width."""
    py, px = difference.psf.shape
    shape = tuple(n + 2 * max(py, px) for n in difference.flux.shape)
    grid = [fft.next_fast_len(n, real=True) for n in shape]
    noise = rng.standard_normal(grid, np.float32)
    kernel = fft.rfft2(difference.psf / np.sqrt(np.sum(difference.psf**2)), grid)
    ny, nx = difference.flux.shape
    return np.asarray(fft.irfft2(fft.rfft2(noise) * kernel, grid)[py : py + ny, px : px + nx], np.float32)


def peaks_of(
    score: NDArray[Any], used: NDArray[np.bool_], difference: Difference, threshold: float
) -> NDArray[np.intp]:
    """Return the peaks of either sign at or above a threshold, as the matched filter finds them."""
    radius = max(1, int(np.ceil(equivalent_fwhm(difference.psf))))
    return np.concatenate(
        [
            find_peaks(sign * score, ~used, threshold=threshold, radius=radius)
            for sign in (np.float32(1), np.float32(-1))
        ]
    )


def width_of(values: NDArray[Any]) -> float:
    """Return the robust standard deviation."""
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def described(seed: int, cell: str, score: NDArray[Any], template: Image, y: int, x: int) -> Peak:
    """Say what there is at a peak."""
    box = np.s_[max(y - 3, 0) : y + 4, max(x - 3, 0) : x + 4]
    snr = float(np.max(template.flux[box] / np.sqrt(template.variance[box])))
    return Peak(seed, cell, int(y), int(x), round(float(score[y, x]), 2), round(snr, 1))


def _print(line: str) -> None:
    print(line, flush=True)


def main() -> None:
    """Measure, print and write the numbers."""
    from benchmarks.provenance import provenance

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("noise_honesty.json"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=8)
    given, options = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(
            Path(folder), seeds=range(1, given.seeds + 1), n_epochs=given.epochs, options=options, say=_print
        )
    text = json.dumps({**asdict(found), **provenance()}, indent=1)
    given.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
