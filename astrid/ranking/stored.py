"""Models of rankers on disk: skops with a fixed list of types, a card beside it; nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import skops.io
from numpy.typing import NDArray

from astrid.errors import DataError
from astrid.ranking.models import KINDS, names_of

VERSION = 1
TRUSTED = frozenset(
    {
        "sklearn._loss.link.Interval",
        "sklearn._loss.link.LogitLink",
        "sklearn._loss.loss.HalfBinomialLoss",
        "sklearn._loss._loss.CyHalfBinomialLoss",
        "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.tree._tree.Tree",
    }
)
REMEDY = "use a model of the package, or fit one with `python -m benchmarks.default_rankers`"


@dataclass(frozen=True)
class RankingCard:
    """What is recorded of a model, as ``<name>.json`` beside ``<name>.skops``.

    Attributes
    ----------
    kind : str
        Of `astrid.ranking.models.KINDS`.
    threshold : float
        Score of a candidate that is kept: 0.1 false alarms per 256 x 256 px on validation.
    scores, probabilities : tuple of float
        The calibration: what part of the candidates of a score are real, on validation; linear between.
    sha256 : str
        Of the model's file.
    metrics, training : dict
        On validation; how it was made.
    version : int
        Of the features.
    features : tuple of str
        What it sees.
    """

    kind: str
    threshold: float
    scores: tuple[float, ...]
    probabilities: tuple[float, ...]
    sha256: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    version: int = VERSION
    features: tuple[str, ...] = ()

    def calibrated(self, score: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probability of being real."""
        return np.asarray(np.interp(score, self.scores, self.probabilities), np.float64)


def path_of(kind: str, model: str | None) -> Path:
    """Return the file of a model: the package's of a kind, or the one named; raises `DataError` if there is none."""
    path = Path(model) if model else Path(str(resources.files("astrid.ranking") / "models" / f"{kind}.skops"))
    if not path.exists():
        raise DataError(f"no ranking model {path}; {REMEDY}")
    return path


def read(path: Path) -> tuple[Any, RankingCard]:
    """Read a model and its card, once in a process.

    Raises
    ------
    DataError
        If the file or its card is missing, changed, of another format or version, or holds what is not trusted.
    """
    return _read(str(path.resolve()), path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _read(name: str, changed: int) -> tuple[Any, RankingCard]:
    path = Path(name)
    content = path.read_bytes()
    if path.suffix != ".skops" or content[:2] != b"PK":
        raise DataError(f"{path}: not a skops file; pickles could run code when they are read and never are; {REMEDY}")
    card = read_card(path)
    found = hashlib.sha256(content).hexdigest()
    if found != card.sha256:
        raise DataError(
            f"{path}: the file is not the one that its card describes (sha256 {found[:12]}..., expected "
            f"{card.sha256[:12]}...): damaged or changed; {REMEDY}"
        )
    try:
        foreign = set(skops.io.get_untrusted_types(data=content)) - TRUSTED
        if foreign:
            raise DataError(f"{path}: holds {', '.join(sorted(foreign))}, which is not trusted; {REMEDY}")
        return skops.io.loads(content, trusted=sorted(TRUSTED)), card
    except DataError:
        raise
    except Exception as error:  # the library has a type of its own for each fault
        raise DataError(f"{path}: not a skops file ({error}); {REMEDY}") from error


def read_card(path: Path) -> RankingCard:
    """Read the card of a model; raises `DataError` if it is missing, or of other features."""
    beside = path.with_suffix(".json")
    try:
        said = json.loads(beside.read_text())
        card = RankingCard(**{**said, **{name: tuple(said[name]) for name in ("scores", "probabilities", "features")}})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{beside}: the card of {path.name} is missing or does not read ({error}); {REMEDY}") from error
    if card.kind not in KINDS or card.version != VERSION or card.features != names_of(card.kind):
        raise DataError(
            f"{beside}: a model {card.kind!r} of {len(card.features)} features, version {card.version}; read here are "
            f"{', '.join(KINDS)}, version {VERSION}; {REMEDY}"
        )
    return card


def write(path: Path, model: Any, card: RankingCard) -> RankingCard:
    """Write a model and its card; return the card with the checksum."""
    content = skops.io.dumps(model, compression=zipfile.ZIP_DEFLATED, compresslevel=9)
    full = RankingCard(**{**vars(card), "sha256": hashlib.sha256(content).hexdigest(), "features": names_of(card.kind)})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.with_suffix(".json").write_text(json.dumps(vars(full), indent=1) + "\n")
    return full
