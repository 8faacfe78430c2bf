"""What the command line shows: progress, results, status."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from astrid.archives import Fetcher
from astrid.archives.cache import Cache
from astrid.errors import UsageError
from astrid.report.terminal import metrics_table
from astrid.schema import LEDGER
from astrid.stores.tables import read_json, read_table
from astrid.workflow.fetch import Amount, amounts, least_seconds, make_plan, nothing_planned
from astrid.workflow.runner import Outcome
from astrid.workflow.settings import Settings


class TerminalProgress:
    """A bar per step on a terminal, a line per step elsewhere."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bars = Progress(
            TextColumn("{task.description:<14}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.tasks: dict[str, TaskID] = {}
        self.counts: dict[str, Counter[str]] = {}
        self.started: dict[str, float] = {}
        self.totals: dict[str, int] = {}

    def __enter__(self) -> TerminalProgress:
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()

    def start(self, step: str, total: int, already: int = 0) -> None:
        """Begin a step."""
        self.tasks[step] = self.bars.add_task(step, total=total, completed=already, rate="")
        self.counts[step] = Counter({"already": already})
        self.started[step] = time.monotonic()
        self.totals[step] = total

    def advance(self, step: str, outcome: Outcome) -> None:
        """Count one more key."""
        self.counts[step][outcome.status] += 1
        ended = sum(self.counts[step].values()) - self.counts[step]["already"]
        rate = ended / max(time.monotonic() - self.started[step], 1e-3)
        self.bars.update(self.tasks[step], advance=1, rate=f"{rate:.1f}/s")
        if outcome.status == "failed":
            self.note(f"{step} {outcome.key} failed: {outcome.reason}")

    def finish(self, step: str) -> None:
        """End a step."""
        counts = self.counts[step]
        if step in ("plan", "ingest", "report"):
            self.bars.update(self.tasks[step], completed=self.totals[step])
        if not self.console.is_terminal:
            parts = [f"{counts[name]} {word}" for name, word in WORDS if counts[name]]
            seconds = time.monotonic() - self.started[step]
            self.console.print(f"{step}: {', '.join(parts) or 'done'} in {seconds:.1f} s", markup=False)

    def note(self, message: str) -> None:
        """Print a line above the bars."""
        self.bars.console.print(message, markup=False)


REASONS = 5  # how many reasons of failures are printed
WORDS = (("done", "done"), ("already", "done before"), ("skipped", "skipped"), ("failed", "failed"))


def print_results(folder: Path, until: str, failures: int, console: Console) -> int:
    """Print the metrics table and where the results are; return the exit code."""
    metrics = folder / "metrics.json"
    if until in ("evaluate", "report") and metrics.exists():
        console.print(metrics_table(read_json(metrics)))
        note = read_json(metrics)["notes"]["threshold"]
        console.print(note, markup=False)
    ledger = read_table(folder / "ledger.parquet", LEDGER)
    if failures:
        failed = [row for row in ledger.to_pylist() if row["status"] == "failed"]
        reasons = Counter(row["reason"] for row in failed)
        first = {row["reason"]: f"{row['step']} {row['key']}" for row in reversed(failed)}
        console.print(f"{failures} failed:", style="bold red")
        for reason, count in reasons.most_common(REASONS):
            more = f" and {count - 1} more" if count > 1 else ""
            console.print(f"  {first[reason]}{more}: {reason}", markup=False, soft_wrap=True)
        if len(reasons) > REASONS:
            console.print(
                f"  and {len(reasons) - REASONS} other reasons: see {_short(folder)}/astrid.log", markup=False
            )
    skipped = Counter((row["step"], row["reason"]) for row in ledger.to_pylist() if row["status"] == "skipped")
    for (step, reason), count in skipped.most_common(REASONS):
        console.print(f"{step}: {count} skipped: {reason}", markup=False, soft_wrap=True)
    for name in ("report.html", "candidates.parquet") if until == "report" else ("candidates.parquet",):
        path = folder / name
        if path.exists():
            console.print(f"{name.partition('.')[0]}: {_short(path)}", markup=False, soft_wrap=True)
    return 1 if failures else 0


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def print_status(words: list[str], root: Path, console: Console) -> int:
    """Print what a run has done, or list the runs."""
    runs = sorted((root / "runs").glob("*/config.yaml"))
    if not words:
        if not runs:
            raise UsageError("no runs here; `astrid run` makes one")
        for path in runs:
            console.print(path.parent.name, markup=False)
        return 0
    folder = root / "runs" / words[0].removeprefix("name=")
    if not (folder / "config.yaml").exists():
        names = ", ".join(path.parent.name for path in runs) or "none"
        raise UsageError(f"no run {words[0]!r} in runs/; there are: {names}")
    console.print(f"run {folder.name}", markup=False)
    rows: list[dict[str, Any]] = []
    if (folder / "ledger.parquet").exists():
        rows = read_table(folder / "ledger.parquet", LEDGER).to_pylist()
    counts: dict[str, Counter[str]] = {}
    for row in rows:
        counts.setdefault(row["step"], Counter())[row["status"]] += 1
    for step, count in counts.items():
        console.print(f"  {step:<14}" + ", ".join(f"{n} {status}" for status, n in count.items()), markup=False)
    if (folder / "metrics.json").exists():
        console.print(metrics_table(read_json(folder / "metrics.json")))
    return 0


def print_plan(settings: Settings, console: Console) -> int:
    """Print what would be fetched; nothing but metadata is asked for. Returns 1 if a place could not be planned."""
    fetcher = Fetcher(settings.archive)
    planned = make_plan(settings, fetcher)
    wanted = planned.plan.wanted
    table = Table(title=f"{settings.survey.name}: what `astrid ingest` would fetch")
    for name in ("place", "band", "exposures", "files", "size", "to fetch", "size"):
        table.add_column(name, justify="left" if name in ("place", "band") else "right")
    total = Amount()
    for (place, band), amount in sorted(amounts(wanted, fetcher).items()):
        total = total.joined(amount)
        table.add_row(place, band, *_amount_cells(amount))
    table.add_section()
    table.add_row("all", "", *_amount_cells(total))
    console.print(table)
    for note in planned.notes:
        console.print(note, markup=False, soft_wrap=True)
    for name, reason in planned.failed.items():
        console.print(f"{name} could not be planned: {reason}", markup=False, style="bold red", soft_wrap=True)
    if wanted:
        seconds = least_seconds(wanted, fetcher)
        sizes = "as the archive says" if total.exact else "estimated from the size of the cutouts"
        console.print(
            f"Sizes are {sizes}; at the rate the services allow it takes {seconds / 60:.1f} minutes or more, "
            f"into {fetcher.cache.folder}.",
            markup=False,
            soft_wrap=True,
        )
    else:
        console.print(nothing_planned(settings, planned), markup=False, soft_wrap=True)
    return 1 if planned.failed else 0


def _amount_cells(amount: Amount) -> list[str]:
    about = "" if amount.exact else "~"
    return [
        str(amount.exposures),
        str(amount.files),
        about + _megabytes(amount.size),
        str(amount.missing_files),
        about + _megabytes(amount.missing_size),
    ]


def print_cache(cache: Cache, console: Console) -> int:
    """Print how much was fetched, by service."""
    sizes = cache.sizes()
    console.print(f"{cache.folder}: {sizes.files} files, {_megabytes(sizes.size_bytes)}", markup=False, soft_wrap=True)
    for service, (files, size) in sizes.by_service.items():
        console.print(f"  {service:<16}{files:>8} answers  {_megabytes(size):>12}", markup=False)
    if sizes.no_coverage:
        console.print(f"  {sizes.no_coverage} answers that there is nothing", markup=False)
    if sizes.partial_bytes:
        console.print(f"  {_megabytes(sizes.partial_bytes)} of unfinished downloads", markup=False)
    return 0


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
