/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of a connection that is open.
 *
 *   socket -> slab that is filled up read by read -> on_read   NET__READS_PER_TURN times, then poll
 *                                                              fires again
 *   net_conn_write -> out -> net_conn_flush -> socket          the rest goes when poll says so
 *
 * What poll cannot see (bytes inside OpenSSL, bytes put back by net_conn_unread) is read from the
 * task. A connection that was idle for TRIM_MS gives back its slab and OpenSSL's record buffers.
 * Failure modes: those of conn.c. */
#include <errno.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "net/net_int.h"

#define READ_ROOM_MIN 4096u /* less than this left in a slab: take a new one */
#define TRIM_MS 250
/* After so many full reads in a row a large answer is running: larger slabs then save system calls,
 * slices and frames cut in two. A read of less than BULK_LEAST says that it is over. */
#define BULK_AFTER 3u
#define BULK_LEAST (16u * 1024)

/* --- reading --- */

/* Starts the timer that takes the buffers away from a connection that is idle by then. */
void net__conn_arm_trim(struct net_conn *c)
{
    c->is_busy = true;
    if (c->state != NET__OPEN || loop_timer_is_active(&c->timer))
        return;
    if (c->in == NULL && c->ssl == NULL)
        return;
    if (loop_timer_start(c->loop, &c->timer, TRIM_MS) == ERR_OK || c->in == NULL)
        return;
    slab_drop(c->in);
    c->in = NULL;
}

/* From OpenSSL 3.2 on a buffer that was freed is freed once more with the next call or with
 * SSL_free, and with SSL_OP_CLEANSE_PLAINTEXT wiped by a null pointer. So it gets one before. */
static bool has_buffers(struct net_conn *c)
{
    return !c->has_freed_buffers || SSL_alloc_buffers(c->ssl) == 1;
}

static void free_buffers(struct net_conn *c)
{
    if (!has_buffers(c))
        return;
    (void)SSL_free_buffers(c->ssl); /* refuses while they hold bytes */
    c->has_freed_buffers = true;
}

void net__conn_free_tls(struct net_conn *c)
{
    if (c->ssl != NULL && !has_buffers(c))
        SSL_clear_options(c->ssl, SSL_OP_CLEANSE_PLAINTEXT);
    SSL_free(c->ssl);
    c->ssl = NULL;
}

void net__conn_trim(struct net_conn *c)
{
    bool is_held = false;

    if (!c->is_busy) {
        if (c->in != NULL && c->in->refs == 1) {
            slab_drop(c->in);
            c->in = NULL;
        }
        is_held = c->in != NULL;
        if (c->ssl != NULL)
            free_buffers(c);
    }
    /* The handle exists, so the start cannot fail. */
    if ((c->is_busy || is_held) && loop_timer_start(c->loop, &c->timer, TRIM_MS) != ERR_OK)
        return;
    c->is_busy = false;
}

static bool is_bulk(const struct net_conn *c)
{
    return c->full_reads >= BULK_AFTER;
}

static void note_read(struct net_conn *c, size_t room, size_t total)
{
    if (total < room && total < BULK_LEAST)
        c->full_reads = 0;
    else if (total == room && c->full_reads < BULK_AFTER)
        c->full_reads++;
}

static bool reserve_in(struct net_conn *c)
{
    if (c->in != NULL && c->in->cap - c->in->fill >= READ_ROOM_MIN)
        return true;
    if (c->in != NULL)
        slab_drop(c->in);
    c->in = slab_new(c->pool, is_bulk(c) ? LIMIT_SLAB_LARGE : LIMIT_SLAB_SIZE, c->slab_flags);
    if (c->in == NULL)
        net__conn_set_fail(c, ERR_NOMEM, "out of memory");
    return c->in != NULL;
}

static void give_bytes(struct net_conn *c, struct slice *s)
{
    c->ops->on_read(c, s);
    slice_drop(s);
}

/* Fills the slab as far as one readiness goes and hands it out; adds what that was to *turn. OK:
 * there may be more. */
static enum net__io_result read_some(struct net_conn *c, size_t *turn)
{
    enum net__io_result r;
    size_t room, total = 0, n = 0;
    struct slice s;

    if (!reserve_in(c))
        return NET__IO_FAIL;
    room = c->in->cap - c->in->fill;
    do {
        r = c->io->read(c, c->in->data + c->in->fill + total, room - total, &n);
        if (r == NET__IO_OK)
            total += n;
    } while (r == NET__IO_OK && total < room && c->io->has_pending(c));
    c->read_wants = net__conn_wants_of(r);
    if (total == 0)
        return r;
    note_read(c, room, total);
    *turn += total;
    s = (struct slice){c->in, c->in->fill, (uint32_t)total};
    c->in->fill += (uint32_t)total;
    slab_ref(c->in);
    give_bytes(c, &s);
    /* Less than there was room for: drained, most likely. Poll tells if not. */
    return r == NET__IO_OK && total < room ? NET__IO_WANT_READ : r;
}

static enum net__io_result give_unread(struct net_conn *c)
{
    struct slice head = *chain_at(&c->unread, 0);
    struct slice s = slice_sub(head, 0, head.len < LIMIT_SLAB_SIZE ? head.len : LIMIT_SLAB_SIZE);

    chain_consume(&c->unread, s.len);
    give_bytes(c, &s);
    return NET__IO_OK;
}

bool net__conn_has_hidden_bytes(const struct net_conn *c)
{
    return c->unread.len > 0 || c->io->has_pending(c);
}

void net__conn_read_turn(struct net_conn *c)
{
    enum net__io_result r = NET__IO_OK;
    size_t turn = 0;

    c->is_put_back = false;
    for (int i = 0; i < NET__READS_PER_TURN && turn < NET__BYTES_PER_TURN && r == NET__IO_OK &&
                    net__conn_can_read(c) && !c->is_put_back;
         i++)
        r = c->unread.len > 0 ? give_unread(c) : read_some(c, &turn);
    if (c->is_put_back) /* the end, if that was it, comes behind these bytes */
        r = NET__IO_OK;
    if (c->state != NET__OPEN || c->is_eof)
        return;
    if (r == NET__IO_EOF)
        c->is_peer_done = true;
    if (r == NET__IO_EOF && c->fail == ERR_OK) {
        net__conn_give_eof(c, ERR_CLOSED);
        return;
    }
    /* After a failed write everything that the peer sent before is read first, if it is wanted. */
    if (c->fail != ERR_OK && !(r == NET__IO_OK && net__conn_can_read(c))) {
        net__conn_give_eof(c, c->fail);
        return;
    }
    if (r == NET__IO_OK && net__conn_can_read(c) &&
        (net__conn_has_hidden_bytes(c) || c->fail != ERR_OK))
        loop_task_want(c->loop, &c->task);
    if (c->in != NULL && c->in->refs == 1) {
        slab_drop(c->in);
        c->in = NULL;
    }
    net__conn_arm_trim(c);
    net__conn_update_events(c);
}

/* --- writing --- */

static bool can_write(const struct net_conn *c)
{
    return (c->state == NET__OPEN || c->state == NET__LINGER) && c->fail == ERR_OK &&
           !c->is_blocked;
}

/* Writes what the socket takes; returns how much that was. */
static size_t write_some(struct net_conn *c)
{
    enum net__io_result r = NET__IO_OK;
    size_t total = 0;

    while (c->out.len > 0 && r == NET__IO_OK) {
        size_t n = 0;

        r = c->io->write(c, &n);
        chain_consume(&c->out, n);
        total += n;
    }
    if (r == NET__IO_WANT_READ || r == NET__IO_WANT_WRITE) {
        c->is_blocked = c->out.len > 0;
        c->write_wants = net__conn_wants_of(r);
    } else if (r != NET__IO_OK) {
        if (c->fail == ERR_OK) /* then the peer's close_notify has ended writing */
            net__conn_set_fail(c, ERR_TLS, "write: closed by the peer");
        chain_clear(&c->out);
        loop_task_want(c->loop, &c->task); /* tells the owner, from the loop */
    }
    return total;
}

void net_conn_flush(struct net_conn *c)
{
    size_t total;

    if (!can_write(c) || c->is_flushing || c->out.len == 0)
        return;
    c->is_flushing = true;
    total = write_some(c);
    net__conn_arm_trim(c);
    net__conn_update_events(c);
    if (total > 0 && c->ops->on_wrote != NULL)
        c->ops->on_wrote(c, total);
    if (c->state == NET__OPEN && c->is_over && c->out.len < LIMIT_CONN_OUT / 2) {
        c->is_over = false;
        if (c->ops->on_writable != NULL && c->fail == ERR_OK && !c->is_eof)
            c->ops->on_writable(c);
    }
    c->is_flushing = false;
    /* The callbacks may have queued more; they must not make this call endless. */
    if (can_write(c) && c->out.len > 0)
        loop_task_want(c->loop, &c->task);
}

/* Memory ran out in the middle of a chain: a stream with a hole must not go on. */
void net__conn_lose_bytes(struct net_conn *c)
{
    net__conn_set_fail(c, ERR_NOMEM, "out of memory");
    c->is_lost = true;
    chain_clear(&c->out);
    loop_task_want(c->loop, &c->task);
}

enum err net_conn_write(struct net_conn *c, struct chain *out)
{
    bool is_dead = c->state == NET__DEAD || c->state > NET__OPEN || c->fail != ERR_OK;
    enum err e = is_dead ? ERR_CLOSED : chain_append(&c->out, out);

    chain_clear(out);
    if (e == ERR_NOMEM)
        net__conn_lose_bytes(c);
    if (c->out.len > LIMIT_CONN_OUT)
        c->is_over = true;
    return e;
}

size_t net_conn_queued(const struct net_conn *c)
{
    return c->out.len;
}

bool net_conn_has_unacked(const struct net_conn *c)
{
    int n = 0;

    /* Where the kernel does not say, there may be some. */
    return c->fd >= 0 && (ioctl(c->fd, SIOCOUTQ, &n) != 0 || n > 0);
}

void net__conn_forget(struct net_conn *c, bool is_on)
{
    const struct linger linger = {.l_onoff = is_on, .l_linger = 0};

    if (c->fd >= 0) /* what refuses it is closed all the same */
        (void)setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    c->forgets = is_on;
}

void net_conn_forget_at_exit(struct net_conn *c)
{
    net__conn_forget(c, true);
}
