import csv

import pytest
from astropy.table import Table

from astrid.errors import DataError, UsageError
from astrid.targets import parse_targets
from astrid.targets.parsing import catalog_folder, shipped_targets

DEGREE_OF_M101 = (210.910833, 54.311667)


def one(text, **options):
    (target,) = parse_targets(text, **options)
    return target


@pytest.mark.parametrize(
    ("text", "radius"),
    [
        ("210.910833,+54.311667,0.1deg", 0.1),
        ("210.910833, 54.311667, 6arcmin", 0.1),
        ("210.910833 54.311667 360arcsec", 0.1),
        ("210.910833d,54.311667d,0.1", 0.1),
        ("14:03:38.6,+54:18:42,6'", 0.1),
        ("14h03m38.6s,+54d18m42s,6 arcmin", 0.1),
        ("14 03 38.6,+54 18 42", None),
        ("circle(210.910833 54.311667 0.1)", 0.1),
        ("cone(14:03:38.6, +54:18:42, 6arcmin)", 0.1),
    ],
)
def test_a_cone_is_the_same_however_it_is_written(text, radius):
    target = one(text)
    assert (target.ra, target.dec) == pytest.approx(DEGREE_OF_M101, abs=2e-6)
    assert target.radius == (None if radius is None else pytest.approx(radius))


def test_a_declination_just_south_of_the_equator_keeps_its_sign():
    assert one("10:00:00,-00:30:00").dec == -0.5


@pytest.mark.parametrize(
    "text",
    [
        "polygon(350 10, 10 10, 10 20, 350 20)",
        "POLYGON(350,10,10,10,10,20,350,20)",
        "polygon(-10 10 10 10 10 20 -10 20)",
    ],
)
def test_a_polygon_over_the_zero_of_right_ascension_lies_about_it(text):
    target = one(text)
    assert len(target.polygon) == 4
    assert min(target.ra, 360 - target.ra) < 1e-9
    assert 14 < target.dec < 16
    assert 10 < target.radius < 11.2


@pytest.mark.parametrize("name", ["SN 2023ixf", "sn2023ixf", "AT2023ixf", "2023IXF"])
def test_a_shipped_event_is_found_however_its_name_is_written(name):
    target = one(name)
    assert (target.name, target.ra, target.dec, target.radius) == ("SN 2023ixf", 210.91083, 54.31169, None)


def test_names_may_be_a_list_and_mixed_with_other_parts():
    targets = parse_targets("M101,SN 2018cow; 10,20,1deg ;control M82")
    assert [target.name for target in targets] == ["M101", "AT 2018cow", "10.00000+20.00000", "control M82"]
    assert parse_targets(["M101", "SN 2018cow", "10,20,1deg", "control M82"]) == targets


def test_a_resolver_is_asked_for_unknown_names_only():
    asked = []

    def resolve(name):
        asked.append(name)
        return (1.0, 2.0) if name == "NGC 1" else None

    assert [(t.ra, t.dec) for t in parse_targets("NGC 1, M82", resolve=resolve)] == [(1.0, 2.0), (148.9259, 69.67404)]
    assert asked == ["NGC 1"]
    with pytest.raises(UsageError, match=r"no object 'M1011'.*name service.*did you mean M101"):
        parse_targets("M1011", resolve=resolve)


@pytest.mark.parametrize("kind", ["csv", "vot", "parquet"])
def test_a_table_gives_names_radii_and_times_in_any_format(tmp_path, kind):
    table = Table(
        {
            "Name": ["a", "b"],
            "RAJ2000": ["00:40:00", "11:00:00"],
            "DEJ2000": ["-00:30:00", "+20:00:00"],
            "radius_arcmin": [6.0, 12.0],
            "start": ["2020-01-01", "58850.5"],
            "mag": [15.0, 16.5],
        }
    )
    path = tmp_path / f"fields.{kind}"
    if kind == "parquet":
        table.to_pandas().to_parquet(path)
    else:
        table.write(path, format={"csv": "ascii.csv", "vot": "votable"}[kind])
    first, second = parse_targets(path.name, root=tmp_path)
    assert (first.name, first.ra, first.dec, first.mjd_min, first.magnitude) == (
        "a",
        pytest.approx(10),
        -0.5,
        58849.0,
        15,
    )
    assert (second.radius, second.mjd_min, second.mjd_max) == (pytest.approx(0.2), 58850.5, None)
    assert first.radius == pytest.approx(0.1)


def test_a_row_without_name_or_radius_is_a_point_named_after_the_file(tmp_path):
    (tmp_path / "mine.csv").write_text("ra,dec\n1,2\n")
    target = one(str(tmp_path / "mine.csv"))
    assert (target.name, target.radius, target.mjd_min, target.magnitude) == ("mine-1", None, None, None)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["empty", "210.8,+54.3"]),
        (" ; ", ["empty"]),
        ("210.8,north", ["'210.8,north'", "no region"]),
        ("210.8,95,1deg", ["not on the sky"]),
        ("400,5", ["not on the sky"]),
        ("10,5,0deg", ["'0deg'", "5arcmin"]),
        ("10,5,30deg", ["'30deg'", "20 degrees"]),
        ("10,5,3parsec", ["'3parsec'"]),
        ("polygon(1 2, 3 4)", ["three corners"]),
        ("polygon(1 2, 3 4, 5)", ["three corners"]),
        ("polygon(1 2, 1 2, 1 2)", ["differ"]),
        ("polygon(0 0, 90 0, 180 0)", ["20 degrees", "split"]),
        ("polygon(1 2, 3 x, 5 6)", ["'x'", "no position"]),
        ("polygon(1 2, 3 4", ["no region"]),
        ("NGC 99999", ["'NGC 99999'", "position instead"]),
        ("nothing.csv", ["nothing.csv is not a file"]),
    ],
)
def test_what_cannot_be_understood_is_named_with_the_remedy(text, parts):
    with pytest.raises((UsageError, DataError)) as caught:
        parse_targets(text)
    assert all(part in str(caught.value) for part in parts), str(caught.value)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("ra,dec\n", ["no row"]),
        ("ra,decl\n1,north\n", ["row 1", "column decl", "'north'"]),
        ("ra,dec,radius\n1,2,wide\n", ["row 1", "column radius", "'wide'", "5arcmin"]),
        ("ra,dec,radius\n1,2,-1\n", ["row 1", "column radius", "'-1'"]),
        ("ra,dec,radius\n1,2,50\n", ["row 1", "20 degrees"]),
        ("ra,dec,start,end\n1,2,59000,58000\n", ["row 1", "58000", "before"]),
        ("ra,dec,start\n1,2,soon\n", ["row 1", "column start", "'soon'"]),
    ],
)
def test_what_is_wrong_in_a_table_is_named_with_its_place(tmp_path, text, parts):
    path = tmp_path / "fields.csv"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        parse_targets(str(path))
    assert all(part in str(caught.value) for part in [str(path), *parts]), str(caught.value)


def test_the_shipped_fields_hold_their_events_and_the_control_fields_hold_none():
    folder = catalog_folder()
    events = {t.name: t for t in parse_targets(str(folder / "pilot_events.csv"))}
    lines = [line for line in (folder / "pilot_fields.csv").read_text().splitlines() if not line.startswith("#")]
    fields = list(csv.DictReader(lines))
    assert {f["kind"] for f in fields} == {"event", "control"}
    named = [name for f in fields for name in f["events"].split("; ") if name]
    assert sorted(named) == sorted(events)
    from astrid.targets.regions import separation

    for field in fields:
        assert field["source"]
        assert bool(field["events"]) == (field["kind"] == "event")
        target = one(field["name"])
        assert abs(target.galactic_latitude) > 30
        for name, event in events.items():
            away = separation(target.ra, target.dec, event.ra, event.dec)[0]
            assert (away < target.radius) == (name in field["events"].split("; ")), (field["name"], name)


def test_shipped_names_do_not_hide_each_other():
    assert len(shipped_targets()) == sum(
        len(parse_targets(str(catalog_folder() / name))) for name in ("pilot_events.csv", "pilot_fields.csv")
    )


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "n", "first"),
    [
        ("xmatch/posList.csv", 6, (267.22029, -20.35869)),
        ("xmatch/query_res.csv", 11, (267.22029, -20.35869)),
        ("sdss/xid_im.txt", None, (2.02344282607, 14.8398204075)),
    ],
)
def test_answers_of_archives_are_tables_of_targets(real_data, name, n, first):
    targets = parse_targets(str(real_data(f"../recorded/{name}")))
    assert (targets.rows[0].ra, targets.rows[0].dec) == pytest.approx(first)
    assert n is None or len(targets) >= n
