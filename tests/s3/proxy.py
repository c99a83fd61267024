"""A network between a session and the server that rgw started."""
import random
import socket
import struct
import threading


class Proxy:
    """Forwards to the server; `fault(request, draw)` says what becomes of a piece of traffic instead: None, bytes to
    answer, or the number of bytes of it that arrive before the connection is reset."""

    def __init__(self, endpoint, fault):
        self.port = int(endpoint.rsplit(":", 1)[1])
        self.fault, self.faults = fault, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        for number in range(1 << 30):
            client, _ = self.listener.accept()
            server = socket.create_connection(("127.0.0.1", self.port))
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for request, here, there in ((True, client, server), (False, server, client)):
                threading.Thread(target=self.carry, args=(request, here, there, number), daemon=True).start()

    def carry(self, request, here, there, number):
        draw = random.Random(number * 2 + request)
        try:
            while piece := here.recv(65536):
                what = self.fault(piece if request else None, draw)
                if what is None:
                    there.sendall(piece)
                    continue
                self.faults += 1
                if isinstance(what, bytes):
                    here.sendall(what)
                else:
                    there.sendall(piece[:what])
                    here.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                break
        except OSError:
            pass
        for one in (here, there):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            one.close()
