"""Seeds that depend on what is made, not on the order in which it is made."""

from __future__ import annotations

import hashlib

_BITS = 63  # fits a signed 64-bit column


def seed_of(seed: int, *words: str | int) -> int:
    """Derive a seed from a seed and the words that name what it is for.

    The same words give the same seed in every process, on every machine and in any
    order of work; words of different type (``1`` and ``"1"``) give different seeds.

    Parameters
    ----------
    seed : int
        The seed of the run.
    words : str or int
        What the random numbers are for, such as ``"injections", tile, epoch, band``.

    Returns
    -------
    int
        Between 0 and 2**63 - 1.

    Examples
    --------
    >>> seed_of(1, "injections", 3, "r") == seed_of(1, "injections", 3, "r")
    True
    >>> seed_of(1, "injections", 3) == seed_of(1, "injections", "3")
    False
    """
    parts = []
    for word in (seed, *words):
        text = word if isinstance(word, str) else str(int(word))
        kind = "s" if isinstance(word, str) else "i"
        parts.append(f"{kind}{len(text)}:{text}")
    digest = hashlib.blake2b("".join(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> (64 - _BITS)
