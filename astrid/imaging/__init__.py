"""Shared numerics: background, noise, PSF, registration, resampling, photometry."""
