"""Which objects names lead to, who asks for them, and what is never told."""

import os
import pickle
import socket
import sys
import time
import types
from pathlib import Path

import psutil
import pytest
from storage.authority import vouch
from storage.dcor_server import PAGE, SERVICE, UUID, Dcor
from storage.proxy import Proxy

from benchmarks.serving import serving
from sparsemed.storage import connections, remote
from sparsemed.storage.dcor import DcorPlace, dcor_resource
from sparsemed.storage.place import Record
from sparsemed.storage.places import basin_place, is_remote, locate, place_of
from sparsemed.storage.ranged import RangedBytes
from sparsemed.storage.s3 import SIGNED_SECONDS, S3Place
from sparsemed.storage.urls import parse_url

CONTENT = bytes(range(256)) * 4000


@pytest.fixture(autouse=True)
def nobody(monkeypatch, tmp_path):
    """Use no credentials of the user who runs the tests, and do not pause."""
    for name in (
        "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE",
        "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION",
        "DCLAB_S3_ACCESS_KEY_ID", "DCLAB_S3_SECRET_ACCESS_KEY", "DCLAB_S3_ENDPOINT_URL",
        "DCOR_API_TOKEN", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy",
        "no_proxy", "NO_PROXY", "ALL_PROXY",
    ):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setattr(remote, "PAUSES", (0.01, 0.01, 0.01, 0.01))


@pytest.fixture
def server():
    with serving() as server:
        yield server


def content_of(name):
    stored = RangedBytes(place_of(name))
    buffer = bytearray(stored.size)
    assert stored.read_into(memoryview(buffer), 0)
    return bytes(buffer)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("https://host/M001.rtdc", True),
        ("HTTP://host/M001.rtdc", True),
        ("s3://bucket/M001.rtdc", True),
        ("M001.rtdc", False),
        ("/data/https:/M001.rtdc", False),
        ("C:\\data\\M001.rtdc", False),
        (None, False),
    ],
)
def test_what_is_in_a_network(name, expected):
    assert is_remote(name) is expected


@pytest.mark.parametrize(
    "text",
    [
        "http://",
        "http:///path",
        "https://host:port/x",
        "https://host:0/x",
        "https://[::g]/x",
        "https://a b/x",
        "s3://bucket",
        "s3:///key",
    ],
)
def test_what_is_no_address_is_told(text):
    with pytest.raises(ValueError, match=r"no (address|name)"):
        place_of(text)


def test_only_names_of_objects_are_no_paths(tmp_path):
    assert locate(str(tmp_path)) == locate(tmp_path) == tmp_path
    remote_path = locate("s3://bucket/a b/M001.rtdc")
    assert locate(remote_path) is remote_path is remote_path.absolute()
    assert pickle.loads(pickle.dumps(remote_path)) == remote_path
    with pytest.raises(TypeError):
        os.stat(remote_path)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("https://host/.M001.rtdc", "M001.rtdc"),
        ("https://host/a%3Ab*.rtdc", "a_b_.rtdc"),
        (f"https://host/{'x' * 300}.rtdc", f"{'x' * 195}.rtdc"),
        ("s3://bucket/key/...", "object"),
        ("https://host/folder/", "object"),
    ],
)
def test_a_copy_has_a_name_that_is_valid_everywhere(address, name):
    assert locate(address).name == name


@pytest.mark.skipif(os.name == "nt", reason="names have no colon there")
def test_a_file_that_is_there_is_no_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run:").mkdir()
    (tmp_path / "run:" / "M001.rtdc").touch()
    assert locate("run://M001.rtdc") == Path("run:/M001.rtdc")


def test_no_secret_of_an_address_is_told():
    path = locate("https://me:password@host/M001.rtdc?X-Amz-Signature=secret")
    assert str(path) == "https://host/M001.rtdc"
    assert (path.name, path.stem, path.suffix) == ("M001.rtdc", "M001", ".rtdc")
    with pytest.raises(ValueError, match="no name of a host") as caught:
        place_of("https://me:password@bad host/M001.rtdc?X-Amz-Signature=secret")
    assert "secret" not in str(caught.value)
    assert "password" not in str(caught.value)


# S3, against a server that checks signatures itself only for being there


@pytest.fixture
def bucket(object_store, monkeypatch):
    """Return a function that puts an object into a bucket, for anybody to read."""
    import boto3

    url = object_store["AWS_ENDPOINT_URL"]
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys)
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    yield lambda name: client.put_object(Bucket="cells", Key=name, Body=CONTENT, ACL="public-read")
    client.close()


@pytest.mark.parametrize(
    "name", ["M001.rtdc", "a b/c#d.rtdc", "50%.rtdc", "%41.rtdc", "grün+1.rtdc"]
)
@pytest.mark.parametrize("is_known", [False, True])
def test_objects_of_any_name_are_read_from_s3(bucket, monkeypatch, name, is_known):
    bucket(name)
    if is_known:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    assert content_of(f"s3://cells/{name}") == CONTENT


def test_requests_for_s3_are_signed_by_whoever_we_are(server, monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url(""))
    served = server.put("/cells/M001.rtdc", CONTENT)
    asked = lambda: (content_of("s3://cells/M001.rtdc"), served.requests[-1].query)[1]  # noqa: E731
    assert asked() == ""
    (tmp_path / "credentials").write_text(
        "[other]\naws_access_key_id = OTHER\naws_secret_access_key = hidden\n"
        "aws_session_token = TOKEN\n"
    )
    assert asked() == ""
    monkeypatch.setenv("AWS_PROFILE", "other")
    assert "X-Amz-Credential=OTHER%2F" in asked()
    assert "X-Amz-Security-Token=TOKEN" in asked()
    monkeypatch.setenv("DCLAB_S3_ACCESS_KEY_ID", "DCLAB")
    monkeypatch.setenv("DCLAB_S3_SECRET_ACCESS_KEY", "hidden")
    assert "X-Amz-Credential=DCLAB%2F" in asked()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AWS")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    assert "X-Amz-Credential=AWS%2F" in asked()
    assert all("hidden" not in request.query for request in served.requests)


def test_a_profile_without_keys_asks_nobody(monkeypatch, tmp_path):
    """The address that tells machines in a cloud who they are is not asked."""
    (tmp_path / "config").write_text("[profile empty]\nregion = us-east-1\n")
    monkeypatch.setenv("AWS_PROFILE", "empty")
    asked = []
    monkeypatch.setattr(socket, "create_connection", lambda *args, **_: asked.append(args))
    for profile in ("empty", "missing"):
        monkeypatch.setenv("AWS_PROFILE", profile)
        with pytest.raises(OSError, match=f"the profile '{profile}' .*check AWS_PROFILE"):
            place_of("s3://cells/M001.rtdc").way(connections.Calls())
    assert not asked


def test_how_others_find_an_object(monkeypatch):
    assert place_of("https://HOST/a b.rtdc").record == Record("http", "https://host/a%20b.rtdc")
    assert place_of("https://host/M001.rtdc?X-Amz-Signature=secret").record is None
    place = S3Place("cells", "a b/grün#1.rtdc", "https://store.example.org/")
    address = "https://store.example.org/cells/a%20b/gr%C3%BCn%231.rtdc"
    assert place.record == Record("http", address)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    assert place.record == Record("s3", address)
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    assert S3Place("cells", "M").record.url == "https://s3.eu-north-1.amazonaws.com/cells/M"


def test_dclab_takes_these_addresses(monkeypatch):
    from dclab.http_utils import is_http_url
    from dclab.rtdc_dataset.fmt_dcor.basin import is_full_dcor_url
    from dclab.rtdc_dataset.fmt_s3 import get_endpoint_url, get_object_path, is_s3_url

    assert is_http_url(place_of("https://HOST:8080/a b.rtdc").record.url)
    url = S3Place("cells", "a/b.rtdc", "https://store.example.org").record.url
    assert is_s3_url(url)
    assert get_endpoint_url(url) == "https://store.example.org:443"
    assert get_object_path(url) == "cells/a/b.rtdc"
    page = f"https://dcor.mpl.mpg.de/dataset/some/resource/{UUID}"
    assert is_full_dcor_url(DcorPlace(*dcor_resource(parse_url(page))).shown)


# DCOR


@pytest.mark.parametrize("path", [PAGE, f"{SERVICE}?id={UUID}"])
def test_a_resource_of_dcor_is_read(server, path):
    Dcor(server, CONTENT)
    assert content_of(server.url(path)) == CONTENT
    assert place_of(server.url(path)).record == Record("http", server.url("/object"))


def test_a_private_resource_takes_a_token(server, monkeypatch):
    dcor = Dcor(server, CONTENT, token="secret")
    address = server.url(PAGE)
    with pytest.raises(PermissionError, match="DCOR_API_TOKEN") as caught:
        content_of(address)
    monkeypatch.setenv("DCOR_API_TOKEN", "wrong")
    with pytest.raises(PermissionError, match="it is private"):
        content_of(address)
    assert "wrong" not in str(caught.value)
    handler = types.SimpleNamespace(APIHandler=types.SimpleNamespace(api_keys=["secret"]))
    monkeypatch.setitem(sys.modules, "dclab.rtdc_dataset.fmt_dcor.api", handler)
    assert content_of(address) == CONTENT
    assert dcor.asked == 1
    assert place_of(address).record == Record("dcor", server.url(f"{SERVICE}?id={UUID}"))
    assert not any(
        request.headers.get("Authorization") for request in server.objects["/object"].requests
    )


@pytest.mark.parametrize("is_told", [True, False])
def test_a_link_of_dcor_is_renewed(server, monkeypatch, is_told):
    """Be it before it expires, or when it is refused."""
    monkeypatch.setenv("DCOR_API_TOKEN", "secret")
    dcor = Dcor(server, CONTENT, token="secret", lasts=2000)
    stored = RangedBytes(place_of(server.url(PAGE)))
    if is_told:
        monkeypatch.setattr(remote, "_EARLY", 2300)  # as if so many seconds had gone by
    else:
        dcor.expire()
    buffer = bytearray(10)
    assert stored.read_into(memoryview(buffer), 700_000)
    assert bytes(buffer) == CONTENT[700_000:700_010]
    assert dcor.asked == 2
    refused = [each for each in server.objects["/object"].requests if each.query == "sig=1"]
    assert len(refused) == (1 if is_told else 2)


def test_an_older_dcor_says_less_of_its_links(server, monkeypatch):
    monkeypatch.setenv("DCOR_API_TOKEN", "secret")
    dcor = Dcor(server, CONTENT, token="secret")
    answer = dcor.basins
    told = ("format", "type", "mapping", "urls")
    dcor.basins = lambda: [
        {"name": each["name"].partition("-")[0], **{name: each[name] for name in told}}
        for each in answer()
    ]
    stored = RangedBytes(place_of(server.url(PAGE)))
    dcor.expire()
    buffer = bytearray(10)
    assert stored.read_into(memoryview(buffer), 700_000)
    assert bytes(buffer) == CONTENT[700_000:700_010]
    assert dcor.asked == 2


def test_an_authority_of_ones_own_vouches_for_dcor(tmp_path, monkeypatch):
    context, bundle = vouch(tmp_path)
    with serving(context=context) as server:
        Dcor(server, CONTENT)
        with pytest.raises(OSError, match=r"dcserv.* the certificate of 127.* is not trusted"):
            content_of(server.url(PAGE))
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
        assert content_of(server.url(PAGE)) == CONTENT


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b'{"success": true}', b'{"success": true, "result": 3}']
)
def test_what_is_no_answer_of_dcor_is_told(server, body):
    server.pages[SERVICE] = lambda page: page.send(200, {}, body)
    with pytest.raises(OSError, match=r"does not answer as DCOR does|does not tell where"):
        content_of(server.url(PAGE))


@pytest.mark.parametrize("is_private", [False, True])
def test_a_dcor_that_leads_to_https_is_followed(server, safe, monkeypatch, is_private):
    """Its tokens go nowhere else."""
    monkeypatch.setenv("DCOR_API_TOKEN", "secret")
    dcor = Dcor(safe, CONTENT, "secret" if is_private else None)
    asked = []

    def lead(page):
        asked.append(page.headers.get("Authorization"))
        page.send(301, {"Location": safe.url(f"{SERVICE}?{page.query}")})

    server.pages[SERVICE] = lead
    assert content_of(server.url(PAGE)) == CONTENT
    assert dcor.asked == 1
    assert asked == [None]


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("https://other.example.org/api", "leads to https://other.example.org/api, which is not"),
        ("file:///etc/passwd", "leads to an address that is none; check"),
        (f"{SERVICE}?again", r"DCOR answers 302; check the address"),
    ],
)
def test_a_dcor_that_leads_elsewhere_is_told(server, location, told):
    server.pages[SERVICE] = lambda page: page.send(302, {"Location": location})
    with pytest.raises(OSError, match=told):
        content_of(server.url(PAGE))


def test_a_dcor_does_not_lead_from_https_to_http(server, safe):
    Dcor(server, CONTENT)
    safe.pages[SERVICE] = lambda page: page.send(302, {"Location": server.url(SERVICE)})
    with pytest.raises(OSError, match=r"leads to http://127.* which is not followed"):
        content_of(safe.url(PAGE))


# A proxy


@pytest.fixture
def proxy(monkeypatch):
    proxy = Proxy()
    yield proxy
    connections.hang_up()
    proxy.close()


@pytest.fixture
def safe(tmp_path, monkeypatch):
    """A server with TLS, as which 127.0.0.1 and a host of another network are known."""
    context, bundle = vouch(tmp_path, "data.example.org")
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    with serving(context=context) as safe:
        safe.put("/M001.rtdc", CONTENT)
        yield safe


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY"])
def test_a_proxy_is_asked_for_whole_addresses(server, proxy, monkeypatch, variable):
    served = server.put("/M001.rtdc", CONTENT)
    monkeypatch.setenv(variable, f"http://me:word@127.0.0.1:{proxy.port}")
    assert content_of(server.url("/M001.rtdc")) == CONTENT
    assert proxy.heads[0].startswith(f"GET {server.url('/M001.rtdc')} HTTP/1.1")
    assert "Proxy-Authorization: Basic" in proxy.heads[0]
    count = len(proxy.heads)
    connections.hang_up()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert content_of(server.url("/M001.rtdc")) == CONTENT
    assert len(proxy.heads) == count
    assert len(served.requests) > count


@pytest.mark.parametrize("variable", ["https_proxy", "HTTPS_PROXY"])
def test_a_proxy_lets_https_through_a_tunnel(safe, proxy, monkeypatch, variable):
    monkeypatch.setenv(variable, f"http://me:word@127.0.0.1:{proxy.port}")
    address = safe.url("/M001.rtdc?signature=secret")
    assert content_of(address) == CONTENT
    assert all(head.startswith(f"CONNECT 127.0.0.1:{safe.port} HTTP/1.") for head in proxy.heads)
    assert "Proxy-Authorization: Basic" in proxy.heads[0]
    assert "secret" not in "".join(proxy.heads)
    requests = safe.objects["/M001.rtdc"].requests
    assert not any("Proxy-Authorization" in request.headers for request in requests)
    count = len(proxy.heads)
    connections.hang_up()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert content_of(address) == CONTENT
    assert len(proxy.heads) == count


def test_a_proxy_looks_up_hosts_that_it_alone_knows(safe, proxy, monkeypatch):
    monkeypatch.setenv("https_proxy", f"127.0.0.1:{proxy.port}")
    proxy.hosts["data.example.org"] = safe.port
    assert content_of("https://data.example.org/M001.rtdc") == CONTENT
    proxy.hosts["other.example.org"] = safe.port
    connections.hang_up()
    with pytest.raises(OSError, match=r"certificate of other\.example\.org is not trusted"):
        content_of("https://other.example.org/M001.rtdc")


@pytest.mark.parametrize(
    ("status", "count", "told"),
    [
        (407, 1, "add name and password to the variable"),
        (403, 1, r"the proxy refuses it \(403\); .* add it to no_proxy"),
        (502, 5, "the proxy refuses it, 5 times"),
    ],
)
def test_a_proxy_that_lets_nothing_pass_is_told(safe, proxy, monkeypatch, status, count, told):
    monkeypatch.setenv("https_proxy", f"http://me:password@127.0.0.1:{proxy.port}")
    proxy.answer = f"HTTP/1.1 {status} Secret\r\nContent-Length: 0\r\n\r\n".encode()
    with pytest.raises(OSError, match=told) as caught:
        content_of(safe.url("/M001.rtdc"))
    assert len(proxy.heads) == count
    assert "Secret" not in str(caught.value)
    assert "password" not in str(caught.value).replace("name and password", "").replace(
        "name:password", ""
    )


def test_a_refusal_of_a_proxy_leaves_nothing_open(proxy, monkeypatch):
    """Also while its error is kept; Python up to 3.11.2 left that to the garbage collection."""
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
    proxy.answer = b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"
    url = parse_url("https://cells.example.org/M001.rtdc")
    with pytest.raises(OSError, match="403 No") as kept:
        connections._connect(url, lambda _: True, connections.Calls())
    found = [each.raddr.port for each in psutil.Process().net_connections("tcp") if each.raddr]
    assert proxy.port not in found
    assert kept.value


def test_a_proxy_that_asks_who_one_is_in_place_of_a_server_is_told(server, proxy, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
    proxy.answer = b"HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n"
    with pytest.raises(OSError, match="the proxy asks for a login"):
        content_of(server.url("/M001.rtdc"))


def test_a_proxy_that_cannot_be_is_told(server, monkeypatch):
    for value in ("http://127.0.0.1:port", "http://", "ftp://127.0.0.1:9"):
        monkeypatch.setenv("http_proxy", value)
        with pytest.raises(OSError, match="http_proxy must be a proxy like http://host:port"):
            content_of(server.url("/M001.rtdc"))


@pytest.mark.parametrize("variable", ["all_proxy", "ALL_PROXY"])
def test_a_proxy_for_all_is_used_where_no_other_is_named(
    server, safe, proxy, monkeypatch, variable
):
    server.put("/M001.rtdc", CONTENT)
    monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.port}")
    for each in (server, safe):
        count = len(proxy.heads)
        assert content_of(each.url("/M001.rtdc")) == CONTENT
        assert len(proxy.heads) > count
    connections.hang_up()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert content_of(safe.url("/M001.rtdc")) == CONTENT
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv(variable, "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
    connections.hang_up()
    assert content_of(server.url("/M001.rtdc")) == CONTENT


@pytest.mark.parametrize("variable", ["https_proxy", "all_proxy"])
@pytest.mark.parametrize("scheme", ["socks4", "socks5", "socks5h"])
def test_a_socks_proxy_is_an_error_and_no_direct_connection(safe, monkeypatch, variable, scheme):
    monkeypatch.setenv(variable, f"{scheme}://me:word@127.0.0.1:9")
    told = rf"{variable} is a SOCKS proxy, which is not supported; set https_proxy to"
    with pytest.raises(OSError, match=told) as caught:
        content_of(safe.url("/M001.rtdc"))
    assert "word" not in str(caught.value)
    assert not safe.objects["/M001.rtdc"].requests
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert content_of(safe.url("/M001.rtdc")) == CONTENT


def test_a_login_that_a_file_names_is_not_sent():
    found = basin_place("https://me:password@host/M001.rtdc", "http")
    assert found.key == "https://host/M001.rtdc"
    assert found.record.url == found.key


def test_tokens_go_to_no_instance_that_a_file_names():
    for host, has_token in (("dcor.mpl.mpg.de", True), ("dcor.example.org", False)):
        found = basin_place(f"https://{host}{SERVICE}?id={UUID}", "dcor")
        assert isinstance(found, DcorPlace)
        assert found.has_token == has_token


def test_an_address_of_numbers_is_in_brackets():
    url = parse_url("http://[::1]:8080/a?b=1")
    assert (url.netloc, url.host) == ("[::1]:8080", "::1")
    assert url.whole == "http://[::1]:8080/a?b=1"
    assert parse_url("http://[::1]/a").shown == "http://[::1]/a"


def test_a_signature_is_renewed_before_it_ends(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    left = S3Place("cells", "M001.rtdc").way(None).until - time.time()
    assert left == pytest.approx(SIGNED_SECONDS, abs=60)


@pytest.mark.parametrize("name", ["ftp://host/M001.rtdc", "gs://b/a.zarr", "file:///a/M001.rtdc"])
def test_addresses_that_are_not_read_are_told_from_missing_files(name):
    with pytest.raises(ValueError, match=r"addresses of \w+: are not read, only those of https:"):
        locate(name)


@pytest.mark.parametrize("name", ["", "M001\0.rtdc"])
def test_an_empty_name_does_not_mean_the_working_folder(name):
    with pytest.raises(ValueError, match="is no name of a file"):
        locate(name)
