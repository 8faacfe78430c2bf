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

from astrid.errors import UsageError
from astrid.report.terminal import metrics_table
from astrid.schema import LEDGER
from astrid.stores.tables import read_json, read_table
from astrid.workflow.runner import Outcome


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
        if step in ("ingest", "report"):
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
