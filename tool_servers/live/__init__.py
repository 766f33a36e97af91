"""Back-ends that read real systems: Prometheus, log files, git, kubectl."""
