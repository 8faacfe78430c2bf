import pickle
from dataclasses import replace

import pytest
import requests
from requests.adapters import HTTPAdapter

from astrid.archives import (
    Archive,
    Fetcher,
    Service,
    Transient,
    acknowledgement,
    galex,
    hips,
    ibe,
    mast,
    ps1,
    sdss,
    sesame,
    sia,
    skybot,
    skyview,
    vizier,
    xmatch,
)
from astrid.archives.acknowledgements import _texts
from astrid.archives.ztf_light_curves import light_curves_request
from astrid.detection.reference import GAIA
from tests.archives.conftest import public

# What production asks when nothing is said: compared with the archives' documentation, service by service.
PUBLIC = {
    "irsa": "https://irsa.ipac.caltech.edu",
    "ps1": "https://ps1images.stsci.edu",
    "ps1_catalogs": "https://catalogs.mast.stsci.edu",
    "mast": "https://mast.stsci.edu",
    "skyview": "https://skyview.gsfc.nasa.gov",
    "hips2fits": "https://alasky.cds.unistra.fr",
    "hips2fits_mirror": "https://alaskybis.cds.unistra.fr",
    "skyserver": "https://skyserver.sdss.org",
    "sdss": "https://data.sdss.org",
    "vizier": "https://vizier.cds.unistra.fr",
    "xmatch": "https://cdsxmatch.cds.unistra.fr",
    "skybot": "https://ssp.imcce.fr",
    "sesame": "https://cds.unistra.fr",
}
ROW = {"filefracday": "20200531300000", "field": "400", "filtercode": "zg", "ccdid": "7", "qid": "1"}
REQUESTS = {
    "tess sectors": (mast.sectors_request(10.0, -5.0), "https://mast.stsci.edu/tesscut/api/v0.1/sector"),
    "tess cutout": (mast.tess_cutout(10.0, -5.0, 30, 1), "https://mast.stsci.edu/tesscut/api/v0.1/astrocut"),
    "mast search": (mast.search_request("Mast.Caom.Products", {}), "https://mast.stsci.edu/api/v0/invoke"),
    "mast file": (mast.file_request("mast:HST/product/a.fits"), "https://mast.stsci.edu/api/v0.1/Download/file"),
    "ps1 list of files": (
        ps1.files_request(10.0, -5.0, bands=("g",), types=("warp",)),
        "https://ps1images.stsci.edu/cgi-bin/ps1filenames.py",
    ),
    "ps1 cutout": (ps1.cutout("/a.fits", 10.0, -5.0, 100), "https://ps1images.stsci.edu/cgi-bin/fitscut.cgi"),
    "skyview form": (skyview.form_request(), "https://skyview.gsfc.nasa.gov/current/cgi/basicform.pl"),
    "skyview query": (
        skyview.cutout("DSS2 Red", 10.0, -5.0, 100, 0.1),
        "https://skyview.gsfc.nasa.gov/current/cgi/runquery.pl",
    ),
    "hips2fits": (
        hips.cutout("CDS/P/DSS2/red", 10.0, -5.0, 100, 0.1),
        "https://alasky.cds.unistra.fr/hips-image-services/hips2fits",
    ),
    "hips2fits mirror": (
        hips.cutout("CDS/P/DSS2/red", 10.0, -5.0, 100, 0.1, service="hips2fits_mirror"),
        "https://alaskybis.cds.unistra.fr/hips-image-services/hips2fits",
    ),
    "images of 2mass": (sia.search_request("twomass_allsky", 10.0, -5.0), "https://irsa.ipac.caltech.edu/SIA"),
    "images of wise": (sia.search_request("wise_allwise", 10.0, -5.0), "https://irsa.ipac.caltech.edu/SIA"),
    "cutout of wise": (sia.cutout("wise_allwise", "W1", 10.0, -5.0, 0.1), "https://irsa.ipac.caltech.edu/SIA"),
    "frames of sdss": (
        sdss.search_request(10.0, -5.0),
        "https://skyserver.sdss.org/dr17/SkyServerWS/SearchTools/SqlSearch",
    ),
    "frame of sdss": (
        sdss.frame_request({"run": 1904, "rerun": 301, "camcol": 3, "field": 163}, "r"),
        "https://data.sdss.org/sas/dr17/eboss/photoObj/frames/301/1904/3/frame-r-001904-3-0163.fits.bz2",
    ),
    "images of galex": (galex.observations_request(10.0, -5.0), "https://mast.stsci.edu/api/v0/invoke"),
    "files of galex": (galex.products_request(["1"]), "https://mast.stsci.edu/api/v0/invoke"),
    "cutout of galex": (galex.cutout("NUV", 10.0, -5.0, 0.1), "https://mast.stsci.edu/api/v0.1/Download/file"),
    "ztf search": (
        ibe.search_request("sci", 10.0, -5.0, size_deg=0.1),
        "https://irsa.ipac.caltech.edu/ibe/search/ztf/products/sci",
    ),
    "ztf reference search": (
        ibe.search_request("ref", 10.0, -5.0, size_deg=0.1),
        "https://irsa.ipac.caltech.edu/ibe/search/ztf/products/ref",
    ),
    "ztf image": (
        ibe.cutout(ibe.science_path(ROW, "sciimg.fits"), 10.0, -5.0, 60.0),
        "https://irsa.ipac.caltech.edu/ibe/data/ztf/products/sci/2020/0531/300000/"
        "ztf_20200531300000_000400_zg_c07_o_q1_sciimg.fits",
    ),
    "ztf reference": (
        ibe.cutout(ibe.reference_path(ROW, "refimg.fits"), 10.0, -5.0, 60.0),
        "https://irsa.ipac.caltech.edu/ibe/data/ztf/products/ref/000/field000400/zg/ccd07/q1/"
        "ztf_000400_zg_c07_q1_refimg.fits",
    ),
}


def test_light_curves_are_asked_of_the_public_address():
    request = light_curves_request(10.0, -5.0, 5.0)
    url = "https://irsa.ipac.caltech.edu/cgi-bin/ZTF/nph_light_curves"
    assert public().url(request.service, request.path) == url
    assert dict(request.params)["POS"] == "CIRCLE 10.000000 -5.000000 0.001389"


def test_images_of_wise_are_asked_for_as_their_documentation_says():
    asked = dict(sia.search_request("wise_allwise", 10.0, -5.0).params)
    assert asked == {"COLLECTION": "wise_allwise", "POS": "CIRCLE 10.000000 -5.000000 0.0003"}


ASKED = {
    "vizier": (
        lambda f: vizier.cone(f, GAIA, 10.0, -5.0, 0.1),
        "https://vizier.cds.unistra.fr/viz-bin/votable",
        "-source=I/355/gaiadr3\n-out.max=unlimited\n-out=Source,RA_ICRS,DE_ICRS,e_RA_ICRS",
    ),
    "xmatch": (
        lambda f: xmatch.around(f, GAIA, [(10.0, -5.0)], 30.0),
        "https://cdsxmatch.cds.unistra.fr/xmatch/api/v1/sync",
        "vizier:I/355/gaiadr3",
    ),
    "skybot": (
        lambda f: skybot.moving(f, 10.0, -5.0, 0.1, [59000.25], observatory="I41"),
        "https://ssp.imcce.fr/webservices/skybot/api/conesearch.php?-ra=10.0&-dec=-5.0&-rd=0.1&-ep=2459000.75&-loc=I41",
        "",
    ),
    "sesame": (lambda f: sesame.resolve(f, "NGC 4321"), "https://cds.unistra.fr/cgi-bin/nph-sesame/SNV?NGC%204321", ""),
}


@pytest.mark.parametrize("service", ASKED)
def test_the_real_clients_ask_the_public_addresses_with_our_time_limits(service, tmp_path, monkeypatch):
    sent = []

    def send(self, request, **options):
        body = request.body or ""
        sent.append((request, body.decode() if isinstance(body, bytes) else body, options["timeout"]))
        raise requests.ConnectionError("no network here")

    monkeypatch.setattr(HTTPAdapter, "send", send)
    archive = public()
    hurried = {name: replace(one, attempts=1, interval_s=0.0) for name, one in archive.services.items()}
    ask, url, body = ASKED[service]
    with pytest.raises(Transient):
        ask(Fetcher(replace(archive, services=hurried, cache=str(tmp_path))))
    ((request, said, timeout),) = sent
    assert request.url.startswith(url)
    assert body in said
    assert request.headers["User-Agent"].startswith("astrid/")
    assert timeout == (10.0, archive.service(service).timeout_s)


def test_without_a_word_the_public_archives_are_asked():
    archive = public()
    assert {name: archive.url(name) for name in archive.services} == PUBLIC
    assert archive.base_url is None


@pytest.mark.parametrize("case", REQUESTS)
def test_requests_go_to_the_public_addresses(case):
    request, url = REQUESTS[case]
    assert public().url(request.service, request.path) == url


@pytest.mark.parametrize("name", PUBLIC)
def test_a_base_url_replaces_every_host_and_keeps_the_path(name):
    archive = Archive(public().services, base_url="http://127.0.0.1:9/x/")
    assert archive.url(name, "/path") == f"http://127.0.0.1:9/x/{name}/path"
    assert archive.redirected(name, PUBLIC[name] + "/a?b=c") == f"http://127.0.0.1:9/x/{name}/a?b=c"


def test_settings_survive_pickling():
    archive = public()
    assert pickle.loads(pickle.dumps(archive)) == archive


def test_limits_of_the_public_services_are_polite():
    for name, service in public().services.items():
        assert service.concurrency <= 4, name
        assert service.interval_s >= 0.2, name
        assert 0 < service.timeout_s <= 300, name


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"url": "ftp://x"}, "http"),
        ({"url": "https://x", "concurrency": 0}, "concurrency must be at least 1, got 0"),
        ({"url": "https://x", "timeout_s": 0}, "timeout_s must be positive"),
        ({"url": "https://x", "interval_s": -1}, "interval_s must not be negative"),
        ({"url": "https://x", "speed": 1}, "speed"),
    ],
)
def test_a_wrong_limit_is_refused_by_name(values, message):
    with pytest.raises(ValueError, match=message):
        Archive({"irsa": values})


def test_an_unknown_service_is_named_with_those_there_are():
    with pytest.raises(ValueError, match=r"'irse'.*irsa"):
        public().service("irse")


def test_the_user_agent_names_the_contact():
    assert "(+me@example.org)" in Archive({}, contact="me@example.org").user_agent
    with pytest.raises(ValueError, match="contact"):
        Archive({}, contact="me\nHost: x")


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("ASTRID_CACHE", str(tmp_path / "there"))
    assert Archive({}).folder == tmp_path / "there"
    assert Archive({}, cache=str(tmp_path / "here")).folder == tmp_path / "here"


def test_acknowledgements_are_texts_each_given_once():
    for key in _texts():
        assert len(acknowledgement(key)) > 60
    assert acknowledgement("ztf", "irsa", "ztf").count("Samuel Oschin") == 1
    with pytest.raises(ValueError, match="no acknowledgement of zft"):
        acknowledgement("zft")


def test_a_service_keeps_its_fields():
    assert Service("https://x").attempts == 5
