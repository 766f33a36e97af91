"""The same faults as in `test_kubernetes`, showing themselves in other words, places and formats."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest

from specialists.local.kubernetes.catalog import FAULTS
from tests.specialists.clusters import NAMESPACE, Cluster, Pod, table
from tests.specialists.test_kubernetes import (
    BROKEN,
    GRPC,
    KILLED,
    NOBODY,
    crashing,
    environment,
    investigate,
    measured,
    pending,
    probed,
    waiting,
)

BACK_OFF = "Warning  BackOff  9s (x7 over 80s)  kubelet  Back-off restarting failed container"
HTTP = "http-get http://:{port}/ delay=5s timeout=1s period=10s #success=1 #failure=3"


def secret(**values: str) -> Callable[[Cluster], None]:
    """The settings of members, in a Secret that it takes whole."""

    def wreck(c: Cluster) -> None:
        c.env.pop("members", None)
        held = "".join(f"  {k}: {base64.b64encode(v.encode()).decode()}\n" for k, v in values.items())
        c.documents["members"] = f"apiVersion: v1\nkind: Secret\nmetadata:\n  name: members-db\ndata:\n{held}"
        c.more["members"] = "        envFrom:\n        - secretRef:\n            name: members-db\n"

    return wreck


def by_key(c: Cluster) -> None:
    c.env.pop("members", None)
    c.documents["members"] = (
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: members-settings\n"
        "data:\n  db-host: members-mysql\n  db-port: '3316'\n"
    )
    c.more["members"] = (
        "        env:\n"
        "        - name: DB_HOST\n          valueFrom:\n            configMapKeyRef:\n"
        "              name: members-settings\n              key: db-host\n"
        "        - name: DB_PORT\n          valueFrom:\n            configMapKeyRef:\n"
        "              name: members-settings\n              key: db-port\n"
    )


def unbound_settings(c: Cluster) -> None:
    """members lost the reference to its secret, and falls back to a host that does not exist."""
    crashing("Caused by: java.net.UnknownHostException: members-store")(c)
    secret(DB_HOST="members-mysql", DB_PORT="3306")(c)
    c.more.pop("members")


def placeholder(c: Cluster) -> None:
    crashing("Could not resolve placeholder 'DB_PASSWORD' in value \"${DB_PASSWORD}\"")(c)
    secret(DB_PASSWORD="geheim")(c)
    c.more.pop("members")


def all_clients_crash(log: str) -> Callable[[Cluster], None]:
    """A database that turns everybody away, among two that there are."""

    def wreck(c: Cluster) -> None:
        crashing(log)(c)
        c.desired["audit-postgres"] = 1
        c.pods["audit-postgres"] = Pod()

    return wreck


def hangs_for_want_of_a_database(c: Cluster) -> None:
    words = "Liveness probe failed: Get http://10.1.0.13:7003/: dial tcp 10.1.0.13:7003: connection refused"
    c.pods["members"] = Pod(
        "0/1",
        restarts="3 (20s ago)",
        events=[
            f"Warning  Unhealthy  3s (x9 over 80s)  kubelet  {words}",
            KILLED,
        ],
        last="Reason: Error / Exit Code: 143",
        probes={"Liveness": "http-get http://:7003/ delay=60s timeout=1s period=10s #success=1 #failure=3"},
    )
    c.logs["members"] = "HikariPool-1 - Exception: Access denied for user 'members'@'%' (using password: YES)"


def native_sidecar(c: Cluster) -> None:
    """A sidecar declared among the init containers, as Kubernetes does since 1.29."""
    crashing("Web server failed to start. Port 15021 was already in use.")(c)
    c.before["members"] = (
        "  istio-proxy:\n    Image:  proxyv2:1.24\n    Port:  15090/TCP\n    State:  Running\n"
    )


def killed_without_a_word(c: Cluster) -> None:
    crashing("")(c)
    c.pods["members"].last = "Reason: Error / Exit Code: 137"


def many_sick_pods_and_one_cause(c: Cluster) -> None:
    """The database does not start; everybody else crashes for want of it."""
    for n in range(12):
        name = f"desk-{chr(97 + n)}"
        c.desired[name] = 1
        c.pods[name] = Pod(
            "0/1",
            "CrashLoopBackOff",
            "14 (40s ago)",
            events=[BACK_OFF],
            last="Reason: Error / Exit Code: 1",
            state="State:  Waiting\n      Reason:  CrashLoopBackOff",
        )
    c.pods["members-mysql"] = Pod(
        "0/1",
        "CrashLoopBackOff",
        "3 (30s ago)",
        events=[BACK_OFF],
        last="Reason: OOMKilled / Exit Code: 137",
        state="State:  Waiting\n      Reason:  CrashLoopBackOff",
    )


def host_aliases(c: Cluster) -> None:
    c.spec["loans"] = "      hostAliases:\n      - ip: 10.9.9.9\n        hostnames: [members]\n"


def server_setting(line: str) -> Callable[[Cluster], None]:
    def wreck(c: Cluster) -> None:
        c.more["members-mysql"] = f"        args: [{line}]\n"

    return wreck


def routed(*routes: tuple[str, str], prefix: str = "lib-") -> Callable[[Cluster], None]:
    """A gateway in front of services whose names share a prefix."""

    def wreck(c: Cluster) -> None:
        for name in ("order", "order-other", "travel", "travel2"):
            c.services[f"{prefix}{name}"] = {"port": 9000, "target": 9000}
            c.desired[f"{prefix}{name}"] = 1
            c.pods[f"{prefix}{name}"] = Pod()
        text = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: routes\ndata:\n  routes.yml: |\n"
        for path, target in routes:
            text += (
                f"    - uri: http://{prefix}{target}:9000\n      predicates:\n      - Path=/api/{path}/**\n"
            )
        c.documents["web"] = text

    return wreck


def in_seconds(c: Cluster) -> None:
    words = "LATENCY_DEGRADATION [Slow Response] | {}-p50latency: Normal={}s -> Current={}s (+1%)"
    measured(
        ("Service", "catalog", [words.format("catalog", "0.004", "0.300")]),
        ("Service", "web", [words.format("web", "0.004", "0.900")]),
    )(c)


def two_volumes(c: Cluster) -> None:
    """The volume made for the claim is too small; another app's volume, which is bound, comes first."""
    dict((label, wreck) for label, _, wreck in BROKEN)["pvc_capacity_mismatch"](c)
    heads = "NAME     CAPACITY   ACCESS MODES   RECLAIM POLICY   STATUS      CLAIM            STORAGECLASS"
    heads += "   AGE   LABELS"
    row = "disk-{}   {}        RWO            Retain           {:<11} {:<31} 9d    tier=a"
    rows = [row.format(0, "9Gi", "Bound", "library/other"), row.format(1, "2Gi", "Available", "")]
    for n, (tool, arguments, _) in enumerate(c.other):
        if arguments.get("resource_type") == "persistentvolumes":
            c.other[n] = (tool, arguments, "\n".join([heads, *rows]))


def wrong_password(c: Cluster) -> None:
    """Nobody's log says so, but the password is not the one the server was made with."""
    c.env["members-mysql"] = {"MYSQL_USER": "clerk", "MYSQL_PASSWORD": "eight-books"}
    c.env["members"] |= {"DB_HOST": "members-mysql", "DB_USER": "clerk", "DB_PASSWORD": "ten-books"}
    crashing("")(c)


def quota_on_claims(c: Cluster) -> None:
    pending("catalog", NOBODY + 'persistentvolumeclaim "books" not found. preemption: none')(c)
    text = table("NAME AGE REQUEST LIMIT", [("q", "9d", "persistentvolumeclaims: 2/2", "")])
    c.other.append(("get", {"resource_type": "resourcequota", "namespace": NAMESPACE}, text))


def no_config(words: str) -> Callable[[Cluster], None]:
    return waiting("CreateContainerConfigError", words)


CASES: list[tuple[str, str, Callable[[Cluster], object]]] = [
    ("mysql_invalid_port", "app/members", secret(DB_HOST="members-mysql", DB_PORT="3316")),
    ("mysql_invalid_port", "app/members", secret(JDBC_URL="jdbc:mysql://members-mysql:3316/members")),
    ("mysql_invalid_port", "app/members", by_key),
    ("mysql_invalid_port", "app/members", environment("members", DSN="me:pw@tcp(members-mysql:3316)/m")),
    ("missing_secret_binding", "app/members", unbound_settings),
    ("missing_secret_binding", "app/members", placeholder),
    (
        "missing_secret_binding",
        "app/loans",
        no_config("Error: couldn't find key password in Secret library/loans-key"),
    ),
    (
        "db_connection_exhaustion",
        "app/members-mysql",
        all_clients_crash("FATAL: Too many connections"),
    ),
    (
        "db_read_only",
        "app/members-mysql",
        all_clients_crash("ERROR 1290 (HY000): server runs with the --super-read-only option"),
    ),
    ("db_read_only", "app/members-mysql", server_setting('"--read-only=1"')),
    ("db_connection_exhaustion", "app/members-mysql", server_setting('"--max-connections=2"')),
    ("mysql_invalid_credentials", "app/members", hangs_for_want_of_a_database),
    ("mysql_invalid_credentials", "app/members", wrong_password),
    ("service_sidecar_port_conflict", "app/members", native_sidecar),
    ("oom_killed", "app/members", killed_without_a_word),
    ("oom_killed", "app/members", crashing("java.lang.OutOfMemoryError: Java heap space")),
    ("oom_killed", "app/members-mysql", many_sick_pods_and_one_cause),
    ("service_dns_resolution_failure", "app/loans", host_aliases),
    (
        "gateway_misroute",
        "app/web",
        routed(("orderservice", "order-other"), ("travelservice", "travel"), ("travel2service", "travel2")),
    ),
    ("pod_network_delay", "app/catalog", in_seconds),
    ("pvc_capacity_mismatch", "app/catalog", two_volumes),
    ("namespace_storage_quota_exceeded", f"namespace/{NAMESPACE}", quota_on_claims),
    (
        "readiness_probe_incorrect_protocol",
        "app/loans",
        probed(
            "Readiness",
            HTTP.format(port=7001),
            'Get "http://10.1.0.11:7001/": EOF',
            other="tcp-socket :7001 delay=5s timeout=1s period=10s #success=1 #failure=3",
        ),
    ),
    (
        "readiness_probe_incorrect_protocol",
        "app/loans",
        probed("Readiness", GRPC.format(port=7001), "rpc error: code = Unimplemented desc = unknown service"),
    ),
    (
        "liveness_probe_incorrect_port",
        "app/loans",
        probed(
            "Liveness",
            "tcp-socket :7009 delay=30s timeout=1s period=10s #success=1 #failure=3",
            "dial tcp 10.1.0.11:7009: connect: connection refused",
        ),
    ),
    (
        "volume_mount_permission_denied",
        "app/members",
        crashing("mkdir: cannot create '/data/db': Permission denied", mounts="/data from books (rw)"),
    ),
    (
        "image_registry_dns_failure",
        "app/loans",
        waiting(
            "ErrImagePull",
            'Failed to pull image "hub.nowhere/loans:1": failed to resolve: '
            'Head "https://hub.nowhere/v2/": lookup hub.nowhere: Temporary failure in name resolution',
        ),
    ),
    (
        "taint_toleration_mismatch",
        "app/loans",
        pending("loans", NOBODY + "1 node(s) had taint {a: b}, that the pod didn't tolerate, 2 node(s) had "
                "taint {c: d}, that the pod didn't tolerate."),
    ),
    (
        "pod_anti_affinity_conflict",
        "app/loans",
        pending("loans", NOBODY + "3 node(s) didn't satisfy existing pods anti-affinity rules."),
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("label", "thing", "wreck"), CASES, ids=[f"{label}-{n}" for n, (label, _, _) in enumerate(CASES)]
)
def test_a_fault_is_found_however_it_shows(
    label: str, thing: str, wreck: Callable[[Cluster], object], tmp_path
):
    cluster = Cluster()
    wreck(cluster)
    finding, _ = investigate(cluster, tmp_path)
    best = finding.causes[0] if finding.causes else None
    assert best is not None, finding.summary
    assert (best.category, best.object, best.label) == (FAULTS[label].category, thing, label), finding.summary
    assert best.evidence


def well_routed(c: Cluster) -> None:
    routed(("orderservice", "order"), ("orderotherservice", "order-other"), ("travel2service", "travel2"))(c)


def routed_twice(c: Cluster) -> None:
    """A path that carries a service's name and leads elsewhere on purpose: the service has its own route."""
    routed(("orderservice", "order"), ("travelservice", "travel"), ("travel2/order", "travel2"))(c)


def settled_settings(c: Cluster) -> None:
    secret(DB_HOST="members-mysql", DB_PORT="3306", DB_USER="clerk", DB_PASSWORD="eight-books")(c)
    c.env["members-mysql"] = {"MYSQL_USER": "clerk", "MYSQL_PASSWORD": "eight-books"}


def replica(c: Cluster) -> None:
    c.desired["members-mysql-replica"] = 1
    c.pods["members-mysql-replica"] = Pod()
    c.services["members-mysql-replica"] = {"port": 9000, "target": 9000}
    c.more["members-mysql-replica"] = '        args: ["--read-only=1"]\n'


@pytest.mark.parametrize(
    "change",
    [well_routed, routed_twice, settled_settings, replica, server_setting('"--max-connections=500"')],
    ids=["routes", "two routes", "settings", "replica", "limit"],
)
def test_what_is_in_order_is_left_alone(change: Callable[[Cluster], object], tmp_path):
    cluster = Cluster()
    change(cluster)
    finding, _ = investigate(cluster, tmp_path)
    assert finding.causes == (), finding.summary
