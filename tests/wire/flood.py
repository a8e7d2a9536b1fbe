"""A client that pipelines more than a worker answers in a moment, and another one beside it."""

import threading
import time

PIPELINED = b"GET /pipelined HTTP/1.1\r\n\r\n"


class Flood:
    """``app`` is what the server serves; the first pipelined request holds up its loop until all are there."""

    def __init__(self):
        self._both_there = threading.Event()
        self._answered = []

    def app(self, environ, start_response):
        if environ["PATH_INFO"] == "/pipelined":
            self._both_there.wait(10)  # holds up the loop
            time.sleep(0.001)
        self._answered.append(environ["PATH_INFO"])
        start_response("200 OK", [])
        return [b""]

    def run(self, other, pipelining, send):
        """
        :param send: has ``pipelining`` send 500 requests
        """
        other.send(b"GET /before HTTP/1.1\r\n\r\n")
        other.read()
        send()
        other.send(b"GET /other HTTP/1.1\r\n\r\n")
        self._both_there.set()
        other.read()
        assert self._answered.index("/other") < 200
        for _ in range(500):
            assert pipelining.read().status == 200
