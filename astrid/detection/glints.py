"""Glints: a satellite or a piece of debris that turns flashes once in a while and leaves dots in a row.

A row is believed when chance does not make it: candidates that have nothing to do with each other are strewn evenly,
and the expected number of rows as full as this one among them is bounded from above (Desolneux, Moisan & Morel 2000,
"Meaningful alignments", Int. J. Comput. Vis. 40, 7).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.special import comb

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

FALSE_ROWS = 5e-3  # per image, that chance may make
ACROSS_FWHM, ACROSS = 0.3, 0.7  # FWHM, and px at least: distance from the line
ALONG_FWHM, ALONG = 0.6, 1.5  # FWHM, and px at least: distance from where the even beat of a rotation puts a glint
APART_FWHM = 5.0  # closer ones are no dots of their own
FEWEST = 3  # glints of a row
MOST_BEATS = 12  # intervals between the ends of an even row
MOST_TRIED = 60  # candidates, the most significant, between which rows are looked for


def is_glint(y: Floats, x: Floats, significance: Floats, *, fwhm: float, area: float) -> Bools:
    """Whether each candidate is one of a row of glints.

    Between every two candidates as its ends, a row is three or more on one line. Where n candidates lie anywhere in an
    area with the same chance p, no more than ``n (n - 1) / 2 * binomial(n - 2, k) * p**k`` rows with k more on them are
    expected. On the line p is ``2 across length / area``; on an even row of m beats, ``4 across along (m - 1) / area``.
    Half of the 0.005 rows that chance may make in an image is left to lines, and ``2**-m`` of it to even rows of m
    beats.

    Parameters
    ----------
    y, x, significance : (n,) arrays
        Candidates of one image and one sign, in pixels, that nothing else explains.
    fwhm : float
        Of the difference.
    area : float
        Pixels in which they could have been found.

    Returns
    -------
    (n,) bool array
    """
    is_one = np.zeros(len(y), bool)
    alone = _alone(y, x, significance, APART_FWHM * fwhm)
    n = len(alone)
    if n < FEWEST:
        return is_one
    place = y[alone] + 1j * x[alone]
    first, last = np.triu_indices(n, 1)
    length = np.abs(place[last] - place[first])
    turned = (place[None, :] - place[first, None]) * np.conj((place[last] - place[first]) / length)[:, None]
    across, along = max(ACROSS, ACROSS_FWHM * fwhm), max(ALONG, ALONG_FWHM * fwhm)
    on_line = (np.abs(turned.imag) <= across) & (turned.real > 0) & (turned.real < length[:, None])
    on_line[np.arange(len(first)), first] = on_line[np.arange(len(first)), last] = False
    some = np.flatnonzero(on_line.any(axis=1))
    first, last, length, on_line, at = first[some], last[some], length[some], on_line[some], turned.real[some]
    ends = n * (n - 1) / 2
    rows = [(on_line, ends * _chance(on_line, n, 2 * across * length / area) <= FALSE_ROWS / 2)]
    for beats in range(2, MOST_BEATS + 1):
        beat = length[:, None] / beats
        even = on_line & (np.abs(at - np.rint(at / beat) * beat) <= along)
        chance = _chance(even, n, 4 * across * along * (beats - 1) / area)
        is_row = (beat[:, 0] >= APART_FWHM * fwhm) & (ends * chance <= FALSE_ROWS / 2 / 2 ** (beats - 1))
        rows.append((even, is_row))
    for members, is_row in rows:
        is_one[alone[members[is_row].any(axis=0)]] = True
        is_one[alone[first[is_row]]] = is_one[alone[last[is_row]]] = True
    return is_one


def _chance(rows: Bools, n: int, one: Floats | float) -> Floats:
    """Bound the probability that as many as in each row of ``n - 2`` are there, each with the probability ``one``."""
    k = rows.sum(axis=1)
    return np.asarray(np.where(k > 0, comb(n - 2, k) * np.minimum(one, 1.0) ** k, 1.0), float)


def _alone(y: Floats, x: Floats, significance: Floats, radius: float) -> NDArray[np.intp]:
    """Return candidates without a more significant one within a radius, the most significant first, 60 at most."""
    order = np.argsort(-np.abs(significance), kind="stable")
    gone = np.zeros(len(y), bool)
    if len(y):
        places = np.column_stack([y, x])
        tree = cKDTree(places)
        for i in order:
            if not gone[i]:
                gone[[j for j in tree.query_ball_point(places[i], radius) if j != i]] = True
    kept = order[~gone[order]]
    return kept[:MOST_TRIED]
