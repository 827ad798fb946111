"""A stored file as a stream whose next blocks are fetched, several at once, while the last one is worked on.

position          ▼
file      …░░░░░░░▒▒▒▒▒▒▒▒│▒▒▒▒▒▒▒▒│▒▒▒▒▒▒▒▒│░░░░░░…      ░ not held   ▒ held, or on its way
                  the block at hand, and up to `AHEAD` blocks ahead of it
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

BLOCK = 8 << 20  # 8 MiB a request
AHEAD = 4  # blocks that are fetched at once: 40 MiB a stream in all
TAIL = 256 << 10  # 256 KiB a request beyond where reading was to end

Fetch = Callable[[int, int], bytes]


class ReadAhead(io.RawIOBase):
    """The bytes of a file of `size`, fetched by `fetch(start, end)`, which threads call at once.

    With `end` it is known that all is read up to there: fetching ahead starts with the first read and goes no
    further. Without, it starts with the second block in a row, so that looking here and there costs no more
    than a block each. Raises what `fetch` raises; a fetch that returns too little is the end of the file.
    """

    def __init__(self, fetch: Fetch, size: int, end: int | None = None, *, block: int = BLOCK, ahead: int = AHEAD):
        super().__init__()
        self._fetch, self._size, self._end = fetch, size, size if end is None else min(end, size)
        self._size_of_block, self._ahead, self._eager = block, ahead, end is not None
        self._place = 0
        self._block, self._start = b"", 0  # the block at hand, and where it starts
        self._coming: deque[tuple[int, int, Future[bytes]]] = deque()  # start and end of blocks in a row
        self._pool: ThreadPoolExecutor | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("a place before the start of the file")
        self._place = base + offset
        return self._place

    def read(self, size: int | None = -1) -> bytes:
        """Up to `size` bytes, none only at the end and never more than are left of a block; without `size` all."""
        if size is None or size < 0:
            return self.readall()
        if size == 0 or self._place >= self._size:
            return b""
        offset = self._place - self._start
        if not 0 <= offset < len(self._block):
            self._next()
            offset = 0
        part = self._block[offset : offset + size]
        self._place += len(part)
        return part

    def readall(self) -> bytes:
        parts = []
        while part := self.read(self._size_of_block):
            parts.append(part)
        return b"".join(parts)

    def readinto(self, buffer: Any) -> int:
        part = self.read(len(buffer))
        buffer[: len(part)] = part
        return len(part)

    def close(self) -> None:
        """Gives up what is on its way."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        self._block = b""
        self._coming.clear()
        super().close()

    def _next(self) -> None:
        """Puts the block that starts at the present place at hand, and those after it on their way."""
        place = self._place
        in_a_row = bool(self._block) and place == self._start + len(self._block)
        if self._coming and self._coming[0][0] != place:
            for _, _, future in self._coming:
                future.cancel()
            self._coming.clear()
        self._block = b""  # let go before more is held
        first = self._coming.popleft() if self._coming else self._order(place)
        if self._eager or in_a_row:
            last = self._coming[-1][1] if self._coming else first[1]
            while last < self._end and len(self._coming) < self._ahead:
                self._coming.append(self._order(last))
                last = self._coming[-1][1]
        self._block, self._start = first[2].result(), place

    def _order(self, start: int) -> tuple[int, int, Future[bytes]]:
        """Sends for the block at `start`."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._ahead + 1, thread_name_prefix="read-ahead")
        stop = min(start + self._size_of_block, self._end) if start < self._end else min(start + TAIL, self._size)
        return start, stop, self._pool.submit(self._fetch, start, stop)
