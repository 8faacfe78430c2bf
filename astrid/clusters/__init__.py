"""A context manager per backend that yields a Dask client."""
