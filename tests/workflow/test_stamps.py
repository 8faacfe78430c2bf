import numpy as np
import pytest
from astropy.io.fits import Header
from astropy.wcs import WCS

from astrid.image import Exposure, ExposureInfo
from astrid.schema import MaskBit
from astrid.workflow.stamps import event_in, offset_in, padded_to, tiles_of_objects, with_usual_zero_points


def alert(name, *, side=63, ra=150.0, dec=2.0, zero_point=22.0, band="g", event=None):
    y, x = event or (side // 2 + 0.3, side // 2 - 0.2)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], [ra, dec], [x + 1, y + 1]
    wcs.wcs.cd = [[-1 / 3600, 0], [0, -1 / 3600]]  # y grows to the south
    extra = {"object_id": name, "pixel_scale": 1.0, "y": y, "x": x}
    header = wcs.to_header().tostring()
    assert isinstance(Header.fromstring(header), Header)
    return ExposureInfo(
        f"{name}-{side}", "", band, 58000.0, 30.0, (side, side), header, "count", zero_point, extra=extra
    )


@pytest.mark.parametrize("side", [30, 41, 63])
def test_the_event_is_at_its_place_on_the_sky_in_a_tile_of_the_largest_stamp(side):
    infos = [alert("a", side=side), alert("b", side=63, ra=151.0)]
    tiles, objects = tiles_of_objects(infos)
    assert objects == ["a", "b"]
    assert {tile.shape for tile in tiles} == {(63, 63)}
    y, x = event_in(tiles[0].shape, infos[0])
    ra, dec = tiles[0].to_sky(y, x)
    assert ra[0] == pytest.approx(150.0, abs=2e-6)
    assert dec[0] == pytest.approx(2.0, abs=2e-6)
    assert tiles[0].to_sky(y + 5, x)[1][0] < dec[0]


def test_a_small_stamp_lies_in_the_middle_of_nothing():
    info = alert("a", side=41)
    flux = np.arange(41 * 41, dtype=np.float32).reshape(41, 41)
    padded = padded_to(Exposure(info, flux, np.zeros((41, 41), np.uint16)), (63, 63))
    down, right = offset_in((63, 63), (41, 41))
    assert (down, right) == (11, 11)
    np.testing.assert_array_equal(padded.flux[11:52, 11:52], flux)
    assert (padded.mask == 0).sum() == 41 * 41
    assert np.isnan(padded.flux[padded.mask == MaskBit.NO_DATA]).all()


def test_alerts_without_a_zero_point_get_that_of_their_band():
    epochs = [(alert("a", zero_point=22.0), 0), (alert("b", zero_point=22.2), 0), (alert("c", zero_point=None), 0)]
    red = (alert("d", zero_point=None, band="r"), 0)
    found = [info.zero_point for info, _ in with_usual_zero_points([*epochs, red])]
    assert found == [22.0, 22.2, pytest.approx(22.1), pytest.approx(22.1)]
    assert with_usual_zero_points([red]) == [red]
