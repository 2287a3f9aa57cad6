/* Tries what a program must not be able to do, from inside a container: one line "NAME RESULT" for each, where the
 * result is "ok", the name of an errno, or the signal that it died of. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static void say(const char *name, long result) {
    printf("%s %s\n", name, result >= 0 ? "ok" : strerrorname_np(errno));
}

static void in_child(const char *name, void (*action)(void)) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        action();
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status)) printf("%s SIG%s\n", name, sigabbrev_np(WTERMSIG(status)));
    else printf("%s %s\n", name, WEXITSTATUS(status) == 0 ? "ok" : "failed");
}

static void old_abi(void) {
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(20L) : "memory"); /* getpid of i386 */
    _exit(result > 0 ? 0 : 1);
}

static void x32_abi(void) { _exit(syscall(0x40000000L + SYS_getpid) > 0 ? 0 : 1); }

int main(void) {
    static const struct { const char *name; int family, type, protocol; } sockets[] = {
        {"socket-unix", AF_UNIX, SOCK_STREAM, 0}, {"socket-inet", AF_INET, SOCK_STREAM, 0},
        {"socket-inet6", AF_INET6, SOCK_STREAM, 0}, {"socket-netlink", AF_NETLINK, SOCK_RAW, 0},
        {"socket-vsock", 40, SOCK_STREAM, 0}, {"socket-packet", AF_PACKET, SOCK_RAW, 0},
        {"socket-alg", 38, SOCK_SEQPACKET, 0}, {"socket-bluetooth", 31, SOCK_RAW, 0},
        {"socket-raw", AF_INET, SOCK_RAW, 1},
        {"socket-tcp", AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 6},
        {"socket-udp", AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 17},
        {"socket-icmp", AF_INET, SOCK_DGRAM, 1}, {"socket-icmp6", AF_INET6, SOCK_DGRAM, 58},
        {"socket-mptcp", AF_INET, SOCK_STREAM, 262}, {"socket-mptcp6", AF_INET6, SOCK_STREAM, 262},
        {"socket-udplite", AF_INET, SOCK_DGRAM, 136}, {"socket-sctp", AF_INET, SOCK_STREAM, 132},
        {"socket-dccp", AF_INET, 6, 33}, {"socket-l2tp", AF_INET, SOCK_DGRAM, 115},
        {"socket-unix-protocol", AF_UNIX, SOCK_STREAM, 1}};
    for (size_t i = 0; i < sizeof sockets / sizeof *sockets; i++)
        say(sockets[i].name, socket(sockets[i].family, sockets[i].type, sockets[i].protocol));
    for (int protocol = 1; protocol < 23; protocol++) {
        char name[32];
        snprintf(name, sizeof name, "socket-netlink-%d", protocol);
        say(name, socket(AF_NETLINK, SOCK_RAW, protocol));
    }
    struct ifaddrs *interfaces;
    say("getifaddrs", getifaddrs(&interfaces));
    say("mqueue-file", open("/dev/mqueue/queue", O_RDWR | O_CREAT, 0600));
    say("mq_open", syscall(SYS_mq_open, "queue", O_RDWR | O_CREAT, 0600, 0));
    char buffer[256] = {0};
    struct iovec piece = {buffer, sizeof buffer};
    say("io_uring_setup", syscall(SYS_io_uring_setup, 1, buffer));
    say("ptrace-init", ptrace(PTRACE_ATTACH, 1, 0, 0));
    say("ptrace-me", ptrace(PTRACE_TRACEME, 0, 0, 0));
    say("process_vm_readv", process_vm_readv(1, &piece, 1, &piece, 1, 0));
    say("bpf", syscall(SYS_bpf, 0, buffer, sizeof buffer));
    say("keyctl", syscall(SYS_keyctl, 0, -3, 1));
    say("add_key", syscall(SYS_add_key, "user", "a", "b", 1, -3));
    say("userfaultfd", syscall(SYS_userfaultfd, 0));
    say("perf_event_open", syscall(SYS_perf_event_open, buffer, 0, -1, -1, 0));
    say("mount", mount("none", "/tmp", "tmpfs", 0, ""));
    say("umount", umount2("/grid", MNT_DETACH));
    say("open_tree", syscall(428, -100, "/", 0));
    say("fsopen", syscall(430, "tmpfs", 0));
    say("pivot_root", syscall(SYS_pivot_root, "/tmp", "/tmp"));
    say("chroot", chroot("/tmp"));
    say("unshare-user", unshare(CLONE_NEWUSER));
    say("unshare-mount", unshare(CLONE_NEWNS));
    say("clone-newuser", syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0));
    say("clone3", syscall(435, buffer, 88));
    say("setns", setns(0, 0));
    say("open_by_handle_at", syscall(SYS_open_by_handle_at, 0, buffer, 0));
    say("kexec_load", syscall(SYS_kexec_load, 0, 0, 0, 0));
    say("init_module", syscall(SYS_init_module, buffer, 1, ""));
    say("iopl", syscall(SYS_iopl, 3));
    say("quotactl", syscall(SYS_quotactl, 0, 0, 0, 0));
    say("syslog", syscall(SYS_syslog, 3, buffer, sizeof buffer));
    say("settimeofday", syscall(SYS_settimeofday, buffer, 0));
    say("personality-no-aslr", syscall(SYS_personality, 0x0040000));
    say("mknod-device", mknod("/tmp/sda", S_IFBLK | 0666, makedev(8, 0)));
    say("setuid-root", setuid(0));
    say("init-environ", open("/proc/1/environ", O_RDONLY));
    say("init-memory", open("/proc/1/mem", O_RDONLY));
    say("init-descriptors", open("/proc/1/fd", O_RDONLY | O_DIRECTORY));
    say("kcore", read(open("/proc/kcore", O_RDONLY), buffer, 1) > 0 ? 0 : (errno = ENODATA, -1));
    in_child("abi-i386", old_abi);
    in_child("abi-x32", x32_abi);
    kill(1, SIGKILL);
    kill(1, SIGSTOP);
    printf("still-here ok\n");
    return 0;
}
