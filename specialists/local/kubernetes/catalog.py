"""The faults this specialist can name: their family, what they mean, and what to do about them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """A kind of fault: its family, what it says of an object, and the remedy."""

    category: str
    says: str  # "{object} …": a sentence about the object
    remedy: str


_FAMILIES: dict[str, dict[str, tuple[str, str]]] = {
    "Admission_Fault": {
        "namespace_cpu_quota_exceeded": (
            "{name} has used up its CPU quota, so new pods are refused",
            "raise requests.cpu/limits.cpu in the ResourceQuota of {name}, or lower what its pods request",
        ),
        "namespace_memory_quota_exceeded": (
            "{name} has used up its memory quota, so new pods are refused",
            "raise the memory in the ResourceQuota of {name}, or lower what its pods request",
        ),
        "namespace_pod_quota_exceeded": (
            "{name} may hold no more pods, so new ones are refused",
            "raise `pods` in the ResourceQuota of {name}, or remove pods that are not needed",
        ),
        "namespace_service_quota_exceeded": (
            "{name} may hold no more services, so a service that was declared does not exist",
            "raise `services` in the ResourceQuota of {name}, then apply the missing service again",
        ),
        "namespace_storage_quota_exceeded": (
            "{name} has no storage quota left for a claim, so the claim was refused",
            "raise requests.storage in the ResourceQuota of {name}, or ask for a smaller volume",
        ),
        "missing_service_account": (
            "{name} names a service account that does not exist, so no pod can be made",
            "create the service account, or correct serviceAccountName in {name}",
        ),
    },
    "Scheduling_Fault": {
        "node_cordon_mismatch": (
            "{name} can only run on nodes that are cordoned",
            "uncordon the node (kubectl uncordon), or let {name} run elsewhere",
        ),
        "node_affinity_mismatch": (
            "{name} requires a node affinity that no node satisfies",
            "correct nodeAffinity of {name}, or label a node accordingly",
        ),
        "node_selector_mismatch": (
            "{name} has a nodeSelector that no node satisfies",
            "correct nodeSelector of {name}, or label a node accordingly",
        ),
        "pod_anti_affinity_conflict": (
            "{name} must not share a node with pods that run on every node it could use",
            "relax podAntiAffinity of {name}, lower its replicas, or add nodes",
        ),
        "taint_toleration_mismatch": (
            "{name} does not tolerate the taint of the nodes it could use",
            "remove the taint (kubectl taint), or add a toleration to {name}",
        ),
        "cpu_capacity_mismatch": (
            "{name} requests more CPU than any node has free",
            "lower the CPU request of {name}, or add capacity",
        ),
        "memory_capacity_mismatch": (
            "{name} requests more memory than any node has free",
            "lower the memory request of {name}, or add capacity",
        ),
        "pvc_selector_mismatch": (
            "the claim of {name} selects volumes by labels that no volume carries",
            "correct the selector of the claim of {name}, or label the volume",
        ),
        "pvc_storage_class_mismatch": (
            "the claim of {name} asks for a storage class that no volume and no provisioner offers",
            "correct storageClassName in the claim of {name}, or create that class",
        ),
        "pvc_access_mode_mismatch": (
            "the claim of {name} asks for an access mode that the volume does not offer",
            "align accessModes of the claim and the volume of {name}",
        ),
        "pvc_capacity_mismatch": (
            "the claim of {name} asks for more than any volume holds",
            "lower the request of the claim of {name}, or provide a larger volume",
        ),
        "pv_binding_occupied": (
            "the volume that {name} needs is bound to another claim",
            "release the volume from the other claim, or provide another volume for {name}",
        ),
    },
    "Infrastructure_Fault": {
        "node_network_delay": (
            "the network of node {name} delays everything that crosses it",
            "inspect the network interface and queueing of {name} (tc qdisc, NIC, CNI); drain it meanwhile",
        ),
        "node_network_packet_loss": (
            "the network of node {name} loses packets",
            "inspect the network interface, cabling and CNI of {name}; drain it meanwhile",
        ),
        "containerd_unavailable": (
            "the container runtime on node {name} is down, so its pods cannot start",
            "restart containerd on {name} (systemctl restart containerd) and look at why it stopped",
        ),
        "kubelet_unavailable": (
            "the kubelet on node {name} is down, so the node is lost to the cluster",
            "restart the kubelet on {name} (systemctl restart kubelet) and look at why it stopped",
        ),
        "kube_proxy_unavailable": (
            "kube-proxy on node {name} is down, so services cannot be reached from its pods",
            "restart kube-proxy on {name} and look at why it stopped",
        ),
        "kube_scheduler_unavailable": (
            "the scheduler on node {name} is down, so new pods stay pending",
            "restart kube-scheduler on {name} and look at why it stopped",
        ),
    },
    "Startup_Fault": {
        "image_registry_dns_failure": (
            "the registry in the image name of {name} cannot be resolved",
            "correct the registry host in the image of {name}, or the DNS of the nodes",
        ),
        "incorrect_image_reference": (
            "the image of {name} does not exist under this name or tag",
            "correct image name or tag of {name}",
        ),
        "missing_image_pull_secret": (
            "the registry refuses {name} the image without credentials",
            "create the pull secret and name it in imagePullSecrets of {name}",
        ),
        "volume_mount_permission_denied": (
            "{name} may not use the files of its volume",
            "correct owner and mode of the volume's files, or securityContext (fsGroup, runAsUser) of {name}",
        ),
        "missing_secret_binding": (
            "{name} refers to a secret (or a key of it) that does not exist",
            "create the secret, or correct its name in {name}",
        ),
    },
    "Runtime_Fault": {
        "oom_killed": (
            "{name} is killed because it exceeds its memory limit",
            "raise the memory limit of {name}, or find what uses the memory",
        ),
        "liveness_probe_incorrect_protocol": (
            "the liveness probe of {name} speaks another protocol than the container",
            "give the liveness probe of {name} the protocol the container serves",
        ),
        "liveness_probe_incorrect_port": (
            "the liveness probe of {name} asks a port on which nothing listens",
            "correct the port of the liveness probe of {name}",
        ),
        "liveness_probe_incorrect_timing": (
            "the liveness probe of {name} gives up before the container can answer",
            "raise initialDelaySeconds, periodSeconds or failureThreshold of {name}, or add a startup probe",
        ),
        "readiness_probe_incorrect_protocol": (
            "the readiness probe of {name} speaks another protocol than the container",
            "give the readiness probe of {name} the protocol the container serves",
        ),
        "readiness_probe_incorrect_port": (
            "the readiness probe of {name} asks a port on which nothing listens",
            "correct the port of the readiness probe of {name}",
        ),
        "service_sidecar_port_conflict": (
            "two containers of {name} want the same port",
            "give one of the containers of {name} another port",
        ),
        "mysql_invalid_credentials": (
            "the database refuses the credentials of {name}",
            "correct user and password that {name} uses, and restart it",
        ),
        "mysql_invalid_port": (
            "{name} looks for its database on a wrong port",
            "correct the database port in the configuration of {name}",
        ),
        "db_connection_exhaustion": (
            "{name} has no database connections left",
            "raise the connection limit, find who holds connections, and size the clients' pools",
        ),
        "db_read_only": (
            "the database {name} accepts no writes",
            "turn off read-only mode of {name} once you know why it was set, or point clients to the primary",
        ),
        "deployment_zero_replicas": (
            "{name} is scaled to zero",
            "scale {name} up again (kubectl scale)",
        ),
        "crash_loop": (
            "{name} keeps crashing for a reason that its description and logs do not tell",
            "read the previous container's log of {name} (kubectl logs --previous)",
        ),
    },
    "Service_Routing_Fault": {
        "service_selector_mismatch": (
            "the service {name} selects labels that none of its pods carries",
            "correct the selector of the service {name}",
        ),
        "service_port_mapping_mismatch": (
            "the service {name} sends to a port on which its pods do not listen",
            "correct targetPort of the service {name}",
        ),
        "service_protocol_mismatch": (
            "the service {name} offers another protocol than its pods speak",
            "correct the protocol in the ports of the service {name}",
        ),
        "service_env_var_address_mismatch": (
            "{name} is configured with an address at which nothing answers",
            "correct the address in the environment of {name}",
        ),
        "service_dns_resolution_failure": (
            "{name} cannot resolve names of services that exist",
            "look at the cluster DNS and at dnsPolicy, dnsConfig and network policies of {name}",
        ),
        "gateway_misroute": (
            "{name} routes requests to a wrong backend",
            "correct the route in the configuration of {name}",
        ),
    },
    "Performance_Fault": {
        "pod_cpu_overload": (
            "{name} uses all the CPU it may and is throttled",
            "find what uses the CPU in {name}; raise its limit or add replicas",
        ),
        "pod_network_delay": (
            "the network of {name} is slow",
            "inspect the network of the pods of {name} (tc qdisc, sidecar, node); restart them elsewhere",
        ),
    },
}  # fmt: skip

FAULTS = {
    label: Fault(category, says, remedy)
    for category, members in _FAMILIES.items()
    for label, (says, remedy) in members.items()
}
