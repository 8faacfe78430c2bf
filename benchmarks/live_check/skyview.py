"""SkyView and hips2fits: the form, the page of results, names of surveys and maps, what comes where nothing is."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import yaml
from astropy.io import fits

from astrid.archives import Download, Fetcher, NoCoverage, hips, skyview
from astrid.cli import config_folder
from astrid.surveys.fetched import Place
from astrid.surveys.skyview import SkyView
from benchmarks.live_check.findings import Finding, Target, attempt

PIXELS = 60
SOUTH = (80.0, -70.0)  # degrees; SDSS never looked there


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
