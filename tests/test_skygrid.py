import math

import numpy as np
import pytest
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st

from astrid.skygrid import Footprint, Tile, footprint_of, lands_on, sky_tiles


def _footprint(ra: float, dec: float, ny: int, nx: int, scale: float = 1.0) -> Footprint:
    wcs = Tile(0, (ny, nx), 0, ra, dec, scale).wcs()
    return footprint_of(wcs, (ny, nx))


def test_a_position_survives_the_way_to_the_sky_and_back():
    tile = Tile(0, (64, 96), 8, 359.99, -67.0, 0.4)
    y, x = np.array([0.0, 40.5, 79.0]), np.array([0.0, 3.25, 111.0])
    back = tile.to_pixel(*tile.to_sky(y, x))
    np.testing.assert_allclose(back, (y, x), atol=1e-6)


def test_the_centre_of_a_tile_is_its_ra_and_dec():
    tile = Tile(0, (64, 64), 8, 12.0, 45.0, 0.4)
    y, x = tile.to_pixel(12.0, 45.0)
    assert (y[0], x[0]) == pytest.approx(((80 - 1) / 2, (80 - 1) / 2))


def test_a_tile_without_sky_gives_nan_and_refuses_a_wcs():
    tile = Tile(0, (10, 10), 2, frame="pixel")
    assert np.isnan(tile.to_sky(1, 1)).all()
    with pytest.raises(ValueError, match="pixel frame"):
        tile.wcs()


@given(
    dec=st.floats(-80, 80),
    ra=st.floats(0, 359.9),
    ny=st.integers(50, 900),
    nx=st.integers(50, 900),
)
def test_every_pixel_of_an_exposure_is_in_the_core_of_one_tile(dec, ra, ny, nx):
    wcs = Tile(0, (ny, nx), 0, ra, dec, 1.0).wcs()
    tiles = sky_tiles([footprint_of(wcs, (ny, nx))], core=256, border=16)
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, nx - 1, 50), rng.uniform(0, ny - 1, 50)
    sky = wcs.pixel_to_world_values(x, y)
    owners = np.sum([tile.in_core(*tile.to_pixel(*sky)) for tile in tiles], axis=0)
    assert owners.min() >= 1
    assert owners.mean() <= 1.1  # planes of neighbouring tiles are tilted by a hair


def test_a_field_smaller_than_a_core_gets_one_tile_of_its_size():
    tiles = sky_tiles([_footprint(10, 20, 300, 400)], core=1024, border=32)
    assert len(tiles) == 1
    assert 400 <= tiles[0].core[0] <= 402


def test_two_far_fields_get_tiles_of_their_own():
    tiles = sky_tiles([_footprint(200, 20, 100, 100), _footprint(10, 20, 100, 100)], core=128)
    assert [round(tile.ra) for tile in tiles] == [10, 200]


def test_fields_across_the_meridian_are_one_field():
    tiles = sky_tiles([_footprint(359.99, 0, 100, 100), _footprint(0.01, 0, 100, 100)], core=1024)
    assert len(tiles) == 1


def test_an_exposure_lands_where_it_overlaps():
    tile = Tile(0, (100, 100), 10, 50.0, 10.0, 1.0)
    assert lands_on(_footprint(50.0, 10.0, 50, 50), tile)
    assert lands_on(_footprint(50.0 + 80 / 3600, 10.0, 50, 50), tile)
    assert not lands_on(_footprint(50.0 + 100 / 3600, 10.0, 50, 50), tile)
    assert not lands_on(_footprint(230.0, -10.0, 50, 50), tile)


def test_the_frame_of_a_header_is_turned_into_icrs():
    wcs = Tile(0, (100, 100), 0, 50.0, 10.0, 1.0).wcs()
    galactic = WCS(naxis=2)
    galactic.wcs.ctype = ["GLON-TAN", "GLAT-TAN"]
    centre = wcs.pixel_to_world(49.5, 49.5).galactic
    galactic.wcs.crval = [centre.l.deg, centre.b.deg]
    galactic.wcs.crpix = [50.5, 50.5]
    galactic.wcs.cdelt = [-1 / 3600, 1 / 3600]
    found = footprint_of(galactic, (100, 100))
    assert math.isclose(np.mean(found.ra), 50.0, abs_tol=1e-3)
    assert math.isclose(np.mean(found.dec), 10.0, abs_tol=1e-3)


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="no footprint"):
        sky_tiles([])
    with pytest.raises(ValueError, match="core must be at least 16"):
        sky_tiles([_footprint(1, 1, 10, 10)], core=3)
