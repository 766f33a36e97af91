"""The Kubernetes specialist against a made-up cluster that is broken in every way it can name."""

import asyncio
import json
from collections.abc import Callable

import pytest

from specialists.local.kubernetes import KubernetesSpecialist
from specialists.local.kubernetes.catalog import FAULTS
from specialists.types import Finding
from tests.specialists.clusters import NAMESPACE, Cluster, Pod, table, task
from tests.specialists.relay import ask, relay

GRPC = "grpc <pod>:{port}  delay=5s timeout=1s period=10s #success=1 #failure=3"
KILLED = "Normal  Killing  3s (x3 over 60s)  kubelet  Container x failed liveness probe, will be restarted"
NOBODY = "0/3 nodes are available: "


def investigate(cluster: Cluster, tmp_path, namespace: str = NAMESPACE) -> tuple[Finding, list[str]]:
    async def run() -> tuple[Finding, list[str]]:
        async with relay(
            cluster.write(tmp_path / "recording"), tmp_path / "state", ("kubernetes",)
        ) as through:
            finding = await ask(KubernetesSpecialist(), task(namespace), through)
            held = (*finding.claims, *finding.causes)
            assert all(through.stands(e) for one in held for e in one.evidence)
            assert finding.dropped == 0
            return finding, through.tools

    return asyncio.run(run())


def pending(app: str, reason: str, selector: str = "<none>") -> Callable[[Cluster], None]:
    def wreck(c: Cluster) -> None:
        events = [f"Warning  FailedScheduling  30s  default-scheduler  {reason}"] if reason else []
        c.pods[app] = Pod("0/1", "Pending", node="", events=events, state="", selector=selector)

    return wreck


def waiting(status: str, words: str, reason: str = "Failed") -> Callable[[Cluster], None]:
    def wreck(c: Cluster) -> None:
        c.pods["loans"] = Pod(
            "0/1",
            status,
            events=[f"Warning  {reason}  5s (x4 over 60s)  kubelet  {words}"],
            state=f"State:  Waiting\n      Reason:  {status}",
        )

    return wreck


def probed(
    kind: str, probe: str, words: str, other: str = GRPC.format(port=7001)
) -> Callable[[Cluster], None]:
    def wreck(c: Cluster) -> None:
        live = kind == "Liveness"
        events = [f"Warning  Unhealthy  3s (x9 over 80s)  kubelet  {kind} probe failed: {words}"]
        c.pods["loans"] = Pod(
            "1/1" if live else "0/1",
            restarts="3 (20s ago)" if live else "0",
            events=[*events, KILLED] if live else events,
            last="Reason: Error / Exit Code: 137" if live else "",
            probes={kind: probe, ("Readiness" if live else "Liveness"): other},
        )

    return wreck


def crashing(log: str, **more: str) -> Callable[[Cluster], None]:
    def wreck(c: Cluster) -> None:
        c.pods["members"] = Pod(
            "0/1",
            "CrashLoopBackOff",
            "6 (40s ago)",
            last="Reason: Error / Exit Code: 1",
            state="State:  Waiting\n      Reason:  CrashLoopBackOff",
            events=["Warning  BackOff  9s (x7 over 80s)  kubelet  Back-off restarting failed container"],
            **more,
        )
        c.logs["members"] = log

    return wreck


def refused(words: str) -> Callable[[Cluster], None]:
    def wreck(c: Cluster) -> None:
        del c.pods["catalog"]
        mine = {"namespace": NAMESPACE}
        deployment = "Name: catalog\nNewReplicaSet:   catalog-77f (0/1 replicas created)\nEvents:  <none>\n"
        events = f"Events:\n  Warning  FailedCreate  9s (x9 over 90s)  replicaset-controller  {words}\n"
        c.other += [
            ("describe", {"resource_type": "deployments", "name": "catalog", **mine}, deployment),
            ("describe", {"resource_type": "replicasets", "name": "catalog-77f", **mine}, events),
        ]

    return wreck


def quota(resource: str) -> Callable[[Cluster], None]:
    said = f"requested: {resource}=1, used: {resource}=9, limited: {resource}=9"
    return refused(f'Error creating: pods "catalog-" is forbidden: exceeded quota: q, {said}')


def quotas(c: Cluster, words: str) -> None:
    text = table("NAME AGE REQUEST LIMIT", [("q", "9d", words, "")])
    c.other.append(("get", {"resource_type": "resourcequota", "namespace": NAMESPACE}, text))


def no_service(c: Cluster) -> None:
    del c.services["catalog"]
    quotas(c, "services: 4/4")


CLAIM = """apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: books
spec:
  accessModes: [{mode}]
  storageClassName: "{kind}"
  resources:
    requests:
      storage: {size}
  selector:
    matchLabels:
      {label}
"""
UNBOUND = NOBODY + "pod has unbound immediate PersistentVolumeClaims. preemption: none"


def unbound(
    mode="ReadWriteOnce", kind="", size="1Gi", label="tier: a", volume="Available  "
) -> Callable[[Cluster], None]:
    def wreck(c: Cluster) -> None:
        pending("catalog", UNBOUND)(c)
        c.documents["catalog"] = CLAIM.format(mode=mode, kind=kind, size=size, label=label)
        heads = (
            "NAME     CAPACITY   ACCESS MODES   RECLAIM POLICY   STATUS      CLAIM            STORAGECLASS"
        )
        heads += "   AGE   LABELS"
        row = f"disk-1   2Gi        RWO            Retain           {volume:<28} slow           9d    tier=a"
        row = row.replace("slow", "    ") if not kind or kind == "gone" else row
        claims = "NAME    STATUS    VOLUME   CAPACITY   ACCESS MODES   STORAGECLASS   AGE\n"
        claims += "books   Pending                                        gone           9m"
        claims = claims if kind == "gone" else claims.replace("gone", "    ")
        mine = {"namespace": NAMESPACE}
        c.other += [
            ("get", {"resource_type": "persistentvolumeclaims", **mine}, claims),
            ("get", {"resource_type": "persistentvolumes", "labels": True}, f"{heads}\n{row}"),
            (
                "get",
                {"resource_type": "storageclasses"},
                table("NAME PROVISIONER AGE", [("slow", "x", "9d")]),
            ),
        ]

    return wreck


def no_claim(c: Cluster) -> None:
    pending("catalog", NOBODY + 'persistentvolumeclaim "books" not found. preemption: none')(c)
    c.documents["catalog"] = CLAIM.format(mode="ReadWriteOnce", kind="", size="10Gi", label="tier: a")
    quotas(c, "requests.storage: 0/1Gi")


def lost(node: str, service: str) -> Callable[[Cluster], None]:
    def wreck(c: Cluster) -> None:
        c.nodes[node] = ("NotReady", *c.nodes[node][1:])
        c.pods["loans"] = Pod("0/1", "ContainerCreating", node=node, state="State:  Waiting")
        c.stopped.add((node, service))

    return wreck


def stopped(node: str, service: str) -> Callable[[Cluster], None]:
    return lambda c: c.stopped.add((node, service))


def unscheduled(c: Cluster) -> None:
    pending("loans", "")(c)
    c.stopped.add(("cp-1", "kube-scheduler"))


def cordoned(c: Cluster) -> None:
    c.nodes["alpha"] = ("Ready,SchedulingDisabled", "<none>", "disk=nvme")
    said = "1 node(s) were unschedulable, 2 node(s) didn't match Pod's node affinity/selector."
    pending("loans", NOBODY + said, selector="disk=nvme")(c)


def affinity(c: Cluster) -> None:
    pending("loans", NOBODY + "3 node(s) didn't match Pod's node affinity/selector.")(c)


def measured(*readings: tuple[str, str, list[str]]) -> Callable[[Cluster], None]:
    alerts = [{"type": kind, "name": name, "evidence": words} for kind, name, words in readings]
    return lambda c: c.alerts.update({"status": "has_anomalies", "alerts": alerts})


def slow(name: str, percentile: str, now: float) -> str:
    words = f"{name}-{percentile}latency: Normal=4.00ms -> Current={now:.2f}ms (+1%)"
    return f"LATENCY_DEGRADATION [Slow Response] | {words}"


def spread_out(c: Cluster) -> None:
    """loans on beta, everything else on alpha; what crosses is slow."""
    c.pods["loans"].node = c.pods["members"].node = "beta"
    slows = [("web", 900.0), ("loans", 700.0), ("members", 400.0)]
    readings = [("Service", name, [slow(name, "p50", now)]) for name, now in slows]
    noisy = (
        "Node",
        "beta",
        ["NETWORK_QUALITY_DEGRADED [TCP Retransmission] | Normal=0.0retrans -> Current=0.9retrans"],
    )
    measured(*readings, noisy)(c)


def sent_to(target: object, protocol: str = "TCP") -> Callable[[Cluster], None]:
    return lambda c: c.services["catalog"].update(target=target, protocol=protocol)


def environment(app: str, **values: str) -> Callable[[Cluster], None]:
    return lambda c: c.env.setdefault(app, {}).update(values)


def misrouted(c: Cluster) -> None:
    routes = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: routes\ndata:\n  routes.yml: |\n"
    for path, target in (("catalog", "loans:7001"), ("loans", "loans:7001")):
        routes += f"    - uri: http://{target}\n      predicates:\n      - Path=/api/{path}/**\n"
    c.documents["web"] = routes


def own_dns(c: Cluster) -> None:
    c.spec["loans"] = "      dnsPolicy: Default\n"
    c.logs["loans"] = "dial tcp: lookup members on 10.9.9.9:53: no such host"


def sidecar(c: Cluster) -> None:
    crashing("listen tcp :7003: bind: address already in use")(c)
    c.pods["members"].sidecar = "  proxy:\n    Image:  proxy:1\n    Port:  7003/TCP\n    State:  Running\n"


def dns_down(c: Cluster) -> None:
    c.logs["loans"] = "dial tcp: lookup members on 10.0.0.10:53: i/o timeout"
    rows = [("coredns-5d78c9869d-abcde", "0/1", "CrashLoopBackOff", "9 (1m ago)", "9m", "10.1.0.2", "cp-1")]
    system = table("NAME READY STATUS RESTARTS AGE IP NODE", rows)
    everything = {"resource_type": "pods", "namespace": "kube-system", "wide": True}
    c.other.append(("get", everything, system))


def gone(c: Cluster) -> None:
    c.desired["catalog"] = 0
    del c.pods["catalog"]


def killed_for_memory(c: Cluster) -> None:
    crashing(
        "",
    )(c)
    c.pods["members"].last = "Reason: OOMKilled / Exit Code: 137"


PULL = 'Failed to pull image "registry.example/loans:1.4": '
RETRANS = "NETWORK_QUALITY_DEGRADED [TCP Retransmission] | Normal=0.01retrans -> Current=7.10retrans (+700%)"
CPU = ["RESOURCE_SATURATION [cpu_cfs] | Val: 0.8s (Throttled)", slow("loans", "p95", 90.0)]
SPACE = f"namespace/{NAMESPACE}"
BROKEN: list[tuple[str, str, Callable[[Cluster], object]]] = [
    ("namespace_cpu_quota_exceeded", SPACE, quota("requests.cpu")),
    ("namespace_memory_quota_exceeded", SPACE, quota("limits.memory")),
    ("namespace_pod_quota_exceeded", SPACE, quota("pods")),
    ("namespace_service_quota_exceeded", SPACE, no_service),
    ("namespace_storage_quota_exceeded", SPACE, no_claim),
    (
        "missing_service_account",
        "app/catalog",
        refused('pods "catalog-" is forbidden: error looking up library/x: serviceaccount "x" not found'),
    ),
    ("node_cordon_mismatch", "app/loans", cordoned),
    ("node_affinity_mismatch", "app/loans", affinity),
    (
        "node_selector_mismatch",
        "app/loans",
        pending(
            "loans", NOBODY + "3 node(s) didn't match Pod's node affinity/selector.", selector="zone=moon"
        ),
    ),
    (
        "pod_anti_affinity_conflict",
        "app/loans",
        pending("loans", NOBODY + "3 node(s) didn't match pod anti-affinity rules."),
    ),
    (
        "taint_toleration_mismatch",
        "app/loans",
        pending(
            "loans",
            NOBODY + "1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }, "
            "2 node(s) had untolerated taint {team: a}.",
        ),
    ),
    (
        "cpu_capacity_mismatch",
        "app/loans",
        pending("loans", NOBODY + "1 Insufficient memory, 2 Insufficient cpu."),
    ),
    ("memory_capacity_mismatch", "app/loans", pending("loans", NOBODY + "3 Insufficient memory.")),
    ("pvc_selector_mismatch", "app/catalog", unbound(label="tier: b")),
    ("pvc_storage_class_mismatch", "app/catalog", unbound(kind="gone")),
    ("pvc_access_mode_mismatch", "app/catalog", unbound(mode="ReadWriteMany")),
    ("pvc_capacity_mismatch", "app/catalog", unbound(size="3Gi")),
    ("pv_binding_occupied", "app/catalog", unbound(volume="Bound       library/other")),
    ("node_network_delay", "node/beta", spread_out),
    (
        "node_network_packet_loss",
        "node/beta",
        measured(("Service", "web", [slow("web", "p50", 60.0)]), ("Node", "beta", [RETRANS])),
    ),
    ("containerd_unavailable", "node/beta", lost("beta", "containerd")),
    ("kubelet_unavailable", "node/beta", lost("beta", "kubelet")),
    ("kube_proxy_unavailable", "node/alpha", stopped("alpha", "kube-proxy")),
    ("kube_scheduler_unavailable", "node/cp-1", unscheduled),
    (
        "image_registry_dns_failure",
        "app/loans",
        waiting("ImagePullBackOff", PULL + "dial tcp: lookup registry.example on 10.0.0.2:53: no such host"),
    ),
    (
        "incorrect_image_reference",
        "app/loans",
        waiting("ErrImagePull", PULL + "registry.example/loans:1.4: not found"),
    ),
    (
        "missing_image_pull_secret",
        "app/loans",
        waiting("ErrImagePull", PULL + "unauthorized: authentication required"),
    ),
    (
        "volume_mount_permission_denied",
        "app/members",
        crashing("open /data/books.db: permission denied", mounts="/data from books (rw)"),
    ),
    (
        "missing_secret_binding",
        "app/loans",
        waiting("CreateContainerConfigError", 'Error: secret "loans-key" not found'),
    ),
    (
        "missing_secret_binding",
        "app/loans",
        waiting(
            "ContainerCreating",
            'MountVolume.SetUp failed for volume "k" : secret "k" not found',
            "FailedMount",
        ),
    ),
    ("oom_killed", "app/members", killed_for_memory),
    (
        "liveness_probe_incorrect_protocol",
        "app/loans",
        probed(
            "Liveness",
            "http-get http://:7001/ delay=5s timeout=1s period=10s #success=1 #failure=3",
            "Get http://10.1.0.11:7001/: HTTP/1.x transport connection broken: malformed HTTP response",
        ),
    ),
    (
        "liveness_probe_incorrect_port",
        "app/loans",
        probed("Liveness", GRPC.format(port=7009), "timeout: failed to connect service within 1s"),
    ),
    (
        "liveness_probe_incorrect_timing",
        "app/loans",
        probed("Liveness", "grpc <pod>:7001  delay=1s timeout=1s period=1s #success=1 #failure=1", "timeout"),
    ),
    (
        "readiness_probe_incorrect_protocol",
        "app/loans",
        probed(
            "Readiness",
            "http-get http://:7001/ delay=5s timeout=1s period=10s #success=1 #failure=3",
            "net/http: HTTP/1.x transport connection broken: malformed HTTP response",
        ),
    ),
    ("readiness_probe_incorrect_port", "app/loans", probed("Readiness", GRPC.format(port=7009), "timeout")),
    ("service_sidecar_port_conflict", "app/members", sidecar),
    (
        "mysql_invalid_credentials",
        "app/members",
        crashing("java.sql.SQLException: Access denied for user 'members'@'10.1.0.13' (using password: YES)"),
    ),
    ("mysql_invalid_port", "app/members", environment("members", MEMBERS_MYSQL_ADDR="members-mysql:3307")),
    (
        "db_connection_exhaustion",
        "app/members-mysql",
        lambda c: c.logs.update(members="SQLNonTransientConnectionException: Too many connections"),
    ),
    (
        "db_read_only",
        "app/members-mysql",
        lambda c: c.logs.update(
            members="The MySQL server is running with the --read-only option so it cannot execute"
        ),
    ),
    ("deployment_zero_replicas", "app/catalog", gone),
    (
        "service_selector_mismatch",
        "app/catalog",
        lambda c: c.services["catalog"].update(selector="app=katalog"),
    ),
    ("service_port_mapping_mismatch", "app/catalog", sent_to(7008)),
    ("service_port_mapping_mismatch", "app/catalog", sent_to("grpc-api")),
    ("service_protocol_mismatch", "app/catalog", sent_to(7002, "UDP")),
    ("service_env_var_address_mismatch", "app/web", environment("web", LOANS_ADDR="loans:7011")),
    ("service_env_var_address_mismatch", "app/web", environment("web", LOANS_ADDR="loans-invalid:7001")),
    ("service_dns_resolution_failure", "app/loans", own_dns),
    ("service_dns_resolution_failure", "app/loans", dns_down),
    ("gateway_misroute", "app/web", misrouted),
    ("gateway_misroute", "app/web", environment("web", ROUTES_0_URI="http://loans:7017")),
    (
        "pod_cpu_overload",
        "app/loans",
        measured(("Service", "loans", CPU), ("Service", "web", [slow("web", "p95", 80.0)])),
    ),
    (
        "pod_network_delay",
        "app/catalog",
        measured(
            ("Service", "catalog", [slow("catalog", "p50", 300.0)]),
            ("Service", "web", [slow("web", "p90", 900.0)]),
        ),
    ),
]


@pytest.mark.parametrize(
    ("label", "thing", "wreck"), BROKEN, ids=[f"{x[0]}-{i}" for i, x in enumerate(BROKEN)]
)
def test_what_is_broken_is_named_first(label: str, thing: str, wreck: Callable[[Cluster], object], tmp_path):
    cluster = Cluster()
    wreck(cluster)
    finding, _ = investigate(cluster, tmp_path)
    best = finding.causes[0] if finding.causes else None
    assert best is not None, finding.summary
    assert (best.category, best.object, best.label) == (FAULTS[label].category, thing, label), finding.summary
    assert best.evidence and best.remedy and finding.status == "found"


def test_every_fault_of_the_catalogue_has_been_broken_here():
    assert {label for label, _, _ in BROKEN} == set(FAULTS) - {"crash_loop"}


def test_a_healthy_cluster_has_nothing_wrong(tmp_path):
    finding, _ = investigate(Cluster(), tmp_path)
    assert (finding.status, finding.causes) == ("abstained", ())
    assert "Nothing wrong found" in finding.summary


def test_decoys_do_not_distract_a_healthy_cluster(tmp_path):
    cluster = Cluster()
    cluster.pods["loans"].restarts = "4 (2d ago)"
    cluster.pods["members"].restarts = "1 (4m ago)"
    cluster.env["web"]["OLD_RECOMMENDER_ADDR"] = "recommender-v0:9000"
    cluster.logs["web"] = "level=error could not fetch instance metadata"
    finding, _ = investigate(cluster, tmp_path)
    assert finding.causes == (), finding.summary
    assert any(claim.kind == "ruled_out" and "loans" in claim.text for claim in finding.claims)


def test_without_a_namespace_the_newly_ill_one_is_looked_at(tmp_path):
    cluster = Cluster()
    waiting("ErrImagePull", PULL + "registry.example/loans:1.4: not found")(cluster)
    spaces = [("attic", "Active", "300d"), (NAMESPACE, "Active", "90d"), ("kube-system", "Active", "300d")]
    old = [("report-5d9c8b7f6-abcde", "0/1", "CrashLoopBackOff", "812 (3m ago)", "44d")]
    here = [(cluster.pod("loans"), "0/1", "ErrImagePull", "0", "5m")]
    heads = "NAME READY STATUS RESTARTS AGE"
    cluster.other += [
        ("get", {"resource_type": "namespaces"}, table("NAME STATUS AGE", spaces)),
        ("get", {"resource_type": "pods", "namespace": "attic"}, table(heads, old)),
        ("get", {"resource_type": "pods", "namespace": NAMESPACE}, table(heads, here)),
    ]
    finding, _ = investigate(cluster, tmp_path, namespace="")
    assert finding.causes[0].object == "app/loans"


def test_a_plain_fault_costs_few_calls_and_the_same_answer_twice(tmp_path):
    found = []
    for place in ("one", "two"):
        cluster = Cluster()
        waiting("ErrImagePull", PULL + "registry.example/loans:1.4: not found")(cluster)
        finding, calls = investigate(cluster, tmp_path / place)
        assert len(calls) == finding.calls <= 8
        found.append([cause.model_dump(exclude={"evidence", "against"}) for cause in finding.causes])
    assert found[0] == found[1]


def test_what_cannot_be_seen_is_said_and_not_guessed(tmp_path):
    cluster = Cluster()
    recording = cluster.write(tmp_path / "recording")
    (recording / "answers" / "kubernetes.ndjson").write_text(json.dumps({"tool": "alerts", "text": "{}"}))

    async def run() -> Finding:
        async with relay(recording, tmp_path / "state", ("kubernetes",)) as through:
            return await ask(KubernetesSpecialist(), task(), through)

    finding = asyncio.run(run())
    assert finding.status == "abstained" and not finding.causes
    assert any("pods" in words for words in finding.missing)
    assert "Nothing to look at" in finding.summary


def test_a_crash_nobody_explains_is_a_symptom_with_a_doubtful_cause(tmp_path):
    cluster = Cluster()
    crashing("panic: the frobnicator is upside down")(cluster)
    finding, _ = investigate(cluster, tmp_path)
    assert finding.causes[0].label == "crash_loop" and finding.causes[0].confidence <= 0.4
    assert any(claim.kind == "symptom" and claim.component == "members" for claim in finding.claims)
