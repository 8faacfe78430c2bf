import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.time import Time
from hypothesis import given
from hypothesis import strategies as st

from astrid.detection.crossmatch import MatchRule, evidence, match, origins
from astrid.detection.neighbours import Positions, light_radius, move
from astrid.detection.reference import CATALOGUES, GAIA_EPOCH, Kind, make_sources

ARCSEC = 1 / 3600


def at(*offsets, ra=150.0, dec=2.0, error=0.2, mjd=59000.0):
    """Positions at (east, north) arcsec of a place."""
    east, north = np.array(offsets, float).reshape(-1, 2).T
    n = len(east)
    return Positions(
        ra + east * ARCSEC / np.cos(np.radians(dec)), dec + north * ARCSEC, np.full(n, error), np.full(n, mjd)
    )


def sources(*offsets, ra=150.0, dec=2.0, **columns):
    """Sources at (east, north) arcsec of a place."""
    place = at(*offsets, ra=ra, dec=dec)
    n = len(place)
    full = {name: np.full(n, value) if np.isscalar(value) else value for name, value in columns.items()}
    return make_sources(n, ra=place.ra, dec=place.dec, **{"id": [f"s{i}" for i in range(n)], **full})


def said(matches, rule=None):
    """The origins by the matches of each catalogue."""
    n = max((len(one) for one in matches.values()), default=1)
    knows = {name: CATALOGUES[name].knows_galaxies for name in matches}
    return origins({name: evidence(one, rule, knows_galaxies=knows[name]) for name, one in matches.items()}, n)


def origin(**catalogues):
    """The origin of one position among the sources of catalogues."""
    return said({name: match(at((0, 0)), rows) for name, rows in catalogues.items()})[0]


FAR = sources((60, 60), kind=Kind.STAR)  # so that the catalogue covers the place
HUNDRED_YEARS = 36525.0


def test_the_nearest_of_each_class_is_found_with_its_separation():
    rows = sources((1, 0), (0, 3), (4, 0), (0, -2), kind=[Kind.STAR, Kind.GALAXY, Kind.UNKNOWN, Kind.STAR],
                   is_variable=[False, False, True, False], is_agn=[False, False, False, True])  # fmt: skip
    found = match(at((0, 0), (0, 100)), rows)
    assert {name: int(one.index[0]) for name, one in found.nearest.items()} == {
        "star": 0, "galaxy": 1, "variable": 2, "agn": 3, "source": 0,
    }  # fmt: skip
    assert found.nearest["galaxy"].separation[0] == pytest.approx(3.0, abs=1e-4)
    assert found.nearest["star"].index[1] == -1
    assert np.isnan(found.nearest["star"].separation[1])


@given(ra=st.floats(0, 360), dec=st.floats(-89.9, 89.9), pm=st.floats(-5, 5), years=st.floats(-20, 20))
def test_a_star_is_where_astropy_moves_it(ra, dec, pm, years):
    rows = make_sources(1, ra=[ra], dec=[dec], epoch=[GAIA_EPOCH], pm_ra=[pm / 365.25], pm_dec=[-pm / 365.25])
    vector, _ = move(rows, np.array([0]), np.array([GAIA_EPOCH + 365.25 * years]))
    start = SkyCoord(
        ra * units.deg, dec * units.deg, obstime=Time(GAIA_EPOCH, format="mjd", scale="tdb"), distance=5 * units.pc,
        pm_ra_cosdec=pm * units.arcsec / units.yr, pm_dec=-pm * units.arcsec / units.yr,
        radial_velocity=0 * units.km / units.s,
    )  # fmt: skip
    moved = start.apply_space_motion(new_obstime=Time(GAIA_EPOCH + 365.25 * years, format="mjd", scale="tdb"))
    expected = moved.cartesian.xyz.value / np.linalg.norm(moved.cartesian.xyz.value)
    assert np.degrees(np.linalg.norm(vector[0] - expected)) * 3600 < 0.03


def test_a_moving_star_is_matched_where_it_is_and_not_where_it_was():
    barnard = {"kind": Kind.STAR, "epoch": GAIA_EPOCH, "pm_ra": 0.0, "pm_dec": 10.4 / 365.25}
    rows = sources((0, 0), **barnard)
    late = GAIA_EPOCH + 365.25 * 10
    there, here = match(at((0, 104), mjd=late), rows), match(at((0, 0), mjd=late), rows)
    assert there.nearest["star"].separation[0] < 0.05
    assert there.status[0] == "matched"
    assert here.nearest["star"].index[0] == -1


def test_the_error_of_a_motion_grows_with_time():
    rows = sources((0, 1), kind=Kind.STAR, epoch=GAIA_EPOCH, pm_ra=0.0, pm_dec=0.0, pm_error=0.05 / 365.25)
    soon, late = (match(at((0, 0), mjd=GAIA_EPOCH + days), rows) for days in (0, 3652.5))
    assert late.nearest["star"].sigma[0] < 0.6 * soon.nearest["star"].sigma[0]


def test_separation_counts_in_combined_errors():
    rows = sources((0, 2), kind=Kind.STAR, error=0.3)
    found = match(at((0, 0), error=0.4), rows, MatchRule(systematic_arcsec=1.2))
    assert found.nearest["star"].sigma[0] == pytest.approx(2 / 1.3, rel=1e-4)


def test_true_counterparts_are_within_the_limit_as_often_as_it_says():
    rng = np.random.default_rng(1)
    n = 4000
    truth = sources(*zip(np.zeros(n), 100.0 * np.arange(n), strict=True), kind=Kind.STAR, error=0.3)
    east, north = rng.normal(0, np.hypot(0.3, 0.4), (2, n))
    seen = at(*zip(east, 100.0 * np.arange(n) + north, strict=True), error=0.4)
    found = match(seen, truth, MatchRule(systematic_arcsec=1e-6, max_separation_arcsec=30))
    assert np.mean(found.status == "matched") == pytest.approx(1 - np.exp(-(3.5**2) / 2), abs=0.002)


def test_the_chance_is_the_share_of_random_positions_with_such_a_neighbour():
    rng = np.random.default_rng(2)
    n = 3000
    rows = sources(*rng.uniform(-900, 900, (n, 2)), kind=Kind.GALAXY, magnitude=20.0)
    places = at(*rng.uniform(-600, 600, (2000, 2)), error=0.01)
    nearest = match(places, rows).nearest["galaxy"]
    chance = np.where(nearest.index < 0, 1.0, nearest.chance)
    for level in (0.1, 0.3, 0.6):  # of unrelated positions the chance is uniform
        assert np.mean(chance < level) == pytest.approx(level, abs=0.04)


def test_a_bright_neighbour_is_less_likely_by_chance_than_a_faint_one():
    rng = np.random.default_rng(3)
    around = rng.uniform(-100, 100, (200, 2))
    faint = [20.0] * 200

    def chance(magnitude):
        rows = sources((5, 0), *around[np.hypot(*around.T) > 10], kind=Kind.GALAXY,
                       magnitude=[magnitude, *faint[: int(np.sum(np.hypot(*around.T) > 10))]])  # fmt: skip
        return match(at((0, 0)), rows).nearest["galaxy"].chance[0]

    assert chance(15.0) == 0.0
    assert chance(21.0) > 0.1


def test_the_host_is_the_galaxy_that_is_nearest_in_its_own_light_radii():
    rows = sources((4, 0), (0, 10), kind=Kind.GALAXY, major=[1.0, 20.0], minor=[1.0, 10.0], angle=[0.0, 0.0])
    host = match(at((0, 0)), rows).nearest["galaxy"]
    assert host.index[0] == 1
    assert host.light_radii[0] == pytest.approx(0.5, rel=1e-3)
    assert host.separation[0] == pytest.approx(10.0, rel=1e-4)


def test_the_light_radius_is_the_axis_along_the_axes():
    rows = sources((0, 0), kind=Kind.GALAXY, major=6.0, minor=2.0, angle=30.0)
    index = np.zeros(3, int)
    np.testing.assert_allclose(light_radius(rows, index, np.array([30.0, 120.0, 210.0])), [6, 2, 6])
    assert np.isnan(light_radius(sources((0, 0)), np.array([0]), np.array([0.0]))[0])


def test_an_asteroid_matches_only_near_its_time_and_is_moved_within_it():
    rows = make_sources(
        2, id=["a", "a"], ra=[150.0, 150.1], dec=[2.0, 2.0], error=[0.1, 0.1], epoch=[59000.0, 59001.0],
        pm_ra=[864.0, 864.0], pm_dec=[0.0, 0.0],
    )  # fmt: skip
    places = Positions(
        150.0 + np.array([0.0, 8.64 * ARCSEC, 360 * ARCSEC]), np.full(3, 2.0), np.full(3, 0.2),
        np.array([59000.0, 59000.01, 59000.5]),
    )  # fmt: skip
    found = match(places, rows, is_moving=True)
    assert found.nearest["asteroid"].index.tolist() == [0, 0, -1]
    assert found.nearest["asteroid"].separation[1] < 0.02
    assert said({"skybot": found}) == ["solar system", "solar system", None]


@pytest.mark.parametrize(
    ("catalogues", "expected"),
    [
        ({"ps1": sources((0.3, 0), (60, 60), kind=Kind.STAR)}, "star"),
        ({"ps1": sources((0.3, 0), (60, 60), kind=Kind.GALAXY)}, "galaxy nucleus"),
        ({"ps1": sources((4, 0), (60, 60), kind=[Kind.GALAXY, Kind.STAR])}, "galaxy offset"),
        ({"ps1": FAR}, "hostless"),
        ({"gaia": FAR}, None),  # Gaia lacks most galaxies
        ({}, None),
        ({"gaia": sources((0.1, 0)), "ps1": FAR}, None),  # something is there, and nobody knows what
        ({"gaia": sources((0.1, 0)), "ps1": sources((3, 0), (60, 60), kind=Kind.GALAXY)}, "galaxy offset"),
        ({"gaia": sources((0.1, 0), is_agn=True), "ps1": sources((0.1, 0), kind=Kind.STAR)}, "galaxy nucleus"),
        ({"gaia": sources((0.1, 0), is_variable=True), "ps1": FAR}, "star"),
        ({"gaia": sources((0.1, 0), kind=Kind.STAR), "ps1": sources((0.1, 0), kind=Kind.GALAXY)}, "star"),
        ({"ps1": make_sources(0, ra=[], dec=[])}, None),  # not covered
        ({"ps1": sources((200, 0), kind=Kind.GALAXY)}, None),  # the rows do not reach the place
    ],
)  # fmt: skip
def test_the_origin_is_what_the_catalogues_that_can_tell_say(catalogues, expected):
    assert origin(**catalogues) == expected


def test_a_distant_galaxy_that_could_be_anywhere_is_no_host():
    rng = np.random.default_rng(4)
    crowd = sources((20, 0), *rng.uniform(-100, 100, (80, 2)) * [[1, 1]], kind=Kind.GALAXY, magnitude=20.0)
    keep = np.hypot((crowd.ra - 150) * 3600, (crowd.dec - 2) * 3600) > 15
    assert origin(ps1=crowd.part(keep)) == "hostless"
    assert origin(ps1=sources((20, 0), (60, 60), kind=[Kind.GALAXY, Kind.STAR])) == "galaxy offset"


def test_matched_no_match_and_empty_are_three_things():
    rows = sources((0, 0), (60, 0), kind=Kind.STAR)
    assert match(at((0, 0), (30, 0), (500, 0)), rows).status.tolist() == ["matched", "no match", "empty"]
    assert match(at((0, 0)), make_sources(0, ra=[], dec=[])).status.tolist() == ["empty"]


def test_no_position_gives_no_row():
    found = match(at(), sources((0, 0), kind=Kind.STAR))
    assert len(found) == 0
    assert said({"ps1": found}) == []


def test_the_order_of_the_catalogue_and_of_the_positions_does_not_matter():
    rng = np.random.default_rng(5)
    rows = sources(*rng.uniform(-100, 100, (300, 2)), kind=rng.integers(0, 3, 300), magnitude=rng.uniform(15, 22, 300))
    places = at(*rng.uniform(-100, 100, (50, 2)))
    shuffled, order = rng.permutation(300), rng.permutation(50)
    one = match(places, rows)
    other = match(
        Positions(places.ra[order], places.dec[order], places.error[order], places.mjd[order]), rows.part(shuffled)
    )
    for name, nearest in one.nearest.items():
        there = other.nearest[name]
        names = np.where(nearest.index < 0, "", rows.id[nearest.index])
        others = np.where(there.index < 0, "", rows.id[shuffled][there.index])
        np.testing.assert_array_equal(names[order], others)
        np.testing.assert_allclose(nearest.chance[order], there.chance)
    assert np.array(said({"ps1": one}))[order].tolist() == said({"ps1": other})


def test_matches_over_the_zero_of_right_ascension_and_at_the_pole():
    for ra, dec in ((0.0, 0.0), (123.0, 89.9999)):
        rows = sources((0, 0), ra=ra, dec=dec, kind=Kind.STAR)
        place = Positions(np.array([(ra - 1e-5) % 360]), np.array([dec]), np.array([0.2]), np.array([59000.0]))
        assert match(place, rows).nearest["star"].separation[0] < 0.05


@pytest.mark.parametrize("name", MatchRule.__dataclass_fields__)
def test_limits_must_be_positive(name):
    with pytest.raises(ValueError, match=name):
        MatchRule(**{name: 0.0})


def test_a_position_that_is_not_on_the_sky_is_refused():
    with pytest.raises(ValueError, match="ra must be finite"):
        Positions(np.array([np.nan]), np.zeros(1), np.zeros(1), np.zeros(1))
