"""``make chaos``: every proof in full, or those that are named, and a table of what came of each.

``make chaos CHAOS="kills fuzz --kills 20 --inputs 500"`` runs two of them, shorter. It exits with 1
if a proof is broken, and with 2 if one could not be run, so that nobody takes it for proved.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.chaos.associations import prove_associations
from tests.chaos.destinations import prove_destinations
from tests.chaos.disk import prove_disk
from tests.chaos.fuzz import prove_fuzz
from tests.chaos.kills import prove_kills
from tests.chaos.nodes import prove_nodes
from tests.chaos.proof import Outcome, Proof, prove
from tests.conftest import DATA
from tests.stand_in import write_stand_in

WHAT = {
    "kills": "kill -9 at random moments while two senders send",
    "destinations": "destinations stopped, frozen, refusing, hanging, warning, rejecting",
    "disk": "disk full up to its reserve, full, filled by what comes, read-only",
    "associations": "40 associations at once, one trickles, one aborts",
    "fuzz": "broken DICOM files and PDUs through every door",
    "nodes": "nodes on PostgreSQL, one killed; PostgreSQL restarted",
}


def main() -> int:
    """Run, print, say whether all holds."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("proofs", nargs="*", help=f"of {', '.join(WHAT)}; left out: all")
    parser.add_argument("--bundle", type=Path, help="left out: a stand-in that knows phantoms")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3, help="of all but kills and fuzz")
    parser.add_argument("--inputs", type=int, default=10_000, help="of the fuzzed stream")
    parser.add_argument("--seed", type=int, default=1, help="of what is left to chance")
    parser.add_argument("--folder", type=Path, help="keep what was written there")
    options = parser.parse_args()
    unknown = [name for name in options.proofs if name not in WHAT]
    if unknown:
        parser.error(f"{', '.join(unknown)}: expected of {', '.join(WHAT)}")
    folder = options.folder or Path(tempfile.mkdtemp(prefix="vigil-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    bundle = options.bundle
    if bundle is None:
        bundle = folder / "stand-in"
        bundle.mkdir()
        write_stand_in(bundle)
    actions = _actions(options, bundle)
    outcomes = []
    for name in options.proofs or WHAT:
        print(f"{name}: {WHAT[name]} …", flush=True)
        outcomes.append(prove(name, folder / name, actions[name]))
        print(f"{name}: {outcomes[-1].verdict} after {outcomes[-1].seconds:.0f} s", flush=True)
        if options.folder is None and not outcomes[-1].failed:
            shutil.rmtree(folder / name, ignore_errors=True)
    _print(outcomes)
    if any(outcome.failed for outcome in outcomes):
        print(f"What they wrote is in {folder}", file=sys.stderr)
        return 1
    if options.folder is None:
        shutil.rmtree(folder, ignore_errors=True)
    return 2 if any(outcome.verdict == "not run" for outcome in outcomes) else 0


def _actions(options: argparse.Namespace, bundle: Path) -> dict[str, Callable[[Proof], None]]:
    rounds, seed = options.rounds, options.seed
    samples = DATA / "dicom-samples"
    return {
        "kills": lambda proof: prove_kills(proof, bundle, kills=options.kills, seed=seed),
        "destinations": lambda proof: prove_destinations(proof, bundle, rounds=rounds, seed=seed),
        "disk": lambda proof: prove_disk(proof, bundle, rounds=rounds),
        "associations": lambda proof: prove_associations(proof, bundle, rounds=rounds),
        "fuzz": lambda proof: prove_fuzz(
            proof, bundle, samples, inputs=options.inputs, first=seed * 1_000_000
        ),
        "nodes": lambda proof: prove_nodes(proof, bundle, rounds=rounds, seed=seed),
    }


def _print(outcomes: list[Outcome]) -> None:
    load = os.getloadavg()[0]
    table = Table(title="Proofs under fire", caption=f"load {load:.1f} at the end", show_lines=True)
    for column in ("Proof", "Outcome", "s", "What was done and counted"):
        table.add_column(column, justify="right" if column == "s" else "left", overflow="fold")
    for outcome in outcomes:
        what = f"{WHAT[outcome.name]}:\n{outcome.detail}"
        table.add_row(outcome.name, outcome.verdict, f"{outcome.seconds:.0f}", what)
    Console(width=None if sys.stdout.isatty() else 120).print(table)


if __name__ == "__main__":
    sys.exit(main())
