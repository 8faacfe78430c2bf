from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from astrid import schema
from astrid.report.data import ReportData, Stamps
from astrid.schema import CandidateFlag


def fill(table_schema: pa.Schema, rows: list[dict]) -> pa.Table:
    names = table_schema.names
    return pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows], schema=table_schema)


def make_stamps(rng, *, title, side=63, is_false_alarm=False, sky=True, n_sources=6, amplitude=180.0):
    axis = np.arange(side)

    def spot(cy, cx, flux, fwhm=3.0):
        sigma = fwhm / 2.355
        rows, columns = (np.exp(-((axis - c) ** 2) / (2 * sigma**2)) for c in (cy, cx))
        return flux / (2 * np.pi * sigma**2) * np.outer(rows, columns)

    stars = sum(spot(*rng.uniform(0, side, 2), rng.pareto(1.2) * 400) for _ in range(n_sources))
    template = stars + rng.normal(0, 1, (side, side))
    c = (side - 1) / 2
    new = spot(c, c, amplitude) if not is_false_alarm else spot(c, c - 1.5, amplitude) - spot(c, c + 1.5, amplitude)
    difference = new + rng.normal(0, 1.5, (side, side))
    science = stars + new + rng.normal(0, 1.2, (side, side))
    significance = new / max(abs(new).max(), 1e-6) * amplitude / 12 + rng.normal(0, 1, (side, side))
    mask = np.zeros((side, side), np.uint16)
    if is_false_alarm:
        mask[:, :4] = schema.MaskBit.NO_DATA
    arrays = [a.astype(np.float32) for a in (science, template, difference, significance)]
    caption = "tile 0, epoch 4, band r, score 0.93"
    return Stamps(title, caption, *arrays, mask, is_false_alarm, 0.26 if sky else float("nan"))


def with_streak(stamps):
    mask = stamps.mask.copy()
    mask[20:24] |= np.uint16(schema.MaskBit.STREAK)
    return replace(stamps, mask=mask)


def make_data(seed: int = 7) -> ReportData:
    rng = np.random.default_rng(seed)
    bands, n_tiles, n_epochs = ("g", "r"), 2, 14
    cells, ledger = [], []
    for tile in range(n_tiles):
        for epoch in range(n_epochs):
            for b, band in enumerate(bands):
                odd = tile == 1 and epoch == 9
                cell = {"tile": tile, "epoch": epoch, "band": band, "mjd": 60400.2 + 3 * epoch + 0.01 * b}
                cell |= {
                    "seeing_fwhm": rng.normal(3.0 + 0.3 * b, 0.15) + 3 * odd,
                    "noise_correlation": rng.normal(1.06, 0.01),
                }
                cell |= {"astrometric_rms": rng.gamma(30, 0.0015), "flux_scale": rng.normal(1, 0.03), "coverage": 0.99}
                cell |= {"score_width": rng.normal(1.0, 0.008) + 0.3 * odd, "depth_flux": rng.normal(900, 40)}
                cell |= {"limiting_magnitude": rng.normal(23.9 - 0.3 * b, 0.06) - 1.1 * odd, "n_stars": 80}
                cells.append(cell)
                for step in ("preprocess", "subtract", "detect"):
                    row = {"step": step, "key": f"{tile}/{epoch}/{band}", "status": "done", "reason": ""}
                    row |= {"cpu_seconds": rng.gamma(20, 0.05), "seconds": 1.1, "peak_memory_mb": rng.normal(410, 10)}
                    if step == "preprocess" and epoch == 12:
                        row |= {
                            "status": "failed",
                            "reason": f"registration: {3 + b} stars matched, 6 needed; see data.min_stars",
                        }
                    if step == "subtract" and epoch == 12:
                        row |= {"status": "skipped", "reason": "no science image: preprocess failed"}
                    ledger.append(row)
    objects, candidates, curves = [], [], []
    for k in range(9):
        tile, y, x = k % 2, rng.uniform(40, 1040), rng.uniform(40, 1040)
        ra, dec = 150.1 + 0.4 * tile + (540 - x) * 0.26 / 3600, 2.2 + (y - 540) * 0.26 / 3600
        peak, start, width = rng.uniform(4e3, 4e4), rng.uniform(60408, 60420), rng.uniform(8, 16)
        n = 0
        for cell in [c for c in cells if c["tile"] == tile]:
            t = (cell["mjd"] - start) / width
            flux = peak * max(0, t) * np.exp(1 - max(0, t)) * (1.0 if cell["band"] == "r" else 0.6)
            error = rng.uniform(500, 900)
            measured = flux + rng.normal(0, error)
            detected = bool(measured > 5 * error)
            point = {k2: cell[k2] for k2 in ("tile", "epoch", "band", "mjd")} | {
                "object_id": f"obj{k:04d}",
                "flux": measured,
            }
            point |= {
                "flux_error": error,
                "flux_unit": "nJy",
                "significance": measured / error,
                "is_detection": detected,
            }
            curves.append(point | {"flux_limit": 5 * error})
            if detected:
                n += 1
                candidate = point | {
                    "candidate_id": f"c{k:03d}{cell['epoch']:03d}{cell['band']}8f2a",
                    "ra": ra,
                    "dec": dec,
                }
                flags = CandidateFlag.STREAK | CandidateFlag.FADING if k == 0 else 0
                candidates.append(
                    candidate
                    | {"flags": int(flags)}
                    | {"y": y, "x": x, "is_negative": False, "score": rng.uniform(0.5, 1), "fwhm": 3.1}
                )
        entry = {"object_id": f"obj{k:04d}", "tile": tile, "ra": ra, "dec": dec, "y": y, "x": x, "position_error": 0.08}
        entry |= {"n_candidates": n, "n_epochs": (n + 1) // 2, "bands": "g,r", "first_mjd": start, "last_mjd": 60440.0}
        objects.append(entry | {"peak_significance": peak / 700, "peak_flux": peak, "flux_unit": "nJy", "score": 0.97})
    injections = []
    for k in range(260):
        snr = float(np.exp(rng.uniform(np.log(3), np.log(50))))
        found = bool(rng.uniform() < 1 / (1 + np.exp(-(snr - 6) / 0.9)))
        row = {
            "injection_id": f"i{k}",
            "tile": k % 2,
            "epoch": k % n_epochs,
            "band": bands[k % 2],
            "snr": snr,
            "seed": k,
        }
        row |= {"y": rng.uniform(0, 1088), "x": rng.uniform(0, 1088), "ra": 150.1, "dec": 2.2}
        row["lost_in"] = "" if found else ("detection" if k % 2 else "subtraction")
        injections.append(row | {"recovered_by": "x" if found else None, "detector": "matched_filter"})
    streaks = [
        {"streak_id": f"s{k}", "tile": 0, "epoch": k // 2, "band": "r", "mjd": 60400.0, "x_start": 0.0,
         "y_start": 20.0 * k,
         "x_end": 900.0, "y_end": 400.0, "length": 980.0, "width": 3.0, "angle": 23.0, "flux_per_length": 120.0,
         "flux_unit": "nJy", "significance": 90.0 - 60 * k, "is_negative": k == 2, "n_peaks": 30}
        for k in range(3)
    ]  # fmt: skip
    snr = [3.3, 4.2, 5.2, 6.5, 8.2, 10.3, 13.0, 17, 22, 28, 40]
    completeness = {}
    for name, centre in (("unet+trees", 5.4), ("matched_filter", 6.1)):
        fit = [1 / (1 + np.exp(-(s - centre) / 0.8)) for s in snr]
        fraction = [float(np.clip(f + rng.normal(0, 0.03), 0, 1)) for f in fit]
        completeness[name] = {
            "snr": snr,
            "fraction": fraction,
            "low": [max(0.0, f - 0.08) for f in fraction],
            "high": [min(1.0, f + 0.06) for f in fraction],
            "fit_snr50": centre,
            "fit": [float(f) for f in fit],
        }
    row = {"dataset": "simulated", "truth": "injections", "subtraction": "zogy", "detector": "unet+trees"}
    row |= {"precision": 0.953, "precision_ci": [0.921, 0.973], "recall": 0.902, "recall_ci": [0.859, 0.933]}
    row |= {"localization": 71.4, "false_alarms_per_image": 0.18, "false_alarms_per_image_ci": [0.09, 0.33]}
    row |= {
        "seconds_per_image": 3.42,
        "threshold": 0.5,
        "threshold_note": "fixed before the run",
        "position_rms_px": 0.21,
    }
    row |= {"false_alarms_per_megapixel": 0.15, "false_alarms_near_stars": 0.12, "completeness_50_snr": 5.4}
    row |= {"n_images": 56, "n_true": 260, "n_faint": 31, "n_masked": 12, "n_ignored": 0}
    row |= {"recall_snr8": 0.988, "recall_snr8_ci": [0.958, 0.997], "completeness_50_snr_error": 0.17}
    second = row | {"detector": "matched_filter", "precision": 0.912, "threshold": 5.0, "completeness_50_snr": 6.1}
    third = row | {"truth": "known_events", "precision": None, "precision_ci": None, "n_true": 9, "recall": 0.889}
    return ReportData(
        name="demo-2026-11-22",
        survey="simulated",
        created="2026-11-22 18:00 UTC",
        metrics={"rows": [row, second, third], "notes": "Precision holds at 4.6 injections per image."},
        completeness=completeness,
        candidates=fill(schema.CANDIDATES, candidates),
        objects=fill(schema.OBJECTS, objects),
        streaks=fill(schema.STREAKS, streaks),
        streak_pictures=(with_streak(make_stamps(rng, title="t0000/e0000/r")),),
        light_curves=fill(schema.LIGHT_CURVES, curves),
        injections=fill(schema.INJECTIONS, injections),
        cells=fill(schema.CELLS, cells),
        ledger=fill(schema.LEDGER, ledger),
        best=tuple(make_stamps(rng, title=f"obj{k:04d}, S/N {40 - 3 * k}.2", amplitude=400 - 30 * k) for k in range(7)),
        worst=tuple(make_stamps(rng, title=f"false alarm {k}, S/N {9 - k}.1", is_false_alarm=True) for k in range(4)),
        configuration="survey:\n  name: simulated\n  seed: 7\nsubtraction:\n  _target_: astrid.subtraction.zogy.Zogy\n",
        versions={"astrid": "0.1.0", "numpy": "2.4.0"},
        notes=("Precision and recall are measured on injections into these very pixels.",),
        acknowledgement="Simulated data; no acknowledgement is needed.",
        example=make_stamps(rng, title="Tile 0, epoch 4, band r", side=420, n_sources=60),
    )


@pytest.fixture(scope="session")
def data() -> ReportData:
    return make_data()


@pytest.fixture(scope="session")
def empty() -> ReportData:
    return ReportData(name="empty", survey="directory", created="2026-11-22")


__all__ = ["fill", "make_data", "make_stamps", "replace"]
