import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from astrid.schema import MaskBit
from astrid.surveys.winter_alerts import WinterAlerts
from tests.surveys.packet_builders import container, winter_alert, winter_schema


def test_a_packet_is_listed_and_read(tmp_path):
    (tmp_path / "one.avro").write_bytes(container([winter_alert(1, positive=False)], shape=winter_schema()))
    survey = WinterAlerts(str(tmp_path))
    (info,) = survey.list_exposures(tmp_path).exposures
    assert (info.band, info.shape, info.exposure_time) == ("J", (81, 81), 120.0)
    assert info.zero_point == pytest.approx(25.5 - 2.5 * math.log10(120))
    json.dumps(asdict(info), allow_nan=False)
    assert (survey.read_exposure(info).mask[:, 0] == MaskBit.NO_DATA).all()
    assert survey.read_difference(info).flux[40, 40] == pytest.approx(-300)
    (row,) = survey.history([info]).to_pylist()
    assert (row["magnitude"], row["band"], row["is_negative"]) == (16.3, "J", True)
    assert survey.known_events(tmp_path) is None


@pytest.mark.data
def test_stars_are_where_2mass_says_and_a_magnitude_fainter_in_ab(real_data, tmp_path):
    import fastavro

    folder = real_data("winter_alerts")
    survey = WinterAlerts(str(folder))
    listing = survey.list_exposures(tmp_path)
    assert len(listing.exposures) == len(list(folder.glob("*.avro")))
    offsets = []
    for info in listing.exposures:
        with open(info.path, "rb") as file:
            candidate = next(fastavro.reader(file))["candidate"]
        flux = survey.read_exposure(info).flux
        flux = np.nan_to_num(flux - np.nanmedian(flux))
        yy, xx = np.mgrid[:81, :81]
        for number in (1, 2, 3):
            name, magnitude = candidate[f"tmobjectid{number}"], candidate[f"tmjmag{number}"]
            if not name or name[0] not in "012" or not 10 < magnitude < 14:
                continue
            sign = -1 if name[8] == "-" else 1
            ra = 15 * (int(name[:2]) + int(name[2:4]) / 60 + int(name[4:8]) / 360000)
            dec = sign * (int(name[9:11]) + int(name[11:13]) / 60 + int(name[13:16]) / 36000)
            x, y = WCS(fits.Header.fromstring(info.wcs_header)).wcs_world2pix(ra, dec, 0)
            if 8 < x < 72 and 8 < y < 72:
                total = flux[(yy - y) ** 2 + (xx - x) ** 2 < 49].sum()
                offsets.append(candidate["magzpsci"] - 2.5 * math.log10(max(total, 1)) - magnitude)
    assert len(offsets) >= 5
    assert 0.7 < np.median(offsets) < 1.1
