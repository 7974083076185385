"""``make bench``: every measurement, or those that are named, with tables and JSON.

``make bench BENCH="receive --rounds 3"`` runs one of them. What stands behind ``--`` goes to the
parts that are programs of their own: ``make bench BENCH="triage -- --size 1024"``.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import vigil
from tests.bench import bench_pace, bench_receive
from tests.bench.report import CannotMeasure, machine
from vigil.bundle import BundleError

PROGRAMS = ("triage", "networks")
"""Each is ``bench_NAME.py`` here and prints its own table."""
PARTS = {part.NAME: part for part in (bench_receive, bench_pace)}


def main() -> int:
    """Measure, print, write; 1 if a part could not be measured."""
    arguments = sys.argv[1:]
    split = arguments.index("--") if "--" in arguments else len(arguments)
    options = _options(arguments[:split])
    written: dict[str, Any] = {
        "version": vigil.__version__,
        "begun": datetime.now(UTC).isoformat(timespec="seconds"),
        "parts": {},
    }
    missing = 0
    for name in options.parts or (*PROGRAMS, *PARTS):
        before = machine()
        try:
            if name in PROGRAMS:
                values = _run_program(name, options.bundle, arguments[split + 1 :])
            else:
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
    known = (*PROGRAMS, *PARTS)
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(known)}; left out: all")
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
    unknown = [name for name in options.parts if name not in known]
    if unknown:
        parser.error(f"{', '.join(unknown)}: expected of {', '.join(known)}")
    return options


def _run_part(name: str, options: argparse.Namespace, before: dict[str, Any]) -> dict[str, Any]:
    report = PARTS[name].measure(options)
    load = f"load {before['load'][0]} before, {machine()['load'][0]} after"
    report.caption = f"{report.caption}; {load}".lstrip("; ")
    report.print()
    return report.values


def _run_program(name: str, bundle: Path | None, arguments: list[str]) -> dict[str, Any]:
    command = [sys.executable, str(Path(__file__).parent / f"bench_{name}.py"), *arguments]
    if bundle is not None:
        command += ["--bundle", str(bundle)]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    print(done.stdout, end="")
    if done.returncode:
        raise CannotMeasure(f"it ended with {done.returncode}")
    return {"command": command[1:], "printed": done.stdout.splitlines()}


if __name__ == "__main__":
    sys.exit(main())
