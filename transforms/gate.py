"""The gate in front of the recognizers: one scan of a text tells which of them could find anything in it.

A `Source` is anything that looks for values: a pattern of a recognizer, a rule for secrets, a list of words. Its
patterns, relaxed (see `relax`), go into one database of Hyperscan, or one RE2 Set where Hyperscan cannot be imported;
words and closer patterns into a second one, which is scanned where the first does not tell enough.
A source that the gate cannot tell anything of is `always` on. Sound: where a source is off, it finds nothing; being
on means nothing. Gates change what work is done, and never what is found.

Compiling takes seconds; the database is kept in `$XDG_CACHE_HOME/corpusmill` (or `~/.cache/corpusmill`), named after a
digest of all that went into it, and read again in milliseconds. One process compiles while others wait for it; where
the folder cannot be written, each compiles for itself.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import re2

from transforms.relax import Unknown, relax

try:
    import fcntl

    import hyperscan
except ImportError:
    hyperscan = None  # type: ignore[assignment]

VERSION = 1  # of what is compiled from a source; part of the cache's names
LOGGER = logging.getLogger("corpusmill.gate")


class Source(NamedTuple):
    """Fires where one of `patterns` (with its flags of `re`) matches and, if there are any, one of `words` or `closer`.

    Words are taken in any case, and within words; `closer` are patterns too. Both are looked for only where `patterns`
    match: these may be quick ones that say too much. No patterns: the source is always on.
    """

    patterns: tuple[tuple[str, int], ...]
    words: tuple[str, ...] = ()
    closer: tuple[tuple[str, int], ...] = ()


class _Engine(Protocol):
    def scan(self, text: Any) -> int: ...


class Gate:
    """Which of `sources` could find something, as bits: bit k for source k."""

    def __init__(self, sources: Sequence[Source], *, engine: str | None = None) -> None:
        self._always = 0
        self._forms: dict[bool, _Form] = {}
        self._sources = tuple(sources)
        self._engine = engine or ("hyperscan" if hyperscan is not None else "re2")
        for number, source in enumerate(sources):
            if not source.patterns or not _known(source):
                self._always |= 1 << number

    @property
    def always(self) -> int:
        """The sources that run on every text."""
        return self._always

    def prepare(self) -> None:
        """Compiles or loads both databases now."""
        for only_ascii in (True, False):
            self._form(only_ascii)

    def scan(self, texts: Sequence[bytes | memoryview], *, only_ascii: bool) -> list[int]:
        """The sources that could fire on each UTF-8 text, all of which hold ASCII only where `only_ascii` says so.

        Each database is shown all texts before the next one is, so that it stays in the processor's cache.
        """
        first, second, doubted, lists = self._forms.get(only_ascii) or self._form(only_ascii)
        always, scan = self._always, first.scan
        fired = [always | scan(text) for text in texts]
        for one in lists:
            fired = [bits | one.scan(text) for bits, text in zip(fired, texts, strict=True)]
        for place, bits in enumerate(fired):
            if bits & doubted:
                fired[place] = bits & (~doubted | always | second.scan(texts[place]))
        return fired

    def scan_str(self, text: str) -> int:
        """The sources that could fire on the text."""
        return self.scan([text.encode("utf-8", "replace")], only_ascii=text.isascii())[0]

    def scan_strs(self, texts: Sequence[str]) -> list[int]:
        """The sources that could fire on each text."""
        fired = [0] * len(texts)
        for only_ascii in (True, False):
            places = [place for place, text in enumerate(texts) if text.isascii() == only_ascii]
            encoded = [texts[place].encode("utf-8", "replace") for place in places]
            for place, bits in zip(places, self.scan(encoded, only_ascii=only_ascii) if places else (), strict=True):
                fired[place] = bits
        return fired

    def _form(self, only_ascii: bool) -> _Form:
        form = self._forms.get(only_ascii)
        if form is None:
            terms, beside = _terms(self._sources, self._always, only_ascii)
            lists = [term for term in terms if len(term.patterns) > _LIST]
            first, second = (
                _hyperscan(some, only_ascii) if self._engine == "hyperscan" else _Re2(some)
                for some in ([term for term in terms if len(term.patterns) <= _LIST], beside)
            )
            doubted = sum(1 << term.number for term in beside)
            form = self._forms[only_ascii] = _Form(first, second, doubted, list(_listed(lists)))
        return form


class _Form(NamedTuple):
    """Engines for a kind of text. What `first` says of the `doubted` sources, `second` is asked about.

    `lists` are for sources of very many patterns, which Hyperscan takes minutes to compile: RE2 needs none.
    """

    first: _Engine
    second: _Engine
    doubted: int
    lists: list[_Re2]


_LIST = 128  # patterns of a source above which it is a list
_AT_ONCE = 4096  # of these, looked for together


def _listed(terms: Sequence[_Term]) -> Iterator[_Re2]:
    for term in terms:
        for first in range(0, len(term.patterns), _AT_ONCE):
            yield _Re2([_Term(term.number, ("|".join(term.patterns[first : first + _AT_ONCE]),))])


class _Term(NamedTuple):
    """Source `number` fires where any of `patterns` is found."""

    number: int
    patterns: tuple[str, ...]


def _known(source: Source) -> bool:
    try:
        for pattern, flags in (*source.patterns, *_beside(source)):
            if relax(pattern, flags, only_ascii=False) == "":
                return False
    except Unknown:
        return False
    return True


def _terms(sources: Sequence[Source], always: int, only_ascii: bool) -> tuple[list[_Term], list[_Term]]:
    """Of the sources' patterns, and of what has to be found beside them."""
    first, second = [], []
    for number, source in enumerate(sources):
        if always >> number & 1:
            continue
        patterns, beside = (_relaxed(some, only_ascii) for some in (source.patterns, _beside(source)))
        if patterns and (beside or not _beside(source)):
            first.append(_Term(number, patterns))
            if beside:
                second.append(_Term(number, beside))
    return first, second


def _beside(source: Source) -> tuple[tuple[str, int], ...]:
    return (*source.closer, *((re.escape(word), re.IGNORECASE) for word in source.words))


def _relaxed(patterns: Sequence[tuple[str, int]], only_ascii: bool) -> tuple[str, ...]:
    relaxed = [relax(pattern, flags, only_ascii=only_ascii) for pattern, flags in patterns]
    return tuple(dict.fromkeys(one for one in relaxed if one is not None))


def _hyperscan(terms: Sequence[_Term], only_ascii: bool) -> _Hyperscan:
    """The scanner; a source with a pattern that is too large for it is always on."""
    try:
        return _Hyperscan(terms, only_ascii)
    except hyperscan.error:
        small = [term for term in terms if _compiles(term, only_ascii)]
        large = {term.number for term in terms} - {term.number for term in small}
        return _Hyperscan(small, only_ascii, sum(1 << number for number in large))


def _compiles(term: _Term, only_ascii: bool) -> bool:
    try:
        _build(hyperscan.Database(), list(term.patterns), _flags(term.patterns, only_ascii))
    except hyperscan.error:
        return False
    return True


def _build(database: Any, expressions: Sequence[str], flags: Sequence[int]) -> None:
    """Ids are places among the expressions."""
    encoded, ids = [one.encode() for one in expressions], list(range(len(expressions)))
    database.compile(expressions=encoded, ids=ids, elements=len(ids), flags=flags)


class _Re2:
    def __init__(self, terms: Sequence[_Term]) -> None:
        options = re2.Options()
        options.max_mem = 256 << 20  # 256 MiB: RE2's own caches
        self._set = re2.Set.SearchSet(options)
        bits = _bits(terms)
        for one in bits:
            self._set.Add(one)
        self._set.Compile()
        self._bits = list(bits.values())  # by number in the set: the sources that the pattern belongs to

    def scan(self, text: Any) -> int:
        fired = 0
        for number in (self._set.Match(bytes(text)) or ()) if self._bits else ():
            fired |= self._bits[number]
        return fired


class _Hyperscan:
    def __init__(self, terms: Sequence[_Term], only_ascii: bool, always: int = 0) -> None:
        bits = _bits(terms)
        database = _database(list(bits), _flags(bits, only_ascii)) if terms else None
        self.scan = _scanner(database, list(bits.values()), always) if terms else lambda _: always


def _bits(terms: Iterable[_Term]) -> dict[str, int]:
    """Each pattern once, with the sources that it belongs to."""
    bits: dict[str, int] = {}
    for term in terms:
        for one in term.patterns:
            bits[one] = bits.get(one, 0) | 1 << term.number
    return bits


def _scanner(database: Any, bits: Sequence[int], always: int) -> Callable[[Any], int]:
    """What scans a text. Closures, since this runs some times for each text."""
    fired, search = always, database.scan

    def told(number: int, *_: int) -> None:
        nonlocal fired
        fired |= bits[number]

    def scan(text: Any) -> int:
        nonlocal fired
        fired = always
        if len(text):
            search(text, match_event_handler=told)
        return fired

    return scan


def _flags(expressions: Iterable[str], only_ascii: bool) -> list[int]:
    plain = hyperscan.HS_FLAG_DOTALL | hyperscan.HS_FLAG_PREFILTER | (0 if only_ascii else hyperscan.HS_FLAG_UTF8)
    return [plain | _once(one) for one in expressions]


_LONG = 20  # of a letter: from there on Hyperscan walks through the rest of a long word anew for each further match
_REPEAT = re.compile(r"(?<!\\x)\{(\d+)[,}]")  # not the number of a letter: relaxed expressions write `\x{20}`


def _once(expression: str) -> int:
    """The flag with which an expression is told of once a text; not where that takes time with the square of a word."""
    repeats = map(int, _REPEAT.findall(expression))
    return 0 if max(repeats, default=0) >= _LONG else int(hyperscan.HS_FLAG_SINGLEMATCH)


# ------------------------------------------------------------------------------------------------ cache


def _database(expressions: list[str], flags: list[int]) -> Any:
    named = [
        VERSION,
        importlib.metadata.version("hyperscan"),
        platform.machine(),
        _processor(),
        expressions,
        flags,
    ]
    digest = hashlib.blake2b(json.dumps(named).encode(), digest_size=16).hexdigest()
    path = cache_folder() / f"gate-{digest}.hs"
    database = _loaded(path)
    if database is None:
        with _alone(path.parent):
            database = _loaded(path) or _compiled(path, expressions, flags)
    return database


def _compiled(path: Path, expressions: list[str], flags: list[int]) -> Any:
    _tell()
    _forget_old(path.parent)
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    _build(database, expressions, flags)
    _keep(path, hyperscan.dumpb(database))
    return database


_OLD = 30 * 24 * 3600  # seconds since a database was last read


def _forget_old(folder: Path) -> None:
    """Removes databases that nobody has read for a month: of other patterns, other versions of Hyperscan."""
    with contextlib.suppress(OSError):
        for path in folder.glob("gate-*.hs"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _OLD:
                    path.unlink()


@functools.cache
def _tell() -> None:
    LOGGER.warning("compiling the patterns of personal data and secrets, once a machine: 10 to 30 seconds")


_PATIENCE = 120.0  # seconds to wait for another process's compilation: more than it takes


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """While no other process of this machine compiles, or after waiting for one in vain.

    What is locked is the folder itself, and the lock goes with the process that holds it.
    """
    locked = None
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        locked = os.open(folder, os.O_RDONLY)
    try:
        end = time.monotonic() + _PATIENCE
        while locked is not None and not _lock(locked) and time.monotonic() < end:
            time.sleep(0.05)
        yield
    finally:
        if locked is not None:
            os.close(locked)


def _lock(folder: int) -> bool:
    """Whether there is nothing to wait for: the lock is ours, or there are none here."""
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True


def _processor() -> str:
    """What Hyperscan builds for: a database of another processor may not load."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("flags", "Features")):
                return hashlib.blake2b(line.encode(), digest_size=8).hexdigest()
    return platform.processor()


def cache_folder() -> Path:
    """Where compiled databases are kept. May not exist, and may not be writable."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "corpusmill"


_SUM = 16  # bytes of the digest that stands before the database


def _loaded(path: Path) -> Any:
    """The database kept at `path`, or None: not there, cut short, another's, for another processor."""
    try:
        if hasattr(os, "getuid") and path.stat().st_uid not in (os.getuid(), 0):
            return None
        with path.open("rb") as file:
            digest, blob = file.read(_SUM), file.read()
    except OSError:
        return None
    if hashlib.blake2b(blob, digest_size=_SUM).digest() != digest:
        return None
    try:
        database = hyperscan.loadb(blob, mode=hyperscan.HS_MODE_BLOCK)
        database.scratch = hyperscan.Scratch(database)
        database.scan(b"x", match_event_handler=lambda *_: None)
    except Exception:  # whatever Hyperscan says of it: it is compiled again
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # it is in use
    return database


def _keep(path: Path, blob: bytes) -> None:
    with (
        contextlib.suppress(OSError),
        tempfile.NamedTemporaryFile(dir=path.parent, prefix=".gate-", delete=False) as out,
    ):
        try:
            out.write(hashlib.blake2b(blob, digest_size=_SUM).digest() + blob)
            out.close()
            os.replace(out.name, path)
        except OSError:
            os.unlink(out.name)
