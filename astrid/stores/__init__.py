"""Cubes, differences, tables and intake catalogues."""
