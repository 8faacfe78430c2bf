import warnings

import numpy as np
import pytest
from astropy.table import Table

from astrid.detection.crossmatch import evidence, match, origins
from astrid.detection.neighbours import Positions
from astrid.detection.reference import ALLWISE, CATALOGUES, GAIA, GAIA_EPOCH, PS1, SDSS, SKYBOT, Kind, read_sources
from astrid.errors import DataError


def rows(catalogue, n=1, **columns):
    """The columns that a catalogue must have, all zero, and those given."""
    base = {name: [0.0] * n for name in catalogue.required}
    return {
        **base,
        **{name: list(value) if isinstance(value, (list, tuple)) else [value] * n for name, value in columns.items()},
    }


def test_gaia_motions_and_errors_are_arcsec_and_days():
    source = read_sources(
        GAIA, rows(GAIA, Source=123, pmRA=10000.0, pmDE=-500.0, e_RA_ICRS=20.0, e_DE_ICRS=20.0, e_pmRA=1.0, e_pmDE=1.0)
    )
    assert source.id.tolist() == ["123"]
    assert source.pm_ra[0] * 365.25 == pytest.approx(10.0)
    assert source.error[0] == pytest.approx(0.02)
    assert source.pm_error[0] * 365.25 == pytest.approx(0.001)
    assert source.epoch[0] == GAIA_EPOCH


@pytest.mark.parametrize(
    ("columns", "kind"),
    [
        ({"Plx": 10.0, "e_Plx": 0.1}, Kind.STAR),
        ({"pmRA": 10.0, "e_pmRA": 0.1, "e_pmDE": 0.1}, Kind.STAR),
        ({"pmRA": 10.0, "e_pmRA": 0.1, "e_pmDE": 0.1, "RUWE": 3.0}, Kind.UNKNOWN),  # not the motion of one star
        ({"PSS": 0.99}, Kind.STAR),
        ({"PGal": 0.99, "PSS": 0.0}, Kind.GALAXY),
        ({"PQSO": 0.99, "PSS": 0.0}, Kind.UNKNOWN),
        ({}, Kind.UNKNOWN),
    ],
)
def test_gaia_knows_a_star_by_its_motion_or_its_class(columns, kind):
    source = read_sources(GAIA, rows(GAIA, **columns))
    assert source.kind[0] == kind
    assert source.is_agn[0] == ("PQSO" in columns)


def test_pan_starrs_tells_stars_from_galaxies_by_their_kron_magnitude_where_it_can():
    source = read_sources(PS1, rows(PS1, 5, imag=[18.0, 18.0, 21.5, 18.0, 18.0], iKmag=[17.99, 17.5, 21, None, -999]))
    assert source.kind.tolist() == [Kind.STAR, Kind.GALAXY, Kind.UNKNOWN, Kind.UNKNOWN, Kind.UNKNOWN]


def test_sdss_keeps_primary_rows_and_believes_spectra_first():
    source = read_sources(
        SDSS,
        rows(SDSS, 5, objID=["a", "b", "c", "d", "e"], **{"class": [3, 6, 6, 3, 6]}, mode=[1, 1, 2, 1, 1],
             spCl=["", "", "", "STAR", "QSO"], zsp=[0.1, None, None, 0.0, 1.5], gmag=19.0, rmag=18.5),
    )  # fmt: skip
    assert source.id.tolist() == ["a", "b", "d", "e"]
    assert source.kind.tolist() == [Kind.GALAXY, Kind.STAR, Kind.STAR, Kind.UNKNOWN]
    assert source.is_agn.tolist() == [False, False, False, True]
    np.testing.assert_allclose(source.redshift, [0.1, np.nan, np.nan, 1.5])
    np.testing.assert_allclose(source.colour, 0.5)


def test_allwise_finds_agn_by_colour_and_variables_by_their_digits():
    source = read_sources(
        ALLWISE, rows(ALLWISE, 4, W1mag=[15.0, 15.0, 17.0, 15.0], W2mag=[14.0, 14.5, 16.0, 14.0],
                      var=["00nn", "0090", "11nn", "nnnn"], ccf=["0000", "0000", "0000", "dd00"])
    )  # fmt: skip
    assert source.is_agn.tolist() == [True, False, False, False]
    assert source.is_variable.tolist() == [False, True, False, False]


def test_units_of_the_answer_count_before_the_usual_ones():
    source = read_sources(PS1, rows(PS1, e_RAJ2000=50.0, e_DEJ2000=50.0), {"e_RAJ2000": "mas", "e_DEJ2000": "mas"})
    assert source.error[0] == pytest.approx(0.05)


def test_masked_and_missing_values_are_unknown_and_never_spread():
    table = rows(PS1, 2, objID=["a", "b"])
    table["imag"] = np.ma.array([18.0, 1.0], mask=[False, True])
    table["RAJ2000"] = np.ma.array([1.0, 0.0], mask=[False, True])
    source = read_sources(PS1, table)
    assert source.id.tolist() == ["a"]  # without a position it is nowhere
    assert np.isfinite(source.error).all()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"imag": None}, "Pan-STARRS1 DR2: no column imag"),
        ({"imag": ["bright"]}, "column imag holds no numbers"),
    ],
)
def test_an_answer_that_is_no_such_catalogue_is_refused(change, match):
    table = {name: value for name, value in {**rows(PS1), **change}.items() if value is not None}
    with pytest.raises(DataError, match=match):
        read_sources(PS1, table)


def test_a_unit_of_another_kind_is_refused():
    with pytest.raises(DataError, match=r"column RAJ2000: unit 'mag' is no unit like deg"):
        read_sources(PS1, rows(PS1), {"RAJ2000": "mag"})


def test_every_catalogue_asks_for_what_it_needs_and_reads_what_it_asks_for():
    for catalogue in CATALOGUES.values():
        assert set(catalogue.required) <= set(catalogue.columns)
        empty = read_sources(catalogue, {name: [] for name in catalogue.columns})
        assert len(empty) == 0
        assert bool(catalogue.vizier) != catalogue.is_moving


@pytest.mark.data
def test_a_recorded_answer_of_skybot_becomes_asteroids_that_match_at_their_time(real_data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = Table.read(
            real_data("../recorded/imcce/skybot_query.vot"), format="votable", table_id=0, use_names_over_ids=True
        )
    values = {name: table[name] for name in table.colnames}
    values["mjd"] = np.full(len(table), 60677.0)
    units = {name: str(table[name].unit) for name in table.colnames if table[name].unit}
    one, other = (read_sources(SKYBOT, {k: v for k, v in values.items() if k not in drop}, units)
                  for drop in ((), ("_RAJ2000",)))  # fmt: skip
    assert len(one) == 4
    np.testing.assert_allclose(one.ra, other.ra, atol=1e-6)
    np.testing.assert_allclose(one.dec, other.dec, atol=1e-6)
    place = Positions(one.ra[:1], one.dec[:1], np.array([0.3]), np.array([60677.0]))

    def origin(where):
        matches = match(where, one, is_moving=True)
        return origins({"skybot": evidence(matches, knows_galaxies=False)}, 1)

    assert origin(place) == ["solar system"]
    later = Positions(one.ra[:1], one.dec[:1], np.array([0.3]), np.array([60678.0]))
    assert origin(later) == [None]


@pytest.mark.data
def test_recorded_rows_of_gaia_become_stars(real_data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = Table.read(
            real_data("../recorded/gaia/1710099405832VAL-result.vot"),
            format="votable",
            table_id=0,
            use_names_over_ids=True,
        )
    names = {
        "source_id": "Source", "ra": "RA_ICRS", "dec": "DE_ICRS", "ra_error": "e_RA_ICRS", "dec_error": "e_DE_ICRS",
        "parallax": "Plx", "parallax_error": "e_Plx", "pmra": "pmRA", "pmra_error": "e_pmRA", "pmdec": "pmDE",
        "pmdec_error": "e_pmDE", "ruwe": "RUWE", "phot_g_mean_mag": "Gmag",
    }  # fmt: skip
    lower = {name.lower(): name for name in table.colnames}
    values = {ours: table[lower[theirs]] for theirs, ours in names.items()}
    units = {ours: str(table[lower[theirs]].unit) for theirs, ours in names.items() if table[lower[theirs]].unit}
    sources = read_sources(GAIA, values, units)
    assert len(sources) == len(table)
    expected = np.asarray(table[lower["pmra"]], float) / 1000 / 365.25
    np.testing.assert_allclose(sources.pm_ra, expected)
    assert (sources.kind == Kind.STAR).any()
