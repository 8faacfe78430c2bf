"""The clients of astroquery get the same from the services as ours, whose requests are to be those that they send.

Ours are in their place where theirs have no time limit, hold whole files in memory or keep what is damaged.
"""

import io
import zipfile
from urllib.parse import urlsplit

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astroquery.mast.cutouts import TesscutClass
from astroquery.mast.observations import ObservationsClass
from astroquery.skyview.core import SkyViewClass

from astrid.archives import Download, mast, skyview
from astrid.archives.transport import PoliteAdapter
from astrid.surveys.fetched import Place
from astrid.surveys.hst import observations_request, products_requests
from tests.archives.emulator.mast import SECTOR

FIELD = "field-a"
PATIENT = {"timeout_s": 60.0, "deadline_s": 120.0}


@pytest.fixture
def through(fetcher):
    """Let a client of astroquery ask the emulator."""

    def mounted(client, name, *, html=False):
        PoliteAdapter(fetcher(**PATIENT).transport, name, html=html).mount(client._session)
        return client

    return mounted


@pytest.fixture
def place(emulator):
    field = next(field for field in emulator.sky.fields if field.name == FIELD)
    return Place(FIELD, field.ra, field.dec, 30.0)


def test_observations_and_products_of_hubble(through, fetcher, place):
    client = through(ObservationsClass(), "mast")
    found = client.query_criteria(
        obs_collection="HST",
        dataproduct_type="image",
        calib_level=3,
        intentType="science",
        coordinates=SkyCoord(place.ra, place.dec, unit="deg"),
        radius=f"{place.fetched_arcsec / 3600 / 2**0.5} deg",
    )
    own = mast.search(fetcher(), observations_request(place))
    assert sorted(map(str, found["obsid"])) == sorted(str(row["obsid"]) for row in own)
    assert len(own) > 0
    products = client.get_product_list([str(name) for name in found["obsid"]])
    (request,) = products_requests(sorted(str(row["obsid"]) for row in own))
    assert sorted(products["dataURI"]) == sorted(row["dataURI"] for row in mast.search(fetcher(), request))


def test_sectors_and_cutouts_of_tess(through, fetcher, place):
    client, at = through(TesscutClass(), "mast"), SkyCoord(place.ra, place.dec, unit="deg")
    sectors = client.get_sectors(coordinates=at)
    own = mast.sectors(fetcher(), mast.sectors_request(place.ra, place.dec))
    assert [int(row["sector"]) for row in sectors] == [row["sector"] for row in own] == [SECTOR]
    (theirs,) = client.get_cutouts(coordinates=at, size=8, sector=SECTOR)
    with zipfile.ZipFile(
        io.BytesIO(fetcher(**PATIENT).read(mast.tess_cutout(place.ra, place.dec, 8, SECTOR)))
    ) as archive:
        (member,) = archive.namelist()
        ours = fits.open(io.BytesIO(archive.read(member)))
    np.testing.assert_allclose(theirs[1].data["FLUX"], ours[1].data["FLUX"], rtol=1e-5)


def test_images_of_skyview(through, fetcher, place):
    client = through(SkyViewClass(), "skyview", html=True)
    (link,) = client.get_image_list(
        position=SkyCoord(place.ra, place.dec, unit="deg"),
        survey=["DSS2 Red"],
        pixels="40",
        radius=0.005 * units.deg,
        coordinates="J2000",
        projection="Tan",
        cache=False,
    )
    own = fetcher(**PATIENT)
    theirs = fits.getdata(own.fetch(Download("skyview", urlsplit(link).path.removeprefix("/skyview"))).path)
    ours = fits.getdata(own.fetch(skyview.cutout("DSS2 Red", place.ra, place.dec, 40, 0.01)).path)
    assert np.corrcoef(theirs.ravel(), ours.ravel())[0, 1] > 0.9  # places that are sent with other numbers of digits
    assert ours.shape == (40, 40)
