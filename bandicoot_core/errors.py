"""The errors Bandicoot raises on purpose, one class per kind of remedy.

A caller that wants to tell bad input from a broken server catches by class; a person reads the message, which says
what was found, what was expected, where, and what to do next. Programming errors stay ordinary Python exceptions.
"""


class BandicootError(Exception):
    """Base of every error whose message is written for the person who has to act on it."""


class InvalidInputError(BandicootError):
    """Data or a setting is wrong; repeating the run changes nothing until somebody mends the input."""


class MissingRightError(InvalidInputError):
    """The database user may not do what was asked."""


class InvalidSettingError(InvalidInputError):
    """A setting, option or run configuration is out of its bounds."""


class SchemaDriftError(InvalidInputError):
    """A source table lacks a column or has one of another type than the contract says."""


class TooManyInvalidRowsError(InvalidInputError):
    """More rows had to be set aside than the configured share allows; the old partition stays."""


class MissingPartitionError(BandicootError):
    """A prerequisite partition does not exist yet; the message names the asset to materialize."""


class CorruptPartitionError(BandicootError):
    """A partition's file is absent, truncated or unreadable; the message names what to materialize again."""


class OutdatedPartitionError(BandicootError):
    """A partition was written by a version of the software that kept other columns; it has to be made again."""


class NoChampionError(BandicootError):
    """No model has been promoted yet, so there is nothing to rank by."""


class CheckFailedError(BandicootError):
    """A blocking check refused a list or a model; the last good one stays in place."""


class RejectedModelError(CheckFailedError):
    """A candidate model was refused; lists go on being made with the champion."""


class TrainingFailedError(BandicootError):
    """A training ended without a candidate; lists go on being made with the champion."""


class OutdatedSchemaError(BandicootError):
    """Schema `bandicoot` is at another revision than this release needs, and this user may not bring it there."""


class TransientError(BandicootError):
    """Nothing is wrong with the input: the same run may succeed later. What may be repeated without a person."""


class UnreachableError(TransientError):
    """A server does not answer; the same run may succeed later."""


class LaggingSourceError(UnreachableError):
    """The source is a replica that lacks the end of the day to be read; the same run succeeds when it has caught up."""


class RefusedWriteError(BandicootError):
    """A server answers, but refuses what is to be written: it is full, or the user may not write."""


class BusyError(TransientError):
    """A server answers, but another session, a limit of time or lack of room stood in the way; nothing was written."""


class PartitionHeldError(BandicootError):
    """Another run is writing the same partition and did not end within the time to wait; nothing was written."""


class StorageFullError(BandicootError):
    """A disk that this process writes to is used up; make room, then run again."""


class ConflictingWriteError(TransientError):
    """Another writer replaced the same thing meanwhile; what it wrote stands, and this run may be repeated."""


class UntoldAlarmError(TransientError):
    """Incidents are recorded, but not all could be looked for or told; the next look tries again."""
