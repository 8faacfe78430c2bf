import bz2
import gzip
import io

import numpy as np
import pytest
from astropy.io import fits as pyfits
from hypothesis import given
from hypothesis import strategies as st

from astrid.errors import DataError
from astrid.surveys.fits import find_image, is_fits_name, read_pixels, stem_of

PIXELS = np.arange(40 * 60, dtype=np.float32).reshape(40, 60)


def encoded(*hdus):
    buffer = io.BytesIO()
    pyfits.HDUList(list(hdus)).writeto(buffer)
    return buffer.getvalue()


def plain(pixels=PIXELS):
    return encoded(pyfits.PrimaryHDU(pixels))


def put(folder, data, name="image.fits"):
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", ["a.fits", "a.FIT", "a.fts", "a.FITS.gz", "a.fits.fz", "a.fits.bz2", "a.fz"])
def test_fits_names_are_known_in_any_case(name):
    assert is_fits_name(name)
    assert stem_of(name) == "a"


@pytest.mark.parametrize("name", ["a.txt", "fits", "a.fits.txt", "a.gz", "a.fits.Z"])
def test_other_names_are_not_fits(name):
    assert not is_fits_name(name)


@pytest.mark.parametrize("squeeze", [lambda b: b, gzip.compress, bz2.compress], ids=["plain", "gzip", "bzip2"])
@pytest.mark.parametrize("name", ["image.fits", "image.fits.gz"])
def test_compression_is_told_by_content_not_by_name(tmp_path, squeeze, name):
    path = put(tmp_path, squeeze(plain()), name)
    assert find_image(path).shape == (40, 60)
    pixels, _ = read_pixels(path)
    np.testing.assert_array_equal(pixels, PIXELS)


@pytest.mark.parametrize("kind", ["RICE_1", "GZIP_1"])
@pytest.mark.parametrize("dtype", ["uint16", "int16", "int32"])
def test_fpacked_integers_come_back_exactly(tmp_path, kind, dtype):
    pixels = (PIXELS * 10).astype(dtype)
    path = put(tmp_path, encoded(pyfits.PrimaryHDU(), pyfits.CompImageHDU(pixels, compression_type=kind)), "a.fits.fz")
    found = find_image(path)
    assert (found.index, found.shape, found.is_integer) == (1, (40, 60), True)
    read, stored = read_pixels(path)
    np.testing.assert_array_equal(read, pixels)
    assert stored.dtype.kind == "i"


def test_fpacked_floats_come_back_within_their_quantisation(tmp_path):
    noise = np.random.default_rng(1).normal(100, 5, (64, 64)).astype(np.float32)
    noise[3, 4] = np.nan
    hdu = pyfits.CompImageHDU(noise, compression_type="RICE_1", quantize_level=16)
    pixels, _ = read_pixels(put(tmp_path, encoded(pyfits.PrimaryHDU(), hdu)))
    assert np.isnan(pixels[3, 4])
    assert np.nanmax(np.abs(pixels - noise)) < 5 / 8


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "i8", "f4", "f8"])
def test_every_pixel_type_is_read_in_native_byte_order(tmp_path, dtype):
    pixels = (PIXELS % 200).astype(dtype)
    read, stored = read_pixels(put(tmp_path, plain(pixels)))
    np.testing.assert_array_equal(read, pixels)
    assert read.dtype.isnative
    assert stored.dtype.isnative


def test_scale_zero_and_blank_are_applied(tmp_path):
    header = pyfits.Header([("BSCALE", 0.5), ("BZERO", 10.0), ("BLANK", -1)])
    data = plain(np.array([[-1, 0], [2, 4]], np.int16))
    cards = header.tostring(sep="", endcard=False, padding=False).encode()
    head = data[: data.index(b"END ".ljust(80))] + cards + b"END".ljust(80)
    path = put(tmp_path, head.ljust(2880) + data[2880:])
    pixels, stored = read_pixels(path)
    np.testing.assert_array_equal(pixels, [[np.nan, 10.0], [11.0, 12.0]])
    assert stored.tolist() == [[-1, 0], [2, 4]]


def test_the_first_two_dimensional_image_is_found_behind_tables_and_spectra(tmp_path):
    table = pyfits.BinTableHDU.from_columns([pyfits.Column("a", "D", array=np.arange(1000.0))])
    spectrum = pyfits.ImageHDU(np.arange(50.0))
    cube = pyfits.ImageHDU(np.zeros((3, 4, 5)))
    flat = pyfits.ImageHDU(PIXELS[None, None], name="SCI")
    mask = pyfits.ImageHDU(PIXELS + 1, name="DQ")
    path = put(tmp_path, encoded(pyfits.PrimaryHDU(), table, spectrum, cube, flat, mask))
    assert find_image(path).index == 4
    np.testing.assert_array_equal(read_pixels(path)[0], PIXELS)
    np.testing.assert_array_equal(read_pixels(path, "dq")[0], PIXELS + 1)
    np.testing.assert_array_equal(read_pixels(path, 5)[0], PIXELS + 1)
    with pytest.raises(DataError, match="HDU 3 is no two-dimensional image"):
        find_image(path, 3)
    with pytest.raises(DataError, match="no HDU WHT in it"):
        find_image(path, "WHT")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"this is a text\n" * 300, "not a FITS file"),
        (b"", "is empty"),
        (b"SIMPLE  =                    T".ljust(80) * 36, "no END"),
        (encoded(pyfits.PrimaryHDU()), "no two-dimensional image"),
    ],
    ids=["text", "empty", "no end", "no image"],
)
def test_what_is_no_image_says_so(tmp_path, data, reason):
    path = put(tmp_path, data)
    for read in (find_image, read_pixels):
        with pytest.raises(DataError, match=reason) as error:
            read(path)
        assert str(path) in str(error.value)


@given(cut=st.integers(2880, 2880 + PIXELS.nbytes - 1))
def test_no_truncation_goes_unnoticed(tmp_path_factory, cut):
    path = put(tmp_path_factory.mktemp("cut"), plain()[:cut])
    for read in (find_image, read_pixels):
        with pytest.raises(DataError, match="truncated"):
            read(path)


def test_missing_padding_is_no_truncation(tmp_path):
    path = put(tmp_path, plain()[: 2880 + PIXELS.nbytes])
    np.testing.assert_array_equal(read_pixels(path)[0], PIXELS)


@pytest.mark.parametrize("squeeze", [gzip.compress, bz2.compress], ids=["gzip", "bzip2"])
def test_no_cut_of_a_compressed_file_goes_unnoticed(tmp_path, squeeze):
    noise = np.random.default_rng(2).normal(size=(64, 64)).astype(np.float32)
    whole = squeeze(plain(noise))
    for part in (0.3, 0.6, 0.99):
        path = put(tmp_path, whole[: int(part * len(whole))])
        with pytest.raises(DataError, match=r"truncated|decompressed"):
            read_pixels(path)


def test_a_truncated_file_inside_a_whole_gzip_is_noticed(tmp_path):
    path = put(tmp_path, gzip.compress(plain()[:5000]))
    with pytest.raises(DataError, match="truncated"):
        read_pixels(path)


@pytest.mark.parametrize("squeeze", [gzip.compress, bz2.compress], ids=["gzip", "bzip2"])
def test_a_damaged_compressed_file_is_noticed(tmp_path, squeeze):
    noise = np.random.default_rng(3).normal(size=(64, 64)).astype(np.float32)
    data = bytearray(squeeze(plain(noise)))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(DataError, match=r"decompressed|cannot be read|not a FITS file"):
        read_pixels(put(tmp_path, bytes(data)))


def test_damaged_fpack_is_noticed(tmp_path):
    pixels = np.random.default_rng(4).integers(0, 1000, (64, 64)).astype(np.int16)
    data = encoded(pyfits.PrimaryHDU(), pyfits.CompImageHDU(pixels, compression_type="GZIP_1"))
    heap = data.rindex(b"\x1f\x8b")
    path = put(tmp_path, data[:heap] + b"\0" * 40 + data[heap + 40 :])
    with pytest.raises(DataError, match="does not decompress"):
        read_pixels(path)
    with pytest.raises(DataError, match="truncated"):
        find_image(put(tmp_path, data[: heap + 10]))


def test_headers_are_read_without_the_pixels(tmp_path, monkeypatch):
    path = put(tmp_path, gzip.compress(plain(np.zeros((2000, 2000), np.float32))))
    amounts = []
    read = gzip.GzipFile.read

    def counted(self, size=-1):
        data = read(self, size)
        amounts.append(len(data))
        return data

    monkeypatch.setattr(gzip.GzipFile, "read", counted)
    assert find_image(path).shape == (2000, 2000)
    assert sum(amounts) == 2880


def test_a_missing_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(DataError, match=r"gone\.fits: cannot be read"):
        read_pixels(tmp_path / "gone.fits")
