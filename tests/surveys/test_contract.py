"""What every survey does. A new survey joins by one line in SURVEYS."""

import json
import pickle
from dataclasses import asdict
from importlib import import_module

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from astropy.io import fits
from astropy.wcs import WCS

from astrid.image import Exposure
from astrid.schema import KNOWN_EVENTS, MaskBit
from astrid.surveys.base import ContextSurvey, Survey
from astrid.surveys.hst import Hst
from astrid.surveys.ps1 import Ps1
from astrid.surveys.skyview import SkyView
from astrid.surveys.tess import Tess
from astrid.surveys.ztf import Ztf
from tests.archives.registering import registered
from tests.conftest import REPOSITORY
from tests.surveys.packet_builders import alert, container, rubin_alert, winter_alert, winter_schema


def night(folder):
    """Three small images of one field, one without a time."""
    rng = np.random.default_rng(7)
    for number in range(3):
        header = fits.Header(
            {
                "DATE-OBS": f"2024-05-06T07:0{number}:09.5", "EXPTIME": 30.0, "FILTER": "r", "CTYPE1": "RA---TAN",
                "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 2.0, "CRPIX1": 20.0, "CRPIX2": 16.0,
                "CDELT1": -1 / 3600, "CDELT2": 1 / 3600,
            }
        )  # fmt: skip
        pixels = rng.normal(100, 5, (32, 40)).astype(np.float32)
        pixels[number, 0] = np.nan
        fits.writeto(folder / f"image{number}.fits", pixels, header)
    fits.writeto(folder / "timeless.fits", pixels)
    return {"path": str(folder)}


def small_sky(folder):
    return {"n_epochs": 2, "bands": ("r",), "height": 96, "width": 128, "n_transients": 1}


def ztf_packets(folder):
    """Packets of three objects, one of them cut by the edge of the chip, and one packet cut short."""
    packets = [alert(1), alert(2, positive=False), alert(3, xpos=5.0)]
    (folder / "many.avro").write_bytes(container(packets, "snappy"))
    (folder / "short.avro").write_bytes(container([alert(4)])[:-100])
    return {"path": str(folder)}


def rubin_table(folder):
    rows = [rubin_alert(n) for n in range(3)]
    pq.write_table(pa.Table.from_pylist([*rows, {**rows[0], "band": "q"}]), folder / "rubin.parquet")
    return {"path": str(folder)}


def winter_packets(folder):
    for number in range(2):
        (folder / f"{number}.avro").write_bytes(container([winter_alert(number)], shape=winter_schema()))
    return {"path": str(folder)}


def fetched_ztf(folder):
    registered(Ztf(bands=("r",)), folder)
    return {"bands": ("r",)}


def fetched_ps1(folder):
    registered(Ps1(bands=("r",)), folder)
    return {"bands": ("r",)}


def fetched_hst(folder):
    registered(Hst(), folder)
    return {}


def fetched_tess(folder):
    registered(Tess(), folder)
    return {}


def fetched_skyview(folder):
    values = yaml.safe_load((REPOSITORY / "conf" / "survey" / "skyview.yaml").read_text()) | {
        "bands": ["dss2_red", "sdss_r"]
    }
    del values["_target_"]
    registered(SkyView(**values), folder)
    return values


SURVEYS = {
    "directory": ("astrid.surveys.directory.Directory", night),
    "simulated": ("astrid.surveys.simulated.Simulated", small_sky),
    "hst": ("astrid.surveys.hst.Hst", fetched_hst),
    "tess": ("astrid.surveys.tess.Tess", fetched_tess),
    "ps1": ("astrid.surveys.ps1.Ps1", fetched_ps1),
    "skyview": ("astrid.surveys.skyview.SkyView", fetched_skyview),
    "ztf": ("astrid.surveys.ztf.Ztf", fetched_ztf),
    "ztf_alerts": ("astrid.surveys.ztf_alerts.ZtfAlerts", ztf_packets),
    "rubin_alerts": ("astrid.surveys.rubin_alerts.RubinAlerts", rubin_table),
    "winter_alerts": ("astrid.surveys.winter_alerts.WinterAlerts", winter_packets),
}


@pytest.fixture(scope="module", params=SURVEYS)
def case(request, tmp_path_factory):
    """A survey, the folder it may use and what it lists."""
    target, prepare = SURVEYS[request.param]
    module, name = target.rsplit(".", 1)
    folder = tmp_path_factory.mktemp(request.param)
    survey = getattr(import_module(module), name)(**prepare(folder))
    return survey, folder, survey.list_exposures(folder)


def test_it_is_a_survey_with_a_name(case):
    survey, _, _ = case
    assert isinstance(survey, Survey)
    assert survey.name
    assert isinstance(survey.acknowledgement, str)


def test_it_survives_pickling_and_lists_the_same_again(case):
    survey, folder, listing = case
    copy = pickle.loads(pickle.dumps(survey))
    assert copy == survey
    assert copy.list_exposures(folder) == listing


def test_exposures_are_in_order_of_time_with_ids_of_their_own(case):
    _, _, listing = case
    times = [info.mjd for info in listing.exposures]
    assert times == sorted(times)
    assert len({info.exposure_id for info in listing.exposures}) == len(listing.exposures) > 0


def test_infos_are_complete_and_can_be_written_as_json(case):
    survey, _, listing = case
    for info in listing.exposures:
        assert json.loads(json.dumps(asdict(info)))["exposure_id"] == info.exposure_id
        if isinstance(survey, ContextSurvey):
            assert np.isnan(info.mjd)
            assert np.isnan(info.exposure_time)
        else:
            assert 40000 < info.mjd < 80000
            assert info.exposure_time > 0
        assert info.band
        assert info.unit in ("count", "count/s", "electron", "electron/s", "nJy")
        assert type(info.mjd) is type(info.exposure_time) is float


def test_a_wcs_reads_without_warnings_and_places_pixels(case):
    _, _, listing = case
    for info in listing.exposures[:3]:
        if info.wcs_header is not None:
            wcs = WCS(fits.Header.fromstring(info.wcs_header))
            assert wcs.has_celestial
            wcs.pixel_to_world(0.0, 0.0)


def test_problems_name_a_file_and_a_reason(case):
    _, _, listing = case
    for problem in listing.problems:
        assert problem.path
        assert problem.reason


def test_an_exposure_reads_as_it_was_announced(case):
    survey, _, listing = case
    info = listing.exposures[0]
    exposure = survey.read_exposure(info)
    assert isinstance(exposure, Exposure)
    assert exposure.info.exposure_id == info.exposure_id
    assert exposure.flux.shape == info.shape
    assert (exposure.flux.dtype, exposure.mask.dtype) == (np.float32, np.uint16)
    missing = (exposure.mask & MaskBit.NO_DATA) != 0
    np.testing.assert_array_equal(~np.isfinite(exposure.flux), missing)
    if exposure.variance is not None:
        assert (exposure.variance[~missing] > 0).all()


def test_reading_twice_gives_the_same_pixels(case):
    survey, _, listing = case
    first, second = (survey.read_exposure(listing.exposures[-1]) for _ in range(2))
    np.testing.assert_array_equal(first.flux, second.flux)
    np.testing.assert_array_equal(first.mask, second.mask)


def test_a_template_is_an_exposure_or_none(case):
    survey, _, listing = case
    template = survey.read_template(listing.exposures[0])
    assert template is None or isinstance(template, Exposure)


def test_known_events_follow_the_schema(case):
    survey, folder, _ = case
    events = survey.known_events(folder)
    if events is not None:
        assert events.schema.names == KNOWN_EVENTS.names
        assert events.schema.types == KNOWN_EVENTS.types


def test_a_true_psf_has_the_shape_asked_for_and_sums_to_one(case):
    survey, _, listing = case
    psf = survey.true_psf(listing.exposures[0], (25, 25))
    if psf is not None:
        assert psf.shape == (25, 25)
        assert psf.sum() == pytest.approx(1.0, abs=1e-3)
