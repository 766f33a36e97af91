"""The local Kubernetes specialist: one analyzer a file, one concern each.

`cluster` asks, `reading` reads, `scene` looks around, the analyzers suspect, `report` says it.
A new analyzer is a file with `async def examine(scene) -> list[Suspect]`, named in `specialist.STAGES`.
"""

from specialists.local.kubernetes.specialist import KubernetesSpecialist

__all__ = ["KubernetesSpecialist"]
