"""What a conditional write says, in whatever store, when its condition does not hold."""


class ChangedError(Exception):
    """The object is not what it was when it was read."""
