/* The wall clock of a process, moved by as many nanoseconds as a file says: preloaded into whatever is to live in the
 * test's time. Only the wall clock is moved; waits and timeouts, which go by the monotonic clock, take as long as ever.
 *
 * BANDICOOT_MOVED_CLOCK names a file of eight bytes, a signed number in the machine's order. It is mapped, so whoever
 * writes it moves every process at once. Without the variable, or the file, the clock is the machine's.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const int64_t second = 1000000000;
static const int64_t nothing = 0;
static const volatile int64_t *moved_by = &nothing;

__attribute__((constructor)) static void find_file(void) {
    const char *path = getenv("BANDICOOT_MOVED_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *mapped = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED) moved_by = mapped;
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (failed || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) return failed;
    int64_t by = *moved_by;
    int64_t nanoseconds = now->tv_nsec + by % second;
    now->tv_sec += by / second + (nanoseconds >= second) - (nanoseconds < 0);
    now->tv_nsec = (long)((nanoseconds + second) % second);
    return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &exact)) return -1;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec exact;
    if (clock_gettime(CLOCK_REALTIME, &exact)) return (time_t)-1;
    if (now) *now = exact.tv_sec;
    return exact.tv_sec;
}

int timespec_get(struct timespec *now, int base) {
    return base == TIME_UTC && clock_gettime(CLOCK_REALTIME, now) == 0 ? base : 0;
}
