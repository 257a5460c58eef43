/* A guest that is one static program: its own init, and the command that is run inside. No shell, no files but this one. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <unistd.h>

static int is(const char *word, const char *name)
{
    return strcmp(word, name) == 0;
}

/* As PID 1: until it is asked to end, in one way or the other. */
static int run(void)
{
    sigset_t asked;
    sigemptyset(&asked);
    sigaddset(&asked, SIGTERM);
    sigaddset(&asked, SIGHUP);
    sigaddset(&asked, SIGCHLD);
    sigprocmask(SIG_BLOCK, &asked, NULL);
    for (;;) {
        switch (sigwaitinfo(&asked, NULL)) {
        case SIGTERM:
            return reboot(RB_POWER_OFF);
        case SIGHUP:
            return reboot(RB_AUTOBOOT);
        case SIGCHLD:
            while (0 < waitpid(-1, NULL, WNOHANG))
                ;
        }
    }
}

/* init exit CODE | init keep | init kept | init poweroff | init reboot */
int main(int count, char **words)
{
    if (count < 2)
        return getpid() == 1 ? run() : 2;
    if (is(words[1], "exit") && count == 3)
        return atoi(words[2]);
    if (is(words[1], "keep"))
        return open("/kept", O_CREAT | O_WRONLY, 0600) < 0;
    if (is(words[1], "kept"))
        return access("/kept", F_OK) != 0;
    if (is(words[1], "poweroff"))
        return kill(1, SIGTERM) != 0;
    if (is(words[1], "reboot"))
        return kill(1, SIGHUP) != 0;
    return 2;
}
