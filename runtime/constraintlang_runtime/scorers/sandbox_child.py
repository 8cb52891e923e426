"""The program of the sandboxed process: limits itself, runs tests on an answer, reports each that passes.

Started by ``sandbox.run_limited`` as ``python -I -B sandbox_child.py PIPE CPU MEMORY FILE_SIZE FILES TEST...`` in a
folder with `answer.py` and `checks.py`. It imports nothing of constraintlang: the interpreter is bare.
"""

import contextlib
import ctypes
import os
import resource
import sys

CLONE_NEWNET, CLONE_NEWUSER, CLONE_NEWIPC = 0x40000000, 0x10000000, 0x08000000
FORBIDDEN = (
    "socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.kill", "ctypes.",
    "pty.", "signal.pthread_kill", "syslog.", "webbrowser.", "urllib.", "ftplib.", "smtplib.", "http.", "sqlite3.",
)  # fmt: skip
CHANGES = (
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.chmod", "os.chown", "os.link", "os.symlink", "os.truncate",
    "os.utime", "os.chflags", "os.setxattr", "os.removexattr", "shutil.",
)  # fmt: skip


def limit(cpu: int, memory: int, file_size: int, files: int) -> None:
    """Puts limits on this process that it cannot lift again, and takes the network away where the system lets it."""
    with contextlib.suppress(OSError, AttributeError):  # no such call: the audit hook still refuses sockets
        ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC)
    for name, value in (
        ("RLIMIT_CPU", cpu), ("RLIMIT_AS", memory), ("RLIMIT_FSIZE", file_size), ("RLIMIT_NOFILE", files),
        ("RLIMIT_NPROC", 0), ("RLIMIT_CORE", 0),
    ):  # fmt: skip
        if hasattr(resource, name):
            with contextlib.suppress(ValueError, OSError):  # macOS refuses some of them
                resource.setrlimit(getattr(resource, name), (value, value))


def guard(folder: str) -> None:
    """Refuses what no test of a function needs: sockets, processes, changes outside the folder.

    An audit hook cannot be taken away, but it is no wall against code that means to break out.
    """
    inside = os.path.realpath(folder) + os.sep
    real, join, text = os.path.realpath, os.path.join, (str, bytes)

    def below(path: object) -> bool:
        if isinstance(path, int):
            return True
        name = os.fsdecode(path) if isinstance(path, (*text, os.PathLike)) else ""
        return (real(join(folder, name)) + os.sep).startswith(inside)

    def hook(event: str, arguments: tuple) -> None:  # type: ignore[type-arg]
        if event.startswith(FORBIDDEN):
            raise PermissionError(f"{event} is not allowed here")
        if event == "open":
            path, mode, flags = arguments
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            if (writes or (isinstance(mode, str) and set(mode) & set("wax+"))) and not below(path):
                raise PermissionError(f"{path!r} lies outside the folder of the test")
        elif event.startswith(CHANGES) and not all(below(a) for a in arguments if isinstance(a, text)):
            raise PermissionError(f"{event} outside the folder of the test is not allowed")

    sys.addaudithook(hook)


def main() -> None:
    """Run the tests."""
    pipe = int(sys.argv[1])
    token = sys.stdin.read()
    limit(*map(int, sys.argv[2:6]))
    names = sys.argv[6:]
    folder = os.getcwd()
    sys.path.insert(0, folder)
    sys.argv = ["checks.py"]
    guard(folder)
    import checks  # type: ignore[import-not-found]

    for name in names:
        try:
            getattr(checks, name)()
        except BaseException:  # SystemExit too: code that leaves has not passed
            continue
        os.write(pipe, f"{token} {name}\n".encode())


if __name__ == "__main__":
    main()
