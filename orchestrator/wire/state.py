"""How the states in events travel: whole, or not at all."""

from typing import Any

from pydantic_core import to_json

from orchestrator.codec import Codec
from orchestrator.middleware.cause_chain import error_record
from orchestrator.observers.event import StateLeftOut
from orchestrator.reading import read_json, sound

LEFT_OUT = "left_out"


def state_field(state: Any) -> str | dict[str, str]:
    """A state as text of the typed codec, or why that does not take it: nothing else in a run has to."""
    try:
        return Codec.of(type(state)).dump(state)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - the user's values and validators have their say in it
        return {LEFT_OUT: error_record(error, with_traceback=False).message}


def state_from(told: Any, codec: Codec[Any]) -> Any:
    """The state again, or what stands for it."""
    if isinstance(told, dict):
        return sound(StateLeftOut(told[LEFT_OUT]))
    return codec.load(told)


def plain_value(value: Any) -> Any:
    """A value as JSON has it: of another type its `repr`, and where that is none either, only the name of the type."""
    try:
        return read_json(to_json(value, fallback=repr, inf_nan_mode="strings"))
    except Exception:  # noqa: BLE001 - the value is the user's
        return f"<a {type(value).__name__} that cannot be told>"
