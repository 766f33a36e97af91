"""Pointed at something real, the copilot looks there and forgets the recorded incident."""

import json
import subprocess
from datetime import UTC, datetime, timedelta


def test_an_alert_is_triaged_on_real_log_files_and_a_real_repository(person):
    (person.directory / "logs").mkdir()
    (person.directory / "shop").mkdir()
    moment = datetime.now(UTC) - timedelta(minutes=40)
    with (person.directory / "logs" / "basket.log").open("w") as file:
        for second in range(0, 1500, 5):
            file.write(
                f"{moment + timedelta(seconds=second):%Y-%m-%dT%H:%M:%SZ} INFO basket served in 12 ms\n"
            )
        for second in range(1500, 2100, 5):
            when = moment + timedelta(seconds=second)
            file.write(f"{when:%Y-%m-%dT%H:%M:%SZ} ERROR basket cannot reach ledger-db: connection refused\n")
    git = ["git", "-c", "user.name=Ida", "-c", "user.email=ida@example.invalid", "-C", "shop"]
    subprocess.run(["git", "init", "-q", "shop"], cwd=person.directory, check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "Begin"], cwd=person.directory, check=True)
    (person.directory / "pointsman.toml").write_text('[tool_servers]\nlogs = "logs"\ngit = "shop"\n')
    alert = {"title": "basket errors", "severity": "critical", "service": "basket"}
    (person.directory / "alert.json").write_text(json.dumps(alert))

    report = person.json("triage", "alert.json")["report"]

    told = json.dumps(report)
    assert "cannot reach ledger-db: connection refused" in told
    assert "checkout" not in told and "storefront" not in told  # that is the recorded shop
    assert any("no recording is served" in missing for missing in report["missing"])
    assert report["hypotheses"][0]["confidence"] < 0.8  # one source alone does not make certain
