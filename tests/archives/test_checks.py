import gzip
import io
import tracemalloc

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from astrid.archives import Corrupt, NoCoverage, Transient
from astrid.archives.checks import Content, DelimitedTable, FitsImage, IpacTable, Unfit, is_html, read_ipac_table
from astrid.simulation.sky import field_wcs

WCS_HEADER = field_wcs(150.0, 2.0, (20, 30), 1.0).to_header()
TABLE = (
    b"\\fixlen = T\n\\RowsRetrieved = 2\n\\QUERY_STATUS = 'OK'\n"
    b"| name| value|\n| char|double|\n|     |      |\n| null|  null|\n    a    1.5 \n    b   null \n"
)


def image(pixels=None, header=WCS_HEADER, compressed=False):
    """The bytes of a FITS file."""
    pixels = np.arange(600, dtype=np.float32).reshape(20, 30) if pixels is None else pixels
    hdu = fits.CompImageHDU(pixels, header=header) if compressed else fits.PrimaryHDU(pixels, header=header)
    stream = io.BytesIO()
    hdu.writeto(stream)
    return stream.getvalue()


@pytest.fixture
def checked(tmp_path):
    """Write bytes to a file and check it; the outcome that it stands for, or what was found."""

    def run(check, data):
        path = tmp_path / "file"
        path.write_bytes(data)
        try:
            return check(path)
        except Unfit as error:
            return error.outcome, error.reason

    return run


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_good_image_passes_plain_packed_and_compressed(checked, pack, compressed):
    found = checked(FitsImage(150.0, 2.0), pack(image(compressed=compressed)))
    assert "the position is on the image" in found


WHOLE = image()


@given(length=st.integers(0, len(WHOLE) - 1))
def test_no_image_that_is_cut_anywhere_passes(tmp_path_factory, length):
    path = tmp_path_factory.getbasetemp() / "cut"
    path.write_bytes(WHOLE[:length])
    with pytest.raises(Unfit) as caught:
        FitsImage()(path)
    assert caught.value.outcome is Corrupt


@pytest.mark.parametrize(
    ("data", "check", "outcome", "said"),
    [
        (b"", FitsImage(), Corrupt, "empty"),
        (b"<html>busy</html>", FitsImage(), Transient, "a web page"),
        (b" \n<!DOCTYPE HTML PUBLIC>", Content(), Transient, "a web page"),
        (b"no image here", FitsImage(), Corrupt, "no FITS file"),
        (gzip.compress(WHOLE)[:-20], FitsImage(), Corrupt, "do not decompress"),
        (image(np.full((20, 30), np.nan, np.float32)), FitsImage(), NoCoverage, "no finite pixel"),
        (image(header=None), FitsImage(), Corrupt, "no celestial WCS"),
        (WHOLE, FitsImage(151.0, 2.0), Corrupt, "is at x, y"),
        (TABLE[:-15], IpacTable(), Corrupt, "1 of 2 rows"),
        (TABLE[:-5], IpacTable(), Corrupt, "last row"),
        (TABLE.replace(b"OK", b"ERROR"), IpacTable(), Transient, "status 'ERROR'"),
        (TABLE.replace(b"\\RowsRetrieved = 2\n", b""), IpacTable(), Corrupt, "RowsRetrieved"),
        (TABLE, IpacTable(("flux",)), Corrupt, "column 'flux' is not in the table; its columns: name, value"),
        (b"a table of another kind", IpacTable(), Corrupt, "no IPAC table"),
        (b"a,b\n1,2", DelimitedTable(("a",)), Corrupt, "not complete"),
        (b"a,b\n1,2\n", DelimitedTable(("c",)), Corrupt, "column 'c'"),
    ],
)  # fmt: skip
def test_what_is_not_as_it_should_be_is_told(checked, data, check, outcome, said):
    found = checked(check, data)
    assert found[0] is outcome
    assert said in found[1]


def test_a_large_file_is_checked_without_all_of_it_in_memory(tmp_path):
    path = tmp_path / "mosaic.fits"
    pixels = np.zeros((2048, 2048), np.float32)
    fits.HDUList([fits.PrimaryHDU(), *(fits.ImageHDU(pixels) for _ in range(4))]).writeto(path)
    tracemalloc.start()
    try:
        FitsImage(needs_wcs=False)(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 0.2 * path.stat().st_size


def test_a_mask_without_flaws_passes_though_a_cutout_may_show_no_data(checked):
    blank = image(np.full((20, 30), np.nan, np.float32))
    assert len(checked(FitsImage(may_be_blank=True), blank)) == 3


def test_rows_of_an_ipac_table_are_text_by_column_and_nulls_empty():
    assert read_ipac_table(TABLE, ("name",)) == [{"name": "a", "value": "1.5"}, {"name": "b", "value": ""}]


def test_an_empty_ipac_table_is_a_table():
    head = TABLE[: TABLE.index(b"    a")].replace(b"= 2", b"= 0")
    assert read_ipac_table(head) == []


def test_xml_and_text_are_no_web_pages():
    assert not is_html(b"<?xml version='1.0'?><VOTABLE/>")
    assert is_html(b"<!-- cached -->\n<html lang='en'>")
