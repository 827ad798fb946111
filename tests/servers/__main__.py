"""`python -m tests.servers install [stores|flink]`, or `smoke [--kill]`: exit 0 when it worked, else 1."""

from __future__ import annotations

import argparse
import sys

from tests.servers.install import GROUPS, InstallError, install
from tests.servers.programs import ServerError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.servers", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    installing = commands.add_parser("install", help="install servers; those that are there are kept")
    installing.add_argument("group", nargs="?", choices=list(GROUPS), help="only what these tests need")
    smoke = commands.add_parser("smoke", help="start all servers and run a small Beam job on them")
    smoke.add_argument("--kill", action="store_true", help="also kill a TaskManager in a job")
    chosen = parser.parse_args()
    try:
        if chosen.command == "install":
            for name, path, seconds in install(chosen.group):
                print(f"{name} is in {path} ({seconds:.0f} s)", flush=True)
        else:
            from tests.servers.smoke import run_smoke  # imports Beam, which installing needs not

            run_smoke(kill=chosen.kill)
    except (InstallError, ServerError) as error:
        print(error, *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
