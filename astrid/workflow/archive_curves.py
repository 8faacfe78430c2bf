"""What ZTF itself measured at the objects of a run: years of light curves, as context."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from astrid.archives import Fetcher
from astrid.archives import ztf_light_curves as ztf
from astrid.schema import OBJECTS
from astrid.stores.cube import Ticket
from astrid.stores.journal import Journal
from astrid.stores.tables import read_table, write_table
from astrid.workflow.archive_catalogues import ArchiveCatalogues
from astrid.workflow.crossmatch import record_outcomes
from astrid.workflow.keys import Product, digest
from astrid.workflow.runner import Runner

STEP = "context"
FILE = "ztf_light_curves.parquet"
_TABLE = "ztf_light_curves"
CURVES = pa.schema([pa.field("object_id", pa.string()), *ztf.LIGHT_CURVES])


@dataclass(frozen=True)
class CurveKey:
    """One object, and where it is in ICRS degrees."""

    object_id: str
    ra: float
    dec: float

    def __str__(self) -> str:
        return self.object_id


@dataclass(frozen=True)
class FetchCurves:
    """Ask for the measurements around an object."""

    fetcher: Fetcher
    radius_arcsec: float

    def __call__(self, key: CurveKey, ticket: Ticket | None) -> Product:
        """Return a row of `CURVES` for each measurement."""
        request = ztf.light_curves_request(key.ra, key.dec, self.radius_arcsec)
        rows = ztf.light_curves(self.fetcher, request)
        names = pa.array([key.object_id] * len(rows), pa.string())
        return Product(tables={_TABLE: rows.add_column(0, CURVES.field("object_id"), names)})


def archive_curves(source: ArchiveCatalogues, *, run_folder: Path, runner: Runner, journal: Journal, key: str) -> None:
    """Write ``ztf_light_curves.parquet``: ZTF's photometry (`CURVES`) of the most significant objects of a run.

    Parameters
    ----------
    source : ArchiveCatalogues
        Connected; says how many objects and how far around each.
    run_folder : Path
        Of the run, whose objects are linked.
    runner : Runner
        Does the work.
    journal : Journal
        Gets the outcome of each object.
    key : str
        What identifies the objects and the configuration.
    """
    if source.fetcher is None or not source.light_curves:
        return
    objects = read_table(run_folder / "objects.parquet", OBJECTS)
    objects = objects.filter(pc.is_finite(pc.fill_null(objects["ra"], float("nan"))))
    ranked = objects.append_column("_rank", pc.abs(objects["peak_significance"]))
    ranked = ranked.sort_by([("_rank", "descending"), ("object_id", "ascending")])[: source.light_curves]
    keys = [CurveKey(row["object_id"], row["ra"], row["dec"]) for row in ranked.to_pylist()]
    folder = run_folder / "journal" / f"{STEP}-{digest(key, source.version, [str(one) for one in keys])}"
    with Journal(folder) as own:
        runner.run(STEP, FetchCurves(source.fetcher, source.light_curves_arcsec), keys, own)
        rows, ledger = own.table(_TABLE, CURVES), own.ledger().to_pylist()
    record_outcomes(STEP, journal, [row for row in ledger if row["step"] == STEP])
    order = [("object_id", "ascending"), ("oid", "ascending"), ("mjd", "ascending")]
    write_table(run_folder / FILE, rows.sort_by(order), CURVES)
