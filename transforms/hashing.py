"""Every hash that decides an outcome. Changing anything here changes ids, order, splits or signatures.

All are BLAKE2b (RFC 7693). `HASHES` goes into the plan and the manifest; raise it with any change, and
write the change under *Data changes* in the changelog.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

HASHES = 1


def _digest(message: bytes, size: int, key: bytes = b"", person: bytes = b"") -> bytes:
    return hashlib.blake2b(message, digest_size=size, key=key, person=person).digest()


def record_id(canonical: bytes) -> bytes:
    """16 bytes: plain BLAKE2b-128 of the canonical JSON of what a record says; anybody can recompute it."""
    return _digest(canonical, 16)


def content_digest(content: bytes, size: int = 16) -> bytes:
    """Unkeyed digest of public bytes: config fingerprints, plans, remaining columns."""
    return _digest(content, size)


@dataclass(frozen=True)
class Keys:
    """The dataset's keys: what the salt gives, and what the secret gives where there is one.

    `salt` orders and splits; `secret` (CORPUSMILL_KEY) hides identifiers. Without a secret the salt
    serves, and whoever knows it can confirm a guess at a group: the run warns of that.
    """

    salt: str
    secret: bytes | None = field(default=None, repr=False)

    def _secret_key(self) -> bytes:
        material = self.secret if self.secret is not None else self.salt.encode()
        return _digest(material, 32, person=b"cm-key")

    def _salt_key(self) -> bytes:
        return _digest(self.salt.encode(), 32, person=b"cm-salt")

    @property
    def check(self) -> str:
        """What the manifest keeps to recognise the key: 16 hex digits that tell nothing of it."""
        return _digest(b"corpusmill", 8, self._secret_key(), b"cm-check").hex()

    def shuffle_key(self, record: bytes) -> int:
        """uint64 that orders the output, from a record id."""
        return int.from_bytes(_digest(record, 8, self._salt_key(), b"cm-order"), "big")

    def split_hash(self, unit: bytes) -> int:
        """uint64 of a unit of splitting: the smallest go to eval, the next to val."""
        return int.from_bytes(_digest(unit, 8, self._salt_key(), b"cm-split"), "big")

    def group(self, value: bytes) -> bytes:
        """16 bytes for the canonical JSON of a raw group value."""
        return _digest(value, 16, self._secret_key(), b"cm-group")

    def value(self, value: bytes) -> bytes:
        """16 bytes that stand in the manifest for a sensitive value of the config."""
        return _digest(value, 16, self._secret_key(), b"cm-value")

    def surrogate(self, value: bytes) -> bytes:
        """32 bytes to make the surrogate of a removed value from: a keyed hash, which nobody can turn back."""
        return _digest(value, 32, self._secret_key(), b"cm-surrogate")

    def source_id(self, canonical: bytes) -> bytes | None:
        """16 bytes for the canonical record before redaction; None without a secret key."""
        if self.secret is None:
            return None
        return _digest(canonical, 16, self._secret_key(), b"cm-source")

    def seeds(self, purpose: bytes, count: int) -> list[int]:
        """`count` uint64 seeds for hash functions that must not be guessed, as of MinHash permutations."""
        key = self._secret_key()
        return [
            int.from_bytes(_digest(purpose + index.to_bytes(4, "big"), 8, key, b"cm-seed"), "big")
            for index in range(count)
        ]
