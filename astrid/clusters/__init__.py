"""A context manager per backend that yields a Dask client."""

from astrid.clusters.base import Cluster

__all__ = ["Cluster"]
