"""What resampling costs and what it does to stars, noise and masks, against SWarp and reproject.

OMP_NUM_THREADS=1 python -m benchmarks.resampling [--side 2048] [--repeats 5] [--seed 1] [--out FILE.json]

An image of isolated Moffat stars is turned by 3 degrees and moved by parts of a pixel, as between two TAN
projections. The truth is the same stars drawn on the other grid. CPU seconds are the least of several turns. Ours are
of the whole way from coordinates to flux, variance and mask; `complete` has masked pixels. SWarp's are the user seconds
of its process, on one thread, without background subtraction, as it runs and less what reading and writing the same
FITS files costs; `complete` has a weight map. Rows of programs that are not installed say so.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sep
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy import ndimage, signal

from astrid.imaging.resampling import MASKED_SHARE, coordinate_map, resample
from benchmarks.provenance import provenance

TURN_DEG = 3.0
SCALE_ARCSEC = 0.4
STARS_ALONG = 20  # an axis: 400 stars
STAR_FLUX = 1e5
BETA = 3.5  # of the Moffat profile
WIDTHS = (2.0, 2.5, 3.0)  # px, FWHM of the stars
APERTURE = 15.0  # px, radius
SWARP_KERNELS = {"swarp_lanczos3": "LANCZOS3", "swarp_bilinear": "BILINEAR"}

Plane = NDArray[np.float32]
Resampler = Callable[[Plane], Plane]


@dataclass(frozen=True, eq=False)
class Scene:
    """Two grids of one side, and the same stars on both."""

    side: int
    detector: WCS
    tile: WCS
    on_detector: NDArray[np.float64]
    on_tile: NDArray[np.float64]

    def to_detector(self, y: NDArray[Any], x: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return detector ``(y, x)`` of tile ``(y, x)``."""
        px, py = self.detector.wcs_world2pix(*self.tile.wcs_pix2world(x, y, 0), 0)
        return py, px

    def places(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the coordinate map of the whole tile."""
        return coordinate_map(self.to_detector, (self.side, self.side))


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.resampling", description=__doc__)
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    scene = make_scene(options.side, options.seed)
    rows = {name: quality(how, scene, options.seed) for name, how in resamplers(scene).items()}
    with tempfile.TemporaryDirectory() as folder:
        swarp = Swarp(Path(folder), scene)
        for name, kernel in SWARP_KERNELS.items():
            rows[name] = swarp.absent() or quality(swarp.resampler(kernel), scene, options.seed)
        costs = cost(scene, swarp, options.repeats)
    for name, numbers in costs.items():
        rows.setdefault(name, {}).update(numbers)
    show(rows)
    if options.out:
        found = {"side": options.side, "seed": options.seed, "results": rows, "provenance": provenance()}
        options.out.write_text(json.dumps(found, indent=1) + "\n")


def make_scene(side: int, seed: int) -> Scene:
    """Return two projections and the places of the stars, the same on each run of a seed."""
    middle = (side + 1) / 2
    detector = tangent(TURN_DEG, middle + 0.2, middle + 0.7)
    tile = tangent(0.0, middle, middle + 0.4)
    margin, rng = 0.08 * side, np.random.default_rng(seed)
    step = (side - 2 * margin) / (STARS_ALONG - 1)
    grid = margin + step * np.indices((STARS_ALONG, STARS_ALONG)).reshape(2, -1)
    on_tile = grid + rng.uniform(-0.5, 0.5, grid.shape)
    scene = Scene(side, detector, tile, on_tile, on_tile)
    return Scene(side, detector, tile, np.array(scene.to_detector(*on_tile)), on_tile)


def tangent(turn_deg: float, x: float, y: float) -> WCS:
    """Return a TAN projection with its tangent point at FITS pixel (x, y)."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix = [150.0, 2.0], [x, y]
    cosine, sine = np.cos(np.deg2rad(turn_deg)), np.sin(np.deg2rad(turn_deg))
    wcs.wcs.cd = np.array([[-cosine, sine], [sine, cosine]]) * SCALE_ARCSEC / 3600
    wcs.wcs.set()
    return wcs


def stars(at: NDArray[np.float64], side: int, fwhm: float) -> Plane:
    """Draw stars of one flux, each in a window that holds all but some ppm that both images lack alike."""
    image = np.zeros((side, side))
    half = int(0.02 * side)
    for y, x in at.T:
        row, column = round(y), round(x)
        window = np.s_[row - half : row + half + 1, column - half : column + half + 1]
        v, u = np.mgrid[window]
        image[window] += STAR_FLUX * moffat_density((v - y) ** 2 + (u - x) ** 2, fwhm)
    return image.astype(np.float32)


def moffat_density(squared_radius: NDArray[Any], fwhm: float) -> NDArray[Any]:
    """Return a Moffat profile of unit flux, per pixel."""
    core = (fwhm / 2) ** 2 / (2 ** (1 / BETA) - 1)
    return (BETA - 1) / (np.pi * core) * (1 + squared_radius / core) ** -BETA


def resamplers(scene: Scene) -> dict[str, Resampler]:
    """Return our ways of bringing a plane to the tile."""
    places = scene.places()

    def way(method: Any) -> Resampler:
        def to_tile(plane: Plane) -> Plane:
            return resample(plane, np.ones_like(plane), np.zeros(plane.shape, np.uint16), *places, method=method)[0]

        return to_tile

    return {"spline": way("spline"), "reproject": way("reproject")}


def quality(to_tile: Resampler, scene: Scene, seed: int) -> dict[str, Any]:
    """Measure what a way of resampling does to stars, white noise and a wrong pixel."""
    by_width = {f"{fwhm:g}": star_errors(to_tile, scene, fwhm) for fwhm in WIDTHS}
    return {"fwhm": by_width, **noise_after(to_tile, scene, seed), **reach_of_a_pixel(to_tile, scene)}


def star_errors(to_tile: Resampler, scene: Scene, fwhm: float) -> dict[str, float]:
    """Compare resampled stars with the same stars drawn on the tile."""
    before, truth = stars(scene.on_detector, scene.side, fwhm), stars(scene.on_tile, scene.side, fwhm)
    after = to_tile(before)
    error = aperture(after, scene.on_tile) / aperture(before, scene.on_detector) - 1
    power = float((truth.astype(float) ** 2).sum())
    areas = power / float((after.astype(float) ** 2).sum()), np.sum((after - truth).astype(float) ** 2) / power
    return {
        "flux_error_median_ppm": 1e6 * float(np.median(error)),
        "flux_error_scatter_ppm": 1e6 * 1.4826 * float(np.median(np.abs(error - np.median(error)))),
        "psf_area_change": areas[0] - 1,  # of the noise-equivalent area: broader if positive
        "rms_error_over_signal": float(np.sqrt(areas[1])),
    }


def aperture(image: Plane, at: NDArray[np.float64]) -> NDArray[np.float64]:
    flux: NDArray[np.float64] = sep.sum_circle(image, at[1], at[0], APERTURE, subpix=0)[0]
    return flux


def noise_after(to_tile: Resampler, scene: Scene, seed: int) -> dict[str, float]:
    """Resample white noise of unit variance and look at it as a pixel, as neighbours and through a PSF of 3 px."""
    noise = np.random.default_rng(seed).normal(0, 1, (scene.side, scene.side)).astype(np.float32)
    inner = slice(scene.side // 8, -scene.side // 8)
    after = to_tile(noise)[inner, inner].astype(float)
    psf = moffat_density(np.add.outer(np.arange(-12, 13) ** 2, np.arange(-12, 13) ** 2), 3.0)
    filtered = signal.oaconvolve(after, psf, mode="valid")
    return {
        "pixel_variance": float(after.var()),
        "neighbour_correlation": float(np.mean(after[:, 1:] * after[:, :-1]) / after.var()),
        "noise_correlation": float(filtered.std() / np.sqrt((psf**2).sum())),  # to the white-equivalent variance
    }


def reach_of_a_pixel(to_tile: Resampler, scene: Scene) -> dict[str, float]:
    """Resample single wrong pixels of one unit and look where no mask of ours would be."""
    wrong = np.zeros((scene.side, scene.side), np.float32)
    wrong[scene.side // 8 : -scene.side // 8 : 41, scene.side // 8 : -scene.side // 8 : 43] = 1
    masked = ndimage.map_coordinates(wrong, scene.places(), order=1, output=np.float32) > MASKED_SHARE
    beyond = np.where(masked, 0, np.abs(to_tile(wrong)))
    pixels = float(wrong.sum())
    return {
        "wrong_pixel_highest_unmasked": float(beyond.max()),
        "wrong_pixel_unmasked_above_0.001": float((beyond > 1e-3).sum() / pixels),
    }


class Swarp:
    """SWarp on files in a folder."""

    def __init__(self, folder: Path, scene: Scene) -> None:
        self.folder, self.scene = folder, scene
        self.program = shutil.which("SWarp") or shutil.which("swarp")
        header = scene.tile.to_header()
        header["NAXIS"], header["NAXIS1"], header["NAXIS2"] = 2, scene.side, scene.side
        (folder / "coadd.head").write_text("\n".join(str(card) for card in header.cards) + "\nEND\n")

    def absent(self) -> dict[str, Any] | None:
        """Return why there is nothing to measure, if so."""
        return None if self.program else {"absent": "SWarp is not installed here"}

    def write(self, flux: Plane) -> None:
        """Write the image and its weight map."""
        header = self.scene.detector.to_header()
        fits.writeto(self.folder / "in.fits", flux, header, overwrite=True)
        fits.writeto(self.folder / "in.weight.fits", np.ones_like(flux), header, overwrite=True)

    def run(self, kernel: str, *, weighted: bool) -> float:
        """Resample the file and return user CPU seconds of the process."""
        options = {
            "IMAGEOUT_NAME": "coadd.fits", "SUBTRACT_BACK": "N", "NTHREADS": "1", "COMBINE": "N", "WRITE_XML": "N",
            "RESAMPLING_TYPE": kernel, "WEIGHT_TYPE": "MAP_WEIGHT" if weighted else "NONE", "RESAMPLE_DIR": ".",
            "VERBOSE_TYPE": "QUIET", "FSCALASTRO_TYPE": "FIXED",
        }  # fmt: skip
        words = [word for key, value in options.items() for word in (f"-{key}", value)]
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        subprocess.run([str(self.program), "in.fits", *words], cwd=self.folder, capture_output=True, check=True)
        return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before

    def resampler(self, kernel: str) -> Resampler:
        """Return SWarp as a function of a plane; its result is put on the whole tile."""

        def to_tile(plane: Plane) -> Plane:
            self.write(plane)
            self.run(kernel, weighted=False)
            with fits.open(self.folder / "in.resamp.fits") as found:
                part, header = found[0].data, found[0].header
            whole = np.zeros((self.scene.side, self.scene.side), np.float32)
            row, column = (round(self.scene.tile.wcs.crpix[i] - header[f"CRPIX{i + 1}"]) for i in (1, 0))
            fits_in = part[max(-row, 0) :, max(-column, 0) :]
            row, column = max(row, 0), max(column, 0)
            into = whole[row : row + fits_in.shape[0], column : column + fits_in.shape[1]]
            into[...] = fits_in[: into.shape[0], : into.shape[1]]
            return whole

        return to_tile

    def files(self, *, weighted: bool) -> float:
        """Return CPU seconds to read what SWarp reads and to write what it writes, two planes each way at most."""
        started = time.process_time()
        for name in ("in.fits", "in.weight.fits") if weighted else ("in.fits",):
            plane = fits.getdata(self.folder / name, memmap=False).astype(np.float32)
        for name in ("io.fits", "io.weight.fits"):
            fits.writeto(self.folder / name, plane, overwrite=True)
        return time.process_time() - started


def cost(scene: Scene, swarp: Swarp, repeats: int) -> dict[str, dict[str, float]]:
    """Return the least CPU seconds of each way, taking turns, so that all meet the same noise of the machine."""
    rng = np.random.default_rng(1)
    flux = rng.normal(0, 3, (scene.side, scene.side)).astype(np.float32)
    ones, clean = np.ones_like(flux), np.zeros(flux.shape, np.uint16)
    mask = ((rng.random(flux.shape) < 1e-3) * 1 + (rng.random(flux.shape) < 1e-4) * 4).astype(np.uint16)
    mask[:, scene.side // 3] |= 1

    def timed(work: Callable[[], object]) -> float:
        started = time.process_time()
        work()
        return time.process_time() - started

    tasks: dict[tuple[str, str], Callable[[], float]] = {
        ("spline", "map_s"): lambda: timed(scene.places),
        ("spline", "cpu_s"): lambda: timed(lambda: resample(flux, ones, clean, *scene.places())),
        ("spline", "complete_s"): lambda: timed(lambda: resample(flux, ones, mask, *scene.places())),
        ("reproject", "cpu_s"): lambda: timed(lambda: resample(flux, ones, clean, *scene.places(), method="reproject")),
    }
    if swarp.absent() is None:
        swarp.write(flux)
        for name, kernel in SWARP_KERNELS.items():
            tasks[name, "cpu_s"] = lambda kernel=kernel: swarp.run(kernel, weighted=False)  # type: ignore[misc]
            tasks[name, "complete_s"] = lambda kernel=kernel: swarp.run(kernel, weighted=True)  # type: ignore[misc]
            tasks[name, "files_s"] = lambda: swarp.files(weighted=False)
            tasks[name, "complete_files_s"] = lambda: swarp.files(weighted=True)
    least = dict.fromkeys(tasks, np.inf)
    for _ in range(repeats):
        for key, task in tasks.items():
            least[key] = min(least[key], task())
    rows: dict[str, dict[str, float]] = {}
    for (name, number), seconds in least.items():
        rows.setdefault(name, {})[number] = float(seconds)
    return with_ratios(rows)


def with_ratios(rows: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Add each cost over that of SWarp with Lanczos-3, as it runs and less its files."""
    swarp = rows.get("swarp_lanczos3")
    for row in rows.values() if swarp else ():
        for number, files in (("cpu_s", "files_s"), ("complete_s", "complete_files_s")):
            if number in row and swarp:
                word = number.removesuffix("_s")
                row[f"{word}_over_swarp"] = row[number] / swarp[number]
                alone = row[number] - row.get(files, 0.0)
                row[f"{word}_over_swarp_without_files"] = alone / (swarp[number] - swarp[files])
    return rows


def show(rows: dict[str, dict[str, Any]]) -> None:
    """Print the main numbers."""
    head = ("CPU s", "complete s", "/ SWarp", "complete /", "flux ppm", "scatter", "PSF area", "rms error")
    print(f"{'':16}" + "".join(f"{word:>12}" for word in head))
    for name, row in rows.items():
        if "absent" in row:
            print(f"{name:16} {row['absent']}")
            continue
        star = row["fwhm"]["3"]
        numbers = [row.get(n, np.nan) for n in ("cpu_s", "complete_s", "cpu_over_swarp", "complete_over_swarp")]
        numbers += [star["flux_error_median_ppm"], star["flux_error_scatter_ppm"]]
        cells = "".join(f"{number:12.3f}" for number in numbers)
        print(f"{name:16}{cells}{star['psf_area_change']:12.5f}{star['rms_error_over_signal']:12.5f}")


if __name__ == "__main__":
    main()
