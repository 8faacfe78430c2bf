"""The steps of a run, in order, each doing only what is missing."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
from distributed import Client, performance_report

from astrid.errors import UsageError
from astrid.schema import LEDGER
from astrid.stores.catalogue import add_cube
from astrid.stores.journal import Journal
from astrid.stores.tables import write_json, write_table
from astrid.surveys import ContextSurvey, StampSurvey
from astrid.workflow.archive_catalogues import ArchiveCatalogues
from astrid.workflow.archive_curves import archive_curves
from astrid.workflow.context import preprocess_context, report_context, skip, write_no_results
from astrid.workflow.crossmatch import crossmatch
from astrid.workflow.detect import detect
from astrid.workflow.evaluate import evaluate
from astrid.workflow.fetch import fetcher_of
from astrid.workflow.ingest import ingest
from astrid.workflow.placement import STEPS as DETECTING
from astrid.workflow.placement import place
from astrid.workflow.preprocess import preprocess
from astrid.workflow.reporting import report
from astrid.workflow.runner import Progress, Runner
from astrid.workflow.settings import Settings, digest_of
from astrid.workflow.stamps import preprocess_stamps
from astrid.workflow.subtract import subtract

STEPS = ("ingest", "preprocess", "subtract", "detect", "evaluate", "report")


def execute(settings: Settings, until: str, progress: Progress) -> int:
    """Do the steps of a run up to one of them, whatever is missing of each.

    Parameters
    ----------
    settings : Settings
        Of the run.
    until : str
        Last step, one of `STEPS`.
    progress : Progress
        Where to say how far it is.

    Returns
    -------
    int
        Number of keys that failed, earlier attempts included where they failed for good.
    """
    if until not in STEPS:
        raise UsageError(f"no step {until!r}; the steps are {', '.join(STEPS)}")
    wanted = STEPS[: STEPS.index(until) + 1]
    settings.run_folder.mkdir(parents=True, exist_ok=True)
    settings.cube_folder.mkdir(parents=True, exist_ok=True)
    (settings.run_folder / "config.yaml").write_text(settings.yaml)
    write_json(settings.run_folder / "configuration.json", digest_of(settings.science))
    with _log_to(settings.run_folder / "astrid.log"), ExitStack() as stack:
        journals = _journals(settings, stack)
        client = stack.enter_context(settings.cluster.start())
        if client is not None and client.dashboard_link:
            progress.note(f"Dask dashboard: {client.dashboard_link}")
        stack.enter_context(_performance(client, settings.run_folder / "dask-report.html"))
        resources = place(settings.detection, client) if not set(wanted).isdisjoint(DETECTING) else {}
        runner = Runner(client, progress, resources)
        steps: dict[str, Callable[[], Any]] = {
            "ingest": lambda: ingest(settings, runner, journals["cube"]),
            "preprocess": lambda: _preprocess(settings, runner, journals["cube"]),
            "subtract": lambda: subtract(settings, runner, journals["template"], journals["difference"]),
            "detect": lambda: _detect(settings, runner, journals["detection"], journals["difference"]),
            "evaluate": lambda: evaluate(settings, runner, journals["evaluation"], ledger_of(journals)),
            "report": lambda: report(settings, runner, ledger_of(journals)),
        }
        if isinstance(settings.survey, ContextSurvey):
            steps |= _steps_of_context(settings, runner, journals)
        for step in wanted:
            steps[step]()
            ledger = ledger_of(journals)
            write_table(settings.run_folder / "ledger.parquet", ledger, LEDGER)
        return sum(1 for status in ledger["status"].to_pylist() if status == "failed")


def _steps_of_context(settings: Settings, runner: Runner, journals: dict[str, Journal]) -> dict[str, Callable[[], Any]]:
    """Return the steps that are others where exposures have no time."""

    def subtract_nothing() -> None:
        skip(settings, runner, journals["template"], ["template"])
        skip(settings, runner, journals["difference"], ["subtract"])

    def detect_nothing() -> None:
        skip(settings, runner, journals["detection"], ["detect"])
        write_no_results(settings)

    return {
        "subtract": subtract_nothing,
        "detect": detect_nothing,
        "evaluate": lambda: skip(settings, runner, journals["evaluation"], ["evaluate"]),
        "report": lambda: report_context(settings, runner, ledger_of(journals)),
    }


def _preprocess(settings: Settings, runner: Runner, journal: Journal) -> None:
    if isinstance(settings.survey, ContextSurvey):
        preprocess_context(settings, runner, journal)
    elif isinstance(settings.survey, StampSurvey):
        preprocess_stamps(settings, runner, journal)
    else:
        preprocess(settings, runner, journal)
    add_cube(
        settings.root / "cubes" / "catalog.yaml",
        settings.cube_key,
        Path(settings.cube_store.path),
        settings.cube_store.engine,
        f"{settings.survey.name}, made by AstrID; configuration {settings.cube_key}",
    )


def _detect(settings: Settings, runner: Runner, journal: Journal, differences: Journal) -> None:
    detect(settings, runner, journal, differences)
    source = settings.catalogues
    if isinstance(source, ArchiveCatalogues):
        source = source.connected(fetcher_of(settings, runner), settings.survey.name)
    crossmatch(
        source,
        settings.crossmatch,
        cube_folder=settings.cube_folder,
        run_folder=settings.run_folder,
        runner=runner,
        journal=journal,
        key=settings.crossmatch_key,
    )
    if isinstance(source, ArchiveCatalogues):
        archive_curves(
            source, run_folder=settings.run_folder, runner=runner, journal=journal, key=settings.crossmatch_key
        )


def _journals(settings: Settings, stack: ExitStack) -> dict[str, Journal]:
    """Open the journal of each part, named after the configuration that decides it."""
    folders = {
        "cube": settings.cube_folder / "journal",
        "template": settings.cube_folder / f"journal-{settings.template_key}",
        "difference": settings.cube_folder / f"journal-{settings.difference_key}",
        "detection": settings.run_folder / "journal" / f"detect-{settings.detection_key}",
        "evaluation": settings.run_folder / "journal" / f"evaluate-{settings.evaluation_key}",
    }
    return {name: stack.enter_context(Journal(folder)) for name, folder in folders.items()}


def ledger_of(journals: dict[str, Journal]) -> pa.Table:
    """Return the ledger of a run: the latest row of each step and key."""
    return pa.concat_tables([journal.ledger() for journal in journals.values()])


@contextmanager
def _log_to(path: Path) -> Iterator[None]:
    """Write the log of this package into a file."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("astrid")
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
        handler.close()


@contextmanager
def _performance(client: Client | None, path: Path) -> Iterator[None]:
    """Record what the cluster did, on a page that asks the network for nothing."""
    if client is None:
        yield
        return
    with performance_report(filename=str(path), mode="inline"):
        yield
    page = re.sub(r'<link[^>]+href="https?:[^>]*>', "", path.read_text(encoding="utf-8"))  # Bokeh's icon
    path.write_text(page, encoding="utf-8")
