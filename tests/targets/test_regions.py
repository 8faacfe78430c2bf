import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from hypothesis import given
from hypothesis import strategies as st

from astrid.targets import Target, Targets, parse_targets, targets_on, tiles_of
from astrid.targets.regions import from_plane, galactic_latitude, separation, to_plane

SKY = {"ra": st.floats(0, 359.9), "dec": st.floats(-89, 89)}


def covers(tiles, ra, dec):
    """Return how many cores each position lies on."""
    n = np.zeros(len(ra), int)
    for tile in tiles:
        near = separation(ra, dec, tile.ra, tile.dec) < 30
        y, x = tile.to_pixel(ra[near], dec[near])
        n[near] += tile.in_core(y, x)
    return n


@given(**SKY, radius=st.floats(0.01, 0.6))
def test_every_position_of_a_cone_lies_on_a_tile_wherever_it_is(ra, dec, radius):
    tiles = tiles_of(Targets((Target("a", ra, dec, radius),)), pixel_scale=5.0, default_radius=1.0, core=256)
    rng = np.random.default_rng(1)
    r, angle = radius * np.sqrt(rng.random(300)), 2 * np.pi * rng.random(300)
    offsets = np.degrees(np.tan(np.radians(r)))[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    at = from_plane(offsets, ra, dec)
    n = covers(tiles, *at)
    # cores are squares of planes of their own: slivers between them grow with the size of the field
    assert np.mean(n == 0) < 0.01
    assert np.mean(n > 1) < 0.02
    assert [tile.index for tile in tiles] == list(range(len(tiles)))


@given(**SKY)
def test_a_small_target_is_one_tile_with_the_target_at_its_centre(ra, dec):
    (tile,) = tiles_of(Targets((Target("a", ra, dec),)), pixel_scale=1.0, default_radius=0.05)
    assert separation(tile.ra, tile.dec, ra, dec)[0] * 3600 < 1.0
    assert 360 <= tile.core[0] <= 362


def test_tiles_beside_the_target_are_left_out():
    triangle = parse_targets("polygon(10 0, 14 0, 14 4)")
    tiles = tiles_of(triangle, pixel_scale=5.0, default_radius=0.1, core=256)
    square = tiles_of(parse_targets("polygon(10 0, 14 0, 14 4, 10 4)"), pixel_scale=5.0, default_radius=0.1, core=256)
    assert 0.5 < len(tiles) / len(square) < 0.7
    assert not covers(tiles, np.array([10.2]), np.array([3.8]))[0]
    ra = np.linspace(10.5, 13.9, 200)
    assert covers(tiles, ra, (ra - 10) * 0.5).all()


def test_a_tile_inside_a_polygon_and_a_polygon_inside_a_tile_both_count():
    big, small = parse_targets("polygon(10 0, 14 0, 14 4, 10 4)"), parse_targets("polygon(12 2, 12.01 2, 12.01 2.01)")
    tile = tiles_of(small, pixel_scale=1.0, default_radius=0.1)[0]
    assert [len(targets_on(tile, one, 0.1)) for one in (big, small, parse_targets("20,20,1deg"))] == [1, 1, 0]


def test_two_events_in_one_galaxy_share_their_tile():
    events = parse_targets("SN 2023ixf, SN 2011fe")
    (tile,) = tiles_of(events, pixel_scale=1.0, default_radius=0.1)
    assert len(targets_on(tile, events, 0.1)) == 2


def test_another_far_target_moves_no_tile():
    alone = tiles_of(parse_targets("10,20,0.1deg"), pixel_scale=1.0, default_radius=0.1)
    both = tiles_of(parse_targets("10,20,0.1deg; 50,20,0.1deg"), pixel_scale=1.0, default_radius=0.1)
    assert (alone[0].ra, alone[0].dec, alone[0].core) in {(t.ra, t.dec, t.core) for t in both}
    assert len(both) == 2


@given(**SKY)
def test_galactic_latitude_is_that_of_astropy(ra, dec):
    assert galactic_latitude(ra, dec)[0] == pytest.approx(SkyCoord(ra, dec, unit="deg").galactic.b.deg, abs=1e-3)


@given(**SKY, east=st.floats(-3, 3), north=st.floats(-3, 3))
def test_the_tangent_plane_and_back_is_where_it_was(ra, dec, east, north):
    at = from_plane(np.array([[east, north]]), ra, dec)
    np.testing.assert_allclose(to_plane(*at, ra, dec), [[east, north]], atol=1e-7)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"ra": np.nan}, "not on the sky"),
        ({"dec": 91.0}, "not on the sky"),
        ({"radius": 0.0}, "radius"),
        ({"radius": 30.0}, "20 degrees"),
        ({"polygon": ((1.0, 2.0), (2.0, 3.0))}, "three corners"),
        ({"mjd_min": 2.0, "mjd_max": 1.0}, "before"),
    ],
)
def test_a_target_that_makes_no_sense_is_refused(change, match):
    with pytest.raises(ValueError, match=match):
        Target(**{"name": "a", "ra": 1.0, "dec": 2.0, **change})


def test_no_target_is_refused():
    with pytest.raises(ValueError, match="no target"):
        tiles_of(Targets(()), pixel_scale=1.0, default_radius=0.1)


def test_targets_as_rows_tell_all_that_decides_the_tiles():
    one, other = parse_targets("10,20,0.1deg"), parse_targets("10,20,0.2deg")
    assert one.as_rows() != other.as_rows()
    assert one.as_rows() == parse_targets("10,20,6arcmin").as_rows()
