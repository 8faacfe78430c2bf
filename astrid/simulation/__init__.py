"""Synthetic skies and injected transients."""
