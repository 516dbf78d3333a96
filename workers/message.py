"""What travels through the broker: ids, and a code that says who wrote them."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from orchestrator.errors import PayloadTooLarge, RollforwardError
from orchestrator.identity import Slot
from orchestrator.seal import Seal

MAX_BYTES = 1024

CANARY_RUN_ID = "doctor:canary"
"""What `doctor` sends is of this run, to see who claims it; nobody runs it. A user's run has no colon in its id."""

Id = Annotated[str, Field(min_length=1, max_length=128)]
Name = Annotated[str, Field(min_length=1, max_length=512)]
Number = Annotated[int, Field(ge=0, lt=2**31)]


class MessageRefused(RollforwardError):
    """A message is not ours, or not as we wrote it; nothing of it is believed."""

    category = "message_refused"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Message(BaseModel):
    """Word that instances are queued; `places` holds the index and the generation of each, usually one."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    v: Literal[1] = 1
    run_id: Id
    fan_out: Id
    places: Annotated[tuple[tuple[Number, Number], ...], Field(min_length=1)]
    graph: Name
    fingerprint: Id

    @model_validator(mode="after")
    def _each_place_once(self) -> Self:
        if len(set(self.places)) < len(self.places):
            raise ValueError("a place is named twice")
        return self

    @property
    def slots(self) -> tuple[Slot, ...]:
        return tuple(Slot(self.fan_out, index, generation) for index, generation in self.places)


def encode(message: Message, seal: Seal) -> str:
    """Give the message as text: its seal, a space, its JSON.

    Raises:
        PayloadTooLarge: it has more than 1 KiB; put fewer instances in it.
    """
    body = message.model_dump_json()
    text = f"{seal.sign(body.encode())} {body}"
    size = len(text.encode())
    if size > MAX_BYTES:
        raise PayloadTooLarge("message", size, MAX_BYTES)
    return text


def decode(text: object, seal: Seal) -> Message:
    """Read a message back.

    Raises:
        MessageRefused: whatever else `text` is.
    """
    if not isinstance(text, str):
        raise MessageRefused(f"a message is text, this is {type(text).__name__}")
    signature, _, body = text.partition(" ")
    # A lone surrogate is valid JSON for a sender and no valid text: it counts as the bytes it would be.
    raw = body.encode("utf-8", "surrogatepass")
    if len(signature) + len(raw) >= MAX_BYTES:
        raise MessageRefused(f"a message has at most {MAX_BYTES} bytes")
    if not seal.verify(raw, signature):
        raise MessageRefused("its seal is not ours; ROLLFORWARD_SECRET must be the same on both sides")
    try:
        return Message.model_validate_json(raw)
    except ValidationError as error:
        raise MessageRefused(f"it is no message of version 1: see {', '.join(sorted(_places(error)))}") from None


def _places(error: ValidationError) -> set[str]:
    """Which of our fields are wrong; a name that the sender has thought of is not repeated."""
    named = {str(detail["loc"][0]) if detail["loc"] else "text" for detail in error.errors(include_input=False)}
    known = {*Message.model_fields, "text"}
    return (named & known) | ({"a field that it does not have"} if named - known else set())
