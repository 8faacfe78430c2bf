"""The emulator by hand: ``make emulator``."""

import argparse
import time
from pathlib import Path

from tests.archives.emulator import SERVICES, Emulator, Sky


def main() -> None:
    """Serve until interrupted; write where the fields and the transients are."""
    parser = argparse.ArgumentParser(prog="make emulator", description=__doc__)
    parser.add_argument("--port", type=int, default=8899)
    parser.add_argument("--folder", type=Path, default=Path("emulator"), help="where targets.csv and events.csv go")
    options = parser.parse_args()
    sky = Sky()
    options.folder.mkdir(parents=True, exist_ok=True)
    write_tables(sky, options.folder)
    with Emulator(SERVICES, sky, port=options.port) as server:
        print(f"Archives are emulated at {server.url}: {', '.join(sorted(SERVICES))}. Try, in another terminal:")
        print(
            f"  astrid run survey=ztf archive=emulator archive.base_url={server.url} archive.cache=emulator/cache"
            f" targets={options.folder / 'targets.csv'} truth={options.folder / 'events.csv'} catalogues=vizier"
        )
        print("  or survey=ps1 grid.pixel_scale=0.5, or survey=skyview without truth=, in place of survey=ztf.")
        print("Control-C stops it.", flush=True)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            pass


def write_tables(sky: Sky, folder: Path) -> None:
    """Write targets.csv (the fields) and events.csv (the transients)."""
    rows = [f"{name},{ra},{dec}" for name, ra, dec in sky.centres]
    (folder / "targets.csv").write_text("\n".join(["name,ra,dec", *rows]) + "\n")
    events = [",".join(str(value) for value in event.values()) for event in sky.events()]
    (folder / "events.csv").write_text("\n".join(["name,ra,dec,mjd", *events]) + "\n")


if __name__ == "__main__":
    main()
