"""A set of indexes as bits, so that a million of them weigh little."""

from collections.abc import Iterable, Iterator


class Bitmap:
    """A set of non-negative integers below `size`.

    The first bit of the first byte is its highest, as in Redis's `SETBIT`, so that `to_bytes` is a Redis bitmap.
    """

    def __init__(self, size: int, members: Iterable[int] = ()) -> None:
        self.size = size
        self._bits = bytearray((size + 7) // 8)
        self._count = 0
        for index in members:
            self.add(index)

    def add(self, index: int) -> bool:
        """Add `index`; true where it was not in."""
        mask = 0x80 >> (index & 7)
        if self._bits[index >> 3] & mask:
            return False
        self._bits[index >> 3] |= mask
        self._count += 1
        return True

    def copy(self) -> "Bitmap":
        """The same members, whatever becomes of this one."""
        other = Bitmap(self.size)
        other._bits[:], other._count = self._bits, self._count
        return other

    def discard(self, index: int) -> None:
        """Take `index` out; nothing happens where it is not in."""
        if index in self:
            self._bits[index >> 3] &= ~(0x80 >> (index & 7))
            self._count -= 1

    def __contains__(self, index: int) -> bool:
        return bool(self._bits[index >> 3] & (0x80 >> (index & 7)))

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        return (index for index in range(self.size) if index in self)

    def missing(self) -> Iterator[int]:
        """The indexes below `size` that are not in, ascending."""
        return (index for index in range(self.size) if index not in self)

    def to_bytes(self) -> bytes:
        return bytes(self._bits)
