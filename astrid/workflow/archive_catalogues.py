"""Catalogues of the archives as a source of rows: VizieR or the cross-match service, and SkyBoT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from astrid.archives import Fetcher, acknowledgement, skybot, vizier, xmatch
from astrid.detection.reference import CATALOGUES
from astrid.errors import DataError
from astrid.workflow.catalogues import Request
from astrid.workflow.keys import digest

GEOCENTRE = "500"
OBSERVATORIES = {
    **dict.fromkeys(("ztf", "ztf_alerts", "winter_alerts"), "I41"),
    **{"ps1": "F51", "rubin_alerts": "X05", "hst": "250", "tess": "C57"},
}
MARGIN_ARCSEC = 20.0  # what sources that move may have moved


@dataclass(frozen=True)
class ArchiveCatalogues:
    """Asks the archives, once per tile and catalogue; asteroids once per tile and exposure. Picklable.

    Attributes
    ----------
    catalogues : sequence of str
        Which, of `astrid.detection.reference.CATALOGUES`.
    through : "vizier" or "xmatch"
        VizieR sends all rows of a tile; the cross-match service those around its candidates, which is less where
        the candidates are few.
    observatory : str
        Where the exposures were taken, for asteroids: a code of the Minor Planet Center; by default that of the
        survey, else the centre of the Earth.
    light_curves : int
        Of so many objects, the most significant, the light curves of ZTF are fetched too.
    light_curves_arcsec : float
        How far around each.
    fetcher : Fetcher, optional
        Asks and keeps what comes; the run sets it.
    """

    catalogues: Sequence[str] = tuple(CATALOGUES)
    through: Literal["vizier", "xmatch"] = "vizier"
    observatory: str = ""
    light_curves: int = 0
    light_curves_arcsec: float = 2.0
    fetcher: Fetcher | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "catalogues", tuple(self.catalogues))
        object.__setattr__(self, "observatory", str(self.observatory))
        unknown = [name for name in self.catalogues if name not in CATALOGUES]
        if unknown:
            raise ValueError(f"catalogues.catalogues: no catalogue {unknown[0]!r}; there are {', '.join(CATALOGUES)}")
        if self.through not in ("vizier", "xmatch"):
            raise ValueError(f"catalogues.through must be vizier or xmatch, got {self.through!r}")

        if self.light_curves < 0 or not 0 < self.light_curves_arcsec <= 600:
            raise ValueError(
                "catalogues.light_curves must be 0 or more and light_curves_arcsec above 0 and at most 600, "
                f"got {self.light_curves} and {self.light_curves_arcsec}"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Those chosen."""
        return tuple(name for name in CATALOGUES if name in self.catalogues)

    @property
    def version(self) -> str:
        """Which server is asked, and for which columns."""
        columns = {name: list(CATALOGUES[name].columns) for name in self.names}
        base_url = None if self.fetcher is None else self.fetcher.archive.base_url
        return digest(base_url, self.through, self.observatory, columns)

    @property
    def acknowledgement(self) -> str:
        """What users of the rows must cite."""
        keys = [key for key in ("xmatch", "vizier") if key in (self.through, "vizier") and self.names != ("skybot",)]
        return acknowledgement(*keys, *self.names, *(("ztf", "irsa") if self.light_curves else ()))

    def rows(self, request: Request) -> Path:
        """Return the rows of a catalogue; see `astrid.workflow.catalogues.CatalogueSource`."""
        if self.fetcher is None:
            raise DataError("these catalogues are not connected to the archives; `connected` does it")
        catalogue = CATALOGUES[request.catalogue]
        if catalogue.is_moving:
            times = skybot.exposures(request.mjds)
            return skybot.moving(
                self.fetcher, request.ra, request.dec, request.radius, times, observatory=self.observatory or GEOCENTRE
            )
        if self.through == "xmatch":
            radius = min(request.around_arcsec + MARGIN_ARCSEC, xmatch.LARGEST_ARCSEC)
            return xmatch.around(self.fetcher, catalogue, request.places, radius)
        radius = request.radius + MARGIN_ARCSEC / 3600
        return vizier.cone(self.fetcher, catalogue, request.ra, request.dec, radius)

    def connected(self, fetcher: Fetcher, survey: str) -> ArchiveCatalogues:
        """Return a source that asks through a fetcher, about exposures of a survey."""
        observatory = self.observatory or OBSERVATORIES.get(survey, GEOCENTRE)
        return replace(self, fetcher=fetcher, observatory=observatory)
