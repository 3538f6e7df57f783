"""Objects in a network: what a server may do wrong is noticed, passes, or ends with one line."""

import contextlib
import http.client
import os
import pickle
import random
import socket
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from patience import PATIENCE
from rings import examples
from storage.authority import vouch

from benchmarks.serving import Request, http_date, serving
from sparsemed.storage import connections, ranged, remote
from sparsemed.storage.answers import Version
from sparsemed.storage.place import Way
from sparsemed.storage.places import WebPlace, is_remote, place_of
from sparsemed.storage.ranged import AT_ONCE, BLOCK, RangedBytes
from sparsemed.storage.urls import parse_url

SIZE = 3_000_000
FIRST = AT_ONCE * BLOCK  # what opening fetches


@pytest.fixture(scope="module")
def data():
    return random.Random(1).randbytes(SIZE)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(remote, "PAUSES", (0.01, 0.01, 0.01, 0.01))
    with serving() as server:
        yield server


def opened(server, path="/M001.rtdc", **more):
    return RangedBytes(place_of(server.url(path)), **more)


def read(stored, offset, size):
    buffer = bytearray(size)
    assert stored.read_into(memoryview(buffer), offset)
    return bytes(buffer)


def error_of(action, *args):
    """Return the text of the error that an action ends with."""
    with pytest.raises(OSError, match=r"M001") as caught:
        action(*args)
    text = str(caught.value)
    assert "\n" not in text
    return text


def once(fault):
    """Let only the second request fail, which is the first after opening."""
    return lambda request: request.number == 2 and fault(request)


def later(fault):
    """Let all requests fail but the first, which opens."""
    return lambda request: request.number > 1 and fault(request)


def answers(status, headers=None, body=b""):
    def fault(request: Request) -> bool:
        request.send(status, headers or {}, body)
        return True

    return fault


def with_headers(**changes):
    """Send the right bytes under other headers."""

    def fault(request: Request) -> bool:
        named = {name.replace("_", "-"): value for name, value in changes.items()}
        request.send(206, request.about | named, request.body)
        return True

    return fault


def cut(request: Request) -> bool:
    request.send(
        206, {**request.about, "Content-Length": str(len(request.body))}, request.body[:-9]
    )
    request.hang_up()
    return True


def longer(request: Request) -> bool:
    request.send(206, request.about | {"Content-Length": None}, request.body + b"more")
    request.hang_up()
    return True


# Bytes are the same for all readers


@examples(30)
@given(
    size=st.integers(1, 3 * FIRST),
    reads=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 5 * BLOCK)), max_size=20),
)
def test_any_reads_give_the_bytes_of_the_object(size, reads):
    content = random.Random(size).randbytes(size)
    with serving() as server:
        server.put("/M001.rtdc", content)
        stored = opened(server)
        assert stored.size == size
        for place, length in reads:
            offset = int(place * size)
            is_there = offset + length <= size
            buffer = bytearray(length)
            assert stored.read_into(memoryview(buffer), offset) == is_there
            if is_there:
                assert buffer == content[offset : offset + length]


@examples(30)
@given(st.data())
def test_what_is_fetched_ahead_is_the_same_in_any_order(data_):
    content = random.Random(1).randbytes(400_000)
    sizes = data_.draw(st.lists(st.integers(1, 30_000), min_size=1, max_size=20))
    begins = [sum(sizes[:i]) for i in range(len(sizes))]
    ranges = data_.draw(st.permutations(list(zip(begins, sizes, strict=True))))
    wanted = data_.draw(st.permutations(ranges))
    habits = remote_habits(data_)
    from sparsemed.storage.ahead import Ahead

    asked = []

    def fetch(begin, buffer):
        asked.append((begin, len(buffer)))
        buffer[:] = content[begin : begin + len(buffer)]
        return len(buffer)

    reads = [(begin, begin + size) for begin, size in ranges]
    ahead = Ahead(fetch, reads, habits, most_bytes=data_.draw(st.integers(1, 10**6)))
    for begin, size in wanted:
        buffer = bytearray(size)
        if ahead.read_into(memoryview(buffer), begin):
            assert buffer == content[begin : begin + size]
    ahead.close()
    ahead.join()
    assert all(size <= habits.piece for _, size in asked)


def remote_habits(data_):
    from sparsemed.storage.stored import Habits

    return Habits(
        data_.draw(st.integers(0, 1000)),
        data_.draw(st.integers(100, 50_000)),
        data_.draw(st.integers(1, 4)),
    )


def test_frames_are_fetched_ahead_in_few_requests(server, data):
    served = server.put("/M001.rtdc", data)
    stored = opened(server)
    before = len(served.requests)
    ranges = [(offset, offset + 10_000) for offset in range(0, SIZE - 10_000, 10_100)]
    frames = stored.opener()()
    frames.expect([(SIZE + 9, SIZE + 99), *ranges])  # as if the file were cut off
    assert all(read(frames, a, b - a) == data[a:b] for a, b in ranges)
    frames.close()
    assert len(served.requests) - before == 2  # of at most 2 MiB
    assert max(request.stop - request.begin for request in served.requests) <= 2 * 2**20


def test_what_is_no_longer_expected_is_not_fetched(server, data):
    server.put("/M001.rtdc", data)
    stored = opened(server)
    stored.expect([(0, 1000)])
    first = stored._ahead
    stored.expect([(1000, 2000)])
    assert (first._is_over, stored._ahead._is_over) == (True, False)
    stored.close()


def test_no_more_is_held_than_allowed(server, data):
    """Nobody reads, so what is fetched ahead stops at the bound."""
    from sparsemed.storage.ahead import Ahead
    from sparsemed.storage.stored import Habits

    fetched = []

    def fetch(begin, buffer):
        fetched.append(len(buffer))
        return len(buffer)

    ranges = [(i * 1000, i * 1000 + 1000) for i in range(1000)]
    ahead = Ahead(fetch, ranges, Habits(0, 1000, 4), most_bytes=10_000)
    until = time.monotonic() + PATIENCE
    while sum(fetched) < 10_000 and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.2)  # in which more would come
    assert sum(fetched) == 10_000
    ahead.close()
    ahead.join()


def test_blocks_are_kept_up_to_a_bound_and_those_used_last_stay(server, data, monkeypatch):
    monkeypatch.setattr(ranged, "MOST_KEPT", 2 * AT_ONCE)
    served = server.put("/M001.rtdc", data)
    stored = opened(server)  # the first blocks are kept

    def is_asked_for(block):
        before = len(served.requests)
        assert read(stored, block * BLOCK + 9, 100) == data[block * BLOCK + 9 :][:100]
        return len(served.requests) > before

    assert [is_asked_for(block) for block in (8, 0, 16)] == [True, False, True]
    assert sum(map(len, stored._blocks.values())) == 2 * AT_ONCE * BLOCK
    # 16 to 19 have taken the place of 1, 2 and 3, and of 8; not of 0, which was used meanwhile
    assert [is_asked_for(block) for block in (0, 9, 10, 11, 19)] == [False] * 5
    assert [is_asked_for(block) for block in (8, 1)] == [True, True]


@pytest.mark.parametrize(("slow", "count"), [(PATIENCE, 4), (-1.0, 8)])
def test_more_is_under_way_where_it_takes_long(monkeypatch, slow, count):
    from sparsemed.storage import ahead
    from sparsemed.storage.stored import Habits

    monkeypatch.setattr(ahead, "SLOW", slow)
    ranges = [(i * 1000, i * 1000 + 1000) for i in range(100)]
    fetching = ahead.Ahead(lambda _, buffer: len(buffer), ranges, Habits(0, 1000, 4), 10**6)
    fetching.join()
    assert len(fetching._threads) == count


@pytest.mark.parametrize("most", [0, 1, 5])
def test_what_no_thread_fetches_is_left_to_the_reader(monkeypatch, most):
    from sparsemed.storage import ahead
    from sparsemed.storage.stored import Habits

    start, started = threading.Thread.start, []

    def start_few(thread):
        if len(started) == most:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(ahead, "SLOW", -1.0)
    monkeypatch.setattr(threading.Thread, "start", start_few)
    ranges = [(i * 1000, i * 1000 + 1000) for i in range(100)]
    fetching = ahead.Ahead(lambda _, buffer: len(buffer), ranges, Habits(0, 1000, 4), 10**6)
    assert [fetching.read_into(memoryview(bytearray(1000)), begin) for begin, _ in ranges].count(
        True
    ) >= min(most, 4)
    fetching.join()
    assert len(started) == most


def test_of_what_is_read_in_turn_more_is_fetched_each_time(server, data, monkeypatch):
    server.put("/M001.rtdc", data)
    stored = opened(server)
    counts = []
    fetch_all = stored._remote.fetch_all

    def counted(parts):
        counts.append(sum(len(buffer) for _, buffer in parts))
        fetch_all(parts)

    monkeypatch.setattr(stored._remote, "fetch_all", counted)
    assert read(stored, SIZE - 2 * BLOCK, 2 * BLOCK) == data[SIZE - 2 * BLOCK :]
    assert len(counts) == 1  # with the last block, which is shorter
    del counts[:]
    for offset in range(FIRST, FIRST + 28 * BLOCK, 1000):
        assert read(stored, offset, 1000) == data[offset : offset + 1000]
    assert [count // BLOCK for count in counts[:3]] == [4, 8, 16]
    del counts[:]
    assert read(stored, 5, 30 * BLOCK) == data[5 : 5 + 30 * BLOCK]
    assert not counts  # it is there


def test_ranges_of_several_places_come_in_one_round(server, data):
    all_are_there = threading.Barrier(8, timeout=PATIENCE / 10)

    def wait_for_others(request):
        all_are_there.wait()

    served = server.put("/M001.rtdc", data, fault=later(wait_for_others))
    stored = opened(server)
    places = [FIRST + i * 4 * BLOCK + 5 for i in range(8)]
    stored.gather([(place, place + 100) for place in places])
    count = len(served.requests)
    assert count == 9
    assert all(read(stored, place, 100) == data[place : place + 100] for place in places)
    stored.gather([(place, place + 100) for place in places])
    assert len(served.requests) == count


def test_it_can_be_opened_elsewhere_as_the_same(server, data):
    served = server.put("/M001.rtdc", data)
    opener = pickle.loads(pickle.dumps(opened(server).opener()))
    assert read(opener(), 5, 100) == data[5:105]
    served.etag = '"two"'
    assert "was changed" in error_of(read, opener(), 5, 100)


# Answers that are wrong


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (answers(200, {"Content-Length": str(100 * 2**20)}), "sends no parts of files"),
        (with_headers(Content_Encoding="gzip"), "compressed"),
        (with_headers(Content_Range="bytes 7-9/3000000"), "sent bytes 7 to 9"),
        (with_headers(Content_Range=None), "no Content-Range"),
        (with_headers(Content_Range="bytes 0-9/*"), "does not tell which part"),
        (with_headers(Content_Length="17"), "17 bytes"),
        (answers(403), "may not be read"),
        (answers(401), "may not be read"),
        (answers(404), "no such file"),
        (answers(410), "no such file"),
        (answers(416), "refuses to send parts"),
        (answers(301, {"x-amz-bucket-region": "eu-north-1"}), "AWS_REGION=eu-north-1"),
        (answers(500), "answers 500, 5 times"),
        (answers(204), "answers 204"),
        (answers(429, {"Retry-After": "1000"}), "wait for 1000 s"),
        (cut, "ends before its end, 5 times"),
        (longer, "longer than it should be, 5 times"),
    ],
)
def test_a_wrong_answer_ends_with_one_line(server, data, fault, told):
    for when in (lambda fault: fault, later):
        served = server.put("/M001.rtdc", data, fault=when(fault))
        if when is later:
            stored = opened(server)
            text = error_of(read, stored, FIRST, 10)
            assert served.requests[-1].number <= 1 + remote.TRIES
            count = len(served.requests)
            error_of(read, stored, FIRST, 10)  # it is not asked again and again
            assert len(served.requests) == count
        else:
            text = error_of(opened, server)
        later_told = {
            "sends no parts of files": "sends no parts of files",
            "may not be read": "link has expired",
            "no such file": "is gone",
            "refuses to send parts": "was changed",
        }
        assert told in text or (when is later and later_told[told] in text)


def test_what_is_forbidden_or_missing_is_asked_for_once(server, data):
    for status in (403, 404, 416):
        served = server.put("/M001.rtdc", data, fault=answers(status))
        error_of(opened, server)
        assert len(served.requests) == 1


@pytest.mark.parametrize(
    "fault",
    [
        cut,
        answers(503),
        answers(429, {"Retry-After": "0"}),
        lambda request: (request.hang_up(), True)[1],
    ],
)
def test_a_fault_that_passes_is_not_noticed(server, data, fault):
    served = server.put("/M001.rtdc", data, fault=once(fault))
    assert read(opened(server), FIRST, 1000) == data[FIRST : FIRST + 1000]
    assert len(served.requests) == 3


def test_two_faults_in_turn_pass(server, data):
    server.put("/M001.rtdc", data, fault=lambda r: r.number in (2, 3) and answers(503)(r))
    assert read(opened(server), FIRST, 1000) == data[FIRST : FIRST + 1000]


@pytest.mark.parametrize("as_date", [False, True])
def test_a_server_that_asks_to_wait_is_left_alone(server, data, as_date):
    began = time.monotonic()
    told = http_date(time.time() + 2) if as_date else "1"
    server.put("/M001.rtdc", data, fault=once(answers(429, {"Retry-After": told})))
    stored = opened(server)
    assert read(stored, FIRST, 10) == data[FIRST : FIRST + 10]
    assert time.monotonic() - began > 0.9


@pytest.mark.parametrize("where", ["before the headers", "within the body"])
def test_silence_ends(server, data, monkeypatch, where):
    monkeypatch.setattr(connections, "SILENCE_SECONDS", 0.1)

    def hang(request):
        if where == "within the body":
            told = {**request.about, "Content-Length": str(len(request.body))}
            request.send(206, told, request.body[:10])
            request.handler.wfile.flush()
        server.is_over.wait(2)
        request.hang_up()
        return True

    server.put("/M001.rtdc", data, fault=hang)
    assert "does not answer, 5 times" in error_of(opened, server)
    server.put("/M001.rtdc", data, fault=once(hang))
    assert read(opened(server), FIRST, 10) == data[FIRST : FIRST + 10]


def test_a_whole_small_file_does_where_there_are_no_parts(server, data):
    whole = lambda r: answers(200, {"ETag": '"one"'}, data)(r)  # noqa: E731
    served = server.put("/M001.rtdc", data, fault=whole)
    stored = opened(server)
    assert stored.size == SIZE
    assert read(stored, SIZE - 10, 10) == data[-10:]
    assert not stored.read_into(memoryview(bytearray(11)), SIZE - 10)
    stored.expect([(0, 100)])
    stored.gather([(9 * BLOCK, 9 * BLOCK + 100)])
    assert read(stored, 0, 100) == data[:100]
    assert len(served.requests) == 1


# A measurement that changes


def test_a_change_in_the_middle_is_noticed(server, data):
    for changes in (
        {"etag": '"two"'},
        {"etag": 'W/"one"', "modified": "Mon, 02 Mar 2026 10:00:07 GMT"},
        {"etag": None, "modified": "Mon, 02 Mar 2026 10:00:07 GMT"},
        {"data": data + b"more"},  # under the same ETag
        {"data": data[: SIZE // 2]},
    ):
        first = {"etag": '"one"', "modified": "Mon, 02 Mar 2026 10:00:00 GMT"}
        if "W/" in str(changes.get("etag")) or changes.get("etag", "") is None:
            first["etag"] = changes["etag"]
        served = server.put("/M001.rtdc", data, **first)
        stored = opened(server)
        for name, value in changes.items():
            setattr(served, name, value)
        assert "was changed" in error_of(read, stored, FIRST, 10), changes


def test_versions_are_the_same_as_far_as_both_tell():
    first, second = Version(5, '"a"', "Monday"), Version(5, '"b"', "Tuesday")
    assert first.is_same(first)
    assert not first.is_same(first._replace(size=6))
    assert not first.is_same(second._replace(modified="Monday"))
    assert first.is_same(second._replace(etag='"a"'))  # which was only copied
    assert first._replace(etag=None).is_same(first)
    assert not first._replace(etag=None).is_same(second)
    nothing = Version(5, None, None)
    assert nothing.is_same(nothing)
    assert not first.is_same(nothing)
    assert not nothing.is_same(first)


def test_a_server_is_asked_for_the_version_that_was_opened(server, data):
    served = server.put("/M001.rtdc", data, etag='"one"')
    read(opened(server), FIRST, 10)
    assert [request.headers["If-Match"] for request in served.requests] == [None, '"one"']


def test_a_weak_etag_is_no_condition(server, data):
    served = server.put("/M001.rtdc", data, etag='W/"one"')
    stored = opened(server)
    served.etag = 'W/"two"'
    assert read(stored, FIRST, 10) == data[FIRST : FIRST + 10]
    assert not any("If-Match" in request.headers for request in served.requests)


def test_it_is_known_whether_a_change_would_be_noticed(server, data):
    for told, is_known in (
        ({}, True),
        ({"etag": None}, True),
        ({"modified": None}, True),
        ({"etag": None, "modified": None}, False),
    ):
        server.put("/M001.rtdc", data, **told)
        assert opened(server).version.is_known is is_known


# Addresses


@pytest.mark.parametrize("name", ["raw data.rtdc", "a#b.rtdc", "50%.rtdc", "%41.rtdc", "grün.rtdc"])
def test_names_of_any_kind_are_found(server, data, name):
    server.put(f"/M001 {name}" if name != "%41.rtdc" else "/M001 A.rtdc", data)
    stored = opened(server, f"/M001 {name}")
    assert read(stored, 0, 10) == data[:10]
    assert stored.name.isascii()
    assert " " not in stored.name


def test_a_query_is_sent_and_never_shown(server, data):
    def fault(request):
        return request.query != "id=7&sig=S%2Fcret" and answers(403)(request)

    server.put("/M001.rtdc", data, fault=fault)
    stored = opened(server, "/M001.rtdc?id=7&sig=S%2Fcret")
    assert read(stored, FIRST, 10) == data[FIRST : FIRST + 10]
    assert "cret" not in f"{stored} {stored.name} {stored.state}"
    text = error_of(opened, server, "/M001.rtdc?id=8&sig=S%2Fcret")
    assert "cret" not in text
    assert place_of(server.url("/M001.rtdc?id=7")).record is None


def test_a_login_is_sent_and_never_shown(server, data):
    def fault(request):
        return request.headers.get("Authorization") is None and answers(401)(request)

    server.put("/M001.rtdc", data, fault=fault)
    address = server.url("/M001.rtdc").replace("//", "//me:pass%20word@")
    stored = RangedBytes(place_of(address))
    assert read(stored, FIRST, 10) == data[FIRST : FIRST + 10]
    assert "pass" not in f"{stored} {stored.key}"
    assert place_of(address).record is None


def test_a_host_in_upper_case_is_the_same(server, data):
    server.put("/M001.rtdc", data)
    address = server.url("/M001.rtdc").replace("http://127.0.0.1", "HTTP://LOCALHOST")
    assert is_remote(address)
    stored = RangedBytes(place_of(address))
    assert stored.name == f"http://localhost:{server.port}/M001.rtdc"
    assert place_of(address).record.url == stored.name


@pytest.mark.skipif(not socket.has_ipv6, reason="there is no IPv6")
def test_ipv6_is_spoken(data):
    try:
        context = serving(family=socket.AF_INET6)
        server = context.__enter__()
    except OSError:
        pytest.skip("there is no IPv6")
    server.put("/M001.rtdc", data)
    assert read(opened(server), FIRST, 10) == data[FIRST : FIRST + 10]
    context.__exit__(None, None, None)


def test_heads_are_not_asked_for(server, data):
    """The server of these tests refuses HEAD, as presigned links do."""
    server.put("/M001.rtdc", data)
    assert opened(server).size == SIZE


# Redirections


def redirecting(server, target):
    """Lead /M001.rtdc to a link, which is another one each time."""
    links = []

    def page(request):
        links.append(request)
        request.send(302, {"Location": target(len(links))})

    server.pages["/M001.rtdc"] = page
    return links


def test_a_link_that_expires_is_asked_for_anew(server, data):
    links = redirecting(server, lambda n: f"/bucket/object?sig={n}")
    expired = set()

    def fault(request):
        return request.query in expired and answers(403)(request)

    server.put("/bucket/object", data, fault=fault)
    stored = opened(server)
    assert len(links) == 1
    expired.add("sig=1")
    assert read(stored, FIRST, 10) == data[FIRST : FIRST + 10]
    assert len(links) == 2


def test_a_circle_of_redirections_ends(server):
    redirecting(server, lambda n: f"/M001.rtdc?{n}")
    assert "redirects too often" in error_of(opened, server)


def test_a_redirection_leads_to_no_file_of_this_machine(server):
    redirecting(server, lambda _: "file:///etc/passwd")
    assert "no file in a network" in error_of(opened, server)


def test_a_public_host_does_not_lead_into_this_network(server, data, monkeypatch):
    server.put("/object", data)
    with serving() as other:
        # the one port counts as public, the other as what it is
        monkeypatch.setattr(connections, "leads_to_public", lambda url, _: url.port == server.port)
        monkeypatch.setattr(remote.connections, "leads_to_public", connections.leads_to_public)
        redirecting(server, lambda _: other.url("/object"))
        served = other.put("/object", data)
        assert "not followed" in error_of(opened, server)
        assert not served.requests


def test_a_token_stays_with_its_host(server, data):
    with serving() as other:
        served = other.put("/object", data)
        redirecting(server, lambda _: other.url("/object"))
        address = server.url("/M001.rtdc").replace("//", "//me:password@")
        read(RangedBytes(place_of(address)), 0, 10)
        assert not any("Authorization" in request.headers for request in served.requests)


class WithToken(WebPlace):
    def way(self, *_):
        return Way(self.url, "Bearer secret")


@pytest.mark.parametrize("is_same", [True, False])
def test_a_header_is_sent_on_only_to_the_same_host(server, data, is_same):
    with serving() as other:
        target = server if is_same else other
        served = target.put("/object", data)
        redirecting(server, lambda _: target.url("/object"))
        RangedBytes(WithToken(*place_of(server.url("/M001.rtdc"))))
        shown = {request.headers.get("Authorization") for request in served.requests}
        assert shown == {"Bearer secret" if is_same else None}


def test_a_link_is_renewed_before_it_expires(server, data):
    server.put("/M001.rtdc", data)
    asked = []

    class Expiring(WebPlace):
        def way(self, *_):
            asked.append(self)
            return Way(self.url, until=time.time() + (10 if len(asked) == 1 else 1000))

    stored = RangedBytes(Expiring(*place_of(server.url("/M001.rtdc"))))
    for block in (9, 19, 29):
        read(stored, block * BLOCK, 10)
    assert len(asked) == 2


def test_a_safe_connection_does_not_lead_to_another():
    way = Way(parse_url("https://data.example.org/M001.rtdc"))
    asked = remote.RemoteObject(place_of(way.url.shown))
    with pytest.raises(remote._TurnError):
        asked._follow(way, "https://data.example.org/other")
    with pytest.raises(OSError, match="leads from https to http, which is not followed"):
        asked._follow(way, "http://data.example.org/other")


def test_connections_are_used_again_unless_they_were_idle_for_long(server, data, monkeypatch):
    server.put("/M001.rtdc", data)
    made = []
    connect = connections._connect
    monkeypatch.setattr(connections, "_connect", lambda *a: made.append(a) or connect(*a))
    connections.hang_up()
    counts = []
    for seconds in (connections._KEPT_SECONDS, connections._KEPT_SECONDS, 0):
        monkeypatch.setattr(connections, "_KEPT_SECONDS", seconds)
        opened(server)
        counts.append(len(made))
    assert counts == [1, 1, 2]


def test_hosts_can_be_refused(server, data):
    served = server.put("/M001.rtdc", data)
    assert "not followed" in error_of(lambda: opened(server, guard=connections.is_public))
    assert not served.requests


def test_hosts_are_refused_wherever_it_is_opened(server, data):
    server.put("/M001.rtdc", data)
    allowed = [True]
    opener = opened(server, guard=lambda _: allowed[0]).opener()
    allowed[0] = False
    connections.hang_up()
    assert "not followed" in error_of(read, opener(), 0, 10)


@pytest.mark.parametrize(
    ("address", "is_public"),
    [
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("169.254.169.254", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("::ffff:127.0.0.1", False),
        ("192.168.0.1", False),
        ("8.8.8.8", True),
        ("2001:4860:4860::8888", True),
    ],
)
def test_which_addresses_are_public(address, is_public):
    assert connections.is_public(address) is is_public


# Processes, signals, garbage


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_it_can_be_read_after_a_fork(server, data):
    server.put("/M001.rtdc", data)
    stored = opened(server)
    stored.expect([(0, 1000), (FIRST, FIRST + 1000)])
    read(stored, 0, 1000)
    child = os.fork()
    if child == 0:
        stored.gather([(FIRST, FIRST + 1000)])  # not by what belongs to the other process
        is_right = stored._process == os.getpid()
        is_right &= read(stored, FIRST, 1000) == data[FIRST : FIRST + 1000]
        os._exit(0 if is_right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert read(stored, FIRST, 1000) == data[FIRST : FIRST + 1000]


@pytest.fixture
def silent():
    """A server that takes connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield silent


@pytest.fixture
def busy():
    """A server that takes no more connections, and does not refuse them."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as busy, contextlib.ExitStack() as stack:
        for _ in range(100):
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(0.1)
            if waiting.connect_ex(busy.getsockname()):
                break
        else:
            pytest.skip("this system takes all connections")
        yield busy


def is_begun(stored, port):
    """Whether there is a socket for a server, at the least."""
    in_use = stored._remote._calls._connections.copy()
    return any(each.port == port and each.sock is not None for each in in_use)


@pytest.mark.parametrize("waits_for", ["an answer", "a greeting", "a connection"])
def test_closing_ends_what_waits(server, silent, busy, data, monkeypatch, waits_for):
    monkeypatch.setattr(connections, "SILENCE_SECONDS", PATIENCE)
    monkeypatch.setattr(connections, "CONNECT_SECONDS", PATIENCE)
    other = {"a greeting": silent, "a connection": busy}.get(waits_for)
    port = server.port if other is None else other.getsockname()[1]

    def hang(request):
        if other is None:
            return server.is_over.wait(PATIENCE)
        scheme = "https" if other is silent else "http"
        request.send(302, {"Location": f"{scheme}://127.0.0.1:{port}/"})
        return True

    served = server.put("/M001.rtdc", data, fault=later(hang))
    stored = opened(server)
    ended = []

    def wait():
        try:
            read(stored, FIRST, 10)
        except OSError as error:
            ended.append(str(error))

    thread = threading.Thread(target=wait)
    thread.start()
    until = time.monotonic() + PATIENCE
    while not is_begun(stored, port) and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.2)
    stored.close()
    thread.join(PATIENCE / 10)
    assert not thread.is_alive()
    assert "ended" in ended[0]
    served.fault = None
    assert read(stored, FIRST, 10) == data[FIRST : FIRST + 10]  # reading begins anew


def test_who_was_told_to_close_while_a_name_is_looked_up_connects_to_nobody(silent, monkeypatch):
    calls = connections.Calls()
    look_up = socket.getaddrinfo

    def look_up_long(*about):
        calls.end()
        return look_up(*about)

    monkeypatch.setattr(socket, "getaddrinfo", look_up_long)
    url = parse_url(f"http://127.0.0.1:{silent.getsockname()[1]}/M001.rtdc")
    with pytest.raises(OSError, match="reading was ended"):
        connections._connect(url, lambda _: True, calls)
    silent.settimeout(0)
    with pytest.raises(BlockingIOError):
        silent.accept()


# Whom to trust


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", *connections.CA_VARIABLES])
def test_an_authority_of_ones_own_is_trusted(data, tmp_path, monkeypatch, variable):
    context, bundle = vouch(tmp_path)
    for name in ("SSL_CERT_FILE", *connections.CA_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    with serving(context=context) as server:
        served = server.put("/M001.rtdc", data)
        assert "the certificate of 127.0.0.1 is not trusted" in error_of(opened, server)
        assert not served.requests
        monkeypatch.setenv(variable, str(bundle))
        assert read(opened(server), FIRST, 10) == data[FIRST : FIRST + 10]


@pytest.mark.parametrize("variable", connections.CA_VARIABLES)
def test_authorities_that_cannot_be_read_are_told(data, tmp_path, monkeypatch, variable):
    with serving() as server:
        server.put("/M001.rtdc", data)
        address = server.url("/M001.rtdc").replace("http:", "https:")
        for content in (None, "no certificate"):
            bundle = tmp_path / "bundle.pem"
            if content is not None:
                bundle.write_text(content)
            monkeypatch.setenv(variable, str(bundle))
            text = error_of(RangedBytes, place_of(address))
            assert f"{variable} names {bundle}, which has no readable certificates" in text


def test_calls_end_with_connections_that_have_not_begun_or_are_closed():
    new, closed = http.client.HTTPConnection("a"), http.client.HTTPConnection("b")
    here, there = socket.socketpair()
    calls = connections.Calls()
    with here, there:
        closed.sock = socket.socket()
        closed.sock.close()
        used = http.client.HTTPConnection("c")
        used.sock = here
        for each in (new, closed, used):
            calls.begin(each)
        calls.end()
        assert there.recv(1) == b""
    assert calls.is_over
