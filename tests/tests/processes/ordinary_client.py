"""An ordinary client of Redis in front of a cluster: redis-py, used as its documentation says.

Arguments: the ports of the stores, the one that leads first. Prints `kill` and waits for a line when that
one is to be killed, and `done` at the end.
"""

import sys
import threading

import redis
from redis.backoff import ConstantBackoff, NoBackoff
from redis.exceptions import (
    AuthenticationError,
    ConnectionError,
    ExecAbortError,
    ResponseError,
    TimeoutError,
    TryAgainError,
)
from redis.retry import Retry

PORTS = [int(port) for port in sys.argv[1:]]


def connect(port, **options):
    return redis.Redis(port=port, socket_timeout=10, **options)


def raises(kind, text, call, *args, **options):
    try:
        got = call(*args, **options)
    except kind as error:
        assert text in str(error), f"{error!r} does not say {text!r}"
    else:
        raise AssertionError(f"{got!r} instead of {kind}")


def strings(r, text):
    """`text` makes what the client returns for a string."""
    assert r.ping() is True
    assert r.set("name", "kim") is True
    assert r.get("name") == text("kim")
    assert r.get("nobody") is None
    assert r.set("name", "lee", nx=True) is None
    assert r.set("name", "lee", get=True) == text("kim")
    assert r.set("nobody", "x", xx=True) is None
    assert r.exists("name", "nobody", "name") == 2
    assert r.append("name", "!") == 4
    assert r.strlen("name") == 4
    assert r.getrange("name", 1, 2) == text("ee")
    assert r.getdel("name") == text("lee!")
    assert r.delete("name", "nobody") == 0
    assert r.mset({"a": 1, "b": "2", "c": b"\x00\xff" if text("") == b"" else "3"}) is True
    assert r.mget("a", "none", "b") == [text("1"), None, text("2")]
    assert r.type("a") == text("string") and r.ttl("a") == -1 and r.ttl("none") == -2
    assert (r.incr("n"), r.incrby("n", 41), r.decr("n"), r.decrby("n", 1)) == (1, 42, 41, 40)
    assert r.delete("n", "a", "b", "c") == 4


def keys(r, text):
    with r.pipeline(transaction=False) as pipe:
        for n in range(500):
            pipe.set(f"scan:{n:03}", n)
        assert pipe.execute() == [True] * 500
    assert list(r.scan_iter(match="scan:*", count=50)) == [text(f"scan:{n:03}") for n in range(500)]
    assert sorted(r.keys("scan:49?")) == [text(f"scan:49{n}") for n in range(10)]
    assert r.dbsize() == 500
    assert r.unlink(*r.keys("scan:*")) == 500


def transactions(r, text):
    with r.pipeline() as pipe:
        pipe.set("t", 1).incr("t").get("t").get("none")
        assert pipe.execute() == [True, 2, text("2"), None]
    with r.pipeline() as pipe:
        pipe.set("t", "x").incr("t").get("t")
        done = pipe.execute(raise_on_error=False)
        assert done[0] is True and isinstance(done[1], ResponseError) and done[2] == text("x")
    with r.pipeline() as pipe:
        pipe.set("t", "y").execute_command("NOSUCH")
        raises((ExecAbortError, ResponseError), "", pipe.execute)
    assert r.get("t") == text("x"), "nothing of a refused transaction is done"
    r.delete("t")


def errors(r):
    raises(ResponseError, "unknown command 'NOSUCH', with args beginning with: 'a' ", r.execute_command, "NOSUCH", "a")
    raises(ResponseError, "wrong number of arguments for 'get' command", r.execute_command, "GET")
    raises(ResponseError, "unknown command 'HSET'", r.hset, "h", "f", "v")
    r.set("word", "abc")
    raises(ResponseError, "value is not an integer or out of range", r.incr, "word")
    raises(ResponseError, "expiry is not supported", r.set, "k", "v", ex=10)
    raises(ResponseError, "expiry is not supported", r.expire, "word", 10)
    raises(ResponseError, "WATCH is not supported", r.transaction, lambda pipe: None, "word")
    raises(AuthenticationError, "without any password", r.auth, "secret")
    raises(ResponseError, "DB index is out of range", r.select, 1)
    raises(ResponseError, "value has 5000000 bytes, the limit is 4194304", r.set, "k", b"x" * 5_000_000)
    assert r.delete("word") == 1, "the connection goes on after each of them"


def introspection(r, port, protocol):
    name = r.client_getname()
    assert name in ("reader", b"reader"), name
    info = r.client_info()
    assert (info["lib-name"], info["lib-ver"]) == ("redis-py", redis.__version__), info
    assert info["resp"] == str(protocol), info
    assert r.client_setname("writer") and r.client_id() > 0
    assert r.client_setinfo("LIB-NAME", "mine")
    assert r.info()["tcp_port"] == port and r.info("raft")["commit"] > 0
    assert r.config_get("databases") in ({"databases": "1"}, {b"databases": b"1"})
    assert "get" in r.command() or b"get" in r.command()
    hello = r.execute_command("HELLO", protocol)
    assert hello, hello


def big_values(r):
    value = bytes(range(256)) * 16384
    assert len(value) == 4 << 20
    assert r.set("big", value) and r.get("big") == value and r.strlen("big") == len(value)
    assert r.set(b"\r\n \x00", b"\r\n$-1\r\n") and r.get(b"\r\n \x00") == b"\r\n$-1\r\n"
    r.delete("big", b"\r\n \x00")


def pool(port):
    """Many threads, few connections."""
    shared = redis.BlockingConnectionPool(port=port, max_connections=8, timeout=30, socket_timeout=10)
    r = redis.Redis(connection_pool=shared)

    def work():
        for _ in range(25):
            r.incr("pooled")

    threads = [threading.Thread(target=work) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert r.get("pooled") == b"600"
    r.delete("pooled")
    shared.disconnect()


def leader_killed():
    leader, follower = PORTS[0], PORTS[1]
    on_leader = connect(leader, retry=Retry(NoBackoff(), 1))
    # What sets a value may be asked twice; so may all reads.
    patient = connect(
        follower,
        retry=Retry(ConstantBackoff(0.05), 200),
        retry_on_error=[ConnectionError, TimeoutError, TryAgainError],
    )
    on_leader.set("before", 1)
    print("kill", flush=True)
    sys.stdin.readline()
    raises((ConnectionError, TimeoutError), "", on_leader.get, "before")
    for attempt in range(100):
        try:
            assert patient.set("after", 2)
            break
        except ResponseError as error:
            assert str(error).startswith("UNKNOWN "), error
    assert patient.mget("before", "after") == [b"1", b"2"]
    print("start", flush=True)
    sys.stdin.readline()
    back = connect(leader, retry=Retry(ConstantBackoff(0.1), 300), retry_on_error=[ConnectionError, TryAgainError])
    assert back.mget("before", "after") == [b"1", b"2"]


def main():
    for port in PORTS:
        for protocol in (2, 3):
            for decode in (False, True):
                text = (lambda s: s) if decode else (lambda s: s.encode())
                options = dict(protocol=protocol, decode_responses=decode, client_name="reader")
                with connect(port, **options) as r:
                    introspection(r, port, protocol)
                    strings(r, text)
                    transactions(r, text)
                    errors(r)
    with connect(PORTS[1]) as r:
        keys(r, str.encode)
        big_values(r)
    pool(PORTS[1])
    leader_killed()
    print(f"done, by redis-py {redis.__version__}", flush=True)


main()
