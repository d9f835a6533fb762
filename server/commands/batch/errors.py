"""How a batch ends before its time."""


class BatchUsageError(Exception):
    """A flag, the input or the output is wrong; nothing was sent. The command ends with 2."""


class BatchStopped(Exception):
    """The server or the disk does not let the batch go on. The command ends with 1."""
