/* Tries to make its end look as if it came from outside, or to prevent the report. Exits with 5. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void queue(int call, int code) {
    siginfo_t info;
    memset(&info, 0, sizeof info);
    info.si_signo = SIGTERM;
    info.si_code = code;
    if (call == SYS_rt_sigqueueinfo) syscall(call, 1, SIGTERM, &info);
    else syscall(call, 1, 1, SIGTERM, &info);
}

/* The kernel sends the signal, and names no sender. */
static void owner(void) {
    int ends[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
    fcntl(ends[0], F_SETOWN, 1);
    fcntl(ends[0], F_SETSIG, SIGTERM);
    fcntl(ends[0], F_SETFL, O_ASYNC | O_NONBLOCK);
    (void)!write(ends[1], "x", 1);
}

static void fill_file(const char *path, int flags) {
    static char block[65536];
    int fd = open(path, flags, 0600);
    while (fd >= 0 && write(fd, block, sizeof block) > 0) continue;
    while (fd >= 0 && write(fd, block, 1) > 0) continue;
}

static void fill(void) {
    truncate("/.gridapps/report/status", 0);
    truncate("/.gridapps/run/log", 0);
    fill_file("/grid/a", O_WRONLY | O_CREAT);
    fill_file("/.gridapps/run/log", O_WRONLY);
    fill_file("/.gridapps/report/status", O_WRONLY);
    fill_file("/.gridapps/report/more", O_WRONLY | O_CREAT);
}

/* At the end all memory of the container is in /tmp, where it outlives the process that wrote it. */
static void memory(void) {
    truncate("/.gridapps/report/status", 0);
    if (fork() == 0) {
        fill_file("/tmp/a", O_WRONLY | O_CREAT);
        _exit(0);
    }
    wait(NULL);
    fill_file("/.gridapps/report/status", O_WRONLY);
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    signal(SIGTERM, SIG_IGN);
    for (volatile long work = 0; work < 20000000; work++) continue;
    if (!strcmp(what, "queue")) queue(SYS_rt_sigqueueinfo, SI_QUEUE);
    if (!strcmp(what, "queue-user")) queue(SYS_rt_sigqueueinfo, SI_USER);
    if (!strcmp(what, "thread")) queue(SYS_rt_tgsigqueueinfo, SI_TIMER);
    if (!strcmp(what, "owner")) owner();
    if (!strcmp(what, "fill")) fill();
    if (!strcmp(what, "memory")) memory();
    usleep(300000);
    return 5;
}
