"""What was put out and is not looked through for secrets yet: what is dropped need not be."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from orchestrator.capture.line import LogLine, LogStream
from orchestrator.redaction import redacted


@dataclass(frozen=True, slots=True)
class Written:
    """Lines of a stream that came at once, or one record of a logger, as if they were one line."""

    whole: LogLine

    @property
    def line_count(self) -> int:
        return 1 if self.whole.stream is LogStream.LOG else self.whole.text.count("\n") + 1

    @property
    def byte_count(self) -> int:
        """The bytes of its lines, without what ends them."""
        return self.whole.byte_count + 1 - self.line_count

    def sizes(self, most_bytes: int) -> Iterator[int]:
        """The bytes of each of its lines, or what they are shortened to."""
        texts = [self.whole.text] if self.whole.stream is LogStream.LOG else self.whole.text.split("\n")
        return (min(len(text.encode()), most_bytes) for text in texts)

    def lines(self) -> list[LogLine]:
        """Its lines, without secrets."""
        text = redacted(self.whole.text)
        texts = [text] if self.whole.stream is LogStream.LOG else text.split("\n")
        return [replace(self.whole, text=text) for text in texts]
