/* SPDX-License-Identifier: Apache-2.0 */
#include "duo.h"

static void duo_start(struct duo *d, const struct h2_opts *opts)
{
    int fd[2];

    kit_init(&d->k);
    kit_socketpair(fd);
    end_init(&d->e, &d->k, fd[0], opts);
    raw_init(&d->raw, &d->k, fd[1]);
}

/* Ours, and the acknowledgement of the peer's. */
static void duo_greet(struct duo *d)
{
    (void)raw_await(&d->raw, F_SETTINGS);
    assert_true(raw_frame(&d->raw, F_SETTINGS, FLAG_ACK, 0, NULL, 0));
    while (raw_await(&d->raw, F_SETTINGS).flags != FLAG_ACK)
        ;
}

void duo_server(struct duo *d, const struct h2_opts *opts)
{
    duo_start(d, opts != NULL ? opts : &kit_server_opts);
    raw_hello(&d->raw);
    duo_greet(d);
    KIT_UNTIL(&d->k, d->e.ready_count == 1);
}

void duo_client(struct duo *d, const struct h2_opts *opts)
{
    duo_start(d, opts != NULL ? opts : &kit_client_opts);
    d->raw.at = 24;
    assert_true(raw_frame(&d->raw, F_SETTINGS, 0, 0, NULL, 0));
    duo_greet(d);
    KIT_UNTIL(&d->k, d->e.ready_count == 1);
}

void duo_stop(struct duo *d)
{
    end_close(&d->e);
    raw_fini(&d->raw);
    kit_fini(&d->k);
}

void duo_open(struct duo *d, uint32_t id, uint8_t flags)
{
    uint8_t block[200];

    assert_true(
        raw_frame(&d->raw, F_HEADERS, FLAG_END_HEADERS | flags, id, block, raw_put_request(block)));
}

void duo_answer(struct duo *d, uint32_t id, uint8_t flags)
{
    uint8_t block[50];

    assert_true(raw_frame(&d->raw, F_HEADERS, FLAG_END_HEADERS | flags, id, block,
                          raw_put_field(block, ":status", "200")));
}

void duo_outcome(struct duo *d, uint32_t id, char *text, size_t len)
{
    uint64_t end = loop_hrtime_ns() + 5000000000ull;

    (void)snprintf(text, len, "alive");
    (void)raw_frame(&d->raw, F_PING, 0, 0, "outcome?", 8);
    while (loop_hrtime_ns() < end) {
        struct raw_frame f;

        while (raw_next(&d->raw, &f)) {
            if (f.type == F_PING && (f.flags & FLAG_ACK) != 0)
                return;
            if (f.type == F_RST && f.id == id)
                (void)snprintf(text, len, "rst %u", f.p[3]);
            if (f.type == F_GOAWAY) {
                (void)snprintf(text, len, "goaway %u", f.p[7]);
                return;
            }
        }
        assert_false(d->raw.is_eof);
        kit_turn(&d->k);
        raw_read(&d->raw);
    }
    fail_msg("no answer to PING");
}
