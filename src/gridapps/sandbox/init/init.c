/* The first process of every container: starts the program, keeps its output, and reports its end.
 *
 * It copies the arguments into a pipe, which is standard input, standard output to a file of the outputs, and standard
 * error to a log of limited size with a time stamp on each line, reaps processes and passes TERM on. When the program has ended, it
 * kills the remaining processes and then, alone in the container, writes the status file.
 *
 * The program runs as the same user. It can write to the log and status files, but not replace them, because root owns
 * their directories. It never learns the word that the status file contains at the start: init reads and erases the
 * word before it executes the program, its memory and descriptors are closed to the program (not dumpable), and the
 * word begins the report, which is written after the program has ended. The status file has a file system of its own,
 * so a full disk cannot prevent the report; the memory for it is reserved at the start. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 65536, LINE = 65536, STAMP = 28, WORD = 64, REFUSED = 126, BROKEN = 125 };

enum { SEGMENT = 256 * 1024, HEADER = 64, BAR_SECONDS = 30 }; /* of the log: see sandbox/log_following.py */

enum { MOST_GROUPS = 64, RESERVE = 256 * 1024 };

enum stage { RUNNING_STAGE, CHDIR_STAGE, EXEC_STAGE, INTERPRETER_STAGE, IDENTITY_STAGE };
static const char *const stage_names[] = {"none", "workdir", "exec", "interpreter", "identity"};

struct refusal {
    int stage;
    int error;
};

struct log {
    int fd;
    uint64_t head, segment;         /* bytes of the file, for the first lines and for each segment */
    uint64_t position;              /* bytes of the log so far, with those that were overwritten */
    uint64_t sequence;              /* number of the segment that is written, 0 while the head is */
    uint64_t start, used_there;     /* position where that segment begins, and its bytes */
    uint64_t head_end, kept_from;   /* position where the head ends, and where the older segment begins */
    uint64_t dropped;               /* bytes */
    char line[STAMP + LINE + 1];
    size_t used;
    int returned;                   /* the line ended with CR: what follows overwrites it, unless it is LF */
    time_t written_at;              /* when a line was written last */
    char stamp[STAMP + 1];
};

struct pump {
    int fd; /* read end, or -1 after the end of file */
    int out;
    uint64_t dropped;
};

/* The arguments on their way into the pipe that is standard input. */
struct feed {
    int in; /* the file, or -1 */
    int fd; /* write end, or -1 when all is written, or no process reads any more */
    char chunk[CHUNK];
    size_t start, end; /* what the pipe has not taken of the chunk */
};

static struct log journal;
static struct pump output;
static struct pump errors;
static struct feed input = {-1, -1, {0}, 0, 0};
static int disk_full;
static char word[WORD + 1];
static int reserve = -1; /* a file in memory that is freed before the report is written */

static void die(const char *what) {
    fprintf(stderr, "gridapps-init: %s: %s\n", what, strerror(errno));
    _exit(BROKEN);
}

/* Proleptic Gregorian date of a day count since 1970, as gmtime(3), but without reading the TZ variable. */
static void stamp_now(char *text) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t days = now.tv_sec / 86400 + 719468;
    int64_t rest = now.tv_sec % 86400;
    int64_t era = days / 146097;
    int64_t day_of_era = days - era * 146097;
    int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t shifted = (5 * day_of_year + 2) / 153;
    int day = (int)(day_of_year - (153 * shifted + 2) / 5 + 1);
    int month = (int)(shifted < 10 ? shifted + 3 : shifted - 9);
    int year = (int)(year_of_era + era * 400 + (month <= 2));
    char buffer[96];
    snprintf(buffer, sizeof buffer, "%04d-%02d-%02dT%02d:%02d:%02d.%06ldZ ", year, month, day, (int)(rest / 3600),
             (int)(rest / 60 % 60), (int)(rest % 60), now.tv_nsec / 1000);
    memcpy(text, buffer, STAMP);
    text[STAMP] = 0;
}

/* Write everything, at an offset unless it is negative; returns how much could not be written. */
static size_t write_all(int fd, const char *data, size_t size, off_t at) {
    while (size > 0) {
        ssize_t done = at < 0 ? write(fd, data, size) : pwrite(fd, data, size, at);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) {
            if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG) disk_full = 1;
            return size;
        }
        data += done;
        size -= (size_t)done;
        if (at >= 0) at += done;
    }
    return 0;
}

/* The disk counts as full below the space that a failed large write leaves; the promised amount is used up earlier. */
static void look_at_disk(void) {
    const uint64_t next_to_nothing = 128 * 1024;
    struct statvfs now;
    if (statvfs("/grid", &now) != 0) return;
    if (now.f_bavail * now.f_frsize < next_to_nothing || (now.f_files > 0 && now.f_favail == 0)) disk_full = 1;
}

/* The file has a head, and behind it two segments of the same size, which are written in turn once the head is full: so
 * the newest lines can be read at any time. A segment begins with its number, the number of bytes of the log before it,
 * and how many bytes it has. */
static void write_header(void) {
    char text[HEADER + 1];
    if (journal.sequence == 0) return;
    snprintf(text, sizeof text, "%020llu %020llu %020llu \n", (unsigned long long)journal.sequence,
             (unsigned long long)journal.start, (unsigned long long)journal.used_there);
    (void)!pwrite(journal.fd, text, HEADER, (off_t)(journal.head + journal.sequence % 2 * journal.segment));
}

static void begin_segment(void) {
    write_header(); /* of the segment that ends */
    if (journal.sequence == 0) journal.kept_from = journal.head_end = journal.position;
    else journal.kept_from = journal.start;
    journal.sequence++;
    journal.start = journal.position;
    journal.used_there = 0;
    write_header();
}

static void segment_line(size_t size) {
    uint64_t room = journal.segment - HEADER;
    if (size > room) {
        journal.line[room - 1] = '\n';
        journal.dropped += size - room;
        size = room;
    }
    if (journal.sequence == 0 || journal.used_there + size > room) begin_segment();
    off_t at = (off_t)(journal.head + journal.sequence % 2 * journal.segment + HEADER + journal.used_there);
    journal.dropped += write_all(journal.fd, journal.line, size, at);
    journal.used_there += size;
    journal.position += size;
}

/* Write a line with its time stamp to the head while it fits, else to a segment. */
static void log_line(void) {
    size_t size = STAMP + journal.used;
    memcpy(journal.line, journal.stamp, STAMP);
    journal.line[size++] = '\n';
    journal.used = 0;
    journal.returned = 0;
    journal.written_at = time(NULL);
    if (journal.sequence > 0 || journal.position + size > journal.head) {
        segment_line(size);
        return;
    }
    journal.dropped += write_all(journal.fd, journal.line, size, (off_t)journal.position);
    journal.position += size;
}

/* A carriage return lets the text that follows overwrite the line, as progress bars do. So that a bar without line feeds
 * is seen, its state is written from time to time. */
static void overwrite_line(void) {
    if (journal.used > 0 && time(NULL) >= journal.written_at + BAR_SECONDS) log_line();
    journal.used = 0;
    journal.returned = 0;
}

static void log_bytes(const char *data, size_t size) {
    stamp_now(journal.stamp);
    for (size_t i = 0; i < size; i++) {
        char c = data[i];
        if (c == '\r') {
            journal.returned = 1;
            continue;
        }
        if (c == '\n') {
            log_line();
            continue;
        }
        if (journal.returned) overwrite_line();
        if (journal.used == LINE) log_line();
        journal.line[STAMP + journal.used++] = c;
    }
    write_header();
}

static void log_finish(void) {
    if (journal.used > 0) log_line();
    write_header();
    if (journal.sequence > 2) journal.dropped += journal.kept_from - journal.head_end;
}

/* Read what a pipe holds now. Returns 0 when it was empty. */
static int pump_once(struct pump *pump) {
    static char chunk[CHUNK];
    if (pump->fd < 0) return 0;
    ssize_t got = read(pump->fd, chunk, sizeof chunk);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    if (got <= 0) {
        close(pump->fd);
        pump->fd = -1;
        return 0;
    }
    if (pump->out >= 0) {
        pump->dropped += write_all(pump->out, chunk, (size_t)got, -1);
    } else {
        log_bytes(chunk, (size_t)got);
        look_at_disk(); /* a program reports a full disk here, often before it deletes files */
    }
    return 1;
}

static void close_feed(void) {
    if (input.fd >= 0) close(input.fd);
    if (input.in >= 0) close(input.in);
    input.fd = input.in = -1;
}

/* Write as much of the arguments as the pipe takes now; at their end, close it. */
static void feed_once(void) {
    if (input.start == input.end) {
        ssize_t got = read(input.in, input.chunk, sizeof input.chunk);
        if (got < 0 && errno == EINTR) return;
        if (got <= 0) {
            close_feed();
            return;
        }
        input.start = 0;
        input.end = (size_t)got;
    }
    ssize_t done = write(input.fd, input.chunk + input.start, input.end - input.start);
    if (done >= 0) input.start += (size_t)done;
    else if (errno != EAGAIN && errno != EINTR) close_feed(); /* EPIPE: the program does not read its arguments */
}

static int open_file(const char *path, int flags) {
    struct stat found;
    int fd = open(path, flags | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0644);
    if (fd < 0) die(path);
    if (fstat(fd, &found) != 0 || !S_ISREG(found.st_mode)) {
        errno = EINVAL;
        die(path);
    }
    return fd;
}

static int take_word(const char *path) {
    int fd = open_file(path, O_RDWR);
    ssize_t got = read(fd, word, WORD);
    if (got != WORD || ftruncate(fd, 0) != 0) die(path);
    (void)fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 4096);
    return fd;
}

/* A program may leave all memory of the container in use by /tmp, so the memory for the report is charged at the start.
 * It is not mapped, so that the kernel's OOM killer does not count it for this process. */
static void take_reserve(void) {
    reserve = memfd_create("reserve", MFD_CLOEXEC);
    if (reserve >= 0) (void)fallocate(reserve, 0, 0, RESERVE);
}

/* Allocate the blocks of the log now, so that it can be written when the disk is full. */
static void divide_log(uint64_t limit) {
    journal.segment = limit > 8 * SEGMENT ? SEGMENT : limit / 8;
    journal.head = limit - 2 * journal.segment;
    journal.written_at = time(NULL);
    (void)fallocate(journal.fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)limit);
}

static int last_error(int old, int new) { return old == EACCES ? old : new; }

/* execve along PATH, as a shell does. Unlike execvp, it does not pass files of unknown format to /bin/sh. */
static struct refusal execute(char **argv) {
    extern char **environ;
    char path[PATH_MAX];
    const char *name = argv[0];
    struct refusal refusal = {EXEC_STAGE, ENOENT};
    if (strchr(name, '/')) {
        execve(name, argv, environ);
        refusal.error = errno;
        if (errno == ENOENT && access(name, F_OK) == 0) refusal.stage = INTERPRETER_STAGE;
        return refusal;
    }
    const char *next = getenv("PATH");
    if (!next || !*next) next = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    while (next) {
        const char *end = strchr(next, ':');
        int size = end ? (int)(end - next) : (int)strlen(next);
        int needed = snprintf(path, sizeof path, "%.*s/%s", size, next, name);
        next = end ? end + 1 : NULL;
        if (size == 0 || needed >= (int)sizeof path) continue;
        execve(path, argv, environ);
        if (errno == ENOENT && access(path, F_OK) == 0) {
            refusal.stage = INTERPRETER_STAGE;
            return refusal;
        }
        if (errno != ENOENT && errno != ENOTDIR) refusal.error = last_error(refusal.error, errno);
        if (refusal.error == ENOEXEC || refusal.error == E2BIG) return refusal;
    }
    return refusal;
}

static void be_the_program(int in, int out, int err, int report, const char *workdir, char **argv) {
    struct refusal refusal = {CHDIR_STAGE, 0};
    sigset_t none;
    setsid();
    memset(word, 0, sizeof word);
    prctl(PR_SET_DUMPABLE, 1); /* else it cannot open its own files in /proc */
    int score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (score >= 0) { /* when memory runs out, the program is killed, and this process reports it */
        (void)!write(score, "1000", 4);
        close(score);
    }
    for (int number = 1; number < NSIG; number++) signal(number, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    umask(022);
    if (dup2(in, 0) >= 0 && dup2(out, 1) >= 0 && dup2(err, 2) >= 0) {
        if (chdir(workdir) == 0) {
            refusal = execute(argv);
        } else {
            refusal.error = errno;
        }
    }
    (void)!write(report, &refusal, sizeof refusal);
    _exit(127);
}

static uint64_t number_in(const char *path, const char *key) {
    char text[4096];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return UINT64_MAX;
    ssize_t got = read(fd, text, sizeof text - 1);
    close(fd);
    if (got <= 0) return UINT64_MAX;
    text[got] = 0;
    if (!*key) return strtoull(text, NULL, 10);
    size_t size = strlen(key);
    for (char *line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        if (strncmp(line, key, size) == 0 && line[size] == ' ') return strtoull(line + size + 1, NULL, 10);
    return UINT64_MAX;
}

/* A counter of the container's control group, in version 1 or 2. */
static uint64_t counter(const char *one, const char *one_key, const char *two, const char *two_key) {
    uint64_t value = number_in(one, one_key);
    return value != UINT64_MAX ? value : number_in(two, two_key);
}

static uint64_t or_zero(uint64_t value) { return value == UINT64_MAX ? 0 : value; }

static uint64_t processor_time(const struct rusage *used) {
    uint64_t microseconds = number_in("/sys/fs/cgroup/cpuacct/cpuacct.usage", "");
    if (microseconds != UINT64_MAX) return microseconds / 1000;
    microseconds = number_in("/sys/fs/cgroup/cpu.stat", "usage_usec");
    if (microseconds != UINT64_MAX) return microseconds;
    return (uint64_t)(used->ru_utime.tv_sec + used->ru_stime.tv_sec) * 1000000U +
           (uint64_t)(used->ru_utime.tv_usec + used->ru_stime.tv_usec);
}

/* Whether TERM came from outside the container: kill(2) by a sender without a process id in this namespace. The program
 * has one. A signal that it queues or lets the kernel send (rt_sigqueueinfo, F_SETSIG) can carry any process id, but
 * not SI_USER. */
static int asked_to_end;

/* Bytes in a file system of the container now: what was in /tmp and /dev/shm at the end took memory. */
static uint64_t held(const char *path) {
    struct statvfs now;
    return statvfs(path, &now) == 0 ? (now.f_blocks - now.f_bfree) * now.f_frsize : 0;
}

static void report_end(int fd, int status, struct refusal refusal, const char *started) {
    char text[2048];
    char ended[STAMP + 1];
    struct rusage used;
    if (reserve >= 0) close(reserve);
    getrusage(RUSAGE_CHILDREN, &used);
    stamp_now(ended);
    ended[STAMP - 1] = 0;
    int signaled = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    uint64_t killed = counter("/sys/fs/cgroup/memory/memory.oom_control", "oom_kill", "/sys/fs/cgroup/memory.events", "oom_kill");
    uint64_t forks = counter("/sys/fs/cgroup/pids/pids.events", "max", "/sys/fs/cgroup/pids.events", "max");
    int size = snprintf(text, sizeof text,
                        "%s\nexit_code %d\nsignal %d\nstage %s\nerror %d\nstarted %s\nended %s\nlog_dropped %llu\n"
                        "output_dropped %llu\ndisk_full %d\noom_kills %llu\nforks_refused %llu\ncpu_us %llu\nmemory %llu\n"
                        "tmp %llu\nshm %llu\nasked %d\nend\n",
                        word, signaled ? 128 + signaled : WEXITSTATUS(status), signaled, stage_names[refusal.stage],
                        refusal.error, started, ended, (unsigned long long)journal.dropped,
                        (unsigned long long)output.dropped, disk_full, (unsigned long long)or_zero(killed),
                        (unsigned long long)or_zero(forks), (unsigned long long)processor_time(&used),
                        (unsigned long long)used.ru_maxrss * 1024U, (unsigned long long)held("/tmp"),
                        (unsigned long long)held("/dev/shm"), asked_to_end);
    if (ftruncate(fd, 0) == 0) (void)!pwrite(fd, text, (size_t)size, 0);
}

/* Serve pipes and signals until the program itself has ended; returns its wait status. */
static int watch(pid_t program, int signals) {
    int status = 0;
    for (;;) {
        struct pollfd ready[4] = {
            {signals, POLLIN, 0}, {output.fd, POLLIN, 0}, {errors.fd, POLLIN, 0}, {input.fd, POLLOUT, 0}};
        if (poll(ready, 4, -1) < 0 && errno != EINTR) die("poll");
        if (ready[3].revents) feed_once();
        if (ready[1].revents) pump_once(&output);
        if (ready[2].revents) pump_once(&errors);
        struct signalfd_siginfo got;
        if (!ready[0].revents || read(signals, &got, sizeof got) != (ssize_t)sizeof got) continue;
        if (got.ssi_signo != SIGCHLD) { /* USR1: no more grace. This process stays to report */
            if (got.ssi_signo == SIGTERM && got.ssi_code == SI_USER && got.ssi_pid == 0) asked_to_end = 1;
            kill(-1, got.ssi_signo == SIGUSR1 ? SIGKILL : (int)got.ssi_signo);
            continue;
        }
        int found;
        for (pid_t gone; (gone = waitpid(-1, &found, WNOHANG)) > 0;)
            if (gone == program) status = found, program = 0;
        if (program == 0) return status;
    }
}

static void end_the_rest(void) {
    close_feed();
    kill(-1, SIGKILL);
    while (wait(NULL) > 0 || errno == EINTR) kill(-1, SIGKILL);
    while (pump_once(&output) || pump_once(&errors)) continue;
    log_finish();
    look_at_disk();
}

/* Engines also look up a numeric group as a name. A group in the image's /etc/group whose name is that number would add
 * another group to the program, which this process cannot remove. */
static int has_no_other_identity(uint64_t user) {
    gid_t groups[MOST_GROUPS];
    int count = getgroups(MOST_GROUPS, groups);
    if (count < 0) return 0;
    for (int i = 0; i < count; i++)
        if (groups[i] != user) return 0;
    return user != 0 && getuid() == user && geteuid() == user && getgid() == user && getegid() == user;
}

static int signals_to_serve(void) {
    sigset_t served;
    sigemptyset(&served);
    const int numbers[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) sigaddset(&served, numbers[i]);
    sigprocmask(SIG_BLOCK, &served, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    int fd = signalfd(-1, &served, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0) die("signalfd");
    return fd;
}

int main(int argc, char **argv) {
    if (argc < 9) {
        fprintf(stderr, "usage: gridapps-init ARGUMENTS OUTPUT LOG STATUS LOG_LIMIT USER WORKDIR PROGRAM [ARGUMENT...]\n");
        return BROKEN;
    }
    if (getpid() != 1) { /* it kills every process that it can see */
        fprintf(stderr, "gridapps-init: runs only as the first process of a container\n");
        return BROKEN;
    }
    if (prctl(PR_SET_DUMPABLE, 0) != 0) die("prctl");
    umask(022);
    int status_file = take_word(argv[4]);
    take_reserve();
    input.in = open_file(argv[1], O_RDONLY);
    output.out = open_file(argv[2], O_WRONLY | O_CREAT | O_EXCL | O_APPEND);
    errors.out = -1;
    journal.fd = open_file(argv[3], O_WRONLY);
    divide_log(strtoull(argv[5], NULL, 10));
    int signals = signals_to_serve();
    int in[2], out[2], err[2], refused[2];
    if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC) || pipe2(refused, O_CLOEXEC)) die("pipe");
    input.fd = in[1];
    output.fd = out[0];
    errors.fd = err[0];
    fcntl(in[1], F_SETFL, O_NONBLOCK);
    fcntl(out[0], F_SETFL, O_NONBLOCK);
    fcntl(err[0], F_SETFL, O_NONBLOCK);
    char started[STAMP + 1];
    stamp_now(started);
    started[STAMP - 1] = 0;
    struct refusal refusal = {IDENTITY_STAGE, 0};
    if (!has_no_other_identity(strtoull(argv[6], NULL, 10))) {
        report_end(status_file, REFUSED << 8, refusal, started);
        return REFUSED;
    }
    pid_t program = fork();
    if (program < 0) die("fork");
    if (program == 0) be_the_program(in[0], out[1], err[1], refused[1], argv[7], argv + 8);
    close(out[1]);
    close(err[1]);
    close(refused[1]);
    close(in[0]);
    int status = watch(program, signals);
    end_the_rest();
    refusal.stage = RUNNING_STAGE;
    if (read(refused[0], &refusal, sizeof refusal) != (ssize_t)sizeof refusal) refusal.stage = RUNNING_STAGE;
    report_end(status_file, status, refusal, started);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
