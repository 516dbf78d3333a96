"""What a database's error means to whoever waits for the store."""

from sqlalchemy import URL
from sqlalchemy.exc import DataError, DBAPIError, SQLAlchemyError

from orchestrator.errors import CallerError, CheckpointUnavailable, RollforwardError

_SQLITE_BUSY = 5
_SQLITE_LOCKED = 6
_TRANSIENT_CLASSES = ("08", "40")
_TRANSIENT_STATES = ("55P03", "57P01", "57P02", "57P03")
"""PostgreSQL: lock not available, and a server that is going away or coming back."""

FAULTS = (SQLAlchemyError, OSError, UnicodeEncodeError)
"""What a transaction may raise that is the database's, the disk's or a driver's."""


def is_transient(error: BaseException) -> bool:
    """Whether the same transaction may well succeed in a moment."""
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        return code & 0xFF in (_SQLITE_BUSY, _SQLITE_LOCKED)
    state = getattr(error.orig, "sqlstate", None)
    return state is not None and (state in _TRANSIENT_STATES or state[:2] in _TRANSIENT_CLASSES)


def translated(error: BaseException, url: URL) -> RollforwardError:
    """Our error for one of a driver, with what to do and without a password."""
    if isinstance(error, DataError | UnicodeEncodeError):
        return CallerError(f"the checkpoint store cannot keep this value: {_reason(error)}; leave that character out")
    place = url.render_as_string(hide_password=True)
    if url.get_backend_name() == "sqlite":
        advice = "see that its folder exists, is writable and has space"
    else:
        advice = "see that the server is up, lets this user write and has space"
    return CheckpointUnavailable(f"the checkpoint store {place} cannot be used: {_reason(error)}; {advice}")


def _reason(error: BaseException) -> str:
    told = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return " ".join(str(told).split()) or type(told).__name__
