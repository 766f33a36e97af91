"""The words that chat knows: concepts and how people say them, topics and what they are called."""

from __future__ import annotations

# concept -> the words that mean it, as one text each; a word may mean several concepts
CONCEPTS: dict[str, str] = {
    "who": "who whom whose author authored engineer someone somebody blame",
    "deploy": (
        "deploy deploys deployed deployment deployments release released releases rollout shipped version"
    ),
    "change": (
        "change changes changed commit commits committed diff patch merged flag flags modified "
        "pushed flip flipped"
    ),
    "made": "did made wrote introduced pushed done",
    "log": "log logs logline loglines stacktrace",
    "metric": "metric metrics graph graphs chart charts dashboard numbers figures",
    "trace": "trace traces span spans tracing",
    "why": "why reason cause caused causes causing culprit root because",
    "not": "not isnt wasnt arent ruled exclude excluded cant rule doesnt dont",
    "sure": "sure confident confidence certain certainty probability likely trust convinced",
    "do": "do",
    "can": "can could able",
    "you": "you your yourself",
    "act": (
        "fix mitigate mitigation repair solve remedy remediate recommend suggest action actions next steps "
        "step rollback roll revert undo stop advice restart restarting scale"
    ),
    "since": "since begin began begun start started starts long",
    "when": "when time",
    "bad": (
        "bad severe severity serious impact impacted affected affects affecting blast radius "
        "customers users hurt scope damage"
    ),
    "over": (
        "over fixed recovered resolved better healthy gone finished recovery ongoing improved "
        "again still back normal recovering"
    ),
    "evidence": "evidence proof prove know based source sources cite citation",
    "else": (
        "else other alternative alternatives considered hypotheses hypothesis explanations rival "
        "ruled rule options suspects"
    ),
    "timeline": "timeline chronology chronological sequence order events",
    "runbook": "runbook runbooks playbook guidance docs documentation wiki manual procedure",
    "show": "show display print give see list view let get fetch pull",
    "wrong": (
        "wrong failing failed fails fail broken broke down issue problem incident happening "
        "happened happen outage error errors slow trouble going alert alerting firing investigate "
        "triage diagnose degraded crashing timeout timeouts matter"
    ),
    "summary": "summary summarize summarise recap tldr brief short overview status update",
    "help": "help commands usage",
    "thanks": "thanks thank thx cheers great nice perfect",
    "hello": "hello hi hey morning",
    "approve": "approve approved approval permission allow agree yes proceed ahead",
    "about": "about maybe could might possible consider considered suspect check checked look looked",
    "detail": "detail details more explain elaborate exactly mean",
    "this": "it its this that these those here us we our",
}
# words that carry no meaning here
STOPWORDS = (
    "anybody anyone "
    "a an the is are was were be been being am has have had having will would should i me my "
    "he she they them their of to in on at by for from with and or if so as than then there what "
    "whats which how hows please tell now just any all some every does really actually much many very "
    "too also out up off into last latest recent recently ago new old first one ones thing things "
    "lets okay ok well right got need want think sort kind like say said saying whole full most bit "
    "anything something nothing everything between during before after while until today yesterday "
    "tonight minutes hours take took make makes hell im ive id youre theyre lot system service "
    "services app apps thats same other both did"
)
# a kind of thing people ask about -> what stands for it in names and findings
TOPICS: dict[str, tuple[str, ...]] = {
    "database": (
        "database",
        "db",
        "postgres",
        "postgresql",
        "mysql",
        "sql",
        "sqlite",
        "mongo",
        "query",
        "queries",
    ),
    "network": (
        "network",
        "packet",
        "dns",
        "connectivity",
        "latency between",
        "connection refused",
        "unreachable",
    ),
    "dns": ("dns", "resolve", "resolution"),
    "cache": ("cache", "redis", "memcached"),
    "queue": ("queue", "kafka", "rabbitmq", "broker"),
    "node": ("node", "kubelet", "machine", "host"),
    "memory": ("memory", "oom", "heap", "leak"),
    "cpu": ("cpu", "throttl"),
    "disk": ("disk", "volume", "storage", "filesystem"),
    "traffic": ("traffic", "load", "requests per second", "request rate", "surge"),
    "certificate": ("certificate", "tls", "expired"),
    "security": ("attack", "ddos", "breach", "intrusion"),
}
# topic -> other names of it
TOPIC_NAMES: dict[str, str] = {
    "database": "db databases postgres postgresql sql mysql",
    "network": "networking networks",
    "cache": "redis caching",
    "queue": "kafka",
    "node": "nodes host hosts machine",
    "memory": "oom ram",
    "cpu": "processor",
    "disk": "storage",
    "traffic": "load",
    "security": "ddos attack attacked hacked",
    "certificate": "cert tls certificates",
}
