/* SPDX-License-Identifier: Apache-2.0 */
/* net/conn.h without a descriptor: the test gives the bytes that are read and takes those that are
 * written. Linked in the place of net's own file, so that one input is one sequence of calls,
 * whatever the kernel does. */
#include "net/conn.h"

#include "h2_diff.h"

struct net_conn {
    struct loop *loop;
    struct slab_pool *pool;
    const struct net_conn_ops *ops;
    void *user;
    struct chain out, unread;
    struct grow *wire;
    struct loop_task task; /* on_closed */
    bool is_closed;
};

static void on_task(struct loop_task *t)
{
    struct net_conn *c = CONTAINER_OF(t, struct net_conn, task);

    c->ops->on_closed(c);
    chain_fini(&c->out);
    chain_fini(&c->unread);
    free(c);
}

struct net_conn *fake_net_new(struct loop *loop, struct slab_pool *pool, struct grow *wire)
{
    struct net_conn *c = calloc(1, sizeof *c);

    CHECK(c != NULL);
    c->loop = loop;
    c->pool = pool;
    c->wire = wire;
    loop_task_init(&c->task, on_task);
    return c;
}

void fake_net_give(struct net_conn *c, struct bytes b)
{
    struct slab *slab;
    struct slice s;

    if (c->is_closed || b.n == 0)
        return;
    slab = slab_new(c->pool, b.n, SLAB_SECRET);
    CHECK(slab != NULL);
    memcpy(slab->data, b.p, b.n);
    slab->fill = (uint32_t)b.n;
    s = (struct slice){slab, 0, (uint32_t)b.n};
    c->ops->on_read(c, &s);
    CHECK(s.slab == NULL);
    while (c->unread.len > 0 && !c->is_closed) { /* at once: who else would have a turn? */
        s = slice_ref(*chain_at(&c->unread, 0));
        chain_consume(&c->unread, s.len);
        c->ops->on_read(c, &s);
    }
}

enum err net_conn_unread(struct net_conn *c, struct chain *in)
{
    CHECK(c->unread.len == 0);
    return chain_append(&c->unread, in);
}

void net_conn_set_ops(struct net_conn *c, const struct net_conn_ops *ops, void *user)
{
    c->ops = ops;
    c->user = user;
}

void *net_conn_user(const struct net_conn *c)
{
    return c->user;
}

const char *net_conn_peer(const struct net_conn *c)
{
    (void)c;
    return "test";
}

const char *net_conn_why(const struct net_conn *c)
{
    (void)c;
    return "";
}

enum err net_conn_write(struct net_conn *c, struct chain *out)
{
    return chain_append(&c->out, out);
}

void net_conn_flush(struct net_conn *c)
{
    size_t n = c->out.len;

    for (uint32_t i = 0; i < c->out.count; i++) {
        struct bytes b = slice_bytes(*chain_at(&c->out, i));

        grow_add(c->wire, b.p, b.n);
    }
    chain_clear(&c->out);
    if (n > 0 && c->ops->on_wrote != NULL)
        c->ops->on_wrote(c, n);
}

size_t net_conn_queued(const struct net_conn *c)
{
    return c->out.len;
}

void net_conn_read_stop(struct net_conn *c)
{
    (void)c;
    CHECK(false); /* h2 never does */
}

void net_conn_read_start(struct net_conn *c)
{
    (void)c;
}

void net_conn_close(struct net_conn *c, uint64_t linger_ms)
{
    (void)linger_ms;
    if (c->is_closed)
        return;
    net_conn_flush(c);
    c->is_closed = true;
    loop_task_want(c->loop, &c->task);
}

bool net_conn_has_unacked(const struct net_conn *c)
{
    (void)c;
    return false;
}

void net_conn_forget_at_exit(struct net_conn *c)
{
    (void)c;
}

void net_conn_reset(struct net_conn *c)
{
    net_conn_close(c, 0);
}
