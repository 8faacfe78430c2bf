"""Matching, metrics and completeness."""
