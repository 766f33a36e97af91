"""The changes specialist: culprits, decoys, and incidents that no change caused, through the real servers."""

import asyncio
from datetime import timedelta

import pytest

from specialists.local import diffs
from specialists.local.changes import ChangesSpecialist
from specialists.local.logs import LogsSpecialist
from specialists.local.metrics import MetricsSpecialist
from specialists.types import Finding
from tests.specialists.incidents import BROKE, START, Incident, stamp
from tests.specialists.relay import ask, relay

CULPRIT, DECOY, OTHER = "aa11" * 10, "bb22" * 10, "cc33" * 10


def triage(incident: Incident, tmp_path, leads: bool = True) -> Finding:
    """Metrics and logs first, then changes with what they found."""

    async def run() -> Finding:
        async with relay(incident.write(), tmp_path / "state", ("metrics", "logs", "changes")) as through:
            first = [
                await ask(MetricsSpecialist(), incident.task("metrics"), through),
                await ask(LogsSpecialist(), incident.task("logs"), through),
            ]
            found = {
                "leads": tuple(sorted((c for f in first for c in f.causes), key=lambda c: -c.confidence)),
                "claims": tuple(c for f in first for c in f.claims),
            }
            task = incident.task("changes", **(found if leads else {}))
            finding = await ask(ChangesSpecialist(), task, through)
            assert finding.dropped == 0
            for claim in (*finding.claims, *finding.causes):
                assert claim.evidence and all(through.stands(e) for e in claim.evidence)
            return finding

    return asyncio.run(run())


def failing(tmp_path, error: str = "KeyError: 'voucher'") -> Incident:
    incident = Incident(tmp_path)
    incident.series("orders", "error_ratio", 0.003, 0.5, "ratio")
    incident.series("front", "error_ratio", 0.003, 0.3, "ratio")
    incident.series("mailer", "error_ratio", 0.003, None, "ratio")
    incident.logs("orders", "stored order {n}", every=30)
    incident.logs("orders", error, "ERROR", start=BROKE, every=10)
    return incident


def add_decoy(incident: Incident) -> None:
    """A tidy-up of the failing service, live after the culprit and nearer to the onset."""
    body = '-    body = json.loads(raw)\n-    if not body:\n-        return fail(400, "empty")\n'
    body += "+    body = read_body(raw)\n+    if not body:\n+        return refuse(400)\n"
    made = BROKE - timedelta(minutes=3)
    incident.commit(DECOY, made, "refactor: tidy request reading", "services/orders/handler.py", body)
    incident.deploy("orders", "1.4.1", BROKE - timedelta(minutes=2), DECOY, "1.4.0")


def add_culprit(incident: Incident, diff: str, path: str = "services/orders/price.py") -> None:
    incident.commit(CULPRIT, BROKE - timedelta(minutes=9), "feat: new prices", path, diff)
    incident.deploy("orders", "1.4.0", BROKE - timedelta(minutes=6), CULPRIT, "1.3.9")


def test_the_commit_that_dropped_the_check_is_named_before_the_nearer_tidy_up(tmp_path):
    incident = failing(tmp_path)
    add_culprit(
        incident,
        "-    if 'voucher' in order:\n-        total -= order['voucher']\n+    total -= order['voucher']\n",
    )
    add_decoy(incident)
    finding = triage(incident, tmp_path)
    assert finding.causes[0].object == f"commit/{CULPRIT}"
    assert finding.causes[0].confidence >= 0.7
    assert "Roll orders back to 1.3.9" in finding.causes[0].remedy
    decoy = next(c for c in finding.claims if c.kind == "ruled_out" and DECOY[:8] in c.text)
    assert "same work" in decoy.text


def test_a_commit_that_no_deploy_carries_is_not_named(tmp_path):
    incident = failing(tmp_path)
    diff = "-    if 'voucher' in order:\n-        total -= order['voucher']\n+    total -= order['voucher']\n"
    incident.commit(
        OTHER, BROKE - timedelta(minutes=1), "fix: voucher price", "services/orders/price.py", diff
    )
    add_culprit(incident, '-    key = "discount"\n+    key = "voucher"\n')
    finding = triage(incident, tmp_path)
    assert finding.causes[0].object == f"commit/{CULPRIT}"
    assert any(OTHER[:8] in c.text and "no deploy" in c.text for c in finding.claims if c.kind == "ruled_out")


def test_a_deploy_after_the_onset_cannot_be_the_cause(tmp_path):
    incident = failing(tmp_path)
    diff = "-    if 'voucher' in order:\n-        total -= order['voucher']\n+    total -= order['voucher']\n"
    incident.commit(CULPRIT, BROKE, "feat: vouchers", "services/orders/price.py", diff)
    incident.deploy("orders", "1.4.0", BROKE + timedelta(minutes=1), CULPRIT)
    finding = triage(incident, tmp_path)
    assert all(c.object != f"commit/{CULPRIT}" for c in finding.causes)
    assert any("after the trouble began" in c.text for c in finding.claims)


def test_a_query_in_a_loop_is_found_behind_an_exhausted_pool(tmp_path):
    incident = failing(tmp_path, "pool timeout: no connection within 2 s (5 of 5 in use)")
    body = "+    for row in rows:\n+        lines = db.query('SELECT * FROM lines WHERE id = %s', row)\n"
    add_culprit(incident, body, "services/orders/days.py")
    add_decoy(incident)
    finding = triage(incident, tmp_path)
    assert finding.causes[0].object == f"commit/{CULPRIT}"
    assert "loop" in finding.causes[0].statement


def test_a_lowered_limit_in_a_configuration_is_named(tmp_path):
    incident = failing(tmp_path, "too many connections: max_connections reached")
    add_culprit(incident, "-  max_connections: 50\n+  max_connections: 5\n", "deploy/orders.yaml")
    add_decoy(incident)
    finding = triage(incident, tmp_path)
    assert (finding.causes[0].object, finding.causes[0].label) == (f"commit/{CULPRIT}", "bad_config")
    assert "max_connections from 50 to 5" in finding.causes[0].statement


def test_an_expired_certificate_needs_no_change(tmp_path):
    incident = failing(tmp_path, "tls: x509: certificate has expired or is not yet valid")
    add_decoy(incident)
    finding = triage(incident, tmp_path)
    assert finding.causes[0].label == "certificate_expired"
    assert finding.summary.startswith("No change caused this")
    assert all(c.confidence < 0.4 for c in finding.causes if c.object.startswith("commit/"))


def test_names_that_do_not_resolve_after_a_host_was_renamed_are_our_own_doing(tmp_path):
    incident = failing(tmp_path, "lookup stok.shop.svc.cluster.local: no such host")
    diff = "-  stock_url: http://stock.shop.svc.cluster.local\n+  stock_url: http://stok.shop.svc.cluster.local\n"
    add_culprit(incident, diff, "deploy/orders.yaml")
    finding = triage(incident, tmp_path)
    assert finding.causes[0].object == f"commit/{CULPRIT}"


def test_a_deploy_of_a_service_off_the_path_is_ruled_out(tmp_path):
    incident = failing(tmp_path)
    incident.commit(
        OTHER, BROKE - timedelta(minutes=3), "feat: colours", "services/mailer/colour.py", "+    tint = 3\n"
    )
    incident.deploy("mailer", "2.0.0", BROKE - timedelta(minutes=1), OTHER)
    finding = triage(incident, tmp_path)
    assert finding.causes == ()
    assert any("not on the path" in c.text for c in finding.claims if c.kind == "ruled_out")


def test_a_flag_switched_just_before_is_named_when_nothing_else_fits(tmp_path):
    incident = failing(tmp_path, "voucher service refused: unknown plan")
    at = BROKE - timedelta(seconds=40)
    incident.flags.append(
        {
            "timestamp": stamp(at),
            "flag": "voucher_plans",
            "service": "orders",
            "change": "off->on",
            "actor": "kim",
        }
    )
    finding = triage(incident, tmp_path)
    assert finding.causes[0].object == "flag/voucher_plans"
    assert "Set the flag" in finding.causes[0].remedy


def test_without_leads_the_alert_alone_leads_to_the_same_commit(tmp_path):
    incident = failing(tmp_path)
    incident.alert["summary"] = "orders: KeyError 'voucher' in half of the requests"
    add_culprit(
        incident,
        "-    if 'voucher' in order:\n-        total -= order['voucher']\n+    total -= order['voucher']\n",
    )
    add_decoy(incident)
    finding = triage(incident, tmp_path, leads=False)
    assert finding.causes[0].object == f"commit/{CULPRIT}"


def test_no_changes_at_all_is_said(tmp_path):
    finding = triage(failing(tmp_path), tmp_path)
    assert finding.status == "abstained"
    assert "No deploy, commit or flag" in finding.summary


def test_the_same_incident_gets_the_same_answer_twice(tmp_path):
    answers = []
    for name in ("one", "two"):
        incident = failing(tmp_path / name)
        add_culprit(incident, "-    retries = 3\n+    retries = 30\n")
        add_decoy(incident)
        found = triage(incident, tmp_path / name)
        answers.append([(c.object, c.confidence, c.statement) for c in found.causes])
    assert answers[0] == answers[1]
    assert START < BROKE


@pytest.mark.parametrize(
    ("diff", "path", "kind"),
    [
        ("-  level: info\n+  level: debug\n", "a/agent.yaml", "value"),
        ("-timeout = 5000\n+timeout = 500\n", "a/x.py", "value"),
        ('-\t"title": text,\n+\t"name": text,\n', "a/mapping.go", "literal"),
        ('-\tif r.T == nil {\n-\t\treturn ""\n-\t}\n-\treturn r.T.S\n+\treturn r.T.S\n', "a/c.go", "guard"),
        ("-  defer conn.Close()\n", "a/c.go", "guard"),
        ("+ for x in xs:\n+     db.execute('SELECT 1')\n", "a/x.py", "loop"),
        ("-\tgithub.com/a/b v1.2.3\n+\tgithub.com/a/b v1.2.4\n", "go.mod", "dependency"),
        ("+ALTER TABLE orders DROP COLUMN kind;\n", "migrations/4.sql", "migration"),
    ],
)
def test_what_a_diff_does_is_read_from_its_lines(diff: str, path: str, kind: str):
    effects = diffs.effects(diffs.parse(f"@@ {path} @@\n{diff}")[0])
    assert effects[0].kind == kind


@pytest.mark.parametrize(
    ("diff", "path"),
    [
        ("-import b\n-import a\n+import a\n+import b\n", "a/x.py"),
        ("-x = f( 1,2 )\n+x = f(1, 2)\n", "a/x.py"),
        ("-# old words\n+# new words\n", "a/x.py"),
        ("-The buffer flushes.\n+The buffer flushes twice.\n", "README.md"),
        ("+assert total(1) == 2\n", "tests/test_x.py"),
    ],
)
def test_a_diff_that_only_moves_formats_or_documents_does_nothing(diff: str, path: str):
    assert diffs.effects(diffs.parse(f"@@ {path} @@\n{diff}")[0]) == []


def test_a_git_diff_is_read_file_by_file():
    text = "diff --git a/x.py b/x.py\nindex 1..2 100644\n--- a/x.py\n+++ b/x.py\n"
    text += "@@ -1,2 +1,2 @@ def f():\n-a = 1\n+a = 2\n"
    text += "diff --git a/y.md b/y.md\n--- a/y.md\n+++ b/y.md\n@@ -1 +1 @@\n-old\n+new\n"
    files = diffs.parse(text)
    assert [(f.path, f.removed, f.added) for f in files] == [
        ("x.py", ["a = 1"], ["a = 2"]),
        ("y.md", ["old"], ["new"]),
    ]
