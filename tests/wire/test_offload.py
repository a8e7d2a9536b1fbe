"""Waiters, timers, native threads: the part of the loop that is not sockets."""

import contextvars
import threading
import time

import pytest
from rawhttp import Client, ask, wait_for

VAR: contextvars.ContextVar[str] = contextvars.ContextVar("test_offload", default="")
GET = b"GET / HTTP/1.1\r\n\r\n"


def test_many_slow_calls_at_once(serve_app, server):
    """200 blocking calls run at the same time, and the loop answers meanwhile."""
    pool = server.loop.pool("slow", 256, 0)
    gate = threading.Event()
    running = threading.Barrier(201)

    def slow():
        running.wait(30)
        gate.wait(30)

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/slow":
            pool.run(slow)
        start_response("200 OK", [])
        return [b"x"]

    port = serve_app(app)
    clients = [Client(port) for _ in range(200)]
    try:
        for client in clients:
            client.send(b"GET /slow HTTP/1.1\r\n\r\n")
        running.wait(30)
        assert ask(port, GET).status == 200
        assert pool.outstanding == 200
        gate.set()
        assert [client.read().status for client in clients] == [200] * 200
    finally:
        gate.set()
        for client in clients:
            client.sock.close()
        pool.stop()


def test_overflow_is_a_503_and_passes(serve_app, server):
    pool = server.loop.pool("few", 2, 3)
    gate = threading.Event()

    def app(environ, start_response):
        pool.run(gate.wait, 10)
        start_response("200 OK", [])
        return [b"x"]

    port = serve_app(app)
    clients = [Client(port) for _ in range(5)]
    try:
        for client in clients:
            client.send(GET)
        wait_for(lambda: pool.outstanding == 5)
        refused = ask(port, GET)
        assert refused.status == 503 and int(refused.header("retry-after")) >= 1
        gate.set()
        assert [client.read().status for client in clients] == [200] * 5
        assert ask(port, GET).status == 200
        assert len([t for t in threading.enumerate() if t.name.startswith("few-")]) == 2
    finally:
        for client in clients:
            client.sock.close()
        pool.stop()
    wait_for(lambda: not [t for t in threading.enumerate() if t.name.startswith("few-")])


def test_no_thread_before_the_first_call(server):
    pool = server.loop.pool("lazy", 4, 4)
    assert not [t for t in threading.enumerate() if t.name.startswith("lazy-")]
    assert server.on_loop(pool.run, threading.get_ident) != server.on_loop(threading.get_ident)
    assert len([t for t in threading.enumerate() if t.name.startswith("lazy-")]) == 1
    pool.stop()


def test_pool_passes_exceptions_and_a_copy_of_the_context(server):
    pool = server.loop.pool("ctx", 1, 1)

    def in_thread():
        seen = VAR.get()
        VAR.set("thread")
        return seen

    def in_greenlet():
        VAR.set("greenlet")
        seen = pool.run(in_thread)
        with pytest.raises(ZeroDivisionError):
            pool.run(lambda: 1 // 0)
        return seen, VAR.get()

    assert server.on_loop(in_greenlet) == ("greenlet", "greenlet")
    pool.stop()


def test_native_thread_calls_back_onto_the_loop(serve_app, server):
    """What a foreign WSGI filter does: it runs in a thread and hands the inner call back to the loop."""
    pool = server.loop.pool("filter", 4, 0)

    def inner(word, suffix):
        server.loop.sleep(0.01)  # parks: only a greenlet of the loop may
        seen = VAR.get()
        VAR.set("inner")
        if word == "bad":
            raise LookupError(word)
        return f"{seen} {word}{suffix} {server.loop.in_loop_thread()}"

    def stock_filter():
        VAR.set("outer")
        assert not server.loop.in_loop_thread()
        with pytest.raises(LookupError):
            server.loop.run_on_loop(inner, "bad", suffix="")
        result = server.loop.run_on_loop(inner, "word", suffix="!")
        return f"{result} {VAR.get()}"

    def app(environ, start_response):
        body = pool.run(stock_filter)
        start_response("200 OK", [])
        return [body.encode()]

    assert ask(serve_app(app), GET).body == b"outer word! True outer"
    pool.stop()


def test_run_on_loop_refuses_to_block_the_loop(server):
    def on_loop():
        with pytest.raises(RuntimeError):
            server.loop.run_on_loop(lambda: None)
        return True

    assert server.on_loop(on_loop)


def test_waiter(server):
    loop = server.loop

    def timeout():
        waiter = loop.waiter()
        with pytest.raises(TimeoutError):
            waiter.wait(0.02)
        waiter.wake("late")  # ignored
        loop.sleep(0)

    def first_wins():
        waiter = loop.waiter()
        waiter.wake(1)
        waiter.wake(2)
        waiter.throw(ValueError())
        assert waiter.wait() == 1

    def from_thread():
        waiter = loop.waiter()
        threading.Timer(0.02, waiter.wake, ["thread"]).start()
        assert waiter.wait(10) == "thread"
        waiter = loop.waiter()
        threading.Timer(0.02, waiter.throw, [KeyError("k")]).start()
        with pytest.raises(KeyError):
            waiter.wait(10)

    for case in (timeout, first_wins, from_thread):
        server.on_loop(case)


def test_call_later_and_cancel(server):
    loop = server.loop
    ran = []

    def on_loop():
        done = loop.waiter()
        cancelled = loop.call_later(0.01, ran.append, "cancelled")
        cancelled.cancel()
        cancelled.cancel()

        def later(word):
            loop.sleep(0.01)  # it may park
            ran.append(word)
            done.wake()

        loop.call_later(0.05, later, "later")
        done.wait(10)

    server.on_loop(on_loop)
    assert ran == ["later"]


def test_every_goes_on_until_it_is_cancelled(server, caplog):
    """Inside the loop, whatever a turn raises; turns that a busy loop missed are gone."""
    loop = server.loop
    turns = []

    def turn():
        turns.append(loop.in_loop_thread())
        if len(turns) == 2:
            raise ValueError("the second turn")

    handle = server.on_loop(loop.every, 0.02, turn)
    wait_for(lambda: len(turns) >= 4)
    before = len(turns)
    server.on_loop(time.sleep, 0.4)  # blocks the loop for 20 turns
    assert len(turns) <= before + 10

    def cancel():
        handle.cancel()
        handle.cancel()
        return len(turns)

    ended = server.on_loop(cancel)
    server.on_loop(loop.sleep, 0.1)
    assert len(turns) == ended and all(turns)
    assert "the second turn" in caplog.text
    with pytest.raises(ValueError):
        server.on_loop(loop.every, 0, turn)


def test_an_exception_in_a_greenlet_is_logged(server, caplog):
    def fail():
        raise ValueError("nobody is listening")

    server.on_loop(server.loop.spawn, fail)
    wait_for(lambda: "nobody is listening" in caplog.text)
    assert server.on_loop(lambda: 42) == 42
