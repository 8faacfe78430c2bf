"""Where to look: names, tables, cones and polygons become tiles."""
