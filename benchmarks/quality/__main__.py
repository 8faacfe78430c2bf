"""Measure every method on every variant."""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np

from astrid.subtraction import Subtractor
from astrid.subtraction.alard_lupton import AlardLupton
from astrid.subtraction.direct import Direct
from astrid.subtraction.sfft import Sfft
from astrid.subtraction.zogy import Zogy
from benchmarks.provenance import provenance
from benchmarks.quality.measures import measure
from benchmarks.quality.scenes import SIDE, VARIANTS, make_scene

METHODS: dict[str, Subtractor] = {
    "zogy": Zogy(),
    "zogy_one_psf": Zogy(adapt=False),
    "sfft": Sfft(),
    "alard_lupton": AlardLupton(),
    "direct": Direct(),
}
SHOWN = (
    "width", "efficiency", "completeness", "false_positive", "false_negative", "near_stars", "star_median", "star_95",
    "flux_bias", "masked", "cpu_s",
)  # fmt: skip


def main() -> None:
    """Run, print a table, write JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("--methods", nargs="*", choices=list(METHODS), default=["zogy"])
    parser.add_argument("--variants", nargs="*", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--side", type=int, default=SIDE)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    print(f"{'method':13} {'variant':8} " + " ".join(f"{name[:11]:>11}" for name in SHOWN))
    found: dict[str, dict[str, list[dict[str, float]]]] = defaultdict(lambda: defaultdict(list))
    for variant in options.variants:
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            scene = make_scene(VARIANTS[variant], seed, options.side)
            for name in options.methods:
                found[name][variant].append(measure(scene, METHODS[name]).as_dict())
        for name in options.methods:
            rows = found[name][variant]
            means = {key: float(np.mean([row[key] for row in rows])) for key in SHOWN}
            print(f"{name:13} {variant:8} " + " ".join(f"{means[key]:11.4f}" for key in SHOWN), flush=True)
    if options.out:
        options.out.write_text(json.dumps({"provenance": provenance(), "results": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
