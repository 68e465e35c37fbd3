"""The test cluster as Python sees it: commands on hosts, their processes and ports, its traces."""

from __future__ import annotations

import os
import platform
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from events import PATIENCE_S

HERE = Path(__file__).parent
TESTCLUSTER = HERE / "testcluster"
#: Which of the machine's test clusters is ours: each worker of pytest-xdist has its own.
NUMBER = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw").removeprefix("0")
NAME = f"orch-testcluster{NUMBER}"
NAMESPACE = f"orchtc{NUMBER}-"
RUN = Path("/run") / NAME
#: For `testcluster`.
WHICH = {"ORCH_TESTCLUSTER": NUMBER}
WORK = Path(f"/shared{NUMBER}/work")
#: A file system of 24 MB that all hosts share, for tests of a full disk.
SMALL = RUN / "small"
HOSTS = ("head", "login1", "cpu1", "cpu2", "gpu1")
USERS = ("hpcuser", "hpcother")
#: Seconds after which a command that comes to its end within some tens is taken never to do so.
ENDS_S = 300.0
DAEMONS = frozenset({"munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd", "slurmstepd"})
SLURM_PORTS = frozenset({6817, 6818, 6819})
NET = f"10.213.{77 + int(NUMBER or 0)}"
ADDRESSES = {
    "head": f"{NET}.2",
    "login1": f"{NET}.10",
    "cpu1": f"{NET}.11",
    "cpu2": f"{NET}.12",
    "gpu1": f"{NET}.13",
}


class ClusterError(Exception):
    """The test cluster did not do what it must; the text says what and where to look."""


class CommandFailed(subprocess.CalledProcessError):
    """A command on a host failed; unlike its parent it shows what the command said."""

    def __str__(self) -> str:
        return f"{super().__str__()}\nstdout: {self.stdout}\nstderr: {self.stderr}"


class HostProcess(subprocess.Popen[str]):
    """A command running on a host; signals reach it and its children, as Ctrl-C does."""

    def send_signal(self, sig: int) -> None:
        """Signal the whole process group: its leader only waits for the command."""
        if self.poll() is None:
            os.killpg(self.pid, sig)

    def read_until(self, words: str, timeout: float = ENDS_S) -> str:
        """What it prints up to a line with these words; a ClusterError where they do not come."""
        assert self.stdout is not None and self.stderr is not None
        impatience = threading.Timer(timeout, self.send_signal, [signal.SIGKILL])
        impatience.start()
        read = ""
        try:
            while words not in (line := self.stdout.readline()):
                if not line:
                    raise ClusterError(f"no {words!r} in: {read}\nstderr: {self.stderr.read()}")
                read += line
        finally:
            impatience.cancel()
        return read + line

    def end(self, timeout: float = ENDS_S) -> subprocess.CompletedProcess[str]:
        """Its exit code and the rest of what it prints, once it ends by itself."""
        with _killed_in_the_end(self):
            out, err = self.communicate(timeout=timeout)
        return subprocess.CompletedProcess(self.args, self.returncode, out, err)

    def command_pid(self) -> int:
        """Process id, as the machine sees it, of the command itself (for a signal to it alone)."""
        path = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        wait_until(lambda: bool(path.read_text().split()), PATIENCE_S, "the command to start")
        return int(path.read_text().split()[0])


def wait_until(condition: Callable[[], bool], timeout: float, what: str) -> None:
    """Wait until the condition holds; a ClusterError names what was waited for in vain."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise ClusterError(f"waited {timeout:g} s in vain for {what}")
        time.sleep(0.05)


def obstacle() -> str | None:
    """Why this machine cannot carry the cluster, or None when it can."""
    if os.geteuid() != 0:
        return "the Slurm test cluster needs root"
    system = platform.freedesktop_os_release()
    if not {"debian", "ubuntu"} & {system["ID"], *system.get("ID_LIKE", "").split()}:
        return f"the Slurm test cluster needs Debian or Ubuntu, not {system['ID']}"
    probe = ["unshare", "--net", "--uts", "--mount", "--ipc", "--pid", "--fork", "true"]
    result = subprocess.run(probe, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        return f"the Slurm test cluster needs namespaces of its own: {result.stderr.strip()}"
    return None


def lock(timeout: float = 1800) -> socket.socket:
    """Keep other test runs on this machine waiting; it ends with the process, however that ends."""
    guard = socket.socket(socket.AF_UNIX)

    def taken() -> bool:
        try:
            guard.bind(f"\0{NAME}")
        except OSError:
            return False
        return True

    wait_until(taken, timeout, "another test run on this machine to leave the test cluster")
    return guard


class Cluster:
    """A running test cluster; see `testcluster` for its hosts, users and partitions."""

    def __init__(self) -> None:
        self.namespaces: set[str] = set()

    # -- up and down

    def up(self, *options: str) -> None:
        """Bring it up, or bring back the daemons that are missing."""
        testcluster("up", *options)
        self.namespaces |= {_namespace(_first_pid(host), "net") for host in HOSTS}

    def down(self) -> None:
        """Take it down; it is an error if anything of it is left."""
        before, self.namespaces = self.namespaces, set()
        testcluster("down")
        left = list(traces(before))
        if left:
            raise ClusterError("the test cluster left traces: " + "; ".join(left))

    # -- commands on hosts

    def popen(
        self,
        host: str,
        *cmd: str,
        user: str = "hpcuser",
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        stdin: int = subprocess.DEVNULL,
    ) -> HostProcess:
        """Start a command on a host in the background, stdout and stderr in pipes."""
        extra = ["env", *(f"{key}={value}" for key, value in env.items())] if env else []
        return HostProcess(
            [str(TESTCLUSTER), "on", host, user, *extra, *cmd],
            env=WHICH if cwd is None else {**WHICH, "ORCH_TEST_CWD": str(cwd)},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def on(
        self,
        host: str,
        *cmd: str,
        user: str = "hpcuser",
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        timeout: float = ENDS_S,
        check: bool = False,
        input: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on a host to its end; TimeoutExpired when it had to be killed."""
        stdin = subprocess.DEVNULL if input is None else subprocess.PIPE
        process = self.popen(host, *cmd, user=user, env=env, cwd=cwd, stdin=stdin)
        with _killed_in_the_end(process):
            out, err = process.communicate(input, timeout=timeout)
        if check and process.returncode != 0:
            raise CommandFailed(process.returncode, [host, *cmd], out, err)
        return subprocess.CompletedProcess([host, *cmd], process.returncode, out, err)

    # -- what goes on

    def pids(self, host: str) -> list[int]:
        """Processes on a host (ids as the machine sees them) but for the cluster's own."""
        return [pid for pid in _processes(host) if _program(pid) not in DAEMONS | {""}]

    def told_by(self, pid: int, name: str) -> bytes:
        """A file of /proc/PID of a process, as `cmdline`; empty where it has ended meanwhile."""
        try:
            return Path(f"/proc/{pid}/{name}").read_bytes()
        except OSError:
            return b""

    def seen_by(self, host: str, path: str | Path) -> Path:
        """A path of the host, as the machine reaches it: /tmp and the like are the host's own."""
        return Path(f"/proc/{_first_pid(host)}/root") / str(path).lstrip("/")

    def daemon_pid(self, host: str, name: str) -> int:
        """Process id (as the machine sees it) of a daemon, to hang or kill it; up() restarts it."""
        found = [pid for pid in _processes(host) if _program(pid) == name]
        if not found:
            raise ClusterError(f"no {name} runs on {host}: see {RUN}/log")
        return min(found)

    def listening(self, host: str) -> set[int]:
        """TCP ports that processes on the host listen on, but for Slurm's own."""
        result = self.on(host, "ss", "-Hltn", user="root", check=True)
        ports = {int(line.split()[3].rpartition(":")[2]) for line in result.stdout.splitlines()}
        return ports - SLURM_PORTS

    def queue(self) -> list[str]:
        """Ids of all users' jobs that are pending, running or completing."""
        return self.on("head", "squeue", "-ahr", "-o", "%i", user="root", check=True).stdout.split()

    def cancel_all(self, timeout: float = PATIENCE_S) -> None:
        """Cancel every job and wait until the queue is empty."""
        for user in USERS:
            self.on("head", "scancel", "-f", "-u", user, user="root", check=True)
        wait_until(lambda: not self.queue(), timeout, "the queue to become empty")

    def rpc_count(self, user: str) -> int:
        """Requests that slurmctld had from a user since the last rpc_reset()."""
        text = self.on("head", "sdiag", user="root", check=True).stdout
        _, _, by_user = text.partition("statistics by user")
        for line in by_user.splitlines():
            if line.split()[:1] == [user]:
                return int(line.partition("count:")[2].split()[0])
        return 0

    def rpc_reset(self) -> None:
        """Set the counts of requests to zero."""
        self.on("head", "sdiag", "-r", user="root", check=True)

    def cut(self, host: str) -> None:
        """Pull the host's network cable."""
        self._cable(host, "down")

    def mend(self, host: str) -> None:
        """Plug the host's network cable in again."""
        self._cable(host, "up")

    def _cable(self, host: str, state: str) -> None:
        self.on("head", "ip", "link", "set", f"v-{host}", state, user="root", check=True)


def traces(namespaces: set[str]) -> Iterator[str]:
    """What is left of a cluster (whose hosts had these network namespaces) on the machine."""
    for path in (RUN, *Path("/sys/fs/cgroup").glob(f"*/{NAME}")):
        if path.exists():
            yield f"folder {path}"
    yield from (f"namespace {path}" for path in Path("/run/netns").glob(f"{NAMESPACE}*"))
    for _, name in socket.if_nameindex():
        if name.startswith(NAMESPACE):
            yield f"interface {name}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if f"/{NAME}/" in line or f"/{NAMESPACE}" in line:
            yield f"mount {line}"
    for pid in _left_in(namespaces):
        yield f"process {pid} {_program(pid)}"


def _left_in(namespaces: set[str]) -> list[int]:
    """Processes in these network namespaces. Their numbers may have gone to new ones, of another
    cluster: those have names, which ours have not any more."""
    found = [pid for pid in _all_processes() if _namespace(pid, "net") in namespaces]
    named = {f"net:[{_inode(path)}]" for path in Path("/run/netns").glob("*")}
    return [pid for pid in found if _namespace(pid, "net") in namespaces - named]


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:  # it has just gone
        return None


def testcluster(*arguments: str) -> None:
    """Run testcluster; its one sentence becomes the error."""
    result = subprocess.run(
        [str(TESTCLUSTER), *arguments],
        env={**os.environ, **WHICH},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        raise ClusterError(f"testcluster {arguments[0]} gave {result.returncode}: {result.stdout}")


class _killed_in_the_end:  # reads as a phrase in its with statement
    """Leave no process behind when the wait for it fails; a daemon may hold the pipes for ever."""

    def __init__(self, process: HostProcess) -> None:
        self.process = process

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


def _first_pid(host: str) -> int:
    try:
        return int((RUN / "host" / host).read_text())
    except (OSError, ValueError) as error:
        raise ClusterError(f"host {host} is not up: see {RUN}/log/host-{host}.log") from error


def _all_processes() -> list[int]:
    return sorted(int(path.name) for path in Path("/proc").glob("[0-9]*"))


def _namespace(pid: int, kind: str) -> str:
    """Identity of a process's namespace; empty for a dead process."""
    try:
        return str(Path(f"/proc/{pid}/ns/{kind}").readlink())
    except OSError:
        return ""


def _program(pid: int) -> str:
    """Name of a process's program file; empty for a dead process."""
    try:
        # Debian's are called slurmd-wlm and so on
        return Path(f"/proc/{pid}/exe").readlink().name.removesuffix("-wlm")
    except OSError:
        return ""


def _processes(host: str) -> list[int]:
    """A host's processes but for its first; those that merely wait for one of them are outside."""
    first = _first_pid(host)
    # By the host's name: an engine that is kept apart has a network of its own.
    uts, outside = _namespace(first, "uts"), _namespace(os.getpid(), "pid")
    return [
        pid
        for pid in _all_processes()
        if pid != first and _namespace(pid, "uts") == uts and _namespace(pid, "pid") != outside
    ]
