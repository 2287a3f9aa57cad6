"""Every property of the security profile, observed from inside a running container."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gridapps.sandbox import profile
from gridapps.sandbox.docker import DockerSandbox
from gridapps.sandbox.workspace import USERS
from tests.fixtures.engine import Engine
from tests.sandbox.conftest import LIMITS, Bench

pytestmark = pytest.mark.service

LOOK = """#!/bin/sh
echo '# status'; cat /proc/self/status
echo '# environment'; env
echo '# mounts'; cat /proc/self/mounts
echo '# limits'; cat /proc/self/limits
echo '# interfaces'; cat /proc/net/dev
echo '# routes'; cat /proc/net/route
echo '# devices'; find /dev ! -type d ! -type l | sort
echo '# writable'; find / -xdev -type d ! -path '/proc/*' -exec sh -c '[ -w "$0" ] && echo "$0"' {} ';'
echo '# standard-input'; readlink /proc/self/fd/0; head -c 100; echo
echo '# descriptors'; ls /proc/$$/fd
echo '# processes'; ls /proc | grep '^[0-9]'
echo '# score'; cat /proc/self/oom_score_adj
echo '# init-score'; cat /proc/1/oom_score_adj
echo '# memory'; cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max
echo '# swap'; cat /sys/fs/cgroup/memory/memory.memsw.limit_in_bytes /sys/fs/cgroup/memory.swap.max
echo '# pids'; cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max
echo '# cpu'; cd /sys/fs/cgroup; cat cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us cpu.max; cd "$OLDPWD"
echo '# where'; pwd
"""


@pytest.fixture(scope="module")
def seen(engine: Engine, docker_sandbox: object, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a program observed, by the headings of LOOK. Its image asks for more than the profile allows."""
    source = tmp_path_factory.mktemp("input") / "in.laz"
    source.write_bytes(b"LASF")
    hostile = [
        "USER root",
        "EXPOSE 80",
        "HEALTHCHECK CMD true",
        "ENV HOME=/root GRID_OUTPUT=/etc GRID_CPUS=64 EXTRA=kept",
        "VOLUME /tmp",
        "WORKDIR /bin",
        "ONBUILD RUN true",
    ]
    passwd = b"root:x:0:0::/:/bin/sh\n2000000000:x:0:0::/:/bin/sh\ngrid:x:2000000000:0::/:/bin/sh\n"
    files = {
        "/look": (LOOK.encode(), 0o755),
        "/etc/passwd": (passwd, 0o644),
        "/etc/group": (b"disk:x:6:2000000000,grid\n", 0o644),
    }
    bench = Bench(docker_sandbox, source)  # type: ignore[arg-type]
    try:
        text = bench.run(engine.image(entrypoint=["/look"], changes=hostile, files=files)).stdout
    finally:
        bench.close()
    parts = ("\n" + text).split("\n# ")[1:]
    return {part.split("\n", 1)[0]: part.partition("\n")[2].strip("\n") for part in parts}


def _status(seen: dict[str, str]) -> dict[str, list[str]]:
    return {line.split(":")[0]: line.split(":", 1)[1].split() for line in seen["status"].splitlines()}


def _mounts(seen: dict[str, str]) -> dict[str, tuple[str, set[str]]]:
    rows = [line.split() for line in seen["mounts"].splitlines()]
    return {row[1]: (row[2], set(row[3].split(","))) for row in rows}


def test_user_and_groups_are_ours_whatever_the_image_names(seen: dict[str, str]) -> None:
    status = _status(seen)
    (user,) = set(status["Uid"])
    assert int(user) in USERS
    assert status["Gid"] == [user] * 4
    assert set(status["Groups"]) <= {user}


@pytest.mark.parametrize("gid", [0, 6])
def test_an_image_cannot_add_groups(
    bench: Bench, docker_sandbox: DockerSandbox, engine: Engine, gid: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine takes a group of this name for the numeric group of the profile, if it reads it first."""
    files = {"/etc/group": (f"{USERS.start}:x:{gid}:\n".encode(), 0o644)}
    monkeypatch.setattr(docker_sandbox._starter, "_users", range(USERS.start, USERS.start + 1))
    result = bench.run(engine.image(command=["grep Groups: /proc/self/status"], files=files))
    assert result.stdout.split() == ["Groups:", str(USERS.start)] or "/etc/group" in result.ended.not_started


def test_there_are_no_capabilities(seen: dict[str, str]) -> None:
    status = _status(seen)
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[kind][0], 16) == 0, kind


def test_privileges_cannot_be_gained(seen: dict[str, str]) -> None:
    assert _status(seen)["NoNewPrivs"] == ["1"]


def test_system_calls_are_filtered(seen: dict[str, str]) -> None:
    assert _status(seen)["Seccomp"] == ["2"]


def test_there_is_no_network(seen: dict[str, str]) -> None:
    interfaces = [line.split(":")[0].strip() for line in seen["interfaces"].splitlines()[2:]]
    assert set(interfaces) <= {"lo", "tunl0", "sit0", "ip6tnl0", "gre0", "gretap0", "erspan0", "ip_vti0"}
    assert seen["routes"].splitlines()[1:] == []


def test_nothing_of_the_root_file_system_can_be_written(seen: dict[str, str]) -> None:
    assert "ro" in _mounts(seen)["/"][1]
    assert set(seen["writable"].splitlines()) == {
        "/tmp",
        "/grid",
        "/grid-scratch",
    }  # file systems are mounted there


def test_mounts_are_the_known_ones_with_their_flags(seen: dict[str, str]) -> None:
    mounts = _mounts(seen)
    own = {
        "/grid": {"rw", "nosuid", "nodev"},
        "/grid-scratch": {"rw", "nosuid", "nodev"},
        "/.gridapps/run": {"rw", "nosuid", "nodev"},
        "/.gridapps/report": {"rw", "nosuid", "nodev", "noexec"},
        "/tmp": {"rw", "nosuid", "nodev"},
        "/dev/shm": {"rw", "nosuid", "nodev", "noexec", f"size={LIMITS.memory // 1024}k"},
        "/input/pointcloud.laz": {"ro"},
        "/.gridapps/init": {"ro"},
        "/.gridapps/arguments": {"ro"},
        "/etc/hosts": {"ro"},
        "/etc/passwd": {"ro"},
        "/etc/group": {"ro"},
    }
    for place, flags in own.items():
        assert flags <= mounts[place][1], place
    assert mounts["/grid"][0] == "ext4"
    assert mounts["/tmp"] == ("tmpfs", mounts["/tmp"][1])
    assert f"size={LIMITS.memory // 1024}k" in mounts["/tmp"][1]
    kernel = ("/proc", "/sys", "/dev", "/etc/hostname", "/etc/resolv.conf")
    others = {place for place in mounts if place not in own and place != "/"}
    assert all(
        place == top or place.startswith(top + "/") for place in others for top in [_top(place, kernel)]
    )


def _top(place: str, tops: tuple[str, ...]) -> str:
    return next((top for top in tops if place == top or place.startswith(top + "/")), "/not-expected")


def test_what_is_writable_is_bounded(seen: dict[str, str]) -> None:
    """Writable mounts are three of the quota file system, tmpfs of a fixed size, and those of the kernel."""
    for place, (kind, flags) in _mounts(seen).items():
        if "rw" in flags:
            sized = kind == "tmpfs" and any(flag.startswith("size=") for flag in flags)
            kernel = kind in {"proc", "devpts", "mqueue"} or place == "/sys/fs/cgroup"
            assert sized or kernel or place in {"/grid", "/grid-scratch", "/.gridapps/run"}, place


def test_devices_are_the_harmless_ones(seen: dict[str, str]) -> None:
    names = {Path(line).name for line in seen["devices"].splitlines()}
    assert names <= {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "console", "core"}


def test_limits_are_set(seen: dict[str, str]) -> None:
    limits = {line[:25].strip(): line[25:].split()[:2] for line in seen["limits"].splitlines()[1:]}
    assert limits["Max open files"] == [str(LIMITS.open_files)] * 2
    assert limits["Max core file size"] == ["0", "0"]
    assert limits["Max locked memory"] == ["65536", "65536"]
    assert limits["Max file size"] == [str(LIMITS.memory)] * 2
    assert limits["Max processes"] == [str(2 * LIMITS.processes + 64)] * 2


def test_memory_processes_and_processors_are_limited(seen: dict[str, str]) -> None:
    assert str(LIMITS.memory) in seen["memory"].split()
    assert set(seen["swap"].split()) & {str(LIMITS.memory), "0"}
    assert str(LIMITS.processes + 1) in seen["pids"].split()
    assert seen["cpu"].split() == ["100000", "100000"]


def test_the_program_goes_before_init_when_memory_runs_out(seen: dict[str, str]) -> None:
    assert (seen["score"], seen["init-score"]) == ("1000", "900")


def test_the_environment_is_the_contract(seen: dict[str, str]) -> None:
    found = dict(line.split("=", 1) for line in seen["environment"].splitlines())
    found.pop("SHLVL")
    assert found.pop("PATH").startswith("/usr/local/sbin:")
    assert found == {
        **dict.fromkeys((*profile._OPENMP, *profile._OTHER_POOLS), "1"),
        "GRID_CONTRACT": "1.1",
        "GRID_INPUT": "/input/pointcloud.laz",
        "GRID_OUTPUT": "/grid",
        "GRID_RUN": "run-1",
        "GRID_TASK": "task-1",
        "GRID_CPUS": "1",
        "GRID_MEMORY_BYTES": str(LIMITS.memory),
        "GRID_DISK_BYTES": str(LIMITS.disk),
        "GRID_TMP_BYTES": str(LIMITS.memory),
        "GRID_SCRATCH": "/grid-scratch",
        "GRID_MAX_OUTPUTS": str(LIMITS.outputs),
        "GRID_DEADLINE": "2030-01-02T03:04:05Z",
        "HOME": "/tmp",
        "TMPDIR": "/tmp",
        "USER": "grid",
        "LOGNAME": "grid",
        "HOSTNAME": "grid",
        "PWD": "/bin",
        "EXTRA": "kept",
    }


def test_the_working_directory_is_the_images(seen: dict[str, str]) -> None:
    assert seen["where"] == "/bin"


def test_standard_input_is_the_arguments_and_then_ends(seen: dict[str, str]) -> None:
    pipe, content = seen["standard-input"].splitlines()
    assert pipe.startswith("pipe:")
    assert content == '{"cell": 2}'


def test_no_descriptor_of_init_is_inherited(seen: dict[str, str]) -> None:
    assert set(seen["descriptors"].split()) <= {"0", "1", "2", "10"}  # 10: the shell's own script


def test_only_the_own_processes_are_seen(seen: dict[str, str]) -> None:
    assert len(seen["processes"].split()) < 8


@pytest.fixture(scope="module")
def tried(
    engine: Engine, docker_sandbox: object, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """The results of the attempts in probe.c."""
    directory = tmp_path_factory.mktemp("probe")
    source, program = directory / "in.laz", directory / "probe"
    source.write_bytes(b"LASF")
    code = Path(__file__).with_name("probe.c")
    subprocess.run(["gcc", "-static", "-O1", "-o", str(program), str(code)], check=True)
    bench = Bench(docker_sandbox, source)  # type: ignore[arg-type]
    image = engine.image(entrypoint=["/probe"], files={"/probe": (program.read_bytes(), 0o755)})
    try:
        result = bench.run(image)
        assert result.ended.exit_code == 0, result.log
        yield dict(line.split(" ", 1) for line in result.stdout.splitlines())
    finally:
        bench.close()


@pytest.mark.parametrize("family", ["unix", "inet", "inet6", "netlink", "tcp", "udp"])
def test_plain_sockets_can_be_made(tried: dict[str, str], family: str) -> None:
    assert tried[f"socket-{family}"] == "ok"


def test_interfaces_can_be_listed(tried: dict[str, str]) -> None:
    """The C library uses a NETLINK_ROUTE socket."""
    assert tried["getifaddrs"] == "ok"


def test_there_are_no_message_queues(tried: dict[str, str]) -> None:
    assert tried["mqueue-file"] in {"EROFS", "EACCES"}
    assert tried["mq_open"] == "EPERM"


DENIED = [
    "socket-icmp",
    "socket-icmp6",
    "socket-mptcp",
    "socket-mptcp6",
    "socket-udplite",
    "socket-sctp",
    "socket-dccp",
    "socket-l2tp",
    "socket-unix-protocol",
    *(f"socket-netlink-{protocol}" for protocol in range(1, 23)),
    "socket-vsock",
    "socket-packet",
    "socket-alg",
    "socket-bluetooth",
    "socket-raw",
    "io_uring_setup",
    "ptrace-init",
    "ptrace-me",
    "process_vm_readv",
    "bpf",
    "keyctl",
    "add_key",
    "userfaultfd",
    "perf_event_open",
    "mount",
    "umount",
    "open_tree",
    "fsopen",
    "pivot_root",
    "chroot",
    "unshare-user",
    "unshare-mount",
    "clone-newuser",
    "setns",
    "open_by_handle_at",
    "kexec_load",
    "init_module",
    "iopl",
    "quotactl",
    "syslog",
    "settimeofday",
    "personality-no-aslr",
    "mknod-device",
    "setuid-root",
]


@pytest.mark.parametrize("attempt", DENIED)
def test_it_is_denied(tried: dict[str, str], attempt: str) -> None:
    assert tried[attempt] == "EPERM"


def test_clone3_is_unknown_so_that_libraries_fall_back_to_clone(tried: dict[str, str]) -> None:
    assert tried["clone3"] == "ENOSYS"


@pytest.mark.parametrize("secret", ["init-environ", "init-memory", "init-descriptors"])
def test_init_is_closed_to_the_program(tried: dict[str, str], secret: str) -> None:
    assert tried[secret] == "EACCES"


def test_the_kernels_memory_is_masked(tried: dict[str, str]) -> None:
    assert tried["kcore"] == "ENODATA"


@pytest.mark.parametrize("abi", ["abi-i386", "abi-x32"])
def test_other_abis_end_the_program(tried: dict[str, str], abi: str) -> None:
    assert tried[abi] == "SIGSYS"


def test_init_cannot_be_killed_or_stopped(tried: dict[str, str]) -> None:
    assert tried["still-here"] == "ok"


def test_every_container_is_below_the_instances_control_group(
    bench: Bench, script: Callable[[str], str], engine: Engine, instance: str
) -> None:
    name = bench.start(script("sleep 30"))
    process = engine.client.inspect_container(f"gridapps-{instance}-{name}")["State"]["Pid"]
    assert f"/gridapps-{instance}/" in Path(f"/proc/{process}/cgroup").read_text()
    limit = next(Path("/sys/fs/cgroup").glob(f"**/gridapps-{instance}/memory.limit_in_bytes"), None) or next(
        Path("/sys/fs/cgroup").glob(f"**/gridapps-{instance}/memory.max")
    )
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    assert total / 2 < int(limit.read_text()) < total


def test_the_profile_is_asked_for_in_full(
    bench: Bench, engine: Engine, script: Callable[[str], str], instance: str
) -> None:
    """Properties that cannot be observed from inside."""
    name = bench.start(script("sleep 30"))
    found = engine.client.inspect_container(f"gridapps-{instance}-{name}")
    host, config = found["HostConfig"], found["Config"]
    assert config["NetworkDisabled"] is True
    assert host["LogConfig"]["Type"] == "none"
    assert host["IpcMode"] == "private"
    assert host["RestartPolicy"]["Name"] == "no"
    assert not host["Privileged"]
    assert {mount["Propagation"] for mount in found["Mounts"]} == {"rprivate"}
    assert [mount["Type"] for mount in found["Mounts"]] == ["bind"] * 10
    assert f"seccomp={profile.seccomp()}" in host["SecurityOpt"]
