import numpy as np
import pytest

from astrid.targets import Images, Selection, Target, Targets, parse_targets, summarise


def images(n=10, **columns):
    defaults = {
        "names": [f"i{i}" for i in range(n)],
        "bands": ["r"] * n,
        "mjd": 58000.0 + np.arange(n),
        "seeing_arcsec": np.full(n, 2.0),
        "limiting_magnitude": np.full(n, 20.5),
    }
    return Images(**{**defaults, **columns})


def test_targets_near_the_plane_of_the_galaxy_are_left_out_with_their_latitude():
    targets = parse_targets("M101; 290,0")
    kept, out = Selection().of_targets(targets)
    assert [target.name for target in kept] == ["M101"]
    assert "|b| = 6.35" in str(out[0])
    assert "at least 20 (selection.min_galactic_latitude)" in str(out[0])
    assert len(Selection(min_galactic_latitude=0).of_targets(targets)[0]) == 2


def test_brightness_limits_hold_for_targets_whose_magnitude_is_known():
    targets = Targets(tuple(Target(str(m), 210, 54, magnitude=m) for m in (9.0, 12.0, 18.0, None)))
    kept, out = Selection(brightest=10, faintest=15).of_targets(targets)
    assert [target.magnitude for target in kept] == [12.0, None]
    assert [(one.rule, one.value) for one in out] == [("brightest", 9.0), ("faintest", 18.0)]


def test_each_image_left_out_has_its_rule_and_number():
    seeing, limit = np.full(4, 2.0), np.full(4, 20.5)
    seeing[1], limit[2], seeing[3] = 4.5, 17.0, np.nan
    rules = Selection(start="2017-09-05", max_seeing_arcsec=4, min_limiting_magnitude=20)
    keep, out = rules.of_images(images(4, seeing_arcsec=seeing, limiting_magnitude=limit))
    assert keep.tolist() == [False, False, False, True]  # MJD 58001 is 2017-09-05; the unknown seeing is kept
    assert [(one.name, one.rule, one.value, one.limit) for one in out] == [
        ("i0", "start", 58000.0, 58001.0),
        ("i1", "max_seeing_arcsec", 4.5, 4.0),
        ("i2", "min_limiting_magnitude", 17.0, 20.0),
    ]
    assert summarise(out, 4) == "3 of 4 left out: 1 by max_seeing_arcsec, 1 by min_limiting_magnitude, 1 by start"


def test_the_narrower_of_the_times_of_rules_and_target_counts():
    keep, _ = Selection(start=58002).of_images(images(), mjd_min=58001, mjd_max=58004)
    assert np.flatnonzero(keep).tolist() == [2, 3, 4]


def test_the_images_of_each_band_are_thinned_evenly_with_first_and_last():
    keep, out = Selection(max_images_per_band=3).of_images(images(11, bands=["g"] * 2 + ["r"] * 9))
    assert np.flatnonzero(keep).tolist() == [0, 1, 2, 6, 10]
    assert {(one.rule, one.value, one.limit) for one in out} == {("max_images_per_band", 9.0, 3.0)}
    assert len(out) == 6


def test_thinning_follows_time_and_not_the_order_of_the_list():
    order = np.random.default_rng(0).permutation(9)
    keep, _ = Selection(max_images_per_band=3).of_images(images(9, mjd=58000.0 + order))
    assert sorted(order[keep].tolist()) == [0, 4, 8]


def test_no_rule_leaves_nothing_out():
    keep, out = Selection().of_images(images())
    assert keep.all()
    assert (out, summarise(out, 10)) == ((), "")


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"min_galactic_latitude": -1}, "min_galactic_latitude"),
        ({"max_seeing_arcsec": 0}, "max_seeing_arcsec"),
        ({"max_images_per_band": 0}, "max_images_per_band"),
        ({"brightest": 20, "faintest": 10}, "brightest"),
        ({"start": "someday"}, "start.*someday"),
        ({"start": "2020-01-02", "end": "2020-01-01"}, "after end"),
    ],
)
def test_rules_that_make_no_sense_are_refused(settings, match):
    with pytest.raises(ValueError, match=match):
        Selection(**settings)


def test_images_without_a_time_are_refused():
    with pytest.raises(ValueError, match="mjd of i1"):
        images(2, mjd=np.array([58000.0, np.nan]))
