/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by member.c (the lease, what is asked for and when) and member_look.c (what proxies have
 * registered). */
#ifndef CONVERGE_MEMBER_INT_H
#define CONVERGE_MEMBER_INT_H

#include "converge/member.h"

#define CONVERGE__LOOK_MS 2000u /* from one look at what is registered to the next */
#define CONVERGE__WHY_MAX 1024

enum member_state {
    MEMBER_OUT = 0, /* no lease: one is asked for, or will be when the timer says so */
    MEMBER_ANNOUNCING,
    MEMBER_LOOKING,
    MEMBER_LOCKING,
    MEMBER_KEEPING,
    MEMBER_TOUCHING,
    MEMBER_IDLE, /* nothing is under way: the timer runs */
    MEMBER_LEFT, /* the lease is being given back, or was */
};

struct converge_member {
    struct converge_member_opts o;
    enum member_state state;
    struct sweep_call call;
    uint8_t *request;
    struct loop_timer timer;
    uint64_t asked_ms;                  /* when the request under way was made */
    int64_t lease;                      /* 0: none */
    uint64_t joined_ms;                 /* when etcd gave the first one */
    uint64_t ttl_ms;                    /* of ours: etcd may give more than is asked for; 0: none */
    uint64_t valid_ms;                  /* of the lease, by our clock */
    uint64_t keep_ms, look_ms, lock_ms; /* when the next one is due */
    char *record;                       /* to be announced; NULL: nothing */
    char *announced;                    /* what etcd has; NULL: nothing */
    char key[512];                      /* of our record */
    char lock[300], watched[300], watched_end[300];
    /* As of the last look: */
    bool has_looked;
    int64_t seen_revision, lock_revision; /* lock_revision 0: the lock is not ours */
    int64_t any_lock_revision;            /* of the last lock that was seen, whoever's */
    uint64_t news;                        /* see converge_member_news */
    bool wants_touch;                     /* the lock, when it is ours */
    int64_t lock_mod;                     /* mod_revision of that lock */
    int64_t own_touch;                    /* the one that we gave it last; 0: none */
    uint64_t told;                        /* see converge_member_told */
    bool has_lock;                        /* there is a lock, ours or not */
    char holder[CONVERGE_NAME_MAX];
    enum converge_difference difference;
    size_t others;
    char why[CONVERGE__WHY_MAX];      /* what differs, or why we are not registered; "" */
    char lock_why[CONVERGE__WHY_MAX]; /* why we may not have the lock; "" */
    /* What all agree on, and since when: the rules of our record at that time. NULL: nothing. */
    char *agreed;
    uint64_t agreed_ms;
    bool has_said_why;
    bool is_denied;              /* etcd refuses what was asked last: the lease is let go */
    void (*on_left)(void *user); /* in MEMBER_LEFT; NULL: it has been called */
    void *on_left_user;
};

static inline uint64_t converge__now_ms(const struct converge_member *m)
{
    return loop_now_ms(m->o.loop);
}

/* The answer to a look. */
void converge__take_look(struct converge_member *m, struct bytes body);
/* What was known is not known any more; the lock, if it was ours, is not. */
void converge__forget_look(struct converge_member *m);
/* etcd does not have our record any more: it is sent again, unless there is a newer one. */
void converge__not_announced(struct converge_member *m);
/* Keeps why nothing is rewritten, and logs it when it is news. */
void PRINTF_LIKE(2, 3) converge__say_why(struct converge_member *m, const char *fmt, ...);

#endif
