/* SPDX-License-Identifier: Apache-2.0 */
/* What it would cost to keep seeds in a process of their own: the key of one value derived here,
 * beside the same key asked of another process over a unix socket, one a message and a list's 64
 * a message. CPU time of both processes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"
#include "reference.h"

#define BATCHES 50
#define KEYS_A_BATCH 640u
#define KEYS_A_MESSAGE_MAX 64u
#define LEN REFERENCE_KEY /* a question is as long as its answer */

static void must(bool ok)
{
    if (ok)
        return;
    perror("bench");
    exit(1);
}

static uint64_t cpu_ns(clockid_t clock)
{
    struct timespec t;

    must(clock_gettime(clock, &t) == 0);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void derive(const uint8_t *infos, size_t count, uint8_t *keys)
{
    for (size_t i = 0; i < count; i++)
        reference_derive(infos + i * LEN, keys + i * LEN);
}

/* The other process: infos in, keys out, until its peer ends. */
_Noreturn static void serve(int fd)
{
    uint8_t infos[KEYS_A_MESSAGE_MAX * LEN], keys[sizeof infos];
    ssize_t n;

    while ((n = recv(fd, infos, sizeof infos, 0)) > 0) {
        derive(infos, (size_t)n / LEN, keys);
        must(send(fd, keys, (size_t)n, 0) == n);
    }
    _exit(0);
}

struct apart {
    int fd; /* -1: derived here */
    clockid_t other;
    size_t keys_a_message;
};

static void run_batch(const struct apart *a)
{
    uint8_t infos[KEYS_A_MESSAGE_MAX * LEN] = {0}, keys[sizeof infos];
    size_t n = a->keys_a_message * LEN;

    for (size_t done = 0; done < KEYS_A_BATCH; done += a->keys_a_message) {
        memcpy(infos, &done, sizeof done);
        if (a->fd < 0) {
            derive(infos, a->keys_a_message, keys);
            continue;
        }
        must(send(a->fd, infos, n, 0) == (ssize_t)n);
        must(recv(a->fd, keys, n, 0) == (ssize_t)n);
    }
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static uint64_t spent(const struct apart *a)
{
    return cpu_ns(CLOCK_PROCESS_CPUTIME_ID) + (a->fd < 0 ? 0 : cpu_ns(a->other));
}

static void measure(const char *name, const struct apart *a)
{
    double ns[BATCHES];

    run_batch(a); /* warms caches */
    for (size_t i = 0; i < BATCHES; i++) {
        uint64_t begun = spent(a);

        run_batch(a);
        ns[i] = (double)(spent(a) - begun) / KEYS_A_BATCH;
    }
    qsort(ns, BATCHES, sizeof ns[0], by_size);
    printf("{\"module\": \"apart\", \"case\": \"%s\", \"bytes\": %u, \"batches\": %d, "
           "\"ns_min\": %.1f, \"ns_median\": %.1f, \"mb_per_s\": %.1f}\n",
           name, (unsigned)LEN, BATCHES, ns[0], ns[BATCHES / 2], LEN * 1e3 / ns[BATCHES / 2]);
    fflush(stdout);
}

int main(void)
{
    static const uint8_t secret[32] = "a seed of the bench, thirty-two";
    struct apart a = {.fd = -1, .keys_a_message = 1};
    int pair[2], status;
    pid_t child;

    reference_init(secret);
    measure("a value's key derived here", &a);
    must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    child = fork();
    must(child >= 0);
    if (child == 0) {
        close(pair[0]);
        serve(pair[1]);
    }
    close(pair[1]);
    a.fd = pair[0];
    must(clock_getcpuclockid(child, &a.other) == 0);
    measure("asked of another process, 1 a message", &a);
    a.keys_a_message = KEYS_A_MESSAGE_MAX;
    measure("asked of another process, 64 a message", &a);
    close(a.fd);
    must(waitpid(child, &status, 0) == child);
    return status == 0 ? 0 : 1;
}
