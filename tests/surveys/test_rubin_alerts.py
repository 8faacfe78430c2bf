import json
import math
from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales

from astrid.schema import MaskBit
from astrid.surveys.rubin_alerts import RubinAlerts
from tests.surveys.packet_builders import rubin_alert, rubin_stamp


def write(folder, *rows):
    pq.write_table(pa.Table.from_pylist(list(rows)), folder / "rubin.parquet")
    return RubinAlerts(str(folder / "rubin.parquet"))


def test_an_alert_says_what_the_row_holds(tmp_path):
    (info,) = write(tmp_path, rubin_alert(1, -3000.0)).list_exposures(tmp_path).exposures
    assert (info.unit, info.band, info.shape, info.detector) == ("nJy", "r", (30, 30), "det087")
    assert info.mjd == pytest.approx(61110.145 - 37 / 86400, abs=1e-9)
    extra = info.extra
    assert (extra["object_id"], extra["is_negative"], extra["survey_significance"]) == (
        str(3 * 10**17 + 1),
        True,
        -25.0,
    )
    assert (extra["y"], extra["x"]) == (pytest.approx(14.3), pytest.approx(14.6))
    assert (extra["phase_y"], extra["phase_x"]) == (pytest.approx(-0.7), pytest.approx(-0.4))
    assert extra["fwhm"] == pytest.approx(2.3548 * math.sqrt(0.13) / 0.2)
    json.dumps(asdict(info), allow_nan=False)


def test_the_wcs_puts_the_event_where_it_is(tmp_path):
    (info,) = write(tmp_path, rubin_alert(1)).list_exposures(tmp_path).exposures
    wcs = WCS(fits.Header.fromstring(info.wcs_header))
    x, y = wcs.wcs_world2pix(info.extra["ra"], info.extra["dec"], 0)
    assert (y, x) == (pytest.approx(14.3, abs=1e-6), pytest.approx(14.6, abs=1e-6))
    np.testing.assert_allclose(proj_plane_pixel_scales(wcs) * 3600, 0.2, rtol=1e-3)


@pytest.mark.parametrize("bias", [1.0, 0.979])
@pytest.mark.parametrize("psf_side", [41, 40])
def test_planes_become_variance_and_a_psf_that_sums_to_one(tmp_path, bias, psf_side):
    science = rubin_stamp(7000, 14.3, 14.6, 150.7, 1.7, bias=bias, psf_side=psf_side)
    survey = write(tmp_path, rubin_alert(1, cutoutScience=science))
    (info,) = survey.list_exposures(tmp_path).exposures
    exposure = survey.read_exposure(info)
    assert exposure.psf.shape[0] % 2 == exposure.psf.shape[1] % 2 == 1
    assert exposure.psf.sum() == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_array_equal(exposure.variance, np.float32(100))
    assert survey.read_template(info).psf.shape == (55, 55)


def test_a_pixel_without_variance_is_bad(tmp_path):
    data = bytearray(rubin_stamp(7000, 14.3, 14.6, 150.7, 1.7))
    at = bytes(data).index(b"XTENSION") + 2880
    data[at : at + 8] = np.array([np.nan, 0], ">f4").tobytes()
    survey = write(tmp_path, rubin_alert(1, cutoutScience=bytes(data)))
    exposure = survey.read_exposure(survey.list_exposures(tmp_path).exposures[0])
    assert np.flatnonzero(exposure.mask).tolist() == [0, 1]
    assert exposure.mask[0, 0] == MaskBit.BAD
    assert (exposure.variance > 0).all()


def test_things_at_one_place_share_a_name_and_moving_ones_do_not(tmp_path):
    moving = json.dumps({"diaObjectId": 0, "ssObjectId": 42})
    survey = write(
        tmp_path,
        rubin_alert(1), rubin_alert(2, diaSource_json=rubin_alert(1)["diaSource_json"]),
        rubin_alert(4, isSSO=True, diaSource_json=moving), rubin_alert(5, isSSO=True, diaSource_json=moving),
    )  # fmt: skip
    names = [info.extra["object_id"] for info in survey.list_exposures(tmp_path).exposures]
    assert names[0] == names[1]
    assert len(set(names)) == 3


def test_kinds_come_from_catalogues(tmp_path):
    rows = [
        rubin_alert(1, crossmatch="QSO"), rubin_alert(2, crossmatch="EB*"), rubin_alert(3, crossmatch="G"),
        rubin_alert(4, isSSO=True), rubin_alert(5, tns_type="SN Ia"),
    ]  # fmt: skip
    events = write(tmp_path, *rows).known_events(tmp_path)
    assert events["kind"].to_pylist() == ["agn", "variable", "solar-system", "transient"]
    assert events["flux"].to_pylist() == [3000.0] * 4


def test_history_is_in_magnitudes_and_says_its_sign(tmp_path):
    survey = write(tmp_path, rubin_alert(1))
    (row,) = survey.history(survey.list_exposures(tmp_path).exposures).to_pylist()
    assert row["magnitude"] == pytest.approx(31.4 - 2.5 * math.log10(4436.0))
    assert row["is_negative"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"band": "q"}, "band = 'q'"),
        ({"psfFlux": None}, "no field psfFlux"),
        ({"cutoutScience": b"GIF"}, "not a FITS file"),
        ({"cutoutScience": rubin_stamp(10, 4.0, 4.0, 150.7, 1.7)}, "off the centre"),
        ({"cutoutTemplate": None}, "no cutoutTemplate"),
        ({"diaSource_json": "{"}, "diaSource_json is not JSON"),
    ],
)
def test_a_row_that_cannot_be_used_is_a_problem(tmp_path, change, message):
    listing = write(tmp_path, rubin_alert(1), rubin_alert(2, **change)).list_exposures(tmp_path)
    assert len(listing.exposures) == 1
    (problem,) = listing.problems
    assert problem.path.endswith("rubin.parquet")
    assert message in problem.reason


@pytest.mark.data
def test_real_alerts_read_and_their_differences_have_the_sign_of_the_flux(real_data, tmp_path):
    survey = RubinAlerts(str(real_data("rubin_alerts.parquet")))
    listing = survey.list_exposures(tmp_path)
    assert len(listing.exposures) > 90
    assert not listing.problems
    signs = []
    for info in listing.exposures:
        for exposure in (survey.read_exposure(info), survey.read_template(info), survey.read_difference(info)):
            assert exposure.flux.shape == info.shape
            assert exposure.psf.sum() == pytest.approx(1.0, abs=1e-5)
            assert (exposure.variance > 0).all()
        y, x = round(info.extra["y"]), round(info.extra["x"])
        signs.append((exposure.flux[y - 1 : y + 2, x - 1 : x + 2].sum() < 0) == info.extra["is_negative"])
    assert np.mean(signs) > 0.97
