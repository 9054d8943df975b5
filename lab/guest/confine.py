"""Become a guest's kernel program, shut in its cage. A program; it needs the standard library only.

    confine.py NODE CAGE PROGRAM [ARGUMENT…]

NODE is a process whose user namespace owns the network namespace of the guest. CAGE is the folder
that becomes the root. What the program is afterwards, for the machine: a process with its own root,
mounts and processes, as the one user of NODE's user namespace. That is no user of the machine, or
its ordinary user. It has no capability but CAP_NET_RAW over NODE's network (its cards are packet
sockets), and can gain none. Landlock and seccomp, where the kernel has them, say the same again:
root in a guest can load a module that makes system calls.

There are three processes. The first stays, and has the exit status of the program. The second is
PID 1 of the program's PID namespace, because User-Mode Linux cannot be that. The third becomes the
program.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

# Not pathlib, nor signal: to load them takes longer than all that this program does.

_libc = ctypes.CDLL(None, use_errno=True)

# include/uapi/linux/sched.h
_NEW = {
    "mounts": 0x00020000, "control groups": 0x02000000, "names": 0x04000000,
    "messages": 0x08000000, "users": 0x10000000, "processes": 0x20000000, "network": 0x40000000,
}  # fmt: skip
_OWN = sum(_NEW[what] for what in ("mounts", "control groups", "names", "messages", "processes"))
_ENVIRONMENT = {"HOME": "/work", "TMPDIR": "/work", "PATH": "/usr/bin"}

_ADDR_NO_RANDOMIZE = 0x0040000  # include/uapi/linux/personality.h
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 0x1, 0x2, 0x4, 0x8
_MS_REMOUNT, _MS_BIND, _MS_REC, _MNT_DETACH = 0x20, 0x1000, 0x4000, 2

# include/uapi/linux/prctl.h, securebits.h, capability.h
_PR_CAPBSET_DROP, _PR_SET_SECUREBITS, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 24, 28, 38, 47
_PR_CAP_AMBIENT_RAISE = 2
_NO_ROOT_FOR_EVER = 0b11101111  # all bits but KEEP_CAPS, each with its lock
_CAPABILITY_V3, _CAP_NET_RAW = 0x20080522, 13

_SIGTERM, _SIG_IGN = 15, 1
_PIVOT_ROOT, _CAPSET, _SECCOMP = 155, 126, 317
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446


def _done(result: int, what: str) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def _read(path: str) -> str:
    with open(path, encoding="ascii") as file:  # noqa: PTH123
        return file.read().strip()


def _mount(source: str, target: str, kind: str = "", flags: int = 0) -> None:
    done = _libc.mount(source.encode(), target.encode(), kind.encode() or None, flags, None)
    _done(done, f"mount {kind or source} on {target}")


def _prctl(option: int, *arguments: int) -> None:
    padded = [*arguments, 0, 0, 0, 0][:4]
    _done(_libc.prctl(option, *(ctypes.c_ulong(one) for one in padded)), f"prctl {option}")


def _enter(node: str) -> None:
    """Enter the user and network namespaces of NODE, and make the others."""
    if _read("/proc/self/setgroups") == "allow":
        os.setgroups([])
    for kind, flag in (("user", _NEW["users"]), ("net", _NEW["network"])):
        handle = os.open(f"/proc/{node}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
        _done(_libc.setns(handle, flag), f"enter the {kind} namespace of {node}")
        os.close(handle)
    _done(_libc.unshare(_OWN), "make namespaces")


def _change_root(cage: str) -> None:
    """Make the working directory, whose name is `cage`, the root; nothing else stays mounted."""
    # A mount of this namespace's own: those that came with it are locked (mount_namespaces(7)).
    _mount(".", f"../{cage}", flags=_MS_BIND | _MS_REC)
    os.chdir(f"../{cage}")
    # The lab makes files there, for disks that it gives later; only the disks can be written to.
    _mount("none", "luns", flags=_MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID)
    _mount("proc", "proc", "proc", _MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    _done(_libc.syscall(_PIVOT_ROOT, b".", b"."), "pivot_root")
    _done(_libc.umount2(b".", _MNT_DETACH), "unmount the old root")
    os.chdir("/")


def _drop_capabilities() -> None:
    """Keep CAP_NET_RAW alone, also over execve(2) and for user id 0."""
    last = int(_read("/proc/sys/kernel/cap_last_cap"))
    # As user 0 of the namespace. For the machine that is the user whom its map names.
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    for capability in range(last + 1):
        if capability != _CAP_NET_RAW:
            _prctl(_PR_CAPBSET_DROP, capability)
    everything = (1 << (last + 1)) - 1
    _capset(everything, everything, 1 << _CAP_NET_RAW)
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_NET_RAW)
    _prctl(_PR_SET_SECUREBITS, _NO_ROOT_FOR_EVER)
    _capset(*(1 << _CAP_NET_RAW,) * 3)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _capset(effective: int, permitted: int, inheritable: int) -> None:
    sets = (effective, permitted, inheritable)
    halves = [one >> shift & 0xFFFFFFFF for shift in (0, 32) for one in sets]
    header = struct.pack("=Ii", _CAPABILITY_V3, 0)
    _done(_libc.syscall(_CAPSET, header, struct.pack("=6I", *halves)), "capset")


# include/uapi/linux/landlock.h. The rights of files come in four steps of its ABI.
_EXECUTE, _WRITE, _READ, _LIST = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE, _MAKE_DIR, _MAKE, _MAKE_SOCKET = 1 << 4, 1 << 5, 1 << 7, 1 << 8, 1 << 9
_TRUNCATE = 1 << 14
_FILES_OF_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_TCP, _SCOPE_SIGNAL = 0b11, 0b10
_CHANGE = _WRITE | _TRUNCATE | _REMOVE_DIR | _REMOVE | _MAKE_DIR | _MAKE | _MAKE_SOCKET
_ALLOWED = {
    "/usr": _READ | _LIST | _EXECUTE,
    "/lib": _READ | _LIST | _EXECUTE,
    "/lib64": _READ | _LIST | _EXECUTE,
    "/image": _READ | _LIST,
    "/seed": _READ,
    "/proc": _READ | _LIST | _EXECUTE,  # the kernel starts itself again by /proc/self/exe
    "/dev": _READ | _LIST | _WRITE,
    "/luns": _READ | _LIST | _WRITE | _TRUNCATE,
    "/work": _READ | _LIST | _CHANGE,
}


def _landlock() -> None:
    """Allow what a kernel does with the files of its cage, no TCP of the machine, and signals to
    its own processes only; nothing if the machine's kernel has no Landlock."""
    abi = _libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1)
    if abi < 1:
        return
    handled = max(rights for since, rights in _FILES_OF_ABI.items() if since <= abi)
    # Not abstract sockets: the answers of the kernel's console go to one of the lab's.
    rules = struct.pack("=3Q", handled, _TCP, _SCOPE_SIGNAL)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    ruleset = _done(_libc.syscall(_LANDLOCK_CREATE, rules, ctypes.c_size_t(size), 0), "Landlock")
    for path, rights in _ALLOWED.items():
        if not os.path.isdir(path):  # noqa: PTH112
            rights &= _READ | _WRITE | _TRUNCATE | _EXECUTE
        beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = struct.pack("=Qi", rights & handled, beneath)
        _done(_libc.syscall(_LANDLOCK_ADD, ruleset, 1, rule, 0), f"Landlock for {path}")
        os.close(beneath)
    _done(_libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0), "Landlock")
    os.close(ruleset)


# System calls of x86-64 that a kernel in its cage has no use for. Most need a capability that it
# does not have; they are refused at the door, where no fault in them can be used.
_REFUSED = {
    "adjtimex": 159, "chroot": 161, "acct": 163, "settimeofday": 164, "mount": 165, "umount2": 166,
    "swapon": 167, "swapoff": 168, "reboot": 169, "sethostname": 170, "setdomainname": 171,
    "iopl": 172, "ioperm": 173, "init_module": 175, "delete_module": 176, "quotactl": 179,
    "syslog": 103, "vhangup": 153, "pivot_root": 155, "lookup_dcookie": 212, "clock_settime": 227,
    "mbind": 237, "set_mempolicy": 238, "kexec_load": 246, "add_key": 248, "request_key": 249,
    "keyctl": 250, "migrate_pages": 256, "unshare": 272, "move_pages": 279, "perf_event_open": 298,
    "fanotify_init": 300, "name_to_handle_at": 303, "open_by_handle_at": 304, "clock_adjtime": 305,
    "setns": 308, "kcmp": 312, "finit_module": 313, "kexec_file_load": 320, "bpf": 321,
    "userfaultfd": 323, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
    "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432,
    "fspick": 433, "pidfd_getfd": 438, "mount_setattr": 442, "quotactl_fd": 443,
    "open_tree_attr": 467,
    # It stays in the process group by which the lab stops all of it at once.
    "setpgid": 109, "setsid": 112,
}  # fmt: skip
_SOCKET, _CLONE, _CLONE3 = 41, 56, 435
_SOCKETS = (1, 17)  # AF_UNIX for its console, AF_PACKET for its cards
_AUDIT_ARCH_X86_64, _X32 = 0xC000003E, 0x40000000
_SET_FILTER, _WITHOUT_SPECULATION_FENCE = 1, 4
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENT_AT = 0, 4, 16


def filter_program() -> bytes:
    """The seccomp filter: classic BPF instructions (seccomp(2)).

    A refused call is an error, not the end: a kernel that itself runs its processes under seccomp
    traps their calls, and a trap goes before an error.
    """
    refuse, allow = [(_RETURN, 0, 0, _ERROR | errno.EPERM)], [(_RETURN, 0, 0, _ALLOW)]
    lines = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_EQUAL, 1, 0, _AUDIT_ARCH_X86_64), *refuse,
        (_LOAD, 0, 0, _NUMBER_AT),
        (_AT_LEAST, 0, 1, _X32), *refuse,
        (_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, _ERROR | errno.ENOSYS),  # clone is tried then
        (_EQUAL, 0, 4, _CLONE),
        (_LOAD, 0, 0, _ARGUMENT_AT), (_ANY_BIT, 0, 1, sum(_NEW.values())), *refuse, *allow,
        (_EQUAL, 0, 5, _SOCKET),
        (_LOAD, 0, 0, _ARGUMENT_AT),
        (_EQUAL, 2, 0, _SOCKETS[0]), (_EQUAL, 1, 0, _SOCKETS[1]), *refuse, *allow,
    ]  # fmt: skip
    for number in _REFUSED.values():
        lines += [(_EQUAL, 0, 1, number), *refuse]
    return b"".join(struct.pack("=HBBI", *line) for line in [*lines, *allow])


def _seccomp() -> None:
    """Refuse what no kernel in a cage needs; nothing if the machine's kernel has no seccomp."""
    code = filter_program()
    held = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("@HP", len(code) // 8, ctypes.addressof(held))
    done = _libc.syscall(_SECCOMP, _SET_FILTER, _WITHOUT_SPECULATION_FENCE, program)
    if done < 0 and ctypes.get_errno() not in (errno.ENOSYS, errno.EINVAL):
        _done(done, "seccomp")


def _wait(child: int) -> int:
    """The exit status of `child`; this process reaps all others too."""
    while True:
        pid, raw = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(raw)
            return code if code >= 0 else 128 - code


def main(node: str, cage: str, argv: list[str]) -> int:
    """See the module. Returns the exit status of the program `argv`."""
    # This kernel counts the space between its program and its heap as memory. Address
    # randomisation makes that up to 800 MiB, different at each boot; the table for it filled half
    # of the real memory, and one boot in a hundred failed. Containers may forbid this.
    _libc.personality(ctypes.c_ulong(_ADDR_NO_RANDOMIZE))
    os.chdir(cage)  # before it has another user's rights
    _enter(node)
    first = os.fork()
    if first:
        _libc.signal(
            _SIGTERM, ctypes.c_void_p(_SIG_IGN)
        )  # a kernel that panics sends it to its group
        return _wait(first)
    _change_root(cage.rpartition("/")[2])
    _drop_capabilities()
    _landlock()
    _seccomp()
    program = os.fork()
    if program:
        return _wait(program)
    os.execve(argv[0], argv, _ENVIRONMENT)  # noqa: S606  there is no shell in a cage


if __name__ == "__main__":
    try:
        STATUS = main(sys.argv[1], sys.argv[2], sys.argv[3:])
    except OSError as refused:
        print(f"the guest's cage cannot be made: {refused}", file=sys.stderr)
        STATUS = 1
    sys.stderr.flush()
    os._exit(STATUS)
