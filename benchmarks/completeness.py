"""What a run finds of what it injects: the demo, its metrics, and what they were measured with.

python benchmarks/completeness.py --out completeness.json [key=value ...]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

from astrid.cli import build, compose
from astrid.stores.tables import read_json
from astrid.workflow.pipeline import execute
from benchmarks.noise_honesty import Silent
from benchmarks.provenance import provenance


def main() -> None:
    """Run, print and write the metrics."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("completeness.json"))
    given, options = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = replace(build(compose("run", ["name=completeness", *options])), root=Path(folder))
        failures = execute(settings, "evaluate", Silent())
        metrics = read_json(settings.run_folder / "metrics.json")
    text = json.dumps({"failures": failures, "metrics": metrics, **provenance()}, indent=1)
    given.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
