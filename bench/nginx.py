"""nginx as the receiver: answers 204 to everything, and counts."""

import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.receivers import closed_port

CONFIG = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error crit;
worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 300s;
  client_body_temp_path {folder}/body; client_body_buffer_size 64k;
  proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port} backlog=16384;
    location / {{ return 204; }}
    location = /stub {{ stub_status; }}
  }}
}}
"""


class Nginx:
    """`count()` is how many requests it has had, but for those that asked for the count."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._asked = 0

    def count(self) -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/stub", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        self._asked += 1
        return int(lines[2].split()[2]) - self._asked


def available() -> bool:
    return shutil.which("nginx") is not None


@contextmanager
def nginx() -> Iterator[Nginx]:
    """One nginx process on a free port."""
    with tempfile.TemporaryDirectory(prefix="thorn-bench-") as folder:
        port = closed_port()
        config = Path(folder, "nginx.conf")
        config.write_text(CONFIG.format(folder=folder, port=port))
        process = subprocess.Popen(["nginx", "-p", folder, "-c", str(config)])
        one = Nginx(port)
        try:
            _wait(one)
            yield one
        finally:
            process.terminate()
            process.wait(10)


def _wait(one: Nginx) -> None:
    for _ in range(500):
        try:
            one.count()
        except OSError:
            time.sleep(0.01)
            continue
        return
    raise RuntimeError("nginx did not start")
