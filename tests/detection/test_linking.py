import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astrid.detection.linking import link

coordinate = st.floats(0, 30, allow_nan=False)


def zeros(n):
    return np.zeros(n, np.int64)


@given(st.lists(st.tuples(coordinate, coordinate, st.integers(0, 2)), min_size=1, max_size=40), st.randoms())
def test_the_order_of_the_candidates_changes_nothing(rows, random):
    order = list(range(len(rows)))
    random.shuffle(order)
    y, x, tile = (np.array(c) for c in zip(*rows, strict=True))
    labels = link(y, x, tile, 2.0)
    shuffled = link(y[order], x[order], tile[order], 2.0)
    same = {}
    for i, j in zip(order, shuffled.tolist(), strict=True):
        same.setdefault(j, set()).add((y[i], x[i], tile[i]))
    expected = {}
    for i, j in enumerate(labels.tolist()):
        expected.setdefault(j, set()).add((y[i], x[i], tile[i]))
    assert same == expected


@given(st.lists(st.tuples(coordinate, coordinate, st.integers(0, 2)), min_size=1, max_size=60))
def test_objects_are_small_and_stay_in_their_tile(rows):
    y, x, tile = (np.array(c) for c in zip(*rows, strict=True))
    labels = link(y, x, tile, 1.5)
    assert sorted(set(labels.tolist())) == list(range(labels.max() + 1))
    for label in range(labels.max() + 1):
        member = labels == label
        assert len(set(tile[member])) == 1
        assert np.hypot(np.ptp(y[member]), np.ptp(x[member])) <= 3.0 + 1e-9


def test_candidates_at_one_place_are_one_object():
    rng = np.random.default_rng(4)
    true_y, true_x = np.repeat(np.arange(5) * 20.0, 30), np.repeat(np.arange(5) * 15.0, 30)
    y, x = true_y + rng.normal(0, 0.2, 150), true_x + rng.normal(0, 0.2, 150)
    labels = link(y, x, zeros(150), 1.5)
    assert labels.tolist() == np.repeat(np.arange(5), 30).tolist()


def test_a_chain_does_not_become_one_object():
    y = np.arange(0, 50, 0.9)
    labels = link(y, zeros(len(y)).astype(float), zeros(len(y)), 1.0)
    assert len(set(labels.tolist())) >= 20


def test_neighbouring_tiles_are_not_joined():
    assert link(np.array([5.0, 5.0]), np.array([5.0, 5.0]), np.array([1, 2]), 1.0).tolist() == [0, 1]


def test_uncertain_positions_may_lie_farther_apart():
    y, x = np.array([0.0, 1.5]), np.array([0.0, 0.0])
    assert link(y, x, zeros(2), 1.0).tolist() == [0, 1]
    assert link(y, x, zeros(2), 1.0, np.array([0.5, 0.5])).tolist() == [0, 0]
    assert link(y * 2, x, zeros(2), 1.0, np.array([9.0, np.nan])).tolist() == [0, 1]


def test_nothing_to_link_gives_no_labels():
    assert link(np.zeros(0), np.zeros(0), zeros(0), 1.0).shape == (0,)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="radius must be positive, got 0"):
        link(np.zeros(1), np.zeros(1), zeros(1), 0)
    with pytest.raises(ValueError, match="finite"):
        link(np.array([np.nan]), np.zeros(1), zeros(1), 1.0)
    with pytest.raises(ValueError, match=r"\(2,\), \(1,\)"):
        link(np.zeros(2), np.zeros(1), zeros(2), 1.0)
