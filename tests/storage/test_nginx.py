"""A real web server hands out a file, in parts."""

import os
import random
import shutil
import socket
import subprocess
import time

import pytest
from patience import PATIENCE

from sparsemed.storage import connections
from sparsemed.storage.places import place_of
from sparsemed.storage.ranged import RangedBytes

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")

CONFIGURATION = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/errors;
events {{}}
http {{
  access_log off; default_type application/octet-stream; gzip on; gzip_types *;
  client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
  uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
  server {{ listen 127.0.0.1:{port}; root {folder}/files; }}
}}
"""


@pytest.fixture
def server(tmp_path):
    if NGINX is None:
        pytest.skip("there is no nginx")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    (tmp_path / "files").mkdir()
    (tmp_path / "nginx.conf").write_text(CONFIGURATION.format(folder=tmp_path, port=port))
    command = [NGINX, "-e", str(tmp_path / "errors"), "-c", str(tmp_path / "nginx.conf")]
    with subprocess.Popen(command) as process:
        try:
            until = time.monotonic() + PATIENCE
            while process.poll() is None and time.monotonic() < until:
                with socket.socket() as probe:
                    if not probe.connect_ex(("127.0.0.1", port)):
                        break
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            connections.hang_up()


def test_a_file_of_nginx_is_read(server, tmp_path):
    content = random.Random(1).randbytes(5_000_000)
    file = tmp_path / "files" / "M 1.rtdc"
    file.write_bytes(content)
    stored = RangedBytes(place_of(f"{server}/M 1.rtdc"))
    assert stored.size == len(content)
    assert stored.version.etag is not None
    ranges = [(begin, begin + 99_999) for begin in range(0, 4_900_000, 100_000)]
    stored.expect(ranges)
    for begin, end in ranges:
        buffer = bytearray(end - begin)
        assert stored.read_into(memoryview(buffer), begin)
        assert buffer == content[begin:end]
    stored.close()
    file.write_bytes(content[::-1])
    os.utime(file, (1, 1))
    with pytest.raises(OSError, match=r"M%201.rtdc: was changed"):
        stored.read_into(memoryview(bytearray(10)), 3_000_000)
