import gzip
import itertools
import json
import logging
import math
import pickle
import tarfile
from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from astrid.errors import DataError
from astrid.schema import MaskBit
from astrid.surveys.ztf_alerts import ZtfAlerts
from tests.surveys.packet_builders import alert, container, flat, schema, stamp, star


def write(folder, *alerts, codec="null", **options):
    """One file per packet."""
    for number, packet in enumerate(alerts):
        (folder / f"{number}.avro").write_bytes(container([packet], codec, **options))
    return ZtfAlerts(str(folder))


def centroid(pixels, y=31.0, x=31.0, sigma=1.5):
    """Position of a source near the middle, by repeated weighting with a Gaussian."""
    yy, xx = np.mgrid[: pixels.shape[0], : pixels.shape[1]]
    pixels = np.where(np.hypot(yy - y, xx - x) < 7, np.nan_to_num(pixels), 0)
    for _ in range(10):
        weight = pixels * np.exp(-((yy - y) ** 2 + (xx - x) ** 2) / (2 * sigma**2))
        y, x = y + 1.8 * ((weight * yy).sum() / weight.sum() - y), x + 1.8 * ((weight * xx).sum() / weight.sum() - x)
    return y, x


def without_place(listing):
    return [{**asdict(info), "path": None, "extra": {**info.extra, "place": None}} for info in listing.exposures]


def test_every_layout_lists_and_reads_the_same(tmp_path):
    packets = [alert(n, positive=n != 2) for n in range(1, 4)]
    layouts = {name: tmp_path / name for name in ("files", "many", "tar", "tgz", "parquet", "folder of parquet")}
    for path in layouts.values():
        path.mkdir()
    write(layouts["files"], *packets, codec="snappy")
    (layouts["many"] / "all.avro").write_bytes(container(packets, "deflate", per_block=2))
    for name, mode in (("tar", "w"), ("tgz", "w:gz")):
        with tarfile.open(layouts[name] / f"night.tar{'.gz' if name == 'tgz' else ''}", mode) as archive:
            archive.add(layouts["files"], "ztf_public_20210901")
    pq.write_table(pa.Table.from_pylist([flat(p) for p in packets]), layouts["parquet"] / "all.parquet")
    for number, packet in enumerate(packets):
        pq.write_table(pa.Table.from_pylist([flat(packet)]), layouts["folder of parquet"] / f"{number}.parquet")
    reference = ZtfAlerts(str(layouts["files"]))
    expected = reference.list_exposures(tmp_path)
    assert [info.exposure_id for info in expected.exposures] == [str(10**18 + n) for n in range(1, 4)]
    for path in layouts.values():
        survey = ZtfAlerts(str(path))
        listing = survey.list_exposures(tmp_path / "made")
        assert not listing.problems
        assert without_place(listing) == without_place(expected)
        for one, other in zip(listing.exposures, expected.exposures, strict=True):
            for method in ("read_exposure", "read_template", "read_difference"):
                ours, theirs = getattr(survey, method)(one).flux, getattr(reference, method)(other).flux
                np.testing.assert_array_equal(ours, theirs)
        assert survey.history(listing.exposures) == reference.history(expected.exposures)


def test_an_alert_says_what_the_packet_holds(tmp_path):
    (info,) = write(tmp_path, alert(1, positive=False)).list_exposures(tmp_path).exposures
    assert info.mjd == pytest.approx(2459459.7872801 - 2400000.5 + 15 / 86400, abs=1e-8)
    assert (info.band, info.unit, info.gain, info.shape) == ("r", "count", 6.2, (63, 63))
    assert info.zero_point == pytest.approx(26.0 - 2.5 * math.log10(30))
    extra = info.extra
    assert extra["is_negative"]
    assert extra["survey_flux"] == pytest.approx(-(10 ** (0.4 * (31.4 - 16.75))))
    assert extra["survey_significance"] == -40
    assert (extra["survey_score"], extra["fwhm"], extra["pixel_scale"]) == (0.99, 2.4, 1.012)
    assert (extra["phase_x"], extra["phase_y"]) == (pytest.approx(0.2), pytest.approx(-0.3))
    json.dumps(asdict(info), allow_nan=False)
    assert len(pickle.dumps(info)) < 4000


@pytest.mark.parametrize("seconds", [None, 0.0])
def test_early_packets_without_drb_zero_point_and_exposure_time_are_read(tmp_path, seconds):
    packet = alert(1, exptime=seconds)
    missing = ("drb", "magzpsci", *(() if seconds == 0.0 else ("exptime",)))
    survey = write(tmp_path, packet, shape=schema(without=missing))
    (info,) = survey.list_exposures(tmp_path).exposures
    assert (info.exposure_time, info.zero_point, info.extra["survey_score"]) == (30.0, None, 0.9)


def test_a_number_that_is_not_one_becomes_none(tmp_path):
    (info,) = write(tmp_path, alert(1, drb=math.nan, scorr=-999.0, fwhm=-1.0)).list_exposures(tmp_path).exposures
    assert (info.extra["survey_score"], info.extra["survey_significance"], info.extra["fwhm"]) == (0.9, None, None)


def test_the_difference_has_the_sign_of_science_minus_template(tmp_path):
    survey = write(tmp_path, alert(1), alert(2, positive=False))
    for info, sign in zip(survey.list_exposures(tmp_path).exposures, (1, -1), strict=True):
        centre = (slice(29, 34), slice(29, 34))
        own = (survey.read_exposure(info).flux - survey.read_template(info).flux)[centre].sum()
        theirs = survey.read_difference(info).flux[centre].sum()
        assert np.sign(own) == np.sign(theirs) == sign


@pytest.mark.parametrize(
    ("xpos", "ypos"), [(3.2, 700.0), (3070.9, 1.4), (31.49, 31.51), (1500.0, 3078.6), (20.5, 3060.5)]
)
def test_what_the_edge_of_the_chip_cut_off_is_filled_and_the_event_is_in_the_middle(tmp_path, xpos, ypos):
    survey = write(tmp_path, alert(1, xpos=xpos, ypos=ypos))
    (info,) = survey.list_exposures(tmp_path).exposures
    exposure, difference = survey.read_exposure(info), survey.read_difference(info)
    assert exposure.flux.shape == difference.flux.shape == (63, 63)
    np.testing.assert_array_equal(np.isnan(exposure.flux), exposure.mask == MaskBit.NO_DATA)
    y, x = np.unravel_index(np.nanargmax(difference.flux), (63, 63))
    assert abs(y - info.extra["y"]) <= 0.51
    assert abs(x - info.extra["x"]) <= 0.51
    assert max(abs(info.extra["phase_y"]), abs(info.extra["phase_x"])) <= 0.5
    x_sky, y_sky = WCS(fits.Header.fromstring(info.wcs_header)).wcs_world2pix(info.extra["ra"], info.extra["dec"], 0)
    assert (y_sky, x_sky) == (pytest.approx(info.extra["y"]), pytest.approx(info.extra["x"]))


def test_a_stamp_of_another_shape_than_its_position_leaves_is_reported(tmp_path):
    packet = alert(1)
    packet["cutoutScience"]["stampData"] = stamp(star(100)[:40])
    survey = write(tmp_path, packet)
    (info,) = survey.list_exposures(tmp_path).exposures
    with pytest.raises(DataError, match=r"0\.avro: cutoutScience of alert .* is 40 x 63 px"):
        survey.read_exposure(info)


def test_nan_blocks_fillers_and_infinities_are_no_data(tmp_path):
    packet, pixels = alert(1), star(5000) + 100
    pixels[:9], pixels[62, :3] = np.nan, (-3.4e38, np.inf, -np.inf)
    packet["cutoutScience"]["stampData"] = stamp(pixels)
    survey = write(tmp_path, packet)
    exposure = survey.read_exposure(survey.list_exposures(tmp_path).exposures[0])
    missing = exposure.mask == MaskBit.NO_DATA
    assert missing.sum() == 9 * 63 + 3
    assert np.isfinite(exposure.flux[~missing]).all()


def test_a_wrong_checksum_is_used_and_said(tmp_path, caplog):
    packet = alert(1)
    data = bytearray(packet["cutoutScience"]["stampData"])
    data[-7] ^= 255
    packet["cutoutScience"]["stampData"] = bytes(data)
    survey = write(tmp_path, packet)
    with caplog.at_level(logging.WARNING):
        exposure = survey.read_exposure(survey.list_exposures(tmp_path).exposures[0])
    assert exposure.info.extra["salvaged"]
    assert "0.avro: cutoutScience of alert" in caplog.text


def test_every_problem_names_its_file_and_the_rest_goes_on(tmp_path):
    def put(name, data):
        (tmp_path / name).write_bytes(data)

    good = container([alert(1, name="ZTF21good")])
    put("a good.avro", good)
    put("b twin.avro", good)
    put("c same moment.avro", container([alert(2, name="ZTF21good", jd=alert(1)["candidate"]["jd"], fid=2)]))
    put("d cut.avro", container([alert(3)])[:-400])
    put("e schema.avro", container([alert(4)], shape=schema(without=["ra", "jd"])))
    put("f no stamp.avro", container([{**alert(5), "cutoutTemplate": None}]))
    put("g empty.avro", b"")
    put("h text.avro", b"not a packet at all")
    put("i band.avro", container([alert(6, fid=9)]))
    put("j night.tar", b"")
    with tarfile.open(tmp_path / "k.tar", "w") as archive:
        archive.add(tmp_path / "d cut.avro", "inside.avro")
    put("l.parquet", b"PAR1 nothing")
    put("m.tar.gz", gzip.compress((tmp_path / "k.tar").read_bytes())[:-3000])
    pq.write_table(pa.table({"candid": [1]}), tmp_path / "n.parquet")
    pq.write_table(
        pa.Table.from_pylist([flat(alert(7)), {**flat(alert(8)), "cutoutScience": None}]), tmp_path / "o.parquet"
    )
    put("p not fits.avro", container([{**alert(9), "cutoutScience": {"fileName": "x", "stampData": b"GIF89a"}}]))
    survey = ZtfAlerts(str(tmp_path))
    listing = survey.list_exposures(tmp_path / "made")
    assert {info.exposure_id[-1] for info in listing.exposures} == {"1", "7", "9"}
    with pytest.raises(DataError, match=r"p not fits\.avro: cutoutScience of alert .* is not a FITS file"):
        survey.read_exposure(listing.exposures[-1])
    reasons = {problem.path.removeprefix(f"{tmp_path}/")[0]: problem.reason for problem in listing.problems}
    expected = {
        "b": "duplicate", "c": "same object, band and time", "d": "cut short", "e": "no field jd, ra",
        "f": "no cutoutTemplate", "g": "empty", "h": "no alert packet", "i": "fid = 9", "j": "empty",
        "k": "cut short", "l": "Parquet", "m": "decompressed", "n": "no column", "o": "no cutoutScience",
    }  # fmt: skip
    assert {key for key, text in expected.items() if text in reasons.get(key, "")} == set(expected), reasons


def test_a_place_without_alerts_is_an_error_with_a_remedy(tmp_path):
    with pytest.raises(DataError, match=r"no alert packet in it; names must end in \.avro"):
        ZtfAlerts(str(tmp_path)).list_exposures(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        ZtfAlerts(str(tmp_path / "nowhere")).list_exposures(tmp_path)
    (tmp_path / "one.avro").write_bytes(container([alert(1)]))
    with pytest.raises(DataError, match="ZTF99none"):
        ZtfAlerts(str(tmp_path), objects=["ZTF99none"]).list_exposures(tmp_path)
    with pytest.raises(ValueError, match="path is empty"):
        ZtfAlerts("")


def test_objects_can_be_chosen(tmp_path):
    write(tmp_path, alert(1), alert(2))
    (info,) = ZtfAlerts(str(tmp_path), objects=["ZTF21syn0002"]).list_exposures(tmp_path).exposures
    assert info.extra["object_id"] == "ZTF21syn0002"


def test_history_is_merged_between_packets_of_an_object(tmp_path):
    survey = write(tmp_path, alert(1, name="ZTF21a"), alert(2, name="ZTF21a"), alert(3, name="ZTF21b"))
    rows = survey.history(survey.list_exposures(tmp_path).exposures).to_pylist()
    assert [row["object_id"] for row in rows] == ["ZTF21a", "ZTF21a", "ZTF21b", "ZTF21b"]
    assert rows[0]["magnitude"] is None
    assert rows[0]["limiting_magnitude"] == 20.1
    assert (rows[1]["magnitude"], rows[1]["band"], rows[1]["is_negative"]) == (18.5, "r", True)


def test_only_catalogues_are_truth(tmp_path):
    labels = ["catalogue:transient", "score:drb>=0.9", "catalogue:variable", "catalogue:variable", None]
    types = [None, None, "RRLyr", "QSO", None]
    rows = [
        {**flat(alert(n)), "label_basis": label, "fink_cdsxmatch": kind}
        for n, (label, kind) in enumerate(zip(labels, types, strict=True))
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    events = ZtfAlerts(str(tmp_path)).known_events(tmp_path)
    assert events["kind"].to_pylist() == ["transient", "variable", "agn"]
    pq.write_table(pa.Table.from_pylist(rows[1:2]), tmp_path / "rows.parquet")
    assert ZtfAlerts(str(tmp_path)).known_events(tmp_path) is None


@pytest.fixture(scope="module")
def real(real_data, tmp_path_factory):
    survey = ZtfAlerts(str(real_data("ztf_alerts.parquet")))
    return survey, survey.list_exposures(tmp_path_factory.mktemp("ztf"))


@pytest.mark.data
def test_every_real_alert_reads(real):
    survey, listing = real
    assert len(listing.exposures) > 400
    assert not listing.problems
    for info in listing.exposures:
        for reader in (survey.read_exposure, survey.read_template, survey.read_difference):
            exposure = reader(info)
            assert exposure.flux.shape == (63, 63)
            assert np.abs(exposure.flux[exposure.mask == 0]).max() < 1e7


@pytest.mark.data
def test_packets_and_their_rows_are_the_same(real, real_data, tmp_path):
    survey, listing = real
    rows = {info.exposure_id: info for info in listing.exposures}
    raw = ZtfAlerts(str(real_data("ztf_avro")))
    found = raw.list_exposures(tmp_path)
    assert len(found.exposures) > 50
    assert not found.problems
    for info in found.exposures:
        row = rows[info.exposure_id]
        assert (info.band, info.mjd, info.zero_point) == (
            row.band,
            pytest.approx(row.mjd),
            pytest.approx(row.zero_point),
        )
        assert info.extra["is_negative"] == row.extra["is_negative"]
        np.testing.assert_array_equal(raw.read_exposure(info).flux, survey.read_exposure(row).flux)


@pytest.mark.data
def test_positions_count_from_one_and_their_fraction_is_where_the_event_is(real):
    survey, listing = real
    misses = []
    for info in listing.exposures:
        difference = survey.read_difference(info)
        if info.extra["survey_magnitude"] < 17.5 and not difference.mask[20:43, 20:43].any():
            y, x = centroid(-difference.flux if info.extra["is_negative"] else difference.flux)
            if max(abs(y - 31), abs(x - 31)) < 2:
                misses.append((y - info.extra["y"], x - info.extra["x"]))
    misses = np.array(misses)
    assert len(misses) > 100
    assert np.abs(np.median(misses, axis=0)).max() < 0.06
    assert (1.4826 * np.median(np.abs(misses - np.median(misses, axis=0)), axis=0)).max() < 0.1


@pytest.mark.data
def test_differences_of_negative_alerts_are_stored_with_the_sign_flipped(real):
    survey, listing = real
    correlations = []
    for info in listing.exposures:
        if info.extra["is_negative"]:
            middle = (slice(27, 36), slice(27, 36))
            planes = [r(info).flux for r in (survey.read_exposure, survey.read_template, survey.read_difference)]
            science, template, difference = ((p - np.nanmedian(p))[middle].ravel() for p in planes)
            if not np.isfinite(science + template + difference).all():
                continue
            correlations.append(np.corrcoef(science - template, difference)[0, 1])
    assert len(correlations) > 150
    assert np.median(correlations) > 0.7


@pytest.mark.data
def test_x_grows_to_the_west_and_y_to_the_south(real):
    survey, listing = real
    chosen = []
    for info in listing.exposures:
        distance, magnitude, ra, dec = info.extra["nearest_star"]
        if distance is None or not 4 < distance < 20 or not magnitude < 19:
            continue
        template = survey.read_template(info).flux
        template = np.nan_to_num(template - np.nanmedian(template))
        east = (ra - info.extra["ra"]) * math.cos(math.radians(info.extra["dec"])) * 3600 / 1.012
        north = (dec - info.extra["dec"]) * 3600 / 1.012
        sums = {}
        for sx, sy, swap in itertools.product((1, -1), (1, -1), (False, True)):
            dx, dy = (north * sx, east * sy) if swap else (east * sx, north * sy)
            y, x = round(info.extra["y"] + dy), round(info.extra["x"] + dx)
            sums[sx, sy, swap] = template[y - 1 : y + 2, x - 1 : x + 2].sum()
        chosen.append(max(sums, key=sums.get))
        x, y = WCS(fits.Header.fromstring(info.wcs_header)).wcs_world2pix(ra, dec, 0)
        assert (x, y) == (
            pytest.approx(info.extra["x"] - east, abs=0.1),
            pytest.approx(info.extra["y"] - north, abs=0.1),
        )
    assert len(chosen) >= 7
    assert chosen.count((-1, -1, False)) > 0.7 * len(chosen)
