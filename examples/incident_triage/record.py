"""Records the bundled incident: runs the shop for real, breaks it, repairs it, writes down what it said.

python examples/incident_triage/record.py --out DIR [--minutes 32]
"""

import argparse
import asyncio
import json
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from recorder import files
from recorder.errors import AlertDidNotFire, RecordingFailed
from recorder.scrape import Rule, Scraper
from recorder.stage import SERVICES, Stage, stamp
from recorder.traffic import Customers

FIRST = {
    "storefront": "3.8.0",
    "checkout": "2.11.3",
    "orders": "2.4.0",
    "inventory": "1.17.2",
    "payments": "1.9.2",
    "notifications": "1.3.5",
}
BROKEN, LAST_GOOD = "2.5.0", "2.4.1"


@dataclass(frozen=True)
class Plan:
    """How long each part lasts, in seconds, and when the alert fires."""

    step: float
    baseline: float
    reading: float
    recovery: float
    pace: float
    patience: float
    threshold: float
    window: float
    holding: float
    sample: float


def full(minutes: float) -> Plan:
    """The real thing: about ten minutes of incident and recovery, the rest is baseline."""
    baseline = max(120.0, minutes * 60 - 600)
    return Plan(5, baseline, 90, 200, 1.0, 600, 0.05, 60, 30, 0.06)


SMOKE = Plan(0.5, 1.2, 0.5, 1.2, 0.005, 10, -1.0, 3, 1, 1.0)


def say(text: str) -> None:
    """Progress, with the time."""
    print(f"{datetime.now(UTC):%H:%M:%S}  {text}", flush=True)


async def story(stage: Stage, scraper: Scraper, plan: Plan) -> tuple[datetime, dict]:
    """Everything that is done to the shop; returns the moment the copilot stands at, and what ran then."""

    async def deploy(service: str, version: str, sha: str, actor: str) -> None:
        say(f"deploy {service} {version}")
        await stage.deploy(service, version, sha, actor)

    async def after(seconds: float) -> None:
        await asyncio.sleep(seconds * plan.pace)

    commit = stage.repository.commit
    say(f"baseline, {plan.baseline / 60:.1f} min")
    await asyncio.sleep(plan.baseline * 0.25)
    good = commit("orders-lines")
    await after(25)
    await deploy("orders", LAST_GOOD, good, "tomasz.brandt")
    await asyncio.sleep(plan.baseline * 0.3)
    names = commit("inventory-names")
    await after(30)
    await deploy("inventory", "1.17.3", names, "maud.okafor")
    await asyncio.sleep(plan.baseline * 0.35)
    bad = commit("orders-delivery")
    await after(45)
    await deploy("orders", BROKEN, bad, "tomasz.brandt")
    await after(35)
    decimals = commit("payments-decimals")
    await after(20)
    commit("storefront-wording")
    await after(60)
    await deploy("payments", "1.9.3", decimals, "rui.sandoval")
    await after(30)
    say("flag autumn_banner on")
    stage.flip("autumn_banner", "storefront", "dagny.holm")
    try:
        await asyncio.wait_for(scraper.fired.wait(), plan.patience)
    except TimeoutError:
        raise AlertDidNotFire(
            f"no alert within {plan.patience:g} s after the deploy: the shop kept up with the traffic; "
            "record again on a quieter machine"
        ) from None
    say("the alert fired")
    await asyncio.sleep(plan.reading)
    clock, running = datetime.now(UTC), standing(stage)
    await after(25)
    await deploy("orders", LAST_GOOD, stage.shas["orders", LAST_GOOD], "on-call")
    await asyncio.sleep(plan.recovery)
    return clock, running


def truth(stage: Stage, rule: Rule) -> dict:
    """What really happened, for tests only."""
    assert rule.above_since is not None
    broken = next(d for d in stage.deploys if (d["service"], d["version"]) == ("orders", BROKEN))
    decoy = next(d for d in stage.deploys if d["service"] == "payments" and d["previous"])
    return {
        "cause": {
            "service": "orders",
            "commit": broken["commit"],
            "version": BROKEN,
            "label": "n_plus_one_queries_exhaust_db_pool",
            "deployed": broken["timestamp"],
        },
        "decoys": [
            {"kind": "deploy", "service": "payments", "commit": decoy["commit"], "version": decoy["version"]},
            {
                "kind": "noisy_error",
                "service": "notifications",
                "message": "webhook to parcel-partner failed",
            },
            {"kind": "flag", "service": "storefront", "flag": "autumn_banner"},
        ],
        "onset": stamp(rule.above_since),
        "fired": stamp(rule.fired_at),
    }


async def record(out: Path, plan: Plan, directory: Path) -> None:
    """Run the shop through the whole story and write the recording."""
    rule = Rule("CheckoutErrorRatioHigh", "checkout", plan.threshold, plan.window, plan.holding)
    stage = Stage(directory, plan.sample)
    customers = Customers(lambda: stage.ports["storefront"], seed=7)
    jobs: list[asyncio.Task] = []
    try:
        say("starting PostgreSQL and six services")
        await stage.open(FIRST)
        jobs.append(asyncio.create_task(customers.run()))
        await asyncio.sleep(10 * plan.pace)
        scraper = Scraper(stage, plan.step, rule)
        started = datetime.now(UTC)
        jobs.append(asyncio.create_task(scraper.run()))
        telling = asyncio.create_task(story(stage, scraper, plan))
        await asyncio.wait([telling, *jobs], return_when=asyncio.FIRST_COMPLETED)
        for job in jobs:
            if job.done():
                telling.cancel()
                job.result()
        clock, running = await telling
        ended = datetime.now(UTC)
    finally:
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        await stage.close()
    say(
        "customers saw: " + ", ".join(f"{what} x{count}" for what, count in sorted(customers.answers.items()))
    )
    description = {
        "format": "pointsman-recording/1",
        "id": "lantern-latch-checkout",
        "title": "Checkout fails at Lantern & Latch",
        "description": "A small shop of six services and one PostgreSQL, recorded from its real processes.",
        "question": "checkout is failing, what is going on?",
        "alert": "alert.json",
        "started": stamp(started),
        "clock": stamp(clock),
        "ended": stamp(ended),
        "recovery": {"action": "rollback", "service": "orders", "to_version": LAST_GOOD},
        "services": sorted([*SERVICES, "postgres"]),
        "system": "storefront -> checkout -> inventory, payments, orders, notifications; "
        "orders and inventory keep their data in postgres",
    }
    files.write(out, stage, scraper.points, rule, description, {"services": running})
    files.check_clean(out, [str(directory), str(out.resolve())])
    (out.parent / "truth.json").write_text(json.dumps(truth(stage, rule), indent=1) + "\n", encoding="utf-8")


def standing(stage: Stage) -> dict:
    """The versions that run now, with the earlier ones."""
    services: dict[str, dict] = {}
    for deploy in stage.deploys:
        seen = services.get(deploy["service"])
        earlier = [seen["version"], *seen["previous"]] if seen else []
        services[deploy["service"]] = {"version": deploy["version"], "previous": earlier, "replicas": 1}
    return services


def main() -> None:
    """Read the command line and record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", required=True, type=Path, help="the recording goes here, truth.json beside it"
    )
    parser.add_argument(
        "--minutes", type=float, default=32, help="whole length at real pace (default 32, least 12)"
    )
    parser.add_argument(
        "--smoke", action="store_true", help="a few seconds of everything, to try the recorder"
    )
    options = parser.parse_args()
    plan = SMOKE if options.smoke else full(options.minutes)
    with tempfile.TemporaryDirectory(prefix="shop-", ignore_cleanup_errors=True) as directory:
        try:
            asyncio.run(record(options.out, plan, Path(directory)))
        except RecordingFailed as error:
            sys.exit(f"record: {error}")
    size = sum(path.stat().st_size for path in options.out.rglob("*") if path.is_file())
    say(f"written: {options.out}, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
