"""A server's processes: started in a session of their own, measured together, ended together."""

import os
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class Tree:
    """A process and all that it has started."""

    def __init__(self, process, pid=None):
        self.process, self.pid = process, pid or process.pid

    def members(self):
        """The ids of those that run, found by their session and by their parents, because some servers leave the session."""
        stats = {number: stat for number in map(int, filter(str.isdigit, os.listdir("/proc"))) if (stat := read_stat(number))}
        found, before = {self.pid}, 0
        while len(found) > before:
            before = len(found)
            found |= {number for number, stat in stats.items() if stat["parent"] in found or stat["session"] == self.pid}
        return [number for number in found if number in stats]

    def cpu_seconds(self):
        """What they have used so far, and what their ended children had."""
        return sum(stat["ticks"] for number in self.members() if (stat := read_stat(number))) / TICKS_A_SECOND

    def pss_mib(self):
        """Their memory, with what is shared counted once."""
        return sum(map(pss_kib, self.members())) / 1024

    def end(self):
        members = self.members()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            pass  # it is killed below
        for number in {*members, *self.members()}:
            try:
                os.kill(number, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it has ended by itself
        self.process.wait()


@contextmanager
def running(subject, port, model, log):
    """Starts a server, and ends it and all that it has started in the end. What it prints goes into the file `log`."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            subject.argv(port),
            cwd=subject.folder,
            env=subject.environ(port, model),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    tree = Tree(process)
    try:
        yield tree
    finally:
        tree.end()


def tree_of(data_dir):
    """The processes of a server that somebody else has started, found by its data folder on the command line."""
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = command.read_bytes().split(b"\0")
        except OSError:
            continue  # it has just ended
        if b"serve" in arguments and str(data_dir).encode() in arguments:
            return Tree(None, int(command.parent.name))
    raise RuntimeError(f"no server has the data folder {data_dir}")


@contextmanager
def cores_kept_awake():
    """Keeps idle virtual cores from falling asleep, with processes that run only when nothing else would.

    Waking one costs up to 200 µs, more than what is to be measured with one connection.
    """
    spinners = [subprocess.Popen(["sh", "-c", "while :; do :; done"], preexec_fn=only_when_idle) for _ in range(os.cpu_count())]
    time.sleep(0.2)
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()


def only_when_idle():
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def read_stat(number):
    try:
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return {"parent": int(fields[1]), "session": int(fields[3]), "ticks": sum(map(int, fields[11:15]))}


def pss_kib(number):
    try:
        lines = Path(f"/proc/{number}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
