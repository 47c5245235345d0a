"""A connection that breaks at the worst moment."""

import re
import socket
import threading

WRITES = re.compile(rb"INSERT INTO|UPDATE \w+ SET|DELETE FROM")


class Proxy:
    """Forwards to a PostgreSQL server; once ``armed``, it hands a write's COMMIT on and breaks off before the answer.

    Reads commit too, and come before most writes.
    """

    def __init__(self, port):
        self.target = port
        self.armed = False
        self.broken = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.target))
            threading.Thread(target=self._requests, args=(client, server), daemon=True).start()
            threading.Thread(target=self._answers, args=(server, client), daemon=True).start()

    def _requests(self, client, server):
        wrote = False
        while data := _received(client):
            wrote = WRITES.search(data) is not None or (wrote and b"BEGIN" not in data)
            if self.armed and wrote and b"COMMIT" in data:
                self.armed = False
                self.broken += 1
                client.shutdown(socket.SHUT_WR)  # the answer will not pass
            server.sendall(data)
        server.close()

    def _answers(self, server, client):
        while data := _received(server):
            try:
                client.sendall(data)
            except OSError:  # shut down above: the server has answered, so it has committed
                client.close()
                return


def _received(connection):
    try:
        return connection.recv(65536)
    except OSError:
        return b""
