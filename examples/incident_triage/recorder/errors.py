"""What can go wrong while recording.

RecordingFailed
├── CommandFailed     git or a service process ended with an error
├── AlertDidNotFire   the deploy did not break the shop within the plan's patience
└── NotClean          the recording names the machine it was made on
"""


class RecordingFailed(Exception):
    """There is no recording; the message says why and what to do."""


class CommandFailed(RecordingFailed):
    """Git or a service process ended with an error."""


class AlertDidNotFire(RecordingFailed):
    """The deploy did not break the shop within the plan's patience."""


class NotClean(RecordingFailed):
    """The recording names directories or the host of the machine it was made on."""
