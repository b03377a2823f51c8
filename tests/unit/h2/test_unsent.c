/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel still holds when a connection is closed: a client's requests that were given up
 * do not reach a server that comes back (TCP RST), and everything else does (FIN). */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "duo.h"

struct fix {
    struct kit k;
    struct end e;
    struct raw raw;
    int fd; /* of e */
};

/* receive: the size of the buffer of fd[1]; 0: the usual one. */
static void tcp_pair(int fd[2], int receive)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof addr;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (receive > 0)
        assert_int_equal(setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &receive, sizeof receive), 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&addr, sizeof addr), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&addr, &len), 0);
    fd[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd[0], (struct sockaddr *)&addr, sizeof addr), 0);
    fd[1] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(fd[1] >= 0);
    assert_int_equal(fcntl(fd[0], F_SETFL, O_NONBLOCK), 0);
    close(listener);
}

static void setup_over_tcp(struct fix *f, const struct h2_opts *opts, int receive)
{
    int fd[2];

    kit_init(&f->k);
    tcp_pair(fd, receive);
    f->fd = fd[0];
    end_init(&f->e, &f->k, fd[0], opts);
    raw_init(&f->raw, &f->k, fd[1]);
    if (opts->is_server) {
        raw_hello(&f->raw);
    } else {
        f->raw.at = 24;
        assert_true(raw_frame(&f->raw, F_SETTINGS, 0, 0, NULL, 0));
    }
    (void)raw_await(&f->raw, F_SETTINGS);
    KIT_UNTIL(&f->k, f->e.ready_count == 1);
}

/* All that was sent has been acknowledged; it takes as long as the kernel delays that. */
static void wait_acked(struct fix *f)
{
    int n = 1;

    while (n > 0) {
        kit_run_ms(&f->k, 5);
        assert_int_equal(ioctl(f->fd, SIOCOUTQ, &n), 0);
    }
}

/* Closes if that is still to be done. How does the stream end for the peer: 0 or errno? */
static int end_of(struct fix *f)
{
    uint8_t buf[4096];
    ssize_t n = 1;
    int error;

    end_close(&f->e);
    while (n > 0) {
        n = recv(f->raw.fd, buf, sizeof buf, MSG_WAITALL);
        error = n < 0 ? errno : 0;
        if (n < 0 && error == EAGAIN)
            n = 1;
    }
    raw_fini(&f->raw);
    kit_fini(&f->k);
    return error;
}

static void a_client_that_closes(void **state)
{
    struct fix f;

    (void)state;
    for (int has_request = 0; has_request < 2; has_request++) {
        setup_over_tcp(&f, &kit_client_opts, 0);
        if (has_request) {
            (void)end_request(&f.e, kit_request, true);
            (void)raw_await(&f.raw, F_HEADERS);
        }
        wait_acked(&f);
        assert_int_equal(end_of(&f), has_request ? ECONNRESET : 0);
    }
}

/* Its call was given up, but not the connection, and the peer's kernel has not heard of it. */
static void a_client_with_bytes_on_their_way(void **state)
{
    struct rec *r;
    struct fix f;

    (void)state;
    setup_over_tcp(&f, &kit_client_opts, 4096);
    r = end_request(&f.e, kit_request, false);
    rec_send(r, 0, 65535, 16384, false);
    kit_run_ms(&f.k, 50); /* the peer reads nothing */
    h2_stream_reset(r->s, H2_CANCEL);
    KIT_UNTIL(&f.k, r->close_count == 1);
    assert_int_equal(end_of(&f), ECONNRESET);
}

static void a_client_whose_server_is_mute(void **state)
{
    struct h2_opts opts = kit_client_opts;
    struct fix f;

    (void)state;
    opts.ping_ms = opts.ping_ack_ms = 60;
    setup_over_tcp(&f, &opts, 0);
    (void)end_request(&f.e, kit_request, true);
    KIT_UNTIL(&f.k, f.e.lost_count == 1);
    assert_int_equal(f.e.lost_err, ERR_TIMEOUT);
    assert_int_equal(end_of(&f), ECONNRESET);
}

/* What a server has answered, and its GOAWAY, arrive. */
static void a_server_that_closes(void **state)
{
    uint8_t block[200];
    struct fix f;

    (void)state;
    setup_over_tcp(&f, &kit_server_opts, 0);
    assert_true(raw_frame(&f.raw, F_HEADERS, FLAG_END_HEADERS | FLAG_END_STREAM, 1, block,
                          raw_put_request(block)));
    KIT_UNTIL(&f.k, f.e.recs_count == 1);
    assert_int_equal(end_of(&f), 0);
}

/* What had not left when the connection was given up does not leave with the goodbye: a request can
 * be made elsewhere, the rest of one is not sent. */
static void a_client_that_closes_before_it_sends(void **state)
{
    struct raw_frame f;
    struct rec *begun, *waiting;
    struct duo d;

    (void)state;
    duo_client(&d, NULL);
    begun = end_request(&d.e, kit_request, false);
    (void)raw_await(&d.raw, F_HEADERS);
    rec_send(begun, 0, 100, 100, true);
    waiting = end_request(&d.e, kit_request, true);
    h2_conn_close(d.e.c, H2_NO_ERROR, 0);
    assert_true(raw_await_eof(&d.raw, 5000));
    while (raw_next(&d.raw, &f))
        assert_true(f.type != F_HEADERS && f.type != F_DATA);
    KIT_UNTIL(&d.k, d.e.c == NULL);
    assert_int_equal(begun->code, H2_INTERNAL_ERROR);
    assert_int_equal(waiting->code, H2_REFUSED_STREAM);
    assert_int_equal(waiting->how, H2_END_LOST);
    duo_stop(&d);
}

/* A server that answers without having read the request, and goes: the answer counts, however much
 * of the request was still to be written when that failed. */
static void a_server_that_answers_and_goes(void **state)
{
    (void)state;
    for (size_t n = 1; n < 8000000; n = n * 5 + 1) {
        struct duo d;
        struct rec *r;

        duo_client(&d, NULL);
        assert_true(raw_frame(&d.raw, F_SETTINGS, 0, 0, "\0\4\x7f\xff\xff\xff", 6));
        assert_true(raw_frame(&d.raw, F_WINDOW, 0, 0, "\x70\0\0\0", 4));
        r = end_request(&d.e, kit_request, false);
        (void)raw_await(&d.raw, F_HEADERS);
        rec_send(r, 0, n, 65536, false);
        duo_answer(&d, 1, 0);
        assert_true(raw_frame(&d.raw, F_DATA, FLAG_END_STREAM, 1, "answer", 6));
        assert_int_equal(shutdown(d.raw.fd, SHUT_RDWR), 0);
        KIT_UNTIL(&d.k, d.e.lost_count == 1);
        assert_int_equal(r->body_len, 6);
        assert_int_equal(r->end_count, 1);
        duo_stop(&d);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_client_that_closes),
        cmocka_unit_test(a_client_with_bytes_on_their_way),
        cmocka_unit_test(a_client_whose_server_is_mute),
        cmocka_unit_test(a_server_that_closes),
        cmocka_unit_test(a_client_that_closes_before_it_sends),
        cmocka_unit_test(a_server_that_answers_and_goes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
