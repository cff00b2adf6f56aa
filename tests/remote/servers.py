"""Real storage servers on the loopback: OpenSSH's sshd with keys of its own, and an S3 server."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"
STARTING = 60.0  # seconds that a server may take to listen


@dataclass(frozen=True, kw_only=True)
class Storage:
    """A place that DVC can push to, and direct access to the objects behind it, by key: files/md5/ab/cdef…"""

    kind: str
    settings: dict[str, str]  # of DVC's remote `storage`
    keys: Callable[[], list[str]]
    read: Callable[[str], bytes]
    write: Callable[[str, bytes], None]
    delete: Callable[[str], None]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: list[str], port: int, log: Path) -> Iterator[None]:
    """The server `command` while inside, listening on `port`; its output goes to `log`. It ends with this process."""
    command = ["setpriv", "--pdeathsig", "TERM", *command]
    with log.open("w") as output:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            wait(server, port, log)
            yield
        finally:
            server.terminate()
            server.wait(30)


def wait(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Return when somebody listens on `port`; AssertionError with the log where `server` ends or takes too long."""
    until = time.monotonic() + STARTING
    while time.monotonic() < until and server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"{server.args!r} does not listen:\n{log.read_text()}")


SSHD = """
Port {port}
ListenAddress {host}
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
Subsystem sftp internal-sftp
LogLevel VERBOSE
"""


@contextmanager
def ssh(folder: Path) -> Iterator[Storage]:
    """A folder behind sshd, whose configuration, host key and authorized keys lie in `folder`."""
    sshd = shutil.which("sshd", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))
    assert sshd, "sshd is missing; run tests/remote/install.sh"
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where its unprivileged half lives, empty
    port, stored = free_port(), folder / "stored"
    stored.mkdir()
    for key in ("host_key", "user_key"):
        make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", key, "-f", str(folder / key)]
        subprocess.run(make, check=True)
    shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
    (folder / "sshd_config").write_text(SSHD.format(port=port, host=HOST, folder=folder))
    settings = {
        "url": f"ssh://{getpass.getuser()}@{HOST}:{port}{stored}",
        "keyfile": str(folder / "user_key"),
    }
    with running([sshd, "-D", "-e", "-f", str(folder / "sshd_config")], port, folder / "sshd.log"):
        yield Storage(
            kind="ssh",
            settings=settings,
            keys=lambda: sorted(str(path.relative_to(stored)) for path in stored.rglob("*") if path.is_file()),
            read=lambda key: (stored / key).read_bytes(),
            write=lambda key, data: overwrite(stored / key, data),
            delete=lambda key: (stored / key).unlink(),
        )


def overwrite(path: Path, data: bytes) -> None:
    """Replace a file's content though it is read-only, as DVC's objects are."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)


BUCKET, PREFIX = "robustgen", "some/folder/"


@contextmanager
def s3(folder: Path) -> Iterator[Storage]:
    """A folder of a bucket behind an S3 server."""
    import boto3

    port = free_port()
    account = {"access_key_id": "somebody", "secret_access_key": "secret"}
    settings = {"url": f"s3://{BUCKET}/{PREFIX.strip('/')}", "endpointurl": f"http://{HOST}:{port}", **account}
    with running([sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(port)], port, folder / "s3.log"):
        client = boto3.client(
            "s3",
            endpoint_url=settings["endpointurl"],
            region_name="us-east-1",
            aws_access_key_id=account["access_key_id"],
            aws_secret_access_key=account["secret_access_key"],
        )
        client.create_bucket(Bucket=BUCKET)

        def keys() -> list[str]:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=PREFIX)
            return sorted(each["Key"].removeprefix(PREFIX) for page in pages for each in page.get("Contents", ()))

        yield Storage(
            kind="s3",
            settings=settings,
            keys=keys,
            read=lambda key: client.get_object(Bucket=BUCKET, Key=PREFIX + key)["Body"].read(),
            write=lambda key, data: client.put_object(Bucket=BUCKET, Key=PREFIX + key, Body=data),
            delete=lambda key: client.delete_object(Bucket=BUCKET, Key=PREFIX + key),
        )


SERVERS = {"ssh": ssh, "s3": s3}
