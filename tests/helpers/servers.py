"""Real servers and tools for tests: started, known to be ready, stopped, nothing left behind.

Each is a context manager. *prefix* goes before the command line, as in
``ip netns exec NAME``; without it a server listens on the host's loopback.
"""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trustme

ROOT: Final = Path(__file__).resolve().parents[2]
# Debian keeps servers where an ordinary user's PATH does not look.
PATH: Final = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
READY_SECONDS: Final = 20.0


class Program:
    """A running process whose output (both streams) is read as it comes."""

    def __init__(self, *command: str, env: Mapping[str, str] | None = None) -> None:
        self.command = command
        self.lines: list[str] = []
        self._grew = threading.Condition()
        self._ended = False
        self.process = subprocess.Popen(
            command,
            env={**(os.environ if env is None else env), "PATH": PATH},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._grew:
                self.lines.append(line.rstrip("\n"))
                self._grew.notify_all()
        with self._grew:
            self._ended = True
            self._grew.notify_all()

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, text: str, seconds: float = READY_SECONDS) -> str:
        """The first line that holds *text*; AssertionError with the output if none comes."""

        def found() -> str | None:
            return next((line for line in self.lines if text in line), None)

        with self._grew:
            self._grew.wait_for(lambda: found() is not None or self._ended, seconds)
            line = found()
        why = "ended" if self._ended else f"{seconds} s passed"
        assert line is not None, f"{why} before {self.command} said {text!r}:\n{self.output}"
        return line

    def wait(self, seconds: float = READY_SECONDS) -> int:
        """The exit status, once the output is read to its end."""
        status = self.process.wait(seconds)
        self._reader.join(seconds)
        return status

    def close(self) -> None:
        """Ask the process to end, insist after a while."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(3)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join(3)
        if self.process.stdout is not None and not self._reader.is_alive():
            self.process.stdout.close()


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port of the host that nobody has right now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Blob:
    """A file of bytes that do not repeat, and what they hash to."""

    path: Path
    size: int
    sha256: str


def blob(path: Path, size: int) -> Blob:
    """Make a file of *size* bytes at *path*; the same bytes for the same size."""
    data = hashlib.shake_256(b"%d" % size).digest(size)
    path.write_bytes(data)
    return Blob(path, size, hashlib.sha256(data).hexdigest())


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class Certificate:
    """A server's key and chain, and the authority that clients have to trust."""

    authority: Path
    chain: Path

    @classmethod
    def make(cls, folder: Path, *names: str) -> Certificate:
        """For the host names and addresses *names*, as files in *folder*."""
        ca = trustme.CA()
        made = cls(folder / "ca.pem", folder / "chain.pem")
        ca.cert_pem.write_to_path(str(made.authority))
        ca.issue_cert(*names).private_key_and_cert_chain_pem.write_to_path(str(made.chain))
        return made

    def context(self) -> ssl.SSLContext:
        """A client's, that trusts this authority alone."""
        return ssl.create_default_context(cafile=str(self.authority))


@dataclass(frozen=True, slots=True)
class Web:
    """An nginx: GET below /, PUT below /up/, both served from and into *root*."""

    host: str
    port: int
    tls_port: int
    root: Path

    def url(self, path: str, host: str | None = None) -> str:
        return f"http://{host or self.host}:{self.port}/{path}"

    def tls_url(self, path: str, host: str | None = None) -> str:
        return f"https://{host or self.host}:{self.tls_port}/{path}"


NGINX: Final = """
daemon off;
master_process off;
pid {work}/nginx.pid;
error_log stderr notice;
events {{ worker_connections 2048; }}
http {{
    access_log off;
    sendfile on;
    client_max_body_size 0;
    client_body_temp_path {work}/body;
    proxy_temp_path {work}/proxy;
    fastcgi_temp_path {work}/fastcgi;
    uwsgi_temp_path {work}/uwsgi;
    scgi_temp_path {work}/scgi;
    server {{
        listen {host}:{port} backlog=1024;
        {tls}
        root {root};
        location /up/ {{ dav_methods PUT DELETE; }}
    }}
}}
"""


@contextmanager
def nginx(
    work: Path,
    root: Path,
    *,
    host: str = "127.0.0.1",
    certificate: Certificate | None = None,
    prefix: Sequence[str] = (),
) -> Iterator[Web]:
    """An nginx on *host* serving *root*, with TLS on a second port if given a *certificate*.

    *work* is an empty folder of its own.
    """
    web = Web(host, free_port(), free_port() if certificate else 0, root)
    (root / "up").mkdir(exist_ok=True)
    tls = ""
    if certificate:
        tls = (
            f"listen {host}:{web.tls_port} ssl; ssl_certificate {certificate.chain};"
            f" ssl_certificate_key {certificate.chain};"
        )
    config = work / "nginx.conf"
    config.write_text(NGINX.format(work=work, host=host, port=web.port, tls=tls, root=root))
    with Program(*prefix, "nginx", "-e", "stderr", "-c", str(config), "-p", str(work)) as program:
        program.wait_for("getrlimit(RLIMIT_NOFILE)")  # printed once it listens
        yield web


@contextmanager
def redis(work: Path, *, host: str = "127.0.0.1", prefix: Sequence[str] = ()) -> Iterator[int]:
    """A redis-server on *host* that keeps nothing; its port."""
    port = free_port()
    with Program(
        *prefix, "redis-server", "--bind", host, "--port", str(port), "--dir", str(work),
        "--save", "", "--appendonly", "no", "--protected-mode", "no",
    ) as program:  # fmt: skip
        program.wait_for("Ready to accept connections")
        yield port


@contextmanager
def iperf3(
    *, host: str = "127.0.0.1", sink: Path | None = None, prefix: Sequence[str] = ()
) -> Iterator[int]:
    """An ``iperf3 -s`` on *host*; its port. What it receives it writes to *sink*, if given."""
    port = free_port()
    command = ["iperf3", "-s", "-B", host, "-p", str(port), "--forceflush"]
    command += ["-F", str(sink)] if sink else []
    with Program(*prefix, *command) as program:
        program.wait_for("Server listening on")
        yield port


def tshark(capture: Path, *fields: str) -> list[list[str]]:
    """The *fields* of every packet of *capture*: checksums verified, streams not reassembled."""
    options = [f"{name}.check_checksum:TRUE" for name in ("ip", "tcp", "udp")]
    options += ["tcp.desegment_tcp_streams:FALSE", "http.desegment_body:FALSE"]
    command = ["tshark", "-n", "-r", str(capture), "-T", "fields"]
    command += [word for option in options for word in ("-o", option)]
    command += [word for name in fields for word in ("-e", name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "cut short" not in done.stderr, done.stderr
    return [line.split("\t") for line in done.stdout.splitlines()]


def curl(*args: str, prefix: Sequence[str] = (), seconds: float = 50) -> str:
    """Run curl; its output. AssertionError with what it said if it fails."""
    # A sanitizer's library is for Python programs; curl never gets going with it.
    env = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    done = subprocess.run(
        [*prefix, "curl", "--silent", "--show-error", "--fail", *args],
        capture_output=True, text=True, timeout=seconds, check=False, env=env,
    )  # fmt: skip
    assert done.returncode == 0, f"curl: {done.returncode}: {done.stderr[-2000:]}"
    return done.stdout
