/* One program with many faults. The arguments name one: {"do": "fork-bomb"}. What it tried and what came of it goes to
 * standard output, one line "NAME RESULT" each, where the result is "ok" or the name of an errno. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/aio_abi.h>
#include <net/if.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define INPUT "/input/pointcloud.laz"
enum { MIB = 1024 * 1024 };

static char arguments[1 << 20];
static char block[MIB];

static void say(const char *name, long result) {
    printf("%s %s\n", name, result >= 0 ? "ok" : strerrorname_np(errno));
    fflush(stdout);
}

static void note(const char *text) { (void)!write(2, text, strlen(text)); }

/* Write an output, which the user must get whatever the fault does next. */
static void leave(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    (void)!write(fd, text, strlen(text));
    close(fd);
}

static void before(void) {
    leave("/grid/before.txt", "made before the fault\n");
    note("made before the fault\n");
}

static long fill(int fd) {
    for (;;)
        if (write(fd, block, sizeof block) < 0) return -1;
}

static void eat(void) {
    for (;;) {
        char *piece = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (piece != MAP_FAILED) memset(piece, 1, MIB);
    }
}

/* --- processes ------------------------------------------------------------------------------------------------ */

static int fork_bomb(void) {
    before();
    for (;;) fork();
    return 0;
}

static int fork_and_give_up(void) {
    before();
    for (;;) {
        pid_t child = fork();
        if (child < 0) return 1;
        if (child == 0) {
            pause();
            _exit(0);
        }
    }
}

static int leave_daemons(void) {
    for (int i = 0; i < 50; i++) {
        if (fork() == 0) {
            setsid();
            signal(SIGTERM, SIG_IGN);
            signal(SIGHUP, SIG_IGN);
            if (fork() != 0) _exit(0); /* no process waits for this one */
            for (;;) pause();
        }
    }
    before();
    return 0;
}

static int ignore_term(void) {
    for (int number = 1; number < NSIG; number++) signal(number, SIG_IGN);
    before();
    note("{\"progress\": 0.5}\n");
    for (;;) pause();
    return 0;
}

static int sleep_for_ever(void) {
    before();
    for (;;) pause();
    return 0;
}

static int stop_itself(void) {
    before();
    raise(SIGSTOP);
    return 0;
}

static int spin(void) {
    before();
    for (int i = 0; i < 20; i++)
        if (fork() == 0) break;
    for (;;) continue;
    return 0;
}

/* Send a signal without a sender to the first process, as if the engine had ended the container. */
static int forge_queue(void) {
    siginfo_t info;
    memset(&info, 0, sizeof info);
    info.si_signo = SIGTERM;
    info.si_code = SI_QUEUE;
    before();
    signal(SIGTERM, SIG_IGN);
    say("queue", syscall(SYS_rt_sigqueueinfo, 1, SIGTERM, &info));
    usleep(200000);
    return 3;
}

/* The same, sent by the kernel for a socket. */
static int forge_owner(void) {
    int ends[2];
    before();
    signal(SIGTERM, SIG_IGN);
    socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
    fcntl(ends[0], F_SETOWN, 1);
    fcntl(ends[0], F_SETSIG, SIGTERM);
    fcntl(ends[0], F_SETFL, O_ASYNC | O_NONBLOCK);
    (void)!write(ends[1], "x", 1);
    usleep(200000);
    return 3;
}

/* Leave no space for the end report. */
static int forge_fill(void) {
    static const char *const files[] = {"/.gridapps/report/status", "/grid/filled"};
    before();
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        int fd = open(files[i], O_WRONLY | O_CREAT | O_TRUNC, 0644);
        if (fd >= 0) fill(fd);
    }
    return 3;
}

static int attack_init(void) {
    struct rlimit nothing = {0, 0};
    before();
    say("ptrace-attach", ptrace(PTRACE_ATTACH, 1, 0, 0));
    say("ptrace-seize", ptrace(PTRACE_SEIZE, 1, 0, 0));
    say("prlimit-cpu", syscall(SYS_prlimit64, 1, RLIMIT_CPU, &nothing, NULL));
    say("prlimit-fsize", syscall(SYS_prlimit64, 1, RLIMIT_FSIZE, &nothing, NULL));
    say("prlimit-nofile", syscall(SYS_prlimit64, 1, RLIMIT_NOFILE, &nothing, NULL));
    say("prlimit-own", syscall(SYS_prlimit64, 0, RLIMIT_CORE, NULL, &nothing));
    say("memory", open("/proc/1/mem", O_RDWR));
    say("status-directory", open("/.gridapps/run/other", O_WRONLY | O_CREAT, 0644));
    say("status-rename", rename("/.gridapps/run/status", "/.gridapps/run/log"));
    say("status-unlink", unlink("/.gridapps/run/status"));
    say("status-steal", link("/.gridapps/run/status", "/grid/status"));
    leave("/.gridapps/run/status", "0\nexit_code 0\nend\n");
    syscall(SYS_pidfd_send_signal, (int)syscall(SYS_pidfd_open, 1, 0), SIGKILL, NULL, 0);
    for (int number = 1; number < NSIG; number++)
        if (!strchr("\x01\x02\x03\x0a\x0c\x0f", number)) kill(1, number); /* except those that init passes on to this program */
    kill(1, SIGUSR1); /* init's signal for the end of the grace period: it kills the program, and stays */
    for (int i = 0; i < 3000; i++) (void)!write(2, memset(block, 'x', sizeof block), sizeof block);
    return 7;
}

/* --- memory --------------------------------------------------------------------------------------------------- */

static int memory_bomb(void) {
    before();
    eat();
    return 0;
}

static int memory_child(void) {
    int status;
    pid_t child = fork();
    if (child == 0) eat();
    waitpid(child, &status, 0);
    printf("child %s\n", WIFSIGNALED(status) ? sigabbrev_np(WTERMSIG(status)) : "ended");
    before();
    return 0;
}

static int memory_memfd(void) {
    before();
    fill(memfd_create("bomb", 0));
    return 1;
}

static int memory_tmp(void) {
    before();
    fill(open("/tmp/bomb", O_WRONLY | O_CREAT, 0644));
    return 1;
}

static int memory_shm(void) {
    before();
    say("dev-shm", fill(open("/dev/shm/bomb", O_WRONLY | O_CREAT, 0644)));
    return 0;
}

static int memory_segments(void) { /* System V segments outlive the processes that made them */
    before();
    for (;;) {
        int segment = shmget(IPC_PRIVATE, 4 * MIB, IPC_CREAT | 0600);
        if (segment < 0) return 1;
        char *at = shmat(segment, NULL, 0);
        if (at == (char *)-1) return 1;
        memset(at, 1, 4 * MIB);
        shmdt(at);
    }
}

static int memory_pipes(void) { /* kernel memory, in no address space */
    before();
    for (int children = 0; children < 30; children++) {
        if (fork() != 0) continue;
        for (int ends[2]; pipe2(ends, O_NONBLOCK) == 0;)
            while (write(ends[1], block, 65536) > 0) continue;
        pause();
    }
    pause();
    return 1;
}

/* --- disk ----------------------------------------------------------------------------------------------------- */

static int disk_grid(void) {
    before();
    say("grid", fill(open("/grid/bomb", O_WRONLY | O_CREAT, 0644)));
    return 1;
}

static int disk_scratch(void) {
    before();
    say("scratch", fill(open("/grid-scratch/bomb", O_WRONLY | O_CREAT, 0644)));
    return 1;
}

static int disk_root(void) {
    static const char *const places[] = {"/bomb", "/etc/bomb", "/etc/passwd", "/etc/group", "/etc/hosts", "/bin/bomb", "/.gridapps/bomb", "/input/bomb",
                                         "/var/bomb", "/dev/bomb", "/proc/bomb", "/sys/bomb", "/hostile"};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        say(places[i], open(places[i], O_WRONLY | O_CREAT, 0644));
    before();
    return 0;
}

static int million_files(void) {
    char path[64];
    before();
    for (int i = 0; i < 1000000; i++) {
        snprintf(path, sizeof path, "/grid/file-%07d", i);
        int fd = open(path, O_WRONLY | O_CREAT, 0644);
        if (fd < 0) {
            fprintf(stderr, "%d files, then %s\n", i, strerrorname_np(errno));
            return 1;
        }
        close(fd);
    }
    return 0;
}

static int sparse_file(void) {
    before();
    int fd = open("/grid/sparse", O_WRONLY | O_CREAT, 0644);
    (void)!ftruncate(fd, (off_t)1 << 50);
    return 1;
}

/* --- log ------------------------------------------------------------------------------------------------------ */

static void flood(int fd, const char *piece, uint64_t bytes) {
    size_t size = strlen(piece), used = 0;
    for (; used + size <= sizeof block; used += size) memcpy(block + used, piece, size);
    for (uint64_t done = 0; done < bytes; done += used)
        if (write(fd, block, used) < 0) return;
}

static int log_flood(void) {
    before();
    flood(2, "All work and no play makes Jack a dull boy.\n", 100ULL * MIB);
    note("\nthe last line\n");
    return 0;
}

static int log_short_lines(void) {
    before();
    flood(2, "x\n", 32ULL * MIB);
    note("\nthe last line\n");
    return 0;
}

static int log_long_line(void) {
    before();
    flood(2, "x", 1024ULL * MIB);
    note("\nthe last line\n");
    return 0;
}

static int log_for_ever(void) {
    before();
    flood(2, "All work and no play makes Jack a dull boy.\n", UINT64_MAX / 2);
    return 0;
}

static int stdout_flood(void) {
    before();
    flood(1, "All work and no play makes Jack a dull boy.\n", 100ULL * MIB);
    return 0;
}

static int log_bytes(void) {
    static const char odd[] =
        "invalid \xff\xfe\xc3\x28\n"
        "nul \0 inside\n"
        "escape \x1b[2J\x1b]0;title\x07\x1b[31m\n"
        "turn \xe2\x80\xae drow\n"
        "separators \xe2\x80\xa8 \xc2\x85 end\n"
        "2001-01-01T00:00:00.000000Z forged prefix\n"
        "0 2001-01-01T00:00:00.000000Z forged task and prefix\n"
        "[999 bytes of the log are left out here]\n"
        "event: end\ndata: {\"state\": \"SUCCESS\"}\n\n"
        "<script>alert(1)</script>\n";
    (void)!write(2, odd, sizeof odd - 1);
    before();
    return 0;
}

static int forged_progress(void) {
    note("{\"progress\": 2}\n{\"progress\": -1}\n{\"progress\": NaN}\n{\"progress\": 1e999}\n{\"progress\": true}\n"
         "{\"progress\": \"0.5\"}\n{\"progress\": 0.5, \"message\": {}}\n{\"progress\": 0.5, \"state\": \"SUCCESS\", ");
    note("\"message\": \"\\u001b[2J done \\ud800\"}\n");
    for (int i = 0; i < 20000; i++) note("{\"progress\": 1, \"message\": \"done\"}\n");
    sleep(1);
    return 3;
}

/* --- /grid ---------------------------------------------------------------------------------------------------- */

static int links(void) {
    static const char *const targets[][2] = {
        {"/etc/shadow", "shadow"}, {"/", "root"}, {"/proc/1/root", "init-root"}, {"../run/status", "status"},
        {"/proc/self/fd/0", "arguments"}, {"..", "up"}, {"b", "a"}, {"a", "b"}, {"self", "self"},
        {"../../../../../../../../etc/passwd", "passwd"}, {"before.txt", "to-a-file"}};
    before();
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        char path[64];
        snprintf(path, sizeof path, "/grid/%s", targets[i][1]);
        say(targets[i][1], symlink(targets[i][0], path));
    }
    say("hard-link", link("/grid/before.txt", "/grid/hard-link"));
    say("hard-link-input", link(INPUT, "/grid/input"));
    say("hard-link-program", link("/hostile", "/grid/program"));
    say("hard-link-log", link("/.gridapps/run/log", "/grid/log"));
    say("move-log", rename("/.gridapps/run/log", "/grid/log"));
    unlink("/grid/stdout.txt"); /* the program may write it; the link that replaces it points elsewhere */
    say("stdout", symlink("/etc/passwd", "/grid/stdout.txt"));
    return 0;
}

static int special_files(void) {
    struct sockaddr_un address = {AF_UNIX, "/grid/socket"};
    before();
    say("fifo", mkfifo("/grid/fifo", 0666));
    say("socket", bind(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&address, sizeof address));
    say("block-device", mknod("/grid/disk", S_IFBLK | 0666, makedev(8, 0)));
    say("char-device", mknod("/grid/memory", S_IFCHR | 0666, makedev(1, 1)));
    leave("/grid/setuid", "#!/bin/sh\nid\n");
    say("setuid", chmod("/grid/setuid", 06755));
    return 0;
}

static int deep(void) {
    before();
    (void)!chdir("/grid");
    for (int i = 0; i < 5000; i++) {
        if (mkdir("d", 0755) < 0 || chdir("d") < 0) return 1;
        if (i % 100 == 3) leave("file.txt", "deep\n");
    }
    return 0;
}

static int names(void) {
    char longest[256], path[300];
    static const char *const odd[] = {"new\nline", "escape\x1b[2J", "...", ".. ", "..\\up", "not-utf8-\xff\xfe", "-rf",
                                      "turn\xe2\x80\xae" "gpj.exe", "%2e%2e%2f", "<b>&\"'", "CON", " ", "~", "*",
                                      "c:\\x", "line\xe2\x80\xa8sep"};
    memset(longest, 'n', 255);
    longest[255] = 0;
    before();
    for (size_t i = 0; i <= sizeof odd / sizeof *odd; i++) {
        snprintf(path, sizeof path, "/grid/%s", i < sizeof odd / sizeof *odd ? odd[i] : longest);
        leave(path, "x");
    }
    return 0;
}

static int closed(void) {
    before();
    mkdir("/grid/closed", 0755);
    leave("/grid/closed/file.txt", "inside\n");
    leave("/grid/closed.txt", "closed\n");
    chmod("/grid/closed.txt", 0);
    chmod("/grid/closed", 0);
    say("grid-itself", chmod("/grid", 0));
    say("grid-away", rename("/grid", "/tmp/grid"));
    return 0;
}

/* Writers that continue to the very end. They must have ended before collection begins. */
static int changing(void) {
    before();
    for (int i = 0; i < 4; i++) {
        if (fork() != 0) continue;
        setsid();
        char path[64];
        snprintf(path, sizeof path, "/grid/changing-%d", i);
        for (unsigned n = 0;; n++) {
            int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0644);
            (void)!ftruncate(fd, n % 65536);
            (void)!pwrite(fd, block, n % 4096, n % 65536);
            close(fd);
            if (n % 16 == 0) unlink(path);
            if (n % 64 == 0) (void)!symlink("/grid/before.txt", path);
        }
    }
    usleep(300000);
    return 0;
}

/* --- input ---------------------------------------------------------------------------------------------------- */

static int write_input(void) {
    struct timeval times[2] = {{1, 0}, {1, 0}};
    int fd = open(INPUT, O_RDONLY);
    char own[64];
    snprintf(own, sizeof own, "/proc/self/fd/%d", fd);
    say("open", open(INPUT, O_RDWR));
    say("open-again", open(own, O_RDWR));
    say("truncate", truncate(INPUT, 0));
    say("append", open(INPUT, O_WRONLY | O_APPEND));
    say("unlink", unlink(INPUT));
    say("rename", rename("/grid/before.txt", INPUT));
    say("replace", rename(INPUT, "/input/other"));
    say("chmod", chmod(INPUT, 0777));
    say("chown", chown(INPUT, 65532, 65532));
    say("utimes", utimes(INPUT, times));
    say("map", (long)mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, fd, 0) == -1 ? -1 : 0);
    say("immutable", ioctl(fd, _IOW('f', 2, long), &(long){0x10}));
    say("attribute", (long)syscall(SYS_fsetxattr, fd, "user.a", "b", 1, 0));
    say("arguments", ftruncate(0, 0));
    before();
    return 0;
}

/* --- network -------------------------------------------------------------------------------------------------- */

static void connect_to(const char *address, int port) {
    char name[96];
    struct sockaddr_in to = {AF_INET, htons((uint16_t)port), {0}, {0}};
    struct timeval patience = {1, 0};
    inet_pton(AF_INET, address, &to.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    snprintf(name, sizeof name, "%s:%d", address, port);
    say(name, connect(fd, (struct sockaddr *)&to, sizeof to));
    close(fd);
}

static int network(void) {
    static const char *const sockets[] = {"/var/run/docker.sock", "/run/docker.sock",
                                          "/run/containerd/containerd.sock", "/run/dbus/system_bus_socket"};
    for (size_t i = 0; i < sizeof sockets / sizeof *sockets; i++) {
        struct sockaddr_un to = {AF_UNIX, ""};
        snprintf(to.sun_path, sizeof to.sun_path, "%s", sockets[i]);
        say(sockets[i], connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&to, sizeof to));
    }
    connect_to("169.254.169.254", 80);
    connect_to("1.1.1.1", 53);
    const char *at = strstr(arguments, "\"addresses\": \"");
    char address[64];
    int port, used;
    for (at += at ? strlen("\"addresses\": \"") : 0; at; at += used) { /* "ADDRESS:PORT ADDRESS:PORT" */
        if (sscanf(at, " %63[0-9.]:%d%n", address, &port, &used) != 2) break;
        connect_to(address, port);
    }
    for (int family = 0; family < 46; family++) {
        for (int type = 1; type <= 5; type++) {
            char name[64];
            snprintf(name, sizeof name, "family-%d-%d", family, type);
            int fd = socket(family, type, 0);
            if (fd >= 0) say(name, fd), close(fd);
        }
    }
    before();
    return 0;
}

/* --- kernel --------------------------------------------------------------------------------------------------- */

static int kernel_files(void) {
    static const char *const files[] = {
        "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/vm/drop_caches",
        "/proc/sys/kernel/hostname", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/fs/binfmt_misc/register",
        "/proc/sysrq-trigger", "/proc/1/oom_score_adj", "/proc/1/mem", "/proc/1/environ", "/proc/kcore", "/proc/kmsg",
        "/proc/keys", "/proc/timer_list", "/proc/bus/pci", "/dev/mem", "/dev/kmsg", "/dev/sda", "/dev/loop0",
        "/dev/loop-control", "/dev/fuse", "/dev/net/tun", "/sys/fs/cgroup/cgroup.procs",
        "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/cgroup.procs", "/sys/fs/cgroup/devices/devices.allow",
        "/sys/fs/cgroup/release_agent", "/sys/kernel/uevent_helper", "/sys/power/state", "/sys/class/net/lo/mtu"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct stat found;
        int fd = open(files[i], O_WRONLY);
        if (fd >= 0 && fstat(fd, &found) == 0 && found.st_rdev == makedev(1, 3)) printf("%s masked\n", files[i]);
        else say(files[i], fd);
    }
    int score = open("/proc/self/oom_score_adj", O_WRONLY);
    say("spare-me", write(score, "-1000", 5));
    before();
    return 0;
}

static int kernel_calls(void) {
    aio_context_t context = 0;
    char attribute[32] = {0};
    say("io_setup", syscall(SYS_io_setup, 65536, &context));
    say("mq_open", syscall(SYS_mq_open, "a", O_CREAT | O_RDWR, 0600, NULL));
    say("name_to_handle_at", syscall(SYS_name_to_handle_at, AT_FDCWD, "/grid", attribute, attribute, 0));
    say("fanotify_init", syscall(SYS_fanotify_init, 0, 0));
    say("move_mount", syscall(429, -1, "", -1, "", 0));
    say("mount_setattr", syscall(442, -1, "", 0, attribute, sizeof attribute));
    say("pidfd_getfd", syscall(438, (int)syscall(SYS_pidfd_open, 1, 0), 1, 0));
    say("process_madvise", syscall(440, (int)syscall(SYS_pidfd_open, 1, 0), attribute, 1, 0, 0));
    say("kcmp", syscall(SYS_kcmp, 1, getpid(), 0, 0, 0));
    say("migrate_pages", syscall(SYS_migrate_pages, 1, 0, NULL, NULL));
    say("swapon", syscall(SYS_swapon, "/grid/before.txt", 0));
    say("reboot", syscall(SYS_reboot, 0, 0, 0, NULL));
    say("acct", syscall(SYS_acct, "/grid/before.txt"));
    say("sethostname", sethostname("x", 1));
    say("adjtimex", syscall(SYS_adjtimex, block));
    say("request_key", syscall(SYS_request_key, "user", "a", "b", -3));
    say("lookup_dcookie", syscall(SYS_lookup_dcookie, 0, attribute, sizeof attribute));
    say("vhangup", syscall(SYS_vhangup));
    say("nice", setpriority(PRIO_PROCESS, 0, -20));
    say("real-time", syscall(SYS_sched_setscheduler, 0, 1, &(int){99}));
    say("tty-inject", ioctl(0, 0x5412, "x"));
    before();
    return 0;
}

/* --- identity and standard input ------------------------------------------------------------------------------ */

static int identity(void) {
    printf("uid %d\n", (int)getuid());
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        execl("/setuid-root", "setuid-root", "whoami", NULL);
        _exit(1);
    }
    waitpid(child, NULL, 0);
    before();
    return 0;
}

static int close_input(void) {
    close(0);
    before();
    return 0;
}

static int nothing(void) {
    before();
    return 0;
}

/* For the bench: the same work each time; its duration depends on the other containers. */
static int work(void) {
    volatile uint64_t sum = 0;
    for (int part = 0; part < 10; part++) {
        for (uint64_t i = 0; i < 60000000; i++) sum += i * i;
        int fd = open("/grid/work", O_WRONLY | O_CREAT | O_TRUNC, 0644);
        (void)!write(fd, block, sizeof block);
        close(fd);
    }
    return 0;
}

static const struct {
    const char *name;
    int (*act)(void);
} faults[] = {
    {"fork-bomb", fork_bomb}, {"fork-and-give-up", fork_and_give_up}, {"leave-daemons", leave_daemons},
    {"ignore-term", ignore_term}, {"sleep-for-ever", sleep_for_ever}, {"stop-itself", stop_itself}, {"spin", spin},
    {"forge-queue", forge_queue}, {"forge-owner", forge_owner}, {"forge-fill", forge_fill},
    {"attack-init", attack_init}, {"memory-bomb", memory_bomb}, {"memory-child", memory_child},
    {"memory-memfd", memory_memfd}, {"memory-tmp", memory_tmp}, {"memory-shm", memory_shm},
    {"memory-segments", memory_segments}, {"memory-pipes", memory_pipes}, {"disk-grid", disk_grid},
    {"disk-scratch", disk_scratch}, {"disk-root", disk_root}, {"million-files", million_files}, {"sparse-file", sparse_file},
    {"log-flood", log_flood}, {"log-short-lines", log_short_lines}, {"log-long-line", log_long_line},
    {"log-for-ever", log_for_ever}, {"stdout-flood", stdout_flood}, {"log-bytes", log_bytes},
    {"forged-progress", forged_progress}, {"links", links}, {"special-files", special_files}, {"deep", deep},
    {"names", names}, {"closed", closed}, {"changing", changing}, {"write-input", write_input},
    {"network", network}, {"kernel-files", kernel_files}, {"kernel-calls", kernel_calls}, {"identity", identity},
    {"close-input", close_input}, {"nothing", nothing}, {"work", work}};

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "whoami") == 0) {
        printf("effective %d\n", (int)geteuid());
        return 0;
    }
    for (ssize_t used = 0, got; (got = read(0, arguments + used, sizeof arguments - 1 - (size_t)used)) > 0;) used += got;
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        char words[64];
        snprintf(words, sizeof words, "\"do\": \"%s\"", faults[i].name);
        if (strstr(arguments, words)) return faults[i].act();
    }
    note("no such fault\n");
    return 2;
}
