"""The limits of archives, shared by the workers of a cluster that share no disk with locks.

The scheduler keeps the count: one small question per request. A slot that a worker holds
comes back when it says so, when the worker is lost, or when its time is over.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from distributed import Client, get_client, get_worker
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.utils import sync

from astrid.archives import Archive, FileLimiter, Limiter, Service
from astrid.archives.fetch import default_limiter
from astrid.archives.limiter import Gate, longest_request, paused
from astrid.errors import UsageError

logger = logging.getLogger(__name__)

HANDLER = "astrid_archive_limits"
POLL_SECONDS = 0.05


class LimitsPlugin(SchedulerPlugin):
    """Keeps slots, rates and bad news of each service on the scheduler."""

    name = HANDLER
    idempotent = True  # a second run on the same cluster keeps the counts of the first

    def __init__(self) -> None:
        self.gates: dict[str, Gate] = {}
        self.held: dict[str, dict[str, tuple[str, float]]] = {}

    async def start(self, scheduler: Any) -> None:
        """Answer the questions of workers and clients."""
        scheduler.handlers[HANDLER] = self.answer

    def answer(self, action: str, name: str, **values: Any) -> dict[str, Any]:
        """Do what a `ClusterLimiter` asks; plain values in and out."""
        now = time.time()
        gate, held = self.gates.setdefault(name, Gate()), self.held.setdefault(name, {})
        if action == "take":
            return self._take(gate, held, Service(**values["service"]), values, now)
        if action == "give":
            held.pop(values["slot"], None)
        elif action == "penalise":
            gate.penalise(now, values["seconds"])
        elif action == "succeeded":
            gate.succeed()
        elif action == "failed":
            gate.fail(now, Service(**values["service"]))
        return {}

    def _take(
        self,
        gate: Gate,
        held: dict[str, tuple[str, float]],
        service: Service,
        values: dict[str, Any],
        now: float,
    ) -> dict[str, Any]:
        closed = gate.closed_for(now)
        if closed > 0:
            return {"closed": closed, "failures": gate.failures}
        for slot in [slot for slot, (_, until) in held.items() if until < now]:
            del held[slot]
        if len(held) >= service.concurrency:
            return {"full": True}
        held[values["slot"]] = (values["holder"], now + longest_request(service))
        return {"wait": gate.take(now, service)}

    def remove_worker(self, scheduler: Any, worker: str, **kwargs: Any) -> None:
        """Take back the slots of a worker that is gone."""
        for held in self.held.values():
            for slot in [slot for slot, (holder, _) in held.items() if holder == worker]:
                del held[slot]


@dataclass(frozen=True)
class ClusterLimiter:
    """Asks the scheduler; see `astrid.archives.limiter.Limiter`. Picklable."""

    @contextmanager
    def slot(self, name: str, service: Service) -> Iterator[None]:
        """Wait for one of the service's slots and for the time of the next start."""
        slot, limits = uuid.uuid4().hex, asdict(service)
        while True:
            said = _ask("take", name, slot=slot, service=limits, holder=_address())
            if "closed" in said:
                raise paused(name, service, said["failures"], said["closed"])
            if "wait" in said:
                break
            time.sleep(POLL_SECONDS)
        try:
            time.sleep(said["wait"])
            yield
        finally:
            _ask("give", name, slot=slot)

    def penalise(self, name: str, seconds: float) -> None:
        """Let nobody start a request for so many seconds."""
        _ask("penalise", name, seconds=seconds)

    def succeeded(self, name: str) -> None:
        """Note that the service answered."""
        _ask("succeeded", name)

    def failed(self, name: str, service: Service) -> None:
        """Note that a request failed with all its attempts."""
        _ask("failed", name, service=asdict(service))


def limiter_for(archive: Archive, client: Client | None) -> Limiter:
    """Return what shares the limits among all who will ask.

    Workers of this machine share files with every other run on it; workers elsewhere ask
    the scheduler.

    Raises
    ------
    UsageError
        If the scheduler runs without AstrID.
    """
    if client is None or _all_here(client):
        return default_limiter(archive)
    register_limits(client)
    return ClusterLimiter()


def register_limits(client: Client) -> None:
    """Make the scheduler keep the limits, once.

    Raises
    ------
    UsageError
        If it runs without AstrID.
    """
    try:
        client.register_plugin(LimitsPlugin(), name=HANDLER)
    except Exception as error:  # whatever unpickling stumbles over there
        raise UsageError(
            f"the scheduler at {client.scheduler_info()['address']} cannot keep the limits of the archives ({error});"
            " start it in an environment with this version of astrid"
        ) from error


def _all_here(client: Client) -> bool:
    """Return whether all workers run on this machine."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    local = ("127.0.0.1", "localhost")
    return bool(workers) and all(
        address.startswith("inproc://") or worker.get("host") in local for address, worker in workers.items()
    )


def _ask(action: str, name: str, **values: Any) -> dict[str, Any]:
    """Put a question to the scheduler, from a task or from the driver."""
    try:
        here: Any = get_worker()
    except ValueError:
        here = get_client()
    said: dict[str, Any] = sync(here.loop, getattr(here.scheduler, HANDLER), action=action, name=name, **values)
    return said


def _address() -> str:
    try:
        return str(get_worker().address)
    except ValueError:
        return "driver"


__all__ = ["ClusterLimiter", "FileLimiter", "LimitsPlugin", "limiter_for", "register_limits"]
