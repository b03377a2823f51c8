/* SPDX-License-Identifier: Apache-2.0 */
/* etcd's TLS. The ends of tests/unit/h2/kit.h speak in clear, so a connection of the worker's is
 * ended here, and its bytes go on through a socket pair:
 *
 *   worker ── TLS over etcd's socket ──► outer │ inner ── socket pair ──► struct end
 *
 * The inner side is made when the handshake is done. The first side that ends takes the other with
 * it. */
#include "rig.h"

struct relay {
    struct rig *rig;
    struct net_conn *outer, *inner; /* NULL: closed, or not there yet */
};

static struct net_conn **side_of(struct relay *y, const struct net_conn *c)
{
    return y->outer == c ? &y->outer : &y->inner;
}

static void on_read(struct net_conn *c, struct slice *s)
{
    struct relay *y = net_conn_user(c);
    struct net_conn *other = c == y->outer ? y->inner : y->outer;
    struct chain out = {0};

    if (other == NULL) {
        slice_drop(s);
        return;
    }
    assert_int_equal(chain_push(&out, s), ERR_OK);
    assert_int_equal(net_conn_write(other, &out), ERR_OK);
    net_conn_flush(other);
}

static void on_eof(struct net_conn *c, enum err why)
{
    struct relay *y = net_conn_user(c);

    (void)why;
    if (y->outer != NULL)
        net_conn_close(y->outer, c == y->outer ? 0 : 1000);
    if (y->inner != NULL)
        net_conn_close(y->inner, c == y->inner ? 0 : 1000);
}

static void on_closed(struct net_conn *c)
{
    struct relay *y = net_conn_user(c);

    *side_of(y, c) = NULL;
    if (y->outer != NULL || y->inner != NULL)
        return;
    y->rig->relay_count--;
    free(y);
}

static const struct net_conn_ops inner_ops = {
    .on_read = on_read, .on_eof = on_eof, .on_closed = on_closed};

static void on_handshake_done(struct net_conn *c)
{
    struct relay *y = net_conn_user(c);
    struct kit *k = &y->rig->outside;
    int fd[2];

    assert_int_equal(net_conn_alpn(c), NET_ALPN_H2);
    kit_socketpair(fd);
    assert_int_equal(net_conn_accept(&k->loop, &k->pool, 0, fd[0], NULL, &inner_ops, y, &y->inner),
                     ERR_OK);
    rig_add_etcd(y->rig, fd[1]);
}

static const struct net_conn_ops outer_ops = {
    .on_open = on_handshake_done, .on_read = on_read, .on_eof = on_eof, .on_closed = on_closed};

void rig_accept_tls(struct rig *r, int fd)
{
    struct relay *y = calloc(1, sizeof *y);

    assert_non_null(y);
    y->rig = r;
    r->relay_count++;
    assert_int_equal(net_conn_accept(&r->outside.loop, &r->outside.pool, 0, fd, r->opts.etcd_tls,
                                     &outer_ops, y, &y->outer),
                     ERR_OK);
}
