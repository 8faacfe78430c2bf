"""Where to look: names, tables, cones and polygons become tiles."""

from astrid.targets.parsing import Resolver, parse_targets, read_targets
from astrid.targets.regions import Target, Targets, targets_on, tiles_of
from astrid.targets.selection import Images, Rejection, Selection, summarise

__all__ = [
    "Images",
    "Rejection",
    "Resolver",
    "Selection",
    "Target",
    "Targets",
    "parse_targets",
    "read_targets",
    "summarise",
    "targets_on",
    "tiles_of",
]
