"""Measure every method on every variant."""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping
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
    parser.add_argument("--table", type=Path, help="the means, as Markdown")
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
    if options.table:
        options.table.write_text(table(found))


def table(found: Mapping[str, Mapping[str, list[dict[str, float]]]]) -> str:
    """Return the means over seeds as Markdown: a row for each variant and method."""
    heads = (
        "variant", "method", "score width", "efficiency", "completeness", "false + / - per Mpx", "near stars",
        "stars, median / 95 %", "flux bias, %",
    )  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for variant in next(iter(found.values())):
        for method, variants in found.items():
            one = {key: float(np.mean([row[key] for row in variants[variant]])) for key in SHOWN}
            words = (
                variant,
                f"`{method}`",
                f"{one['width']:.3f}",
                f"{one['efficiency']:.3f}",
                f"{one['completeness']:.3f}",
                f"{one['false_positive']:.2f} / {one['false_negative']:.2f}",
                f"{one['near_stars']:.2f}",
                f"{one['star_median']:.2f} / {one['star_95']:.2f}",
                f"{100 * one['flux_bias']:+.2f}",
            )
            lines.append(f"| {' | '.join(words)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
