"""Mechanisms: kinds of failure, the words errors use for them, and what a change must touch to cause them."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Mechanism:
    """One way things fail."""

    label: str  # the slug of the cause
    category: str
    words: re.Pattern[str]  # in error texts
    touches: re.Pattern[str]  # in the lines of a diff that could cause it
    sure: float  # how far the words alone show the cause
    outside: bool  # whether it usually happens without a change of ours
    statement: str  # {service}, {words}
    remedy: str


def _m(
    label: str,
    category: str,
    words: str,
    touches: str,
    sure: float,
    outside: bool,
    statement: str,
    remedy: str,
) -> Mechanism:
    return Mechanism(
        label, category, re.compile(words, re.I), re.compile(touches, re.I), sure, outside, statement, remedy
    )


# The first that fits an error text names it; the particular stands before the general.
MECHANISMS: tuple[Mechanism, ...] = (
    _m(
        "certificate_expired",
        "expiry",
        r"cert\w*[^.]{0,40}(expired|not yet valid|out of date)|cert_has_expired|notafter|certificate_expired",
        r"cert|\.pem|\.crt|\.key\b|notafter|tls secret|insecureskipverify|verify_?mode|ca_?bundle"
        r"|trust_?store",
        0.85,
        True,
        "A certificate on the way from {service} has expired",
        "Renew the certificate and reload what serves it; no rollback helps.",
    ),
    _m(
        "credential_expired",
        "expiry",
        r"(licen[cs]e|api.?key|credential|client.?secret|secret|password|access.?key)s?[^.]{0,30}(has "
        r"|have |is |are )?expired",
        r"secret|credential|api_?key|token|password|expir",
        0.75,
        True,
        "A credential that {service} uses has expired",
        "Renew the credential and reload what uses it; no rollback helps.",
    ),
    _m(
        "clock_drift",
        "infrastructure",
        r"clock (skew|drift)|time (skew|drift)|ntp|clock is (ahead|behind)|not synchroni[sz]ed"
        r"|from the future",
        r"leeway|skew|toleran|ntp|clock|time_?zone",
        0.65,
        True,
        "The clocks under {service} drifted apart",
        "Restore time synchronisation on the affected nodes.",
    ),
    _m(
        "database_failover",
        "infrastructure",
        r"read-only transaction|not (the )?(primary|master|leader)|failover|leader (election|lost"
        r"|changed)|no leader|quorum"
        r"|primary (is )?(down|lost|changed|unavailable)|database system is (starting|shutting|in recovery)"
        r"|terminating connection due to admin|server closed the connection unexpectedly",
        r"primary|replica|dsn|database_?url|failover|read_?only|connection_?string",
        0.65,
        True,
        "The database behind {service} lost its primary or restarted",
        "Let the failover finish or force it; reconnect the clients; escalate to whoever runs the database.",
    ),
    _m(
        "quota_exhausted",
        "dependency",
        r"insufficient.?quota|quota (has been |is )?exceeded|billing|account (is )?suspended"
        r"|subscription|payment required",
        r"quota|limit|plan|tier|batch|retry|loop|interval",
        0.6,
        True,
        "The quota of {service} at a provider is used up",
        "Raise the quota or reduce the use; escalate to the provider.",
    ),
    _m(
        "tls_failure",
        "security",
        r"x509|tls handshake|ssl(v3)?[ :_]|handshake fail|certificate verify|unknown authority|pkix|cipher",
        r"tls|ssl|cert|cipher|min_?version|ca_?bundle|trust|insecureskipverify|mtls|https",
        0.6,
        False,
        "TLS connections of {service} fail",
        "Compare both ends' certificates and TLS settings; undo the last change of them.",
    ),
    _m(
        "dns_failure",
        "infrastructure",
        r"no such host|enotfound|eai_again|eai_noname|getaddrinfo|name resolution|servfail|nxdomain"
        r"|server misbehaving"
        r"|could not resolve|cannot resolve|unknownhost|name or service not known|zero addresses"
        r"|name resolver"
        r"|lookup [\w-]+(\.[\w-]+)+( on [\d.:]+)?:|nameserver",
        r"dns|resolv|nameserver|ndots|host\w*[:=\"]|coredns|search domain|hostalias|endpoint",
        0.7,
        True,
        "Names cannot be resolved from {service}",
        "Restore the resolver or point to a second one; escalate to whoever runs DNS.",
    ),
    _m(
        "disk_full",
        "saturation",
        r"no space left|enospc|disk (is )?full|disk quota|read-only file ?system|inodes? exhausted"
        r"|out of disk",
        r"log|level|sample|retention|rotat|flush|buffer|dump|trace|tmp|volume|disk|storage|size|ttl"
        r"|cleanup|debug",
        0.55,
        False,
        "The disk of {service} is full",
        "Free space, then undo or fix what fills the disk.",
    ),
    _m(
        "memory_exhausted",
        "saturation",
        r"out of memory|oom[- _]?kill|outofmemory|cannot allocate|heap (space|out|limit)|gc overhead"
        r"|memoryerror"
        r"|memory (limit|pressure)",
        r"cache|buffer|append|map\[|dict|list|heap|xmx|memory|limit|pool|static|global|retain|queue"
        r"|close|free|ttl"
        r"|evict|maxsize|max_size",
        0.55,
        False,
        "{service} ran out of memory",
        "Restart to win time, then undo or fix what holds the memory.",
    ),
    _m(
        "rate_limited",
        "dependency",
        r"\b429\b|too many requests|rate.?limit|quota exceeded|throttl",
        r"rate|limit|retry|backoff|concurren|batch|interval|poll|loop|for |quota|burst|api_?key",
        0.55,
        False,
        "{service} is refused for calling too often",
        "Slow down or raise the limit; undo what multiplied the calls.",
    ),
    _m(
        "pool_exhausted",
        "saturation",
        r"pool (is )?(exhaust|timeout|limit|full|empty)|queuepool|connection pool"
        r"|too many (open )?(connections|clients|files)"
        r"|remaining connection slots|(acquir|wait|checkout|get)\w* [^.]{0,30}connection|no (free|idle"
        r"|available) conn"
        r"|emfile|pool_?size|max_?connections|connections? (are )?in use|pooltimeout",
        r"pool|max_?(open|idle|conn)|min_?conn|conn|close|release|acquire|with |defer|finally|session"
        r"|transaction"
        r"|commit|rollback|timeout|for |loop|concurren|worker|size",
        0.55,
        False,
        "{service} has no free connections left",
        "Undo what holds or multiplies connections; raising the limit only wins time.",
    ),
    _m(
        "lock_contention",
        "saturation",
        r"deadlock|lock wait|lock timeout|could not obtain lock|database is locked"
        r"|serialization failure|lock contention",
        r"lock|mutex|transaction|isolation|for update|begin|commit|index|migrat|alter|synchron"
        r"|semaphore|batch",
        0.55,
        False,
        "{service} waits for locks",
        "Find the holder of the lock; undo the change that keeps it longer.",
    ),
    _m(
        "auth_failure",
        "security",
        r"unauthori[sz]ed|\b401\b|\b403\b|forbidden|jwt|token|permission denied|access denied"
        r"|authenticat|credential"
        r"|password|signature (mismatch|invalid)|csrf|cors|not authorized|audience|issuer",
        r"auth|token|jwt|exp|leeway|skew|secret|key|scope|role|permission|audience|issuer|claim|sign"
        r"|verif|password"
        r"|credential|cookie|session|policy|acl|cors|header",
        0.5,
        False,
        "{service} refuses credentials that were good before",
        "Undo the change of how credentials are checked or issued.",
    ),
    _m(
        "schema_mismatch",
        "code",
        r"no mapping|unknown (field|column|type|enum|property)|(column|relation|table|field|index"
        r"|property|attribute)"
        r" .{0,60}(does ?n.t exist|does not exist|not found|missing|unknown)|undefined (column|table)"
        r"|no such (column|table|index)|syntax error|parse_?(error|exception)|unmarshal|deseriali[sz]"
        r"|decod\w+ (error|fail)"
        r"|schema|missing (required )?(field|column|key|property)|invalid (json|message|payload|format)"
        r"|protobuf"
        r"|violates|null value in column",
        r"mapping|schema|column|field|table|migrat|json|proto|struct|serial|alter|drop|rename|index"
        r"|\"\w+\"|'\w+'|enum"
        r"|type|parse|format|version",
        0.5,
        False,
        "{service} and the data it reads or writes no longer agree on their form",
        "Undo the change of the form, or deploy the other side of it.",
    ),
    _m(
        "code_error",
        "code",
        r"panic|nil pointer|null ?pointer|nullreference|segfault|sigsegv|traceback|typeerror"
        r"|attributeerror|keyerror"
        r"|indexerror|valueerror|assertion|undefined is not|cannot read propert|is not a function"
        r"|index out of"
        r"|out of (range|bounds)|unhandled|uncaught|classcast|illegalstate|illegalargument|stack ?overflow"
        r"|divi(de|sion) by zero|none ?type|unwrap|concurrent map|runtime error",
        r".",
        0.5,
        False,
        "{service} fails in its own code",
        "Roll back the change that touched the failing code.",
    ),
    _m(
        "overloaded",
        "saturation",
        r"overload|shedding|saturat|queue (is )?full|too busy|resource exhausted|circuit ?breaker"
        r"|backpressure"
        r"|no (available )?workers?|thread pool|request rejected|capacity|pods pending|load shed",
        r"worker|thread|concurren|pool|limit|queue|replica|cpu|loop|for |retry|batch|cache|timeout|scal",
        0.4,
        False,
        "{service} gets more work than it can do",
        "Add capacity or shed load; find what multiplied the work.",
    ),
    _m(
        "node_failure",
        "infrastructure",
        r"node (is )?not ?ready|node lost|host unreachable|no route to host|network is unreachable"
        r"|kubelet|evict(ed|ion)"
        r"|availability zone|instance terminated|hardware|disk i/o error|input/output error|packet loss",
        r"node|affinity|toleration|taint|zone|network|subnet|route|firewall|security_?group|egress"
        r"|ingress|policy",
        0.5,
        True,
        "The node or network under {service} failed",
        "Move the work away from the failed node or zone; escalate to whoever runs it.",
    ),
    _m(
        "connection_refused",
        "dependency",
        r"connection refused|econnrefused|connection reset|econnreset|broken pipe|unreachable"
        r"|no healthy upstream"
        r"|upstream connect error|connect: |connection closed|failed to connect|unexpected eof",
        r"port|host|url|addr|endpoint|listen|bind|service|timeout|keep.?alive|idle|probe|shutdown"
        r"|replica|\d{4,5}",
        0.4,
        False,
        "{service} cannot connect to what it calls",
        "Check that the called side listens where the caller looks; undo a change of address or port.",
    ),
    _m(
        "timeouts",
        "dependency",
        r"deadline|did not (answer|respond)|no (answer|response)|timed? ?out|timeout|etimedout"
        r"|context canceled|took too long|slow query|exceeded \d+ ?m?s",
        r"timeout|deadline|\d+ ?\* ?time\.|retry|backoff|index|query|select|join|loop|for |n\+1|cache"
        r"|limit|sleep"
        r"|lock|batch|sync|await|interval|ttl|page|fetch|pool",
        0.4,
        False,
        "{service} waits longer than it may",
        "Find the slow part below; undo a change of timeouts or of the work done per request.",
    ),
    _m(
        "misconfigured",
        "configuration",
        r"invalid config|missing (env|config|setting|variable)|not (set|configured)|no such file"
        r"|unknown (option|flag|key)"
        r"|failed to load|config\w* error|environment variable|feature flag",
        r".",
        0.5,
        False,
        "{service} was started with a setting it cannot use",
        "Undo the change of configuration.",
    ),
    _m(
        "upstream_errors",
        "dependency",
        r"\b50[0234]\b|bad gateway|service unavailable|upstream|internal server error|gateway time",
        r"url|host|endpoint|client|retry|timeout|path|route|version|header|api",
        0.3,
        False,
        "{service} gets errors from what it calls",
        "Look at the called side first.",
    ),
)

ENDS = (
    "com|net|org|io|dev|cloud|ai|co|app|us|eu|de|uk|fr|ch|nl|in|jp|cn|br|au|ca|info|biz|gov|edu|mil"
    "|tech|online|site"
    "|svc|local|internal|cluster|lan|corp|consul"
)
HOST = re.compile(
    rf"(?:(?<=://)|(?<![\w.@/-]))((?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+(?:{ENDS}))(?![\w-]|\.\w|\()", re.I
)
INTERNAL = re.compile(r"(\.|^)(svc|local|internal|cluster|localhost|lan|corp|intranet|consul)(\.|$)", re.I)


def mechanism(text: str) -> Mechanism | None:
    """The kind of failure an error text speaks of."""
    return next((m for m in MECHANISMS if m.words.search(text)), None)


def hosts(text: str) -> tuple[str, ...]:
    """Host names in a text, in order, each once."""
    found = [h.lower().rstrip(".") for h in HOST.findall(text)]
    return tuple(dict.fromkeys(found))


def outside_hosts(text: str) -> tuple[str, ...]:
    """Host names in a text that belong to somebody else."""
    return tuple(h for h in hosts(text) if not INTERNAL.search(h))
