"""Which method of subtraction, or which detector, works best on which sample: the same run with each, tabulated.

python -m benchmarks.method_sweep --data FOLDER --folder sweep --table docs/methods.md

Every combination runs in a process of its own and leaves a JSON file in the folder; one that is there already is
not run again, so that a sweep that was cut off goes on, and a single file deleted is a single run repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.provenance import provenance

METHODS = {
    "zogy": ("subtraction=zogy",),
    "zogy, adapt=false": ("subtraction=zogy", "subtraction.adapt=false"),
    "sfft": ("subtraction=sfft",),
    "alard_lupton": ("subtraction=alard_lupton",),
    "direct": ("subtraction=direct",),
    "unet": ("detection=unet",),  # the rest says what finds candidates and ranks them, with the default subtraction
    "trees": ("ranking=trees",),
    "combined": ("ranking=combined",),
    "isolation_forest": ("ranking=isolation_forest",),
    "one_class_svm": ("ranking=one_class_svm",),
}
SUBTRACTIONS = ("zogy", "zogy, adapt=false", "sfft", "alard_lupton", "direct")
SAMPLES = {
    "simulated": ("survey=simulated",),
    "jwst": ("experiment=jwst_pair", "survey.path={data}/jwst_a2744_pair"),
    "rubin": ("survey=rubin_alerts", "survey.path={data}/rubin_alerts.parquet", "truth=known_events"),
    "hatp32": ("survey=directory", "survey.path={data}/hatp32_series"),
    "ztf": ("survey=ztf_alerts", "survey.path={data}/ztf_alerts.parquet", "truth=known_events"),
}
IMAGES, ALERTS = ("simulated", "hatp32", "jwst"), ("ztf", "rubin")
KEPT = ("catalogue:transient", "catalogue:solar-system", "catalogue:variable", "survey: S/N >= 8")
DROPPED = ("score:drb<0.3",)
IMAGE_HEADS = (
    "sample", "method", "recall at S/N >= 8 (95 %)", "half found at S/N", "false alarms per Mpx (near stars)",
    "position rms, px", "refused", "CPU s per Mpx",
)  # fmt: skip
ALERT_HEADS = (
    "sample", "method", "label", "detected (95 %)", "by object", "other peaks per stamp", "score width",
    "residual at stars", "refused",
)  # fmt: skip
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def main() -> None:
    """Run what is missing, print the tables, write them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.method_sweep", description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="*", choices=list(METHODS), default=list(SUBTRACTIONS))
    parser.add_argument("--samples", nargs="*", choices=list(SAMPLES), default=list(SAMPLES))
    parser.add_argument("--data", type=Path, default=os.environ.get("ASTRID_DATA"), help="folder of the real samples")
    parser.add_argument("--folder", type=Path, default=Path("method_sweep"), help="one JSON file of each run")
    parser.add_argument("--out", type=Path, help="all figures as one JSON file")
    parser.add_argument("--table", type=Path, help="the tables, as Markdown")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[str, Any]] = {}
    for sample in options.samples:
        for method in options.methods:
            result = made(sample, method, options.data, options.folder)
            if result is not None:
                found.setdefault(sample, {})[method] = figures(result, sample)
    text = tables(found)
    print(text)
    if options.out:
        options.out.write_text(json.dumps({**provenance(), "samples": found}, indent=1) + "\n")
    if options.table:
        options.table.write_text(text)


def made(sample: str, method: str, data: Path | None, folder: Path) -> dict[str, Any] | None:
    """Return what `benchmarks.completeness` wrote of one combination, run now if it was not before; None if not."""
    out = folder / f"{sample}-{method.replace(', ', '-').replace('=', '-')}.json"
    words = [word.format(data=data) for word in SAMPLES[sample]]
    if not out.exists():
        if any("{data}" in word for word in SAMPLES[sample]) and data is None:
            print(f"{sample}: left out; --data or ASTRID_DATA must name the folder of the real samples")
            return None
        print(f"{sample}, {method} ...", flush=True)
        command = [sys.executable, "-m", "benchmarks.completeness", "--out", str(out), *words, *METHODS[method]]
        done = subprocess.run(command, env={**os.environ, **ONE_THREAD}, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{sample}, {method}: failed\n{done.stderr[-2000:]}")
            return None
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def figures(result: dict[str, Any], sample: str) -> dict[str, Any]:
    """Return what the tables say of one run, with the commit it was made at."""
    metrics = result["metrics"]
    row = next(row for row in metrics["rows"] if row["truth"] == "injections")
    names = (
        "n_images", "n_true_snr8", "recall_snr8", "recall_snr8_ci", "completeness_50_snr", "position_rms_px", "n_false",
        "false_alarms_per_megapixel", "n_false_near_stars", "megapixels", "seconds_per_megapixel", "seconds_per_image",
    )  # fmt: skip
    found: dict[str, Any] = {name: row.get(name) for name in names}
    found["failures"] = result["failures"]
    found["commit"] = result["commit"]
    if sample in ALERTS:
        of_all = [alert for alert in metrics["alerts"] if not alert["kind"]]
        found["labels"] = {alert["label_basis"]: alert for alert in of_all}
    return found


def tables(found: dict[str, dict[str, Any]]) -> str:
    """Return Markdown: one table of images, one of alerts."""
    images = [image_row(*pair, found[pair[0]][pair[1]]) for pair in pairs(found, IMAGES)]
    alerts = [row for pair in pairs(found, ALERTS) for row in alert_rows(*pair, found[pair[0]][pair[1]])]
    parts = [markdown(heads, rows) for heads, rows in ((IMAGE_HEADS, images), (ALERT_HEADS, alerts)) if rows]
    return "\n".join(parts)


def pairs(found: dict[str, dict[str, Any]], samples: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Return the combinations that there are of some samples."""
    return ((sample, method) for sample in samples for method in found.get(sample, ()))


def image_row(sample: str, method: str, one: dict[str, Any]) -> tuple[str, ...]:
    """Return a row of the table of images."""
    n_false, near = shown(one["n_false"], "d"), shown(one["n_false_near_stars"], "d")
    return (
        sample,
        f"`{method}`",
        f"{percent(one['recall_snr8'], one['recall_snr8_ci'])} of {one['n_true_snr8']}",
        shown(one["completeness_50_snr"], ".2f"),
        f"{shown(one['false_alarms_per_megapixel'], '.2f')} ({near} of {n_false})",
        shown(one["position_rms_px"], ".2f"),
        str(one["failures"]),
        shown(one["seconds_per_megapixel"], ".1f"),
    )


def alert_rows(sample: str, method: str, one: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Return the rows of the table of alerts for one run: labels that should be found, then those that should not."""
    for label in (*KEPT, *DROPPED):
        alert = one["labels"].get(label)
        if alert is None:
            continue
        yield (
            sample,
            f"`{method}`",
            label,
            f"{percent(alert['detected'], alert['detected_ci'])} of {alert['n']}",
            f"{100 * alert['detected_by_object']:.1f} %",
            shown(alert["off_centre_per_stamp"], ".2f"),
            shown(alert["score_width"], ".3f"),
            shown(alert["star_residual"], ".2f"),
            str(one["failures"]),
        )


def markdown(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a table."""
    lines = [heads, ("---",) * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def percent(fraction: float, interval: list[float]) -> str:
    """Return a fraction and its interval."""
    low, high = (100 * bound for bound in interval)
    return f"{100 * fraction:.1f} % ({low:.1f} to {high:.1f})"


def shown(value: float | None, form: str) -> str:
    """Return a number in a format, a dash for none."""
    return "-" if value is None else format(value, form)


if __name__ == "__main__":
    main()
