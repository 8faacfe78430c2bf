import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astrid.simulation.transients import Transient, light_curve, make_transients


@given(rise=st.floats(0.5, 3.0), fall=st.floats(10.0, 20.0))
def test_a_supernova_rises_to_one_at_its_peak_and_falls(rise, fall):
    days = np.linspace(-60, 60, 481)
    flux = np.array([light_curve("supernova", float(t), rise=rise, fall=fall) for t in days])
    peak = light_curve("supernova", 0.0, rise=rise, fall=fall)
    assert peak == pytest.approx(1.0)
    assert flux.max() <= peak + 1e-12
    assert (np.diff(flux[days <= 0]) >= 0).all()
    assert (np.diff(flux[days >= 0]) <= 0).all()
    assert flux[0] == 0.0


def test_a_flare_rises_faster_than_it_falls():
    before, after = (light_curve("flare", t, rise=0.05, fall=0.5) for t in (-0.1, 0.1))
    assert before == pytest.approx(np.exp(-2))
    assert after == pytest.approx(np.exp(-0.2))
    assert light_curve("flare", -10.0, rise=0.05, fall=0.5) == 0.0
    assert light_curve("flare", 10.0, rise=0.05, fall=0.5) == 0.0


def test_impossible_times_are_refused():
    with pytest.raises(ValueError, match="0 < rise < fall"):
        light_curve("supernova", 0.0, rise=3.0, fall=2.0)


def test_a_moving_object_keeps_its_flux_and_changes_its_place():
    event = Transient("a", "moving", 359.99, 1.0, 100.0, 0.1, 1.0, (50.0, 70.0), ra_rate=0.02, dec_rate=-0.01)
    assert event.flux_at(90.0, 1) == 70.0
    assert event.position_at(101.0) == pytest.approx((0.01, 0.99))


def test_events_are_of_all_kinds_and_half_of_the_supernovae_have_hosts():
    rng = np.random.default_rng(3)
    places, hosts = rng.uniform(0, 1, (10, 2)), rng.uniform(5, 6, (4, 2))
    events = make_transients(rng, 10, mjds=[0.0, 5.0], places=places, hosts=hosts, magnitudes=(19.0, 21.0), n_bands=3)
    assert {event.kind for event in events} == {"supernova", "flare", "moving"}
    hosted = [event for event in events if event.ra >= 5]
    assert len(hosted) == 3  # of six supernovae
    assert all(event.kind == "supernova" for event in hosted)
    for event in events:
        assert len(event.peak_flux) == 3
        assert 10 ** (0.4 * (31.4 - 21)) <= event.peak_flux[0] <= 10 ** (0.4 * (31.4 - 19))
        assert (event.ra_rate != 0) == (event.kind == "moving")
