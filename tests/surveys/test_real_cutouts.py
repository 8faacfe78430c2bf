"""Real cutouts of large surveys as a folder of images: units, zero points, times, WCS."""

import datetime
import math
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from astrid.imaging.calibration import AB_OF_NJY, flux_scale_of
from astrid.surveys.directory import Directory

SN_2010H = (121.60154, 1.03591)  # degrees; all but the 2MASS cutout, which the edge of its scan cuts, are centred there


@pytest.fixture(scope="module")
def cutouts(real_data):
    """What is known of each cutout, by name."""
    survey = Directory(path=str(real_data("sn2010h_cutouts")))
    listing = survey.list_exposures(Path())
    assert listing.problems == ()
    names = {info.exposure_id.removeprefix("blast_2010H_").removesuffix(".fits"): info for info in listing.exposures}
    return survey, names


def utc(text):
    """MJD of a date."""
    date, _, clock = text.partition("T")
    hours, minutes, seconds = (float(part) for part in clock.split(":"))
    day = datetime.date.fromisoformat(date).toordinal() - datetime.date(1858, 11, 17).toordinal()
    return day + (hours * 3600 + minutes * 60 + seconds) / 86400


def wcs_of(info):
    return WCS(fits.Header.fromstring(info.wcs_header))


def magnitudes(survey, info, ra, dec, radius_arcsec):
    """AB magnitudes in an aperture, the median of a ring taken off."""
    exposure = survey.read_exposure(info)
    scale, unit = flux_scale_of(info)
    assert unit == "nJy"
    wcs = wcs_of(info)
    pixel = math.sqrt(abs(np.linalg.det(wcs.pixel_scale_matrix))) * 3600
    x, y = wcs.all_world2pix(ra, dec, 0)
    rows, columns = np.indices(exposure.flux.shape)
    found = []
    for one_y, one_x in zip(y, x, strict=True):
        away = np.hypot(rows - one_y, columns - one_x) * pixel
        ring = np.median(exposure.flux[(away > 1.5 * radius_arcsec) & (away < 2.2 * radius_arcsec)])
        flux = float(np.sum(exposure.flux[away < radius_arcsec] - ring)) * scale
        found.append(AB_OF_NJY - 2.5 * math.log10(flux) if flux > 0 else math.nan)
    return np.array(found)


@pytest.mark.parametrize(
    ("name", "band", "unit", "zero_point", "seconds"),
    [
        ("2MASS_J", "J", "count", 20.8058 + 0.894, 1.0),  # Vega in the header
        ("WISE_W1", "W1", "count", 20.5 + 2.673, 212.1581),
        ("WISE_W2", "W2", "count", 19.5 + 3.313, 214.5451),
        ("GALEX_NUV", "NUV", "count/s", 20.08, None),
        ("GALEX_FUV", "FUV", "count/s", 18.82, None),
    ],
)
def test_zero_points_are_ab_of_one_stored_unit(cutouts, name, band, unit, zero_point, seconds):
    info = cutouts[1][name]
    assert (info.band, info.unit) == (band, unit)
    of_exposure = info.zero_point + (2.5 * math.log10(seconds) if seconds else 0.0)
    assert of_exposure == pytest.approx(zero_point, abs=2e-3)


def test_nanomaggies_are_fluxes_and_need_no_zero_point(cutouts):
    survey, names = cutouts
    info = names["SDSS_r"]
    assert (info.band, info.unit, info.zero_point) == ("r", "nJy", None)
    stored = fits.getdata(info.path)
    np.testing.assert_allclose(survey.read_exposure(info).flux, stored * 3631.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "when"),
    [
        ("2MASS_J", "2000-01-27T04:23:47.53"),
        ("WISE_W1", "2010-04-18T14:43:16.244"),  # MIDOBS: a coadd over half a year
        ("GALEX_NUV", "2006-02-02T09:57:10.495"),  # the middle of two visits
        ("SDSS_r", "2001-02-20T03:38:10.864"),  # TAIHMS 03:38:15.91, less 32 s to UTC, and half of 53.9 s
        ("dss_hd219829", "1951-08-09T10:25:00"),  # DATE-OBS says 09:60, EXPOSURE 50 minutes
    ],
)
def test_times_are_mid_exposure_in_utc(cutouts, name, when):
    assert cutouts[1][name].mjd == pytest.approx(utc(when), abs=1e-7)


@pytest.mark.parametrize(("name", "scale"), [("WISE_W1", 1.375), ("GALEX_NUV", 1.5), ("SDSS_r", 0.396)])
def test_the_middle_of_a_cutout_is_where_it_was_asked_for(cutouts, name, scale):
    info = cutouts[1][name]
    wcs = wcs_of(info)
    ny, nx = info.shape
    ra, dec = wcs.all_pix2world((nx - 1) / 2, (ny - 1) / 2, 0)
    assert math.hypot((ra - SN_2010H[0]) * math.cos(math.radians(dec)), dec - SN_2010H[1]) * 3600 < scale
    assert math.sqrt(abs(np.linalg.det(wcs.pixel_scale_matrix))) * 3600 == pytest.approx(scale, rel=2e-3)


def test_stars_have_the_colours_of_stars_across_surveys(cutouts):
    """A zero point in the wrong system is off by 0.9 mag for J, 2.7 for W1, 3.3 for W2."""
    survey, names = cutouts
    exposure = survey.read_exposure(names["2MASS_J"])
    wcs, found = wcs_of(names["2MASS_J"]), []
    order = np.argsort(exposure.flux[15:-15, 15:-15], axis=None)[::-1]
    for y, x in np.column_stack(np.unravel_index(order, np.subtract(exposure.flux.shape, 30))) + 15:
        if all(math.hypot(y - one[0], x - one[1]) > 12 for one in found):
            found.append((y, x))
        if len(found) == 6:
            break
    y, x = np.array(found).T
    ra, dec = wcs.all_pix2world(x, y, 0)
    j, r, w1, w2 = (magnitudes(survey, names[name], ra, dec, radius) for name, radius in
                    (("2MASS_J", 6.0), ("SDSS_r", 6.0), ("WISE_W1", 10.0), ("WISE_W2", 10.0)))  # fmt: skip
    assert 0.0 < np.nanmedian(r - j) < 1.3
    assert -1.6 < np.nanmedian(j - w1) < -0.8  # 0.2 to 1.0 in Vega magnitudes
    assert np.nanmedian(w1 - w2) == pytest.approx(2.673 - 3.313, abs=0.2)  # 0 in Vega magnitudes


def test_photographic_plates_are_counts_without_a_zero_point_and_say_so(cutouts):
    info = cutouts[1]["dss_hd219829"]
    assert (info.unit, info.zero_point, info.exposure_time) == ("count", None, 3000.0)
    assert any("not proportional to flux" in note for note in info.extra["notes"])


def test_what_is_given_replaces_what_is_recognised(real_data):
    folder = str(real_data("sn2010h_cutouts"))
    given = {"include": ("*2MASS_J.fits",), "zero_point": 25.0, "band": "near", "unit": "count/s"}
    (info,) = Directory(path=folder, **given).list_exposures(Path()).exposures
    assert (info.zero_point, info.band, info.unit) == (25.0, "near", "count/s")
    vega = {"include": ("*2MASS_J.fits",), "keywords": {"zero_point": "MAGZP", "band": "SCANNO"}}
    (info,) = Directory(path=folder, **vega).list_exposures(Path()).exposures
    assert (info.zero_point, info.band) == (pytest.approx(20.8058), "58")


def test_sdss_frames_resampled_by_others_read_and_a_wrong_filter_in_the_header_can_be_put_right(real_data):
    """Both files have the header of the g frame."""
    folder = real_data("sdss_gr")
    listing = Directory(path=str(folder)).list_exposures(Path())
    assert [info.band for info in listing.exposures] == ["g", "g"]
    survey = Directory(path=str(folder), include=("*_r.fits.bz2",), band="r")
    (info,) = survey.list_exposures(Path()).exposures
    assert (info.band, info.unit, info.zero_point) == ("r", "nJy", None)
    assert info.exposure_time == pytest.approx(53.907456)
    assert info.mjd == pytest.approx(utc("2000-09-27T02:50:45.01") + (-32 + 53.907456 / 2) / 86400, abs=1e-7)
    exposure = survey.read_exposure(info)
    assert exposure.flux.shape == (496, 682)
    assert (exposure.mask == 0).all()
    scale = math.sqrt(abs(np.linalg.det(wcs_of(info).pixel_scale_matrix))) * 3600
    assert scale == pytest.approx(3 * 0.396, rel=2e-3)
    assert wcs_of(info).all_world2pix(313.170189503, -5.69296404072, 1) == pytest.approx([342.667, 248.333], abs=1e-2)
