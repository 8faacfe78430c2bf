import bz2
import gzip
import io
import logging
import math

import numpy as np
import pytest
from astropy.io import fits

from astrid.errors import DataError
from astrid.schema import MaskBit
from astrid.surveys.companions import read_psf
from astrid.surveys.directory import Directory, read_image, saturation_level

PIXELS = np.random.default_rng(5).normal(100, 5, (32, 40)).astype(np.float32)
START = 60436.3  # 2024-05-06T07:12:00


def write(path, pixels=PIXELS, **cards):
    """Write an image; keyword_name stands for KEYWORD-NAME."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {"DATE-OBS": "2024-05-06T07:12:00", "EXPTIME": 60.0, "FILTER": "r"}
    header.update({name.replace("_", "-"): value for name, value in cards.items()})
    fits.writeto(path, pixels, fits.Header({k: v for k, v in header.items() if v is not None}), overwrite=True)
    return path


def listed(folder, **settings):
    return Directory(str(folder), **settings).list_exposures(folder)


def only(folder, **settings):
    listing = listed(folder, **settings)
    assert listing.problems == ()
    assert len(listing.exposures) == 1
    return listing.exposures[0]


def test_all_kinds_of_files_in_all_subfolders_are_listed_by_time(tmp_path):
    raw = write(tmp_path / "a.fits", DATE_OBS="2024-05-06T07:15:00").read_bytes()
    write(tmp_path / "late.FIT", DATE_OBS="2024-05-06T09:00:00")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "b.fits.gz").write_bytes(gzip.compress(raw))
    (tmp_path / "deep" / "er" / "c.FITS.BZ2").write_bytes(bz2.compress(raw))
    buffer = io.BytesIO()
    primary = fits.PrimaryHDU(header=fits.Header({"DATE-OBS": "2024-05-06T07:00:00", "EXPTIME": 60, "FILTER": "g"}))
    fits.HDUList([primary, fits.CompImageHDU(PIXELS)]).writeto(buffer)
    (tmp_path / "early.fits.fz").write_bytes(buffer.getvalue())
    (tmp_path / "notes.txt").write_text("seeing was fine")
    (tmp_path / ".hidden.fits").write_text("no")
    listing = listed(tmp_path)
    names = [info.exposure_id for info in listing.exposures]
    assert names == ["early.fits.fz", "a.fits", "deep/b.fits.gz", "deep/er/c.FITS.BZ2", "late.FIT"]
    assert listing.problems == ()
    assert listing.exposures[0].hdu == 1
    assert listing.exposures[0].band == "g"
    for info in listing.exposures:
        np.testing.assert_allclose(Directory(str(tmp_path)).read_exposure(info).flux, PIXELS, atol=2)


def test_include_and_exclude_choose_by_name_or_relative_path(tmp_path):
    for name in ("a_r.fits", "a_g.fits", "flats/f_r.fits"):
        write(tmp_path / name)
    assert [i.exposure_id for i in listed(tmp_path, include=["*_r.fits"]).exposures] == ["a_r.fits", "flats/f_r.fits"]
    assert [i.exposure_id for i in listed(tmp_path, exclude=["flats/*"]).exposures] == ["a_g.fits", "a_r.fits"]
    assert only(tmp_path, include="*_r.fits", exclude="flats/*").exposure_id == "a_r.fits"
    with pytest.raises(DataError, match=r"no FITS image passes include \['\*_z\*'\]"):
        listed(tmp_path, include=["*_z*"])


def test_the_header_is_understood(tmp_path):
    write(tmp_path / "a.fits", GAIN=1.5, SATURATE=60000.0, MAGZERO=28.0, DETECTOR="CCD3", BUNIT="ADU")
    info = only(tmp_path)
    assert info.mjd == pytest.approx(START + 30 / 86400, abs=1e-9)
    assert (info.exposure_time, info.band, info.unit, info.detector) == (60.0, "r", "count", "CCD3")
    assert (info.gain, info.saturation, info.shape) == (1.5, 60000.0, (32, 40))
    assert info.zero_point == pytest.approx(28.0 - 2.5 * math.log10(60))
    assert only(tmp_path, zero_point_is="per_second").zero_point == 28.0
    assert only(tmp_path, zero_point=25.0, zero_point_is="per_second").zero_point == 25.0


def test_the_zero_point_gives_a_star_the_same_magnitude_in_counts_and_in_counts_per_second(tmp_path):
    magnitudes = []
    for unit, counts in (("count", 6000.0), ("count/s", 100.0)):
        zero_point = 28.0 if unit == "count" else 28.0 - 2.5 * math.log10(60)
        write(tmp_path / "a.fits", BUNIT=unit, MAGZERO=zero_point)
        info = only(tmp_path)
        rate = counts / (info.exposure_time if info.unit == "count" else 1.0)
        magnitudes.append(info.zero_point - 2.5 * math.log10(rate))
    assert magnitudes[0] == pytest.approx(magnitudes[1])


@pytest.mark.parametrize(
    ("unit", "expected"), [("ADU", 2.0), ("ADU/s", 120.0), ("electron", 1.0), ("electron/s", 60.0), ("nJy", None)]
)
def test_gain_is_electrons_per_unit_of_the_pixels(tmp_path, unit, expected):
    write(tmp_path / "a.fits", BUNIT=unit, GAIN=2.0)
    assert only(tmp_path).gain == expected


def test_settings_replace_the_header(tmp_path):
    write(tmp_path / "a.fits", GAIN=1.5, BUNIT="furlong")
    info = only(tmp_path, unit="count", gain=3.0, band="i", exposure_time=10.0, saturation=900.0)
    assert (info.unit, info.gain, info.band, info.exposure_time, info.saturation) == ("count", 3.0, "i", 10.0, 900.0)


def test_keywords_can_be_named(tmp_path):
    write(tmp_path / "a.fits", DATE_OBS=None, FILTER=None, WHEN="2024-05-06T07:12:00", COLOUR="red")
    info = only(tmp_path, keywords={"time": "WHEN", "band": ["NONE", "COLOUR"], "gain": None})
    assert info.band == "red"
    assert info.mjd == pytest.approx(START + 30 / 86400, abs=1e-9)


def test_surface_brightness_becomes_flux(tmp_path):
    write(tmp_path / "a.fits", np.full((32, 40), 2.0, np.float32), BUNIT="MJy/sr", PIXAR_SR=None)
    listing = listed
    with pytest.raises(DataError, match="PIXAR_SR"):
        listing(tmp_path)
    path = write(tmp_path / "a.fits", np.full((32, 40), 2.0, np.float32), BUNIT="MJy/sr")
    with fits.open(path, mode="update") as file:
        file[0].header["PIXAR_SR"] = 2.25e-14
    info = only(tmp_path)
    assert info.unit == "nJy"
    np.testing.assert_allclose(Directory(str(tmp_path)).read_exposure(info).flux, 2.0 * 22.5, rtol=1e-6)


def test_a_pointing_is_no_wcs(tmp_path):
    write(tmp_path / "a.fits", RA=31.3, DEC=46.7)
    assert only(tmp_path).wcs_header is None


def test_bad_files_are_problems_and_the_rest_goes_on(tmp_path):
    good = write(tmp_path / "good.fits").read_bytes()
    (tmp_path / "text.fits").write_text("not an image\n" * 300)
    (tmp_path / "cut.fits").write_bytes(good[: len(good) // 2])
    (tmp_path / "broken.fits.gz").write_bytes(b"\x1f\x8b\x08" + b"\0" * 50)
    fits.PrimaryHDU().writeto(tmp_path / "table.fits")
    write(tmp_path / "timeless.fits", DATE_OBS=None)
    write(tmp_path / "unit.fits", BUNIT="furlong")
    listing = listed(tmp_path)
    assert [info.exposure_id for info in listing.exposures] == ["good.fits"]
    reasons = {problem.path.rsplit("/", 1)[1]: problem.reason for problem in listing.problems}
    assert "not a FITS file" in reasons["text.fits"]
    assert "truncated" in reasons["cut.fits"]
    assert "decompressed" in reasons["broken.fits.gz"]
    assert "no two-dimensional image" in reasons["table.fits"]
    assert "survey.keywords.time=KEYWORD" in reasons["timeless.fits"]
    assert "DATE-OBS, " in reasons["timeless.fits"]
    assert "survey.unit" in reasons["unit.fits"]
    assert len(reasons) == 6


def test_an_image_without_a_finite_pixel_cannot_be_read(tmp_path):
    write(tmp_path / "a.fits", np.full((8, 8), np.nan, np.float32))
    with pytest.raises(DataError, match=r"a\.fits: no finite pixel"):
        Directory(str(tmp_path)).read_exposure(only(tmp_path))


def test_a_file_cut_after_listing_cannot_be_read(tmp_path):
    path = write(tmp_path / "a.fits")
    info = only(tmp_path)
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(DataError, match="truncated"):
        Directory(str(tmp_path)).read_exposure(info)


def test_places_without_images_say_what_to_do(tmp_path):
    with pytest.raises(DataError, match=r"survey\.path must be a folder"):
        listed(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no FITS file in it .* must end in \.fits"):
        listed(tmp_path)
    (tmp_path / "a.fits").write_text("no")
    with pytest.raises(DataError, match=r"none of 1 FITS files can be used; the first: .*a\.fits: is not a FITS"):
        listed(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": ""}, "path"),
        ({"keywords": {"colour": "X"}}, "colour"),
        ({"companions": {"weight": "x"}}, "weight"),
        ({"companions": {"mask": "{nme}.fits"}}, r"\{nme\}"),
        ({"unit": "furlong"}, "furlong"),
        ({"time_is": "noon"}, "noon"),
        ({"gain": -1.0}, "-1"),
        ({"saturation": "high"}, "high"),
        ({"zero_point_is": "vega"}, "vega"),
    ],
)
def test_wrong_settings_are_refused_at_once(settings, message):
    with pytest.raises(ValueError, match=message):
        Directory(**{"path": "images", **settings})


def test_no_data_and_saturation_are_masked(tmp_path):
    pixels = PIXELS.copy()
    pixels[0, :3] = np.nan, np.inf, 5000.0
    write(tmp_path / "a.fits", pixels, SATURATE=5000.0)
    exposure = Directory(str(tmp_path)).read_exposure(only(tmp_path))
    assert exposure.mask[0, :4].tolist() == [MaskBit.NO_DATA, MaskBit.NO_DATA, MaskBit.SATURATED, 0]
    assert np.isnan(exposure.flux[0, :2]).all()


@pytest.mark.parametrize("dtype", ["uint16", "int16", "int32"])
@pytest.mark.parametrize("ceiling", [4095, 20000])
def test_integers_that_pile_up_are_saturated(tmp_path, dtype, ceiling):
    stars = np.random.default_rng(6).integers(100, 3000, (40, 40))
    stars[5:9, 5:9] = 90000
    write(tmp_path / "a.fits", np.minimum(stars, ceiling).astype(dtype))
    exposure = Directory(str(tmp_path)).read_exposure(only(tmp_path))
    assert exposure.info.saturation == ceiling
    np.testing.assert_array_equal(exposure.mask == MaskBit.SATURATED, stars == 90000)


def test_integers_that_do_not_pile_up_are_not_saturated():
    noise = np.random.default_rng(8).normal(0, 3, (200, 200)).round().astype(np.int16)
    assert saturation_level(noise + 100) is None
    assert saturation_level(np.where(noise > 0, 101, 100)) is None


def test_companions_are_read_and_not_listed(tmp_path):
    mask, sigma = np.zeros(PIXELS.shape, np.uint8), np.full(PIXELS.shape, 3.0, np.float32)
    mask[2, 3], mask[4, 5], sigma[6, 7] = 1, 8, np.nan
    psf = np.zeros((7, 7)) + 0.02
    psf[3, 3] = 1.0
    write(tmp_path / "a[1].fits", BUNIT="nanomaggy")
    write(tmp_path / "a[1].sig.fits", sigma)
    write(tmp_path / "masks" / "a[1].fits", mask)
    write(tmp_path / "psf" / "any.fits", psf)
    companions = {
        "sigma": "{stem}.sig.fits", "mask": "{folder}/masks/{name}", "psf": "psf/*.fits", "variance": None
    }  # fmt: skip
    survey = Directory(str(tmp_path), companions=companions)
    exposure = survey.read_exposure(only(tmp_path, companions=companions))
    np.testing.assert_allclose(exposure.variance, (3.0 * 3631) ** 2, rtol=1e-6)
    assert exposure.psf.sum() == pytest.approx(1.0, abs=1e-6)
    assert np.argwhere(exposure.mask == MaskBit.BAD).tolist() == [[2, 3], [4, 5], [6, 7]]
    chosen = Directory(str(tmp_path), companions={"mask": "masks/{name}"}, mask_bits=8)
    info = next(e for e in chosen.list_exposures(tmp_path).exposures if e.exposure_id == "a[1].fits")
    assert np.argwhere(chosen.read_exposure(info).mask == MaskBit.BAD).tolist() == [[4, 5]]


def test_companions_can_be_other_images_of_the_same_file(tmp_path):
    header = fits.Header({"DATE-OBS": "2024-05-06T07:12:00", "EXPTIME": 60.0})
    science = fits.ImageHDU(PIXELS, name="SCI")
    variance = fits.ImageHDU(np.full(PIXELS.shape, 25.0, np.float32), name="VAR")
    fits.HDUList([fits.PrimaryHDU(header=header), science, variance]).writeto(tmp_path / "a.fits")
    survey = Directory(str(tmp_path), companions={"variance": "{name}[VAR]"})
    exposure = survey.read_exposure(survey.list_exposures(tmp_path).exposures[0])
    np.testing.assert_array_equal(exposure.flux, PIXELS)
    np.testing.assert_array_equal(exposure.variance, 25.0)


def test_a_companion_of_another_shape_is_refused_by_name(tmp_path):
    write(tmp_path / "a.fits")
    write(tmp_path / "a.mask.fits", PIXELS[1:])
    settings = {"companions": {"mask": "{stem}.mask.fits"}}
    with pytest.raises(DataError, match=r"a\.mask\.fits: the mask is \(31, 40\) but .* is \(32, 40\)"):
        Directory(str(tmp_path), **settings).read_exposure(only(tmp_path, **settings))


def test_a_missing_companion_is_noted_once(tmp_path, caplog):
    for number in range(5):
        write(tmp_path / f"{number}.fits")
    with caplog.at_level(logging.WARNING):
        listing = listed(tmp_path, companions={"mask": "{stem}.mask.fits"})
    assert all(info.extra["notes"] == ["no mask at {stem}.mask.fits"] for info in listing.exposures)
    assert [record.getMessage() for record in caplog.records] == ["0.fits (and 4 more): no mask at {stem}.mask.fits"]


def test_keywords_that_disagree_are_reported(tmp_path, caplog):
    write(tmp_path / "a.fits", MJD_OBS=60000.123456)
    info = only(tmp_path)
    assert "DATE-OBS and MJD-OBS disagree" in info.extra["notes"][0]
    assert "disagree" in caplog.text


def test_a_template_borrows_what_its_header_lacks(tmp_path):
    write(tmp_path / "a.fits", BUNIT="count/s", RADESYS="ICRS")
    fits.writeto(tmp_path / "deep.ref.fits", PIXELS * 2)
    survey = Directory(str(tmp_path), companions={"template": "deep.ref.fits"})
    info = survey.list_exposures(tmp_path).exposures[0]
    template = survey.read_template(info)
    np.testing.assert_array_equal(template.flux, PIXELS * 2)
    assert (template.info.unit, template.info.band, template.info.exposure_time) == ("count/s", "r", 60.0)
    assert template.info.mjd == info.mjd
    assert Directory(str(tmp_path)).read_template(info.__class__(**{**info.__dict__, "companions": {}})) is None


@pytest.mark.parametrize(("size", "centre"), [(8, 4), (8, 3), (9, 4)])
def test_a_psf_becomes_odd_with_its_peak_in_the_middle(tmp_path, size, centre):
    y, x = np.mgrid[:size, :size] - centre
    path = write(tmp_path / "psf.fits", np.exp(-0.5 * (y**2 + x**2)))
    psf = read_psf(str(path))
    assert psf.shape == (9, 9)
    assert np.unravel_index(psf.argmax(), psf.shape) == (4, 4)
    assert psf.sum() == pytest.approx(1.0, abs=1e-6)
    with pytest.raises(DataError, match="positive sum"):
        read_psf(str(write(tmp_path / "zero.fits", np.zeros((5, 5)))))


def test_one_image_is_read_with_or_without_a_time(tmp_path):
    path = write(tmp_path / "a.fits", DATE_OBS=None)
    exposure = read_image(path, gain=2.0)
    assert math.isnan(exposure.info.mjd)
    assert exposure.info.gain == 2.0
    np.testing.assert_array_equal(exposure.flux, PIXELS)
    with pytest.raises(DataError, match="is not a file"):
        read_image(tmp_path / "gone.fits")


@pytest.mark.data
def test_the_hatp32_series_is_listed_by_its_precise_local_times(real_data):
    folder = real_data("hatp32_series")
    listing = listed(folder)
    assert len(listing.exposures) == 30
    assert listing.problems == ()
    assert len({info.mjd for info in listing.exposures}) == 30
    first = listing.exposures[0]
    assert first.mjd == pytest.approx(58107.06508468750 + 30 / 86400, abs=1e-9)
    assert (first.band, first.unit, first.gain, first.wcs_header) == ("Clear", "count", None, None)
    assert Directory(str(folder)).read_exposure(first).info.saturation == 4095.0


@pytest.mark.data
def test_the_jwst_pair_is_read_in_nanojansky_with_its_companions(real_data):
    survey = Directory(
        str(real_data("jwst_a2744_pair") / "input_data"),
        keywords={"time": "MJD-OBS"},
        time_is="mid",
        companions={"psf": "../auxiliary/{stem}.WebbPSF.fits", "sigma": "../auxiliary/{stem}.noise.fits"},
    )
    listing = survey.list_exposures(real_data("jwst_a2744_pair"))
    assert [round(info.mjd, 2) for info in listing.exposures] == [59759.41, 59885.58]
    assert [info.unit for info in listing.exposures] == ["nJy", "nJy"]
    exposure = survey.read_exposure(listing.exposures[0])
    assert exposure.psf.sum() == pytest.approx(1.0, abs=1e-5)
    good = exposure.mask == 0
    ratio = np.std(exposure.flux[good & (exposure.flux < 0.2)]) / np.sqrt(np.median(exposure.variance[good]))
    assert 0.2 < ratio < 5
