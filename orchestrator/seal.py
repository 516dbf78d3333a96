"""A code that shows that something was written by one who has our secret."""

import hmac
from collections.abc import Sequence
from hashlib import sha256


class Seal:
    """Signs with the first key, believes every key, so that keys can be changed without a stop.

    Without keys nothing is signed, and everything is believed.
    """

    def __init__(self, keys: Sequence[str] = ()) -> None:
        self._keys = {_key_id(key.encode()): key.encode() for key in keys}
        self._signing_id = next(iter(self._keys), "")

    def sign(self, payload: bytes) -> str:
        """The seal of `payload`, to travel beside it: `key id.HMAC-SHA256` in hex, or empty without keys."""
        if not self._signing_id:
            return ""
        return f"{self._signing_id}.{_code(self._keys[self._signing_id], payload)}"

    def verify(self, payload: bytes, signature: str) -> bool:
        """Whether `signature` is the seal of `payload` under one of our keys."""
        if not self._keys:
            return True
        key_id, _, code = signature.partition(".")
        key = self._keys.get(key_id)
        return key is not None and hmac.compare_digest(_code(key, payload).encode(), _bytes_of(code))


def _key_id(key: bytes) -> str:
    return sha256(key).hexdigest()[:8]


def _code(key: bytes, payload: bytes) -> str:
    return hmac.digest(key, payload, sha256).hex()


def _bytes_of(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
