"""What scripts do in their worst moments.

The case is named by `Params["case"]`, and while the script is loaded by the file `on_load` beside it.
"""

import array
import ctypes
import faulthandler
import locale
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time

libc = ctypes.PyDLL(None)  # holds the interpreter's lock while it calls


def interrupt():
    raise KeyboardInterrupt


def crash_with_handler():
    faulthandler.enable()
    ctypes.memset(0, 1, 1)


def become_deaf():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    libc.sleep(60)


def fork():
    if os.fork() == 0:
        libc.sleep(60)
        os._exit(0)


def start_daemon():
    """Leaves the session and the parent, as daemons do."""
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() == 0:
            libc.sleep(60)
        os._exit(0)
    os.waitpid(child, 0)


def leave_orphans():
    """Processes whose parent has ended, and which end a moment later."""
    for _ in range(5):
        subprocess.run(["/bin/sh", "-c", "sleep 0.05 & :"], check=True)


def leave_thread():
    threading.Thread(target=threading.Event().wait).start()


def flood():
    for _ in range(100):
        os.write(1, b"x" * (1 << 20))


def chatter():
    """Short lines without end, from a process that goes on when the call has ended."""
    subprocess.Popen(["/bin/sh", "-c", "while :; do echo; done"])


def print_bytes():
    for _ in range(16):
        os.write(1, bytes(range(256)) * 16)
        os.write(2, bytes(range(256)) * 16)


def close_output():
    os.close(1)
    try:
        print("unheard", flush=True)
    except OSError:
        pass


def start_children():
    context = multiprocessing.get_context("spawn" if sys.platform == "darwin" else "fork")
    context.Process(target=time.sleep, args=(60,)).start()


def change_surroundings():
    os.chdir("/")
    locale.setlocale(locale.LC_ALL, "C")
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
    os.umask(0)
    os.environ.clear()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def sleep_long():
    print("sleeping", file=sys.stderr)
    time.sleep(4)


def sleep():
    print("sleeping", file=sys.stderr)
    time.sleep(0.7)


def use_lost_device():
    raise RuntimeError("CUDA error: device-side assert triggered")


CASES = {
    "nothing": lambda: None,
    "exit": lambda: sys.exit(0),
    "interrupt": interrupt,
    "hard_exit": lambda: os._exit(0),
    "abort": os.abort,
    "segfault": lambda: ctypes.memset(0, 1, 1),
    "handled": crash_with_handler,
    "raise_exit": lambda: exec("raise SystemExit(0)"),
    "deaf": become_deaf,
    "fork": fork,
    "daemon": start_daemon,
    "orphans": leave_orphans,
    "thread": leave_thread,
    "flood": flood,
    "chatter": chatter,
    "bytes": print_bytes,
    "closed": close_output,
    "unplug": lambda: os.closerange(3, 1000),
    "children": start_children,
    "surroundings": change_surroundings,
    "poison": use_lost_device,
    "sleep": sleep,
    "long": sleep_long,
}

if os.path.exists("on_load"):
    with open("on_load") as case:
        CASES[case.read()]()


def say(message):
    """Writes on the connection to the server, past the runtime: at once, or by a child once the call is over."""
    if message["when"] == "now":
        os.write(3, bytes(message["bytes"]))
    elif os.fork() == 0:
        time.sleep(0.3)
        os.write(3, bytes(message["bytes"]))
        os._exit(0)


shared = []


def share(name):
    """Makes shared memory, and holds it until the end."""
    shared.append(open(f"/dev/shm/{name}", "x+b"))


def run(files, ctx):
    if "share" in ctx.params:
        share(ctx.params["share"])
    if "say" in ctx.params:
        say(ctx.params["say"])
    CASES[ctx.params.get("case", "nothing")]()
    return "it returned"


train = run
input = run


def output(files, ctx):
    """The number given, so that everybody knows the answer as their own."""
    ctx.state.increment("calls", 1)
    if ctx.params.get("case") == "huge":
        return array.array("d", [0.0]) * 200_000
    if ctx.params.get("case") == "calls":
        return [ctx.state["calls"]]
    time.sleep(ctx.params.get("seconds", 0))
    run(files, ctx)
    return [ctx.params.get("number", 0)]
