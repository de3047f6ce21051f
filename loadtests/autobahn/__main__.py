"""`python -m loadtests.autobahn [CASE …]`: all cases, or those given, and the list of those that are not plainly OK."""

import argparse
import sys

import uvloop

from loadtests.autobahn.echo import start_echo
from loadtests.autobahn.suite import Outcome, run

GROUPS = [f"{number}.*" for number in (1, 2, 3, 4, 5, 6, 7, 9, 10, 12, 13)]


async def _run_all(groups: list[str]) -> Outcome:
    server, url = await start_echo()
    whole = Outcome()
    try:
        for group in groups:
            outcome = await run(url, [group])
            print(f"{group:8} {outcome.cases:4} cases, {len(outcome.failed)} failed", flush=True)
            for of_all, more in zip(vars(whole).values(), vars(outcome).values(), strict=True):
                of_all.update(more) if isinstance(of_all, dict) else of_all.extend(more)
    finally:
        server.close()
    return whole


def main() -> int:
    """Exit status 1 when a case failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=GROUPS, help="ids or globs as 9.1.*; all when none is given")
    outcome = uvloop.run(_run_all(parser.parse_args().cases))
    print(f"\n{outcome.cases} cases: {len(outcome.ok)} OK, {len(outcome.failed)} failed")
    for name in ("non_strict", "informational", "unimplemented"):
        cases = getattr(outcome, name)
        print(f"{name.replace('_', ' ')}: {len(cases)}: {' '.join(cases)}")
    for case, why in outcome.failed.items():
        print(f"FAILED {case}: {why}")
    return 1 if outcome.failed else 0


if __name__ == "__main__":
    sys.exit(main())
