"""Where the work of a detector goes, and that its models are there: read by each worker, never sent to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distributed import Client, Worker, WorkerPlugin

from astrid.detection import Detector

STEPS = ("detect", "evaluate")  # that run a detector
GPU = "GPU"  # the resource that a worker with one declares: dask worker --resources GPU=1


class Models(WorkerPlugin):
    """Reads the models of a detector when a worker starts, one that joins later or starts again too.

    What goes through the scheduler is the detector: names and paths, some hundred bytes.
    """

    name = "astrid-models"

    def __init__(self, detector: Detector) -> None:
        self.detector = detector

    def setup(self, worker: Worker) -> None:
        """Read them."""
        prepare(self.detector)


def prepare(detector: Detector) -> None:
    """Read what a detector needs into this process; raises `DataError` where a model is not what it should be."""
    read = getattr(detector, "prepare", None)
    if read is not None:
        read()


def place(detector: Detector, client: Client | None) -> Mapping[str, Mapping[str, float]]:
    """See to it that workers have the models, and return the resources that the tasks of each step ask for.

    Where a worker declares a GPU and the detector can use one, the steps that run it go to such workers, one task to a
    GPU at a time; otherwise they go anywhere.

    Parameters
    ----------
    detector : Detector
        Of the run.
    client : Client or None
        None works in this process.

    Returns
    -------
    mapping
        From the name of a step to resources of Dask.

    Raises
    ------
    DataError
        If a model is not what it should be: before anything is done.
    """
    prepare(detector)
    if client is None:
        return {}
    client.register_plugin(Models(detector))
    workers: Mapping[str, Any] = client.scheduler_info(n_workers=-1)["workers"]
    has_gpu = any(one.get("resources", {}).get(GPU, 0) > 0 for one in workers.values())
    if has_gpu and getattr(detector, "uses_gpu", False):
        return {step: {GPU: 1.0} for step in STEPS}
    return {}
