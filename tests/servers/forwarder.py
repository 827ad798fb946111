"""A TCP address that leads to a server, and can be taken away and given back."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

from tests.servers.programs import LOOPBACK, free_port


class Forwarder:
    """Passes bytes between whoever connects to `port` and the server at `target`, a port of 127.0.0.1, while it is open."""

    def __init__(self, target: int) -> None:
        self._target, self.port = target, free_port()
        self._listening: socket.socket | None = None
        self._open: list[socket.socket] = []

    def open(self) -> None:
        self._listening = socket.create_server((LOOPBACK, self.port))
        threading.Thread(target=self._accept, args=(self._listening,), daemon=True).start()

    def close(self) -> None:
        """Refuses new connections and breaks those that are there."""
        assert self._listening is not None
        for one in (self._listening, *self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._open.clear()

    def _accept(self, listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                ours, _ = listening.accept()
                theirs = socket.create_connection((LOOPBACK, self._target))
                self._open += [ours, theirs]
                for source, sink in ((ours, theirs), (theirs, ours)):
                    threading.Thread(target=_pass_on, args=(source, sink), daemon=True).start()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while part := source.recv(1 << 16):
            sink.sendall(part)
        sink.shutdown(socket.SHUT_WR)
