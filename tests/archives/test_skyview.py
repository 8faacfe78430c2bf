"""Pages of SkyView, recorded and cut short; what stands in for a service; hips2fits."""

import pickle
from dataclasses import replace
from functools import partial
from itertools import permutations
from pathlib import Path

import astroquery.skyview
import pytest

from astrid.archives import ArchiveError, Corrupt, Download, NoCoverage, Permanent, Transient, hips, skyview
from astrid.archives.checks import Unfit
from tests.archives.emulator import Sky

_, RA, DEC = Sky().centres[0]
INSTALLED = Path(astroquery.skyview.__file__).parent / "tests" / "data"
SURVEYS = {
    "DSS2 Red",
    "DSS2 Blue",
    "DSS2 IR",
    "SDSSr",
    "GALEX Near UV",
    "GALEX Far UV",
    "2MASS-J",
    "WISE 3.4",
    "WISE 22",
}


@pytest.fixture(params=["installed with astroquery", "recorded"])
def pages(request, real_data):
    """Folders of recorded pages of the service."""
    if request.param == "recorded":
        folder = real_data("sn2010h_cutouts").parents[1] / "recorded" / "skyview"
        if not folder.exists():
            pytest.skip(f"{folder} is not there")
        return folder
    return INSTALLED


def chain(*, first=RA):
    """DSS2 Red from SkyView, with both addresses of hips2fits to stand in."""
    others = [hips.cutout("CDS/P/DSS2/red", first, DEC, 64, 64 / 3600, service=name) for name in hips.SERVICES]
    return replace(skyview.cutout("DSS2 Red", first, DEC, 64, 64 / 3600), otherwise=tuple(others))


def test_the_recorded_form_gives_the_defaults_and_surveys_that_a_browser_would_send(pages):
    form = skyview.read_form((pages / "query_page.html").read_bytes())
    assert form.surveys >= SURVEYS
    expected = {"coordinates": "J2000", "projection": "Tan", "pixels": "300", "float": "on", "scaling": "Log",
                "resolver": "SIMBAD-NED", "lut": "colortables/b-w-linear.bin", "Sampler": "_skip_"}  # fmt: skip
    assert {key: form.defaults[key] for key in expected} == expected
    assert "survey" not in form.defaults
    assert "Position" not in form.defaults


def test_the_recorded_results_lead_to_the_file_and_say_what_it_is(pages):
    result = skyview.read_result((pages / "results.html").read_bytes())
    assert result.path == "/tempspace/fits/skv6724208473423_1.fits"
    assert result.found["pixelunits"] == "counts"
    assert result.found["epoch"] == "2008-2012"


@pytest.mark.parametrize(("page", "read"), [("query_page", skyview.read_form), ("results", skyview.read_result)])
def test_recorded_pages_that_are_cut_short_are_corrupt(page, read):
    whole = (INSTALLED / f"{page}.html").read_bytes()
    for share in (0.03, 0.1):
        with pytest.raises(Unfit) as caught:
            read(whole[: int(share * len(whole))])
        assert caught.value.outcome is Corrupt


def test_a_whole_page_of_results_without_a_link_says_that_there_is_nothing():
    whole = (INSTALLED / "results.html").read_bytes()
    with pytest.raises(Unfit) as caught:
        skyview.read_result(whole.replace(b">FITS<", b"><"))
    assert caught.value.outcome is NoCoverage


@pytest.mark.parametrize("title", ["Down for maintenance", "SkyView error", "SkyView Query Form"])
def test_an_ended_page_that_is_no_page_of_results_may_be_one_later(title):
    whole = (INSTALLED / "results.html").read_bytes().replace(b"<title>SkyView images<", f"<title>{title}<".encode())
    for page in (whole, whole.replace(b">FITS<", b"><"), f"<html><title>{title}</title></html>".encode()):
        with pytest.raises(Unfit) as caught:
            skyview.read_result(page)
        assert caught.value.outcome is Transient


def test_a_page_of_results_that_is_cut_before_its_title_is_corrupt():
    with pytest.raises(Unfit) as caught:
        skyview.read_result((INSTALLED / "results.html").read_bytes()[:60])
    assert caught.value.outcome is Corrupt


def test_another_page_than_the_form_is_a_service_that_is_busy():
    with pytest.raises(Unfit) as caught:
        skyview.read_form(b"<html><title>Down for maintenance</title></html>")
    assert caught.value.outcome is Transient


def test_an_image_is_linear_and_asked_for_with_the_defaults_of_the_form(fetcher, emulator):
    url = emulator.fault("500x0", "sky-defaults")
    found = fetcher(url, timeout_s=10.0).fetch(skyview.cutout("SDSSr", RA, DEC, 32, 32 / 3600))
    asked = found.note["url"]
    for text in ("scaling=Linear", "pixels=32", "lut=colortables", "coordinates=ICRS", "survey=SDSSr"):
        assert text in asked
    assert found.note["found"]["pixelunits"] == "nanomaggies"
    assert "/tempspace/fits/" in found.note["found"]["file"]


def test_an_image_is_three_requests_the_next_two_and_the_same_again_none(fetcher, emulator):
    url = emulator.fault("500x0", "sky-count")
    ours = fetcher(url, timeout_s=10.0)
    counts = []
    for pixels in (32, 33, 33):
        before = len(emulator.requests("skyview"))
        ours.fetch(skyview.cutout("DSS2 Red", RA, DEC, pixels, pixels / 3600))
        counts.append(len(emulator.requests("skyview")) - before)
    assert counts == [3, 2, 0]


def test_a_survey_that_the_form_lacks_is_named_with_those_alike(fetcher):
    with pytest.raises(Permanent, match=r"no survey 'SDSSx' is in its form; there are SDSSg, SDSSi"):
        fetcher(timeout_s=10.0).fetch(skyview.cutout("SDSSx", RA, DEC, 32, 32 / 3600))


def test_an_image_of_one_value_is_no_coverage(fetcher):
    _, ra, dec = Sky().centres[4]
    with pytest.raises(NoCoverage, match="every pixel is 0"):
        fetcher(timeout_s=10.0).fetch(skyview.cutout("DSS2 Red", ra, dec, 32, 32 / 3600))


@pytest.mark.parametrize(
    ("fault", "sent"),
    [
        ("500x0", "skyview"),
        ("503@basicform", "hips2fits"),
        ("html@runquery", "hips2fits"),
        ("empty@tempspace", "hips2fits"),
        ("503@skyview", "hips2fits"),
    ],
)
def test_the_next_service_sends_what_the_first_has_not_or_does_not_answer(fault, sent, fetcher, emulator):
    ours = fetcher(emulator.fault(fault, f"rung-{fault.replace('@', '-')}"), timeout_s=10.0)
    found = ours.fetch(chain())
    assert found.note["service"] == sent
    assert found.is_new
    before = len(emulator.requests())
    assert ours.cached(chain())["sha256"] == found.note["sha256"]
    assert not ours.fetch(chain()).is_new  # nobody is asked again, the first service neither
    assert len(emulator.requests()) == before


@pytest.mark.parametrize("fault", ["404@tempspace", "403@basicform", "short@tempspace", "zero@runquery"])
def test_what_is_refused_or_damaged_is_asked_of_the_next_service(fault, fetcher, emulator):
    ours = fetcher(emulator.fault(fault, f"through-{fault.replace('@', '-')}"), timeout_s=10.0)
    assert ours.fetch(chain()).note["service"] == "hips2fits"


OUTCOMES = (Transient, Corrupt, Permanent, NoCoverage)  # the worst first


def failing(service, outcome):
    """A request of one service that ends badly without being sent."""
    return Download(service, f"/{outcome.__name__}", way=partial(fail, outcome))


def fail(outcome, fetcher, download, part):
    raise outcome(download.service, "http://nowhere", f"{download.service} said {outcome.__name__}")


@pytest.mark.parametrize("order", [*permutations(OUTCOMES), *permutations(OUTCOMES[1:]), *permutations(OUTCOMES[2:])])
def test_where_all_fail_the_worst_outcome_is_raised_with_every_reason(order, fetcher):
    services = ("skyview", "hips2fits", "hips2fits_mirror", "mast")
    one, *others = (failing(service, outcome) for service, outcome in zip(services, order, strict=False))
    with pytest.raises(ArchiveError) as caught:
        fetcher().fetch(replace(one, otherwise=tuple(others)))
    assert type(caught.value) is min(order, key=OUTCOMES.index)
    for service, outcome in zip(services, order, strict=False):
        assert f"{service} said {outcome.__name__}" in str(caught.value)


def test_the_mirror_is_the_last_to_be_asked(fetcher, emulator):
    ours = fetcher(emulator.fault("503x6", "mirror"), timeout_s=10.0)  # two attempts at each of two services, and one
    with pytest.raises(Transient, match=r"skyview: status 503.*also hips2fits: status 503.*hips2fits_mirror"):
        ours.fetch(chain())
    ours = fetcher(emulator.fault("503x4", "mirror-4"), timeout_s=10.0)
    assert ours.fetch(chain()).note["service"] == "hips2fits_mirror"


def test_nobody_has_it_only_where_everybody_said_so(fetcher, emulator):
    url = emulator.fault("500x0", "nobody")
    ours = fetcher(url, timeout_s=10.0)
    with pytest.raises(NoCoverage, match=r"also hips2fits: .*no finite pixel"):
        ours.fetch(chain(first=RA + 5))
    assert ours.cached(chain(first=RA + 5))["outcome"] == "no coverage"
    doubtful = fetcher(emulator.fault("503@hips2fits_mirror", "doubtful"), timeout_s=10.0)
    with pytest.raises(Transient, match=r"hips2fits_mirror: status 503.*also skyview"):
        doubtful.fetch(chain(first=RA + 5))


def test_what_is_asked_travels_to_workers():
    assert pickle.loads(pickle.dumps(chain())) == chain()


def test_a_map_that_does_not_exist_is_permanent(fetcher):
    with pytest.raises(Permanent, match="400"):
        fetcher(timeout_s=10.0).fetch(hips.cutout("CDS/P/NONE", RA, DEC, 32, 32 / 3600))


@pytest.mark.parametrize(("make", "name"), [(skyview.cutout, "DSS2 Red"), (hips.cutout, "CDS/P/DSS2/red")])
def test_a_square_too_large_is_refused(make, name):
    with pytest.raises(ValueError, match="size_pixels must be from 1 to"):
        make(name, RA, DEC, 100_000, 1.0)


def test_an_unknown_address_of_hips2fits_is_refused():
    with pytest.raises(ValueError, match="service must be one of hips2fits, hips2fits_mirror, got 'aladin'"):
        hips.cutout("CDS/P/DSS2/red", RA, DEC, 32, 1.0, service="aladin")
