"""A server of this machine for the tests of URLs: a folder, and answers that no honest server gives."""

import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer


class Handler(SimpleHTTPRequestHandler):
    """A folder over HTTP. `/moved/x` leads to `/x` with a cookie, `/to/URL` to any URL, and `/round` to itself.

    `/stalls` sends a byte of its headers at a time, `/trickles` a byte of its body, and `/endless` sends zeros without
    their number. What was asked for stands in `asked` of the server.
    """

    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path.startswith(("/moved/", "/to/", "/round")):
            self.send_response(302)
            self.send_header("Set-Cookie", "a=\xff")  # which no client can send back
            self.send_header("Location", self.path.removeprefix("/moved").removeprefix("/to/"))
            self.end_headers()
        elif self.path == "/stalls":
            self._trickle(b"HTTP/1.0 200 OK\r\nX-Long: " + b"x" * 10_000)
        elif self.path == "/trickles":
            self.send_response(200)
            self.end_headers()
            self._trickle(b"x" * 10_000)
        elif self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            while not self.server.closing.is_set():
                self.wfile.write(bytes(2**16))
        else:
            super().do_GET()

    def handle(self):
        try:
            super().handle()
        except ConnectionError:  # the client has read enough
            pass

    def _trickle(self, content):
        for byte in content:
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            if self.server.closing.wait(0.02):
                return

    def log_message(self, *arguments):
        pass


@contextmanager
def serve(folder):
    """Serve a folder; gives the server, with its address as `url`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as http:
        http.url, http.asked, http.closing = f"http://127.0.0.1:{http.server_port}", [], threading.Event()
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield http
        finally:
            http.closing.set()
            http.shutdown()
            thread.join()
