"""Look at every fact and say which do not hold."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import yaml

from astrid.archives import Archive, Fetcher
from benchmarks.live_check import catalogues, mast, ps1, skyview, ztf
from benchmarks.live_check.findings import Check, Target

CHECKS: dict[str, Check] = {
    "catalogues": catalogues.check,
    "mast": mast.check,
    "ps1": ps1.check,
    "skyview": skyview.check,
    "ztf": ztf.check,
}
CONF = Path(__file__).resolve().parents[2] / "conf" / "archive" / "public.yaml"


def main(arguments: Sequence[str] | None = None) -> int:
    """Check; return 1 if a fact does not hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.live_check", description=__doc__)
    parser.add_argument("services", nargs="*", choices=[*CHECKS, []], help="all by default")
    parser.add_argument("--target", default="210.91083,54.31169", help="ra,dec; SN 2023ixf in M101 by default")
    parser.add_argument("--mjd", default="60080,60095", help="first,last")
    parser.add_argument("--contact", default="", help="an address for the User-Agent")
    parser.add_argument("--base-url", help="another server instead of the archives")
    options = parser.parse_args(arguments)
    target = Target(*map(float, options.target.split(",")), *map(float, options.mjd.split(",")))
    values = {key: value for key, value in yaml.safe_load(CONF.read_text()).items() if not key.startswith("_")}
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        settings = {"cache": folder, "contact": options.contact, "base_url": options.base_url}
        archive = Archive(**values | settings)
        if options.base_url:
            quick = {name: replace(service, interval_s=0.0) for name, service in archive.services.items()}
            archive = replace(archive, services=quick)
        fetcher = Fetcher(archive)
        for name in options.services or CHECKS:
            print(f"{name}:")
            for finding in CHECKS[name](fetcher, target):
                wrong += not finding.holds
                print(f"  {'holds' if finding.holds else 'DOES NOT HOLD'}: {finding.fact}\n    seen: {finding.seen}")
    print("every fact holds" if not wrong else f"{wrong} facts do not hold")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
