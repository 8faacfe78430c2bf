"""Runs keyed work, on a Dask client or in this process, and records every outcome."""

from __future__ import annotations

import logging
import resource
import socket
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Protocol

import pyarrow as pa
from distributed import Client, as_completed

from astrid.errors import AlgorithmError, AstridError, CellSkipped, DataError
from astrid.stores.cube import Ticket, Writer
from astrid.stores.journal import Journal, keyed
from astrid.workflow.keys import Product

logger = logging.getLogger(__name__)

WINDOW = 256  # tasks with the scheduler at a time
COMMIT_CELLS = 48  # outcomes between two commits ...
COMMIT_SECONDS = 30.0  # ... or this long, whichever comes first
HOPELESS = 20  # the same bug in each of the first so many cells stops the run

Work = Callable[[Any, Ticket | None], Product]


class Progress(Protocol):
    """Where a run says how far it is; the command line draws it."""

    def start(self, step: str, total: int, already: int = 0) -> None:
        """Begin a step of which ``already`` of ``total`` keys were done before."""

    def advance(self, step: str, outcome: Outcome) -> None:
        """Count one more key."""

    def finish(self, step: str) -> None:
        """End a step."""

    def note(self, message: str) -> None:
        """Say something that the user should read."""


@dataclass(frozen=True)
class Outcome:
    """How one task ended: done, skipped (nothing to do) or failed."""

    step: str
    key: str
    status: str
    reason: str = ""
    bug: str = ""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_mb: float = 0.0
    host: str = ""
    product: Product = field(default_factory=Product)
    ticket: Ticket | None = None

    def row(self) -> dict[str, Any]:
        """Return the row of the ledger (`astrid.schema.LEDGER`)."""
        return {
            "step": self.step,
            "key": self.key,
            "status": self.status,
            "reason": self.reason,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "peak_memory_mb": self.peak_memory_mb,
            "host": self.host,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        }


def attempt(step: str, work: Work, key: object, ticket: Ticket | None) -> Outcome:
    """Do the work on one key and turn whatever happens into an outcome."""
    started, cpu_started = time.perf_counter(), time.process_time()
    product, status, reason, bug = Product(), "done", "", ""
    try:
        product = work(key, ticket)
    except CellSkipped as error:
        status, reason = "skipped", str(error)
    except (AlgorithmError, DataError) as error:
        status, reason = "failed", str(error)
    except Exception as error:
        status, reason, bug = "failed", f"{type(error).__name__}: {error}", traceback.format_exc()
    return Outcome(
        step,
        str(key),
        status,
        reason,
        bug,
        time.perf_counter() - started,
        time.process_time() - cpu_started,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        socket.gethostname(),
        product,
        ticket if status == "done" else None,
    )


@dataclass
class Runner:
    """Does steps: what is missing of their keys, each outcome recorded after its commit.

    Attributes
    ----------
    client : Client or None
        None works in this process.
    progress : Progress
        Where to say how far it is.
    resources : mapping
        Of Dask, that the tasks of a step ask for, by the name of the step.
    failures, bugs : int
        Keys that failed so far, and those of them that were unexpected exceptions.
    """

    client: Client | None
    progress: Progress
    resources: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    failures: int = 0
    bugs: int = 0

    def run(
        self,
        step: str,
        work: Work,
        keys: Sequence[Any],
        journal: Journal,
        writer: Writer | None = None,
        *,
        again: Collection[str] = (),
    ) -> None:
        """Do the work on the keys that the journal does not have yet, and on those named in ``again``.

        Raises
        ------
        AstridError
            If each of the first 20 keys fails with the same unexpected exception.
        """
        done = journal.done(step) - set(again)
        missing = [key for key in keys if str(key) not in done]
        self.progress.start(step, len(keys), len(keys) - len(missing))
        batch = _Batch(journal, writer)
        first_bugs: list[str] = []
        try:
            for ended, outcome in enumerate(self._outcomes(step, work, missing, writer)):
                self._count(outcome)
                batch.add(outcome)
                self.progress.advance(step, outcome)
                if ended < HOPELESS:
                    first_bugs.append(outcome.reason if outcome.bug else "")
                    if len(first_bugs) == HOPELESS and first_bugs[0] and len(set(first_bugs)) == 1:
                        raise AstridError(
                            f"{step}: the first {HOPELESS} keys all failed with {first_bugs[0]}; "
                            "the traceback is in the log of the run"
                        )
        finally:
            batch.flush(f"end of {step}")
            self.progress.finish(step)

    def record(self, step: str, key: str, status: str, reason: str, journal: Journal) -> None:
        """Record an outcome that needed no task, such as a file that could not be listed."""
        outcome = Outcome(step, key, status, reason)
        self._count(outcome)
        journal.append([outcome.row()], {})

    def _count(self, outcome: Outcome) -> None:
        if outcome.status == "failed":
            self.failures += 1
            logger.error("%s %s failed: %s", outcome.step, outcome.key, outcome.reason)
        elif outcome.status == "skipped":
            logger.info("%s %s skipped: %s", outcome.step, outcome.key, outcome.reason)
        if outcome.bug:
            self.bugs += 1
            logger.error("%s", outcome.bug)

    def _outcomes(self, step: str, work: Work, keys: Iterable[Any], writer: Writer | None) -> Iterator[Outcome]:
        if self.client is None:
            for key in keys:
                yield attempt(step, work, key, writer.ticket() if writer else None)
            return
        client = self.client
        waiting = iter(keys)

        def submit(key: Any) -> Any:
            # the part of a task's name before the last dash is what the dashboard groups by
            name = f"{step.replace(' ', '_')}-{id(key):x}{time.monotonic_ns():x}"
            ticket = writer.ticket() if writer else None
            needs = self.resources.get(step)
            return client.submit(attempt, step, work, key, ticket, key=name, pure=False, resources=needs)

        pending: dict[str, Any] = {}
        for key in islice(waiting, WINDOW):
            future = submit(key)
            pending[future.key] = (key, future)
        running = as_completed([future for _, future in pending.values()])
        for future in running:
            key, _ = pending.pop(future.key)
            if future.status == "error":  # the worker was lost, not the work: attempt() catches that
                reason = f"worker lost: {future.exception()}"
                yield Outcome(step, str(key), "failed", reason)
            else:
                yield future.result()
            future.release()
            for following in islice(waiting, 1):
                future = submit(following)
                pending[future.key] = (following, future)
                running.add(future)


@dataclass
class _Batch:
    """Outcomes between two commits: committed first, then recorded."""

    journal: Journal
    writer: Writer | None
    outcomes: list[Outcome] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)

    def add(self, outcome: Outcome) -> None:
        if self.writer and outcome.ticket is not None:
            self.writer.merge(outcome.ticket)
        if self.writer:
            for group, (index, values) in outcome.product.numbers.items():
                self.writer.set_numbers(group, index, dict(values))
        self.outcomes.append(outcome)
        if len(self.outcomes) >= COMMIT_CELLS or time.monotonic() - self.since > COMMIT_SECONDS:
            self.flush(f"{outcome.step}: {len(self.outcomes)} keys")

    def flush(self, message: str) -> None:
        if self.outcomes:
            if self.writer:
                self.writer.commit(message)
            tables: dict[str, list[pa.Table]] = {}
            for outcome in self.outcomes:
                for name, rows in outcome.product.tables.items():
                    tables.setdefault(name, []).append(keyed(rows, outcome.step, outcome.key))
            self.journal.append([outcome.row() for outcome in self.outcomes], tables)
        self.outcomes.clear()
        self.since = time.monotonic()
