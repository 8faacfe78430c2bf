"""Pictures without a time on the grid of a tile."""

import math

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from astrid.errors import CellSkipped
from astrid.image import Exposure, ExposureInfo
from astrid.schema import MaskBit
from astrid.skygrid import Tile
from astrid.surveys.headers import celestial_header
from astrid.workflow.context import MakePicture, by_band, describe
from astrid.workflow.keys import Cell, CellExposure

RA, DEC, SCALE, SIDE = 150.0, 2.0, 0.5, 160  # degrees, arcsec, pixels


class OnePicture:
    """A picture that holds its own right ascension offset in arcsec; north up."""

    def __init__(self, offset_arcsec=0.0):
        header = WCS(naxis=2)
        header.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        header.wcs.crval = [RA, DEC + offset_arcsec / 3600]
        header.wcs.crpix = [(SIDE + 1) / 2] * 2
        header.wcs.cdelt = [-SCALE / 3600, SCALE / 3600]
        self.info = ExposureInfo(
            "tile/red", "nowhere", "red", math.nan, math.nan, (SIDE, SIDE),
            celestial_header(header.to_header(), (SIDE, SIDE)),
            extra={"unit": "DN", "magnitudes": "none", "years": "1990"},
        )  # fmt: skip

    def read_exposure(self, info):
        flux = np.broadcast_to((np.arange(SIDE) - (SIDE - 1) / 2) * SCALE, (SIDE, SIDE)).astype(np.float32).copy()
        mask = np.zeros((SIDE, SIDE), np.uint16)
        flux[80:90, 100:110], mask[80:90, 100:110] = np.nan, MaskBit.NO_DATA
        return Exposure(info, flux, mask)


class Written:
    """A ticket that keeps what is written."""

    def write_cell(self, group, index, arrays):
        self.arrays = arrays


def made(survey, pixel_scale):
    """The picture on a tile of 40 arcsec."""
    side = round(40 / pixel_scale)
    tile = Tile(0, (side, side), 0, RA, DEC, pixel_scale)
    ticket = Written()
    product = MakePicture(survey, (tile,), "spline")(CellExposure(Cell(0, 0, 0, "red"), survey.info), ticket)
    return tile, ticket.arrays, product


@pytest.mark.parametrize("pixel_scale", [0.25, 0.5, 1.0])
def test_values_are_those_of_the_picture_on_any_grid(pixel_scale):
    """Not scaled by the area of the pixels: they are no fluxes to be added up."""
    tile, arrays, _ = made(OnePicture(), pixel_scale)
    ny, nx = tile.shape
    east_to_west = (np.arange(nx) - (nx - 1) / 2) * pixel_scale
    good = arrays["mask"] == 0
    expected = np.broadcast_to(east_to_west, (ny, nx))
    difference = np.abs(arrays["flux"] - expected)[good]
    assert np.percentile(difference, 97) < 1e-3
    assert difference.max() < 0.1  # beside the gap, of which a good pixel may hold 2 %


def test_pixels_without_data_stay_without_and_nothing_else_is_written():
    _, arrays, product = made(OnePicture(), 0.5)
    assert set(arrays) == {"flux", "mask"}
    assert (arrays["mask"][43:47, 63:67] & MaskBit.NO_DATA).all()
    assert np.isfinite(arrays["flux"]).all()
    (index, numbers) = product.numbers["cube"]
    assert index == (0, 0, 0)
    assert math.isnan(numbers["mjd"])
    assert numbers["psf_origin"] == "none"
    assert 0.9 < numbers["coverage"] < 1.0


def test_a_picture_beside_the_tile_is_skipped():
    with pytest.raises(CellSkipped, match="no pixel on the tile"):
        made(OnePicture(offset_arcsec=300.0), 0.5)


def test_a_picture_is_described_in_a_sentence():
    info = OnePicture().info
    assert describe(info) == "tile/red: observed 1990, DN, no fluxes, not photometric."
    assert by_band([info], "unit") == {"red": "DN"}
    sent = ExposureInfo(**{**info.__dict__, "extra": {**info.extra, "answered": {"science": {"service": "hips2fits"}}}})
    assert describe(sent).endswith("not photometric, sent by hips2fits.")
    assert fits.Header.fromstring(info.wcs_header)["CTYPE1"] == "RA---TAN"
