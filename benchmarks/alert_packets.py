"""Packets per second, and the memory of the driver and of its workers, of a run on many alerts.

python -m benchmarks.alert_packets --packets FILE.parquet --n 10000 [--out FILE.json] [key=value ...]

The rows of a real table are repeated under new names until there are enough.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.provenance import provenance

ROWS_PER_GROUP = 100


def main() -> None:
    """Run, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--packets", type=Path, required=True, help="a table in the Parquet layout")
    parser.add_argument("--n", type=int, default=10000, help="packets in the run")
    parser.add_argument("--out", type=Path, default=Path("alert_packets.json"))
    given, options = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        repeat_rows(given.packets, Path(folder) / "many.parquet", given.n)
        words = ["run", "survey=ztf_alerts", f"survey.path={folder}/many.parquet", "truth=known_events", "name=many"]
        found = watched([sys.executable, "-m", "astrid.cli", *words, *options], Path(folder))
        metrics = json.loads((Path(folder) / "runs/many/metrics.json").read_text())
        ledger = pq.read_table(Path(folder) / "runs/many/ledger.parquet").to_pylist()
    done = [row for row in ledger if row["status"] == "done"]
    steps = {step: round(sum(r["cpu_seconds"] or 0 for r in done if r["step"] == step), 1) for step in _steps(done)}
    text = json.dumps(
        {
            "packets": given.n,
            "packets_per_second": given.n / found["seconds"],
            **found,
            "cpu_seconds_by_step": steps,
            "detected": next(row["detected"] for row in metrics["alerts"] if row["label_basis"] == "all"),
            **provenance(),
        },
        indent=1,
    )
    given.out.write_text(text + "\n")
    print(text)


def repeat_rows(source: Path, target: Path, n: int) -> None:
    """Write n rows of a table, repeated under new names, without holding them all."""
    rows = pq.read_table(source)
    with pq.ParquetWriter(target, rows.schema) as writer:
        for number, begin in enumerate(range(0, n, rows.num_rows)):
            part = rows.slice(0, min(rows.num_rows, n - begin))
            writer.write_table(renamed(part, number), row_group_size=ROWS_PER_GROUP)


def renamed(part: pa.Table, number: int) -> pa.Table:
    """Give the alerts and objects of a table names of their own."""
    names = pc.binary_join_element_wise(part["objectId"].cast(pa.string()), f"x{number}", "")
    numbers = pa.array([int(value) + number * 10**6 for value in part["candid"].to_pylist()], pa.int64())
    for name, values in (("objectId", names), ("candid", numbers)):
        at = part.schema.get_field_index(name)
        part = part.set_column(at, part.schema.field(at), values.cast(part.schema.field(at).type))
    return part


def watched(command: list[str], folder: Path) -> dict[str, float]:
    """Run a command; return its seconds, and the largest resident memory of it and of its largest child, in MB."""
    begin, driver, worker = time.monotonic(), 0.0, 0.0
    with (folder / "said.txt").open("w") as said:
        running = subprocess.Popen(command, cwd=folder, stdout=said, stderr=subprocess.STDOUT)
        while running.poll() is None:
            sizes = list(_resident(running.pid))
            driver, worker = max([driver, *sizes[:1]]), max([worker, *sizes[1:]])
            time.sleep(1.0)
    if running.returncode:
        print((folder / "said.txt").read_text()[-3000:], file=sys.stderr)
    return {"seconds": time.monotonic() - begin, "driver_mb": driver, "largest_worker_mb": worker}


def _resident(pid: int) -> Iterator[float]:
    try:
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            yield one.memory_info().rss / 1e6
    except psutil.NoSuchProcess:
        return


def _steps(rows: list[dict[str, object]]) -> list[str]:
    return sorted({str(row["step"]) for row in rows})


if __name__ == "__main__":
    main()
