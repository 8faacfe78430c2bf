"""AstrID finds transients in astronomical imaging time series."""
