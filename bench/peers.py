# SPDX-License-Identifier: Apache-2.0
"""The proxies that are measured: how each is configured, started and told its version.

A proxy is one function: it gets a Spot (where to listen, where upstream is, TLS or not, a folder for
its files) and returns the command line. To add one, write such a function and put it into PROXIES.
"""
import dataclasses
import os
import pathlib
import re
import shutil
import subprocess

WORKERS = 2
WINDOW = 1 << 20  # HTTP/2 windows where they can be set; the built-in ones make lists slower


@dataclasses.dataclass
class Spot:
    folder: pathlib.Path
    port: int
    upstream: int  # a port of 127.0.0.1
    tls: bool
    files: "Files"
    workers: int
    metrics_port: int  # for a proxy of ours


@dataclasses.dataclass
class Files:
    """Programs and certificates, found or made before anything starts."""
    build: pathlib.Path
    etcd: pathlib.Path
    peers: pathlib.Path  # unpacked packages, may be missing
    cert: pathlib.Path
    key: pathlib.Path
    pair: pathlib.Path  # certificate and key in one
    encryption: pathlib.Path
    env: dict

    def program(self, name):
        for folder in ("/usr/sbin", "/usr/bin", self.peers / "usr/sbin", self.peers / "usr/bin"):
            path = pathlib.Path(folder) / name
            if os.access(path, os.X_OK):
                return str(path)
        return None


def envelope(s):
    scheme = "https" if s.tls else "http"
    command = [str(s.files.build / "etcd-envelope"), "serve",
               "--listen-client-urls", f"{scheme}://127.0.0.1:{s.port}",
               "--listen-metrics-urls", f"http://127.0.0.1:{s.metrics_port}",
               "--etcd-servers", f"{scheme}://127.0.0.1:{s.upstream}",
               "--encryption-provider-config", str(s.files.encryption),
               "--workers", str(s.workers), "--log-level", "warn"]
    if s.tls:
        command += ["--cert-file", str(s.files.cert), "--key-file", str(s.files.key),
                    "--etcd-cafile", str(s.files.cert)]
    return command


def nghttpx(s):
    frontend = f"127.0.0.1,{s.port}" + ("" if s.tls else ";no-tls")
    backend = f"127.0.0.1,{s.upstream};;proto=h2" + (";tls;sni=localhost" if s.tls else "")
    command = [s.files.program("nghttpx"), "--conf=/dev/null", f"--frontend={frontend}", f"--backend={backend}",
               f"--workers={s.workers}", "--accesslog-file=", "--no-via", "--no-add-x-forwarded-proto",
               f"--frontend-http2-window-size={WINDOW}", f"--backend-http2-window-size={WINDOW}",
               f"--frontend-http2-connection-window-size={WINDOW * 8}",
               f"--backend-http2-connection-window-size={WINDOW * 8}",
               "--frontend-http2-max-concurrent-streams=1000", "--no-ocsp"]
    if s.tls:
        command += [f"--cacert={s.files.cert}", str(s.files.key), str(s.files.cert)]
    return command


def haproxy(s):
    bind = f"ssl crt {s.files.pair} alpn h2" if s.tls else "proto h2"
    server = f"ssl verify required ca-file {s.files.cert} alpn h2" if s.tls else "proto h2"
    (s.folder / "haproxy.cfg").write_text(f"""global
    nbthread {s.workers}
    maxconn 4000
    tune.h2.initial-window-size {WINDOW}
    tune.h2.max-concurrent-streams 1000
defaults
    mode http
    no log
    timeout connect 5s
    timeout client 1h
    timeout server 1h
frontend in
    bind 127.0.0.1:{s.port} {bind}
    default_backend out
backend out
    server etcd 127.0.0.1:{s.upstream} {server}
""")
    return [s.files.program("haproxy"), "-db", "-q", "-f", str(s.folder / "haproxy.cfg")]


def nginx(s):
    listen = f"127.0.0.1:{s.port} " + ("ssl http2" if s.tls else "http2")
    tls = f"""ssl_certificate {s.files.cert};
        ssl_certificate_key {s.files.key};
        ssl_protocols TLSv1.3;
        grpc_ssl_verify on;
        grpc_ssl_protocols TLSv1.3;
        grpc_ssl_trusted_certificate {s.files.cert};
        grpc_ssl_name 127.0.0.1;""" if s.tls else ""
    temporary = "".join(f"    {kind}_temp_path {s.folder}/{kind};\n"
                        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (s.folder / "nginx.conf").write_text(f"""daemon off;
user root;
worker_processes {s.workers};
pid {s.folder}/nginx.pid;
error_log {s.folder}/error.log crit;
events {{ worker_connections 4000; }}
http {{
    access_log off;
{temporary}    keepalive_requests 1000000000;
    http2_max_concurrent_streams 1000;
    upstream etcd {{
        server 127.0.0.1:{s.upstream};
        keepalive 256;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {listen};
        client_max_body_size 0;
        grpc_read_timeout 1h;
        grpc_send_timeout 1h;
        {tls}
        location / {{ grpc_pass {"grpcs" if s.tls else "grpc"}://etcd; }}
    }}
}}
""")
    return [s.files.program("nginx"), "-p", str(s.folder), "-e", str(s.folder / "start.log"),
            "-c", str(s.folder / "nginx.conf")]


def gateway(s):
    return [str(s.files.etcd / "etcd"), "gateway", "start", f"--endpoints=127.0.0.1:{s.upstream}",
            f"--listen-addr=127.0.0.1:{s.port}"]


def grpc_proxy(s):
    scheme = "https" if s.tls else "http"
    command = [str(s.files.etcd / "etcd"), "grpc-proxy", "start",
               f"--endpoints={scheme}://127.0.0.1:{s.upstream}", f"--listen-addr=127.0.0.1:{s.port}",
               f"--data-dir={s.folder / 'data'}"]
    if s.tls:
        command += [f"--cert-file={s.files.cert}", f"--key-file={s.files.key}",
                    f"--cert={s.files.cert}", f"--key={s.files.key}", f"--cacert={s.files.cert}"]
    return command


@dataclasses.dataclass
class Proxy:
    name: str
    command: object
    is_sealed: bool = False  # its upstream holds sealed values
    workers: int = WORKERS  # Go programs get it as GOMAXPROCS
    unfit: tuple = ()  # loads that it cannot have before the stub


UNFIT = "it drops events whose revision is not new, and the stub says the same ones again and again"


PROXIES = [
    Proxy("etcd-envelope", envelope, is_sealed=True),
    Proxy("nghttpx", nghttpx),
    Proxy("haproxy", haproxy),
    Proxy("nginx", nginx),
    Proxy("gateway", gateway),
    Proxy("grpc-proxy", grpc_proxy, unfit=("watch 20",)),
]

# How it grows with workers: measured against each other.
WORKERS_COMPARED = [Proxy("etcd-envelope", envelope, is_sealed=True),
                    Proxy("etcd-envelope, 1 worker", envelope, is_sealed=True, workers=1)]


def versions(files):
    """What is installed, as the programs themselves say it."""
    ask = {
        "etcd-envelope": [str(files.build / "etcd-envelope"), "version"],
        "nghttpx": [files.program("nghttpx"), "--version"],
        "haproxy": [files.program("haproxy"), "-v"],
        "nginx": [files.program("nginx"), "-v"],
        "etcd": [str(files.etcd / "etcd"), "--version"],
        "openssl": ["openssl", "version"],
    }
    said = {}
    for name, command in ask.items():
        if command[0] is None or not shutil.which(command[0]):
            continue
        run = subprocess.run(command, capture_output=True, text=True, env=files.env, check=False)
        lines = (run.stdout + run.stderr).strip().splitlines()
        said[name] = lines[0] if lines else "?"
    found = re.search(r"nghttp2/?\s*([0-9.]+)", said.get("nghttpx", ""))
    if found:
        said["nghttp2"] = found.group(1)
    return said
