"""``make bench``: every measurement, or those that are named, with tables and JSON.

``make bench BENCH="receive --rounds 3"`` runs one of them. ``bench_agreement`` and
``bench_durable_work`` answered one question each, take long, and are run by themselves.
"""

import argparse
import json
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import vigil
from tests.bench import (
    bench_growth,
    bench_listeners,
    bench_load,
    bench_networks,
    bench_pace,
    bench_page,
    bench_picture,
    bench_receive,
    bench_start,
    bench_training,
    bench_worklist,
)
from tests.bench.report import CannotMeasure, machine
from vigil.bundle import BundleError

PARTS = {
    part.NAME: part
    for part in (
        bench_picture,
        bench_networks,
        bench_start,
        bench_receive,
        bench_load,
        bench_pace,
        bench_growth,
        bench_page,
        bench_worklist,
        bench_listeners,
        bench_training,
    )
}


def main() -> int:
    """Measure, print, write; 1 if a part could not be measured."""
    options = _options(sys.argv[1:])
    written: dict[str, Any] = {
        "version": vigil.__version__,
        "begun": datetime.now(UTC).isoformat(timespec="seconds"),
        "parts": {},
    }
    missing = 0
    for name in options.parts or PARTS:
        before = machine()
        try:
            values = _run_part(name, options, before)
        except (BundleError, CannotMeasure, pytest.skip.Exception) as error:
            print(f"bench: {name}: not measured: {error}", file=sys.stderr)
            missing += 1
            continue
        written["parts"][name] = values | {"machine": before, "machine_after": machine()}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(written, indent=1), encoding="utf-8")
    print(f"Written to {options.json}")
    return 1 if missing else 0


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; left out: all")
    parser.add_argument("--bundle", type=Path, help="the bundle; left out: the shipped one")
    parser.add_argument("--json", type=Path, default=Path("var/bench.json"), help="where to write")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path(tempfile.gettempdir()),
        help="on whose file system receivers write; no memory file system",
    )
    for part in PARTS.values():
        part.add_arguments(parser)
    options = parser.parse_args(arguments)
    unknown = [name for name in options.parts if name not in PARTS]
    if unknown:
        parser.error(f"{', '.join(unknown)}: expected of {', '.join(PARTS)}")
    return options


def _run_part(name: str, options: argparse.Namespace, before: dict[str, Any]) -> dict[str, Any]:
    report = PARTS[name].measure(options)
    load = f"load {before['load'][0]} before, {machine()['load'][0]} after"
    report.caption = f"{report.caption}; {load}".lstrip("; ")
    report.print()
    return report.values


if __name__ == "__main__":
    sys.exit(main())
