/* SPDX-License-Identifier: Apache-2.0 */
/* Where our connection and nghttp2's session differ on purpose, or may: when, and why. */
#include "h2_diff.h"

static bool says(const struct diff_side *s, uint32_t code)
{
    return s->judge.is_goaway && s->judge.goaway_code == code;
}

/* Was the stream reset with the code? */
static bool resets(struct diff_side *s, uint32_t id, uint32_t code)
{
    const struct judge_stream *stream = judge_stream(&s->judge, id);

    return stream->is_reset && stream->code == code;
}

/* They are asked when a difference was found, and have to be sure that it is theirs. */

static bool is_starved(struct run *r, const struct recent *recent)
{
    (void)recent;
    return r->ours.judge.is_starved || r->theirs.judge.is_starved;
}

static bool is_late_frame(struct run *r, const struct recent *recent)
{
    if (!recent->is_late)
        return false;
    return says(&r->ours, NGHTTP2_STREAM_CLOSED) || says(&r->ours, NGHTTP2_PROTOCOL_ERROR) ||
           resets(&r->ours, recent->f.id, NGHTTP2_STREAM_CLOSED);
}

static bool is_self_dependent(struct run *r, const struct recent *recent)
{
    return recent->is_self && (says(&r->theirs, NGHTTP2_PROTOCOL_ERROR) ||
                               resets(&r->theirs, recent->f.id, NGHTTP2_PROTOCOL_ERROR));
}

static bool is_settings_overflow(struct run *r, const struct recent *recent)
{
    return recent->f.type == T_SETTINGS && says(&r->ours, NGHTTP2_FLOW_CONTROL_ERROR) &&
           !is_dead(&r->theirs);
}

static bool is_other_extent(struct run *r, const struct recent *recent)
{
    if (recent->f.id == 0)
        return false;
    return (is_dead(&r->ours) && resets(&r->theirs, recent->f.id, r->ours.judge.goaway_code)) ||
           (is_dead(&r->theirs) && resets(&r->ours, recent->f.id, r->theirs.judge.goaway_code));
}

static bool is_wrong_twice(struct run *r, const struct recent *recent)
{
    const uint32_t alike = 1u << NGHTTP2_PROTOCOL_ERROR | 1u << NGHTTP2_FLOW_CONTROL_ERROR |
                           1u << NGHTTP2_STREAM_CLOSED | 1u << NGHTTP2_FRAME_SIZE_ERROR |
                           1u << NGHTTP2_COMPRESSION_ERROR;
    uint32_t a = r->ours.judge.goaway_code, b = r->theirs.judge.goaway_code;

    (void)recent;
    return a < 32 && b < 32 && (alike & 1u << a) != 0 && (alike & 1u << b) != 0;
}

static bool is_odd_goaway(struct run *r, const struct recent *recent)
{
    return recent->f.type == T_GOAWAY && says(&r->theirs, NGHTTP2_PROTOCOL_ERROR);
}

static bool is_unasked_ack(struct run *r, const struct recent *recent)
{
    return recent->f.type == T_SETTINGS && (recent->f.flags & NGHTTP2_FLAG_ACK) != 0 &&
           says(&r->theirs, NGHTTP2_PROTOCOL_ERROR);
}

static bool is_deaf(struct run *r, const struct recent *recent)
{
    (void)recent;
    for (unsigned i = 0; i < r->theirs.count; i++)
        if (!r->theirs.calls[i].is_closed)
            return false;
    return (r->ours.text.n > 0 || r->stopping_ns != 0) && !is_dead(&r->theirs);
}

static bool is_discarded(struct run *r, const struct recent *recent)
{
    return (says(&r->theirs, NGHTTP2_STREAM_CLOSED) || says(&r->theirs, NGHTTP2_PROTOCOL_ERROR)) &&
           recent->f.id != 0 && judge_stream(&r->ours.judge, recent->f.id)->is_reset;
}

/* Both took their turn behind several frames, or a frame and a request of ours: what one of them
 * had sent in between is over. */
static bool is_gathered(const struct run *r)
{
    return r->recent_count - r->turned_count + r->asked_count > 1;
}

static bool is_freed(struct run *r, const struct recent *recent)
{
    if (!is_gathered(r))
        return false;
    if (r->code.o.is_client)
        return r->ours.count > r->theirs.count;
    return r->code.o.few_streams && recent->f.type == T_HEADERS &&
           resets(&r->theirs, recent->f.id, NGHTTP2_REFUSED_STREAM) &&
           !resets(&r->ours, recent->f.id, NGHTTP2_REFUSED_STREAM);
}

static bool is_empty_data(struct run *r, const struct recent *recent)
{
    return r->code.o.is_client && recent->f.type == T_DATA &&
           (recent->f.flags & NGHTTP2_FLAG_END_STREAM) == 0 &&
           resets(&r->ours, recent->f.id, NGHTTP2_PROTOCOL_ERROR) &&
           !judge_stream(&r->theirs.judge, recent->f.id)->is_reset;
}

static bool is_late_code(struct run *r, const struct recent *recent)
{
    (void)recent;
    for (unsigned i = 0; i < r->ours.count && i < r->theirs.count; i++) {
        const struct diff_call *a = &r->ours.calls[i], *b = &r->theirs.calls[i];

        if (a->is_closed && b->is_closed && a->how == H2_END_RESET && b->how == H2_END_RESET &&
            a->code == H2_PROTOCOL_ERROR &&
            (b->code == H2_NO_ERROR || b->code == H2_REFUSED_STREAM ||
             judge_stream(&r->ours.judge, b->id)->is_left) &&
            resets(&r->ours, b->id, H2_PROTOCOL_ERROR))
            return true;
    }
    return false;
}

/* We have reset the stream, and told its owner so. */
static bool is_first_reason(struct run *r, const struct recent *recent)
{
    (void)recent;
    for (unsigned i = 0; is_gathered(r) && i < r->ours.count && i < r->theirs.count; i++) {
        const struct diff_call *a = &r->ours.calls[i], *b = &r->theirs.calls[i];

        if (a->is_closed && b->is_closed && a->how == H2_END_RESET && b->how == H2_END_RESET &&
            a->code != b->code && resets(&r->ours, b->id, (uint32_t)a->code))
            return true;
    }
    return false;
}

static bool is_push(struct run *r, const struct recent *recent)
{
    return recent->f.type == T_PUSH && says(&r->ours, NGHTTP2_PROTOCOL_ERROR);
}

static bool is_unfinished(struct run *r, const struct recent *recent)
{
    return recent->f.type == T_HEADERS && (recent->f.flags & NGHTTP2_FLAG_END_HEADERS) == 0 &&
           is_dead(&r->theirs) && !is_dead(&r->ours);
}

static bool is_said_twice(struct run *r, const struct recent *recent)
{
    return recent->f.type == T_SETTINGS && recent->f.payload.n >= 12 && !is_dead(&r->theirs) &&
           (says(&r->ours, NGHTTP2_PROTOCOL_ERROR) || says(&r->ours, NGHTTP2_FLOW_CONTROL_ERROR));
}

static bool is_empty_end(struct run *r, const struct recent *recent)
{
    (void)recent;
    for (unsigned i = 0; i < r->theirs.judge.count; i++) {
        const struct judge_stream *b = &r->theirs.judge.streams[i];
        const struct judge_stream *a = judge_stream(&r->ours.judge, b->id);

        if (a->is_ended && !b->is_ended && a->data.n == b->data.n &&
            b->window + r->theirs.judge.acked.window <= 0)
            return true;
    }
    return false;
}

static bool is_answered_at_once(struct run *r, const struct recent *recent)
{
    if (!is_gathered(r) || (recent->f.type != T_RST && recent->f.type != T_WINDOW))
        return false;
    for (unsigned i = 0; i < r->ours.count && i < r->theirs.count; i++)
        if (r->theirs.calls[i].id == recent->f.id && r->ours.calls[i].is_closed &&
            r->ours.calls[i].how == H2_END_COMPLETE &&
            (is_dead(&r->theirs) || r->theirs.calls[i].how == H2_END_RESET))
            return true;
    return false;
}

/* RST_STREAM NO_ERROR behind an answer: the rest of the request is not wanted. */
static bool is_rest_declined(struct run *r, const struct recent *recent)
{
    uint32_t id = recent->f.id;

    return is_gathered(r) && (recent->f.type == T_HEADERS || recent->f.type == T_DATA) &&
           (recent->f.flags & NGHTTP2_FLAG_END_STREAM) != 0 &&
           resets(&r->ours, id, NGHTTP2_NO_ERROR) && judge_stream(&r->ours.judge, id)->is_ended &&
           judge_stream(&r->theirs.judge, id)->is_ended &&
           !judge_stream(&r->theirs.judge, id)->is_reset;
}

static bool is_unread(struct run *r, const struct recent *recent)
{
    return (recent->f.flags & NGHTTP2_FLAG_PADDED) != 0 && recent->f.type == T_DATA &&
           says(&r->ours, NGHTTP2_PROTOCOL_ERROR) && !is_dead(&r->theirs) &&
           judge_stream(&r->theirs.judge, recent->f.id)->is_reset;
}

static bool is_overflow_heard(struct run *r, const struct recent *recent)
{
    return recent->f.type == T_DATA && resets(&r->ours, recent->f.id, NGHTTP2_FLOW_CONTROL_ERROR) &&
           resets(&r->theirs, recent->f.id, NGHTTP2_FLOW_CONTROL_ERROR);
}

static bool is_drained(struct run *r, const struct recent *recent)
{
    return r->stopping_ns != 0 && recent->f.type == T_HEADERS &&
           resets(&r->ours, recent->f.id, NGHTTP2_REFUSED_STREAM);
}

static bool is_unsent(struct run *r, const struct recent *recent)
{
    if (!r->code.o.is_client || recent->f.type != T_GOAWAY)
        return false;
    for (unsigned i = 0; i < r->ours.count && i < r->theirs.count; i++) {
        const struct diff_call *a = &r->ours.calls[i];

        if (a->is_closed && a->how == H2_END_RESET && a->code == H2_REFUSED_STREAM &&
            !r->theirs.calls[i].is_closed)
            return true;
    }
    return false;
}

static bool is_guarded(struct run *r, const struct recent *recent)
{
    (void)recent;
    return says(&r->ours, NGHTTP2_ENHANCE_YOUR_CALM);
}

static bool is_slow(struct run *r, const struct recent *recent)
{
    (void)recent;
    return r->stopping_ns != 0 && loop_hrtime_ns() - r->stopping_ns > 900000000;
}

static const struct {
    bool (*is_it)(struct run *r, const struct recent *recent);
    const char *why;
} known_differences[] = {
    {is_starved, "who gets the last of the connection's window is the sender's choice"},
    {is_late_frame, "nghttp2 ignores frames on closed streams, and ids that fall; RFC 9113 section "
                    "5.1 lets us call them STREAM_CLOSED or PROTOCOL_ERROR"},
    {is_self_dependent, "priorities are not obeyed (RFC 9113 section 5.3.2), so not judged"},
    {is_settings_overflow, "a window beyond 2^31-1 by SETTINGS ends the connection (RFC 9113 "
                           "section 6.9.2); nghttp2 resets the stream"},
    {is_other_extent, "an error of a stream may be made one of its connection (RFC 9113 section "
                      "5.4.2)"},
    {is_wrong_twice, "a frame that is wrong twice: which of it is said is not laid down"},
    {is_odd_goaway, "nghttp2 insists that a GOAWAY's last id does not rise, and is ours"},
    {is_unasked_ack,
     "nghttp2 takes SETTINGS with ACK that nobody asked for as an error; no RFC does"},
    {is_deaf, "behind a GOAWAY, either side's, nghttp2 reads nothing once no stream is left"},
    {is_discarded, "what comes on a stream that we reset is discarded (RFC 9113 section 5.1); "
                   "nghttp2 still finds fault with it"},
    {is_freed, "a stream that is reset makes room at once; with nghttp2 when RST_STREAM is sent"},
    {is_empty_data, "DATA before an answer's head: nghttp2 does not tell of it when it is empty"},
    {is_late_code,
     "a message found malformed by the frame that ends it: nghttp2 resets the stream, "
     "but tells its owner NO_ERROR, or the code of the peer's reset or "
     " GOAWAY behind it"},
    {is_first_reason, "a stream that ends for several reasons in one turn: its owner hears the "
                      "first of us, the last of nghttp2"},
    {is_push,
     "PUSH_PROMISE is refused whatever is in it; nghttp2 decodes it while our SETTINGS are "
     "not acknowledged"},
    {is_unfinished, "HEADERS are judged when their block is whole; some of nghttp2's checks are "
                    "made before"},
    {is_said_twice, "a setting that comes twice in a frame: nghttp2 looks at the second only, RFC "
                    "9113 section 6.5.3 has both processed"},
    {is_empty_end, "DATA without a byte pass a window that is used up; nghttp2's wait for it"},
    {is_answered_at_once, "ours may have sent its answer, and be done with the stream, before the "
                          "next frame is read; nghttp2 sends when all was read"},
    {is_rest_declined, "the same, and the next frame would have been the request's last"},
    {is_unread, "padding is checked on streams that were reset, too; nghttp2 does not look"},
    {is_overflow_heard, "DATA that overflow a window: nghttp2 hands them over before it resets"},
    {is_drained, "behind our last GOAWAY nghttp2 ignores new streams; ours are refused"},
    {is_unsent, "requests that wait for room are over when GOAWAY comes, for they can be made "
                "elsewhere; nghttp2 leaves some of them open"},
    {is_guarded, "our limits against floods (guard.c)"},
    {is_slow, "a graceful stop goes on after 1 s, whatever the input says"},
};

bool known_difference(struct run *r)
{
    static const struct recent none;

    for (size_t i = 0; i < ARRAY_LEN(known_differences); i++) {
        if (r->recent_count == r->turned_count && known_differences[i].is_it(r, &none))
            return true;
        for (unsigned k = r->turned_count; k < r->recent_count; k++)
            if (known_differences[i].is_it(r, &r->recent[k]))
                return true;
    }
    return false;
}
