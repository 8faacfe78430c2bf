"""SkyView, hips2fits and the surveys' own archives: names, what comes, and what comes where nothing is."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import yaml
from astropy.io import fits

from astrid.archives import Download, Fetcher, NoCoverage, galex, hips, mast, sdss, sia, skyview
from astrid.cli import config_folder
from astrid.surveys.fetched import Place
from astrid.surveys.skyview import SkyView
from benchmarks.live_check.findings import Finding, Target, attempt

PIXELS = 60
SOUTH = (80.0, -70.0)  # degrees; SDSS never looked there
OWN = ("sdss_r", "galex_nuv", "2mass_j", "wise_w1")  # one band of each survey that has an archive to ask


def check(fetcher: Fetcher, target: Target) -> Iterator[Finding]:
    """Look at what `astrid.archives.skyview`, `astrid.archives.hips` and the configured layers take for granted."""
    values = yaml.safe_load((config_folder() / "survey" / "skyview.yaml").read_text())
    values.pop("_target_")
    survey = SkyView(**values)

    def form() -> tuple[bool, str]:
        found = skyview.read_form(fetcher.read(skyview.form_request()))
        lacking = [layer.skyview for layer in survey.layers.values() if layer.skyview not in found.surveys]
        return not lacking, f"{len(found.surveys)} surveys, lacking {lacking}; defaults {dict(found.defaults)}"

    yield attempt("the form has every survey of the configuration", form)

    def picture(download: Download) -> tuple[bool, str]:
        found = fetcher.fetch(download)
        pixels, header = fits.getdata(found.path), fits.getheader(found.path)
        said = {key: header[key] for key in ("BUNIT", "SURVEY", "CTYPE1", "RADESYS", "CDELT1") if key in header}
        low, high = np.nanpercentile(pixels, [1, 99])
        return pixels.shape == (PIXELS, PIXELS), f"1 to 99 %: {low:.4g} to {high:.4g}; {said}; {found.note['found']}"

    place = Place("live", target.ra, target.dec, PIXELS / 1.0)
    for band, layer in survey.layers.items():
        size_deg = PIXELS * layer.pixel_scale_arcsec / 3600
        at = (place.ra, place.dec, PIXELS, size_deg)
        yield attempt(
            f"SkyView sends {band} ({layer.unit})", lambda n=layer.skyview, at=at: picture(skyview.cutout(n, *at))
        )
        yield attempt(f"hips2fits sends {band}", lambda n=layer.hips, at=at: picture(hips.cutout(n, *at)))
    mirror = hips.cutout(
        survey.layers["dss2_red"].hips, place.ra, place.dec, PIXELS, PIXELS / 3600, service=hips.SERVICES[1]
    )
    yield attempt("the mirror of hips2fits sends DSS2 red", lambda: picture(mirror))

    def nothing(download: Download) -> tuple[bool, str]:
        try:
            fetcher.fetch(download)
        except NoCoverage as error:
            return True, str(error)
        return False, "an image came"

    sdss = survey.layers["sdss_r"]
    south = (*SOUTH, PIXELS, PIXELS * sdss.pixel_scale_arcsec / 3600)
    yield attempt(
        "SkyView says that there is no SDSS in the far south", lambda: nothing(skyview.cutout(sdss.skyview, *south))
    )
    yield attempt(
        "hips2fits says that there is no SDSS in the far south", lambda: nothing(hips.cutout(sdss.hips, *south))
    )
    yield from own_archives(fetcher, survey, place, nothing)


def own_archives(
    fetcher: Fetcher, survey: SkyView, place: Place, nothing: Callable[[Download], tuple[bool, str]]
) -> Iterator[Finding]:
    """Look at what `astrid.archives.sia`, `sdss` and `galex` take for granted."""

    def bands_at_irsa(collection: str, expected: set[str]) -> tuple[bool, str]:
        rows = sia.search(fetcher, sia.search_request(collection, place.ra, place.dec))
        usable = [
            row for row in rows if row["dataproduct_subtype"] == "science" and sia.CUT_ON_REQUEST in row["access_url"]
        ]
        found = {row["energy_bandpassname"] for row in usable}
        return found >= expected, f"{len(usable)} of {len(rows)} rows, bands {sorted(found)}; the first: {rows[:1]}"

    for collection, bands in (("twomass_allsky", {"J", "H", "K"}), ("wise_allwise", {"W1", "W2", "W3", "W4"})):
        yield attempt(
            f"IRSA lists science images of {collection} that it cuts, in all bands",
            lambda name=collection, bands=bands: bands_at_irsa(name, bands),
        )

    def frames() -> tuple[bool, str]:
        rows = sdss.search(fetcher, sdss.search_request(place.ra, place.dec))
        near = sdss.by_nearness(rows, place.ra, place.dec)
        return bool(near), f"{len(near)} of {len(rows)} frames hold the place; the first: {near[:1]}"

    yield attempt("SkyServer's table Field has the frames and their limits", frames)

    def observations() -> tuple[bool, str]:
        rows = mast.search(fetcher, galex.observations_request(place.ra, place.dec))
        return {str(row["filters"]) for row in rows} >= {"NUV"}, f"{len(rows)} rows; the first: {rows[:1]}"

    yield attempt("MAST lists images of GALEX whose filters are NUV or FUV", observations)

    def square(band: str) -> tuple[bool, str]:
        layer = survey.layers[band]
        size_deg = PIXELS * layer.pixel_scale_arcsec / 3600
        found = fetcher.fetch(layer.own_cutout(place.ra, place.dec, size_deg))
        pixels, header = fits.getdata(found.path), fits.getheader(found.path)
        keys = ("BUNIT", "MAGZP", "NMGY", "EXPTIME", "DATE-OBS", "CTYPE1", "CDELT1", "CD1_1")
        said = {key: header[key] for key in keys if key in header}
        low, high = np.nanpercentile(pixels, [1, 99])
        is_square = min(pixels.shape) > 0.9 * PIXELS and max(pixels.shape) < 1.6 * PIXELS
        return is_square, f"{pixels.shape}, 1 to 99 %: {low:.4g} to {high:.4g}; {said}; {found.note['found']}"

    for band in OWN:
        yield attempt(f"the own archive sends {band}: a square of about {PIXELS} pixels", lambda b=band: square(b))
    south = survey.layers["sdss_r"].own_cutout(*SOUTH, 0.01)
    yield attempt("SkyServer says that there is no SDSS in the far south", lambda: nothing(south))
