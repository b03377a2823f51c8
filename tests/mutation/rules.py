#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The security rules, each with a patch that breaks it and the tests that have to notice.

A rule is broken by replacing text that occurs exactly once in a file of src/. lint/mutations holds each of them to that,
so a change of the source that moves such a place has to move it here, too. Tests are named as ctest has them
("unit/etcd/scan", "fuzz/etcd_scan") or, end to end, as "e2e/kv:Class.test"; those that are quick come first."""
import dataclasses


@dataclasses.dataclass(frozen=True)
class Edit:
    path: str  # below src/
    old: str
    new: str


@dataclasses.dataclass(frozen=True)
class Rule:
    name: str
    says: str
    edits: tuple
    tests: tuple
    section: str


RULES = []
current_section = ""


def section(title):
    """What the rules from here on are about."""
    global current_section
    current_section = title


def rule(name, says, path, old, new, *tests, more=()):
    """One more rule; more: further edits as (path, old, new), for a rule that is kept in several places."""
    edits = (Edit(path, old, new),) + tuple(Edit(*e) for e in more)
    RULES.append(Rule(name, says, edits, tests, current_section))


section("methods and headers")

rule("method-lock", "Lock and Election, whose requests etcd turns into Puts, are refused", "etcd/method.c",
     'METHOD(KV "Compact", ETCD_UNARY, ETCD_OPAQUE),',
     'METHOD(KV "Compact", ETCD_UNARY, ETCD_OPAQUE),\n'
     '    METHOD("/v3lockpb.Lock/Lock", ETCD_UNARY, ETCD_OPAQUE),\n'
     '    METHOD("/v3electionpb.Election/Campaign", ETCD_UNARY, ETCD_OPAQUE),', "unit/etcd/method")
rule("method-case", "a method's path is case-sensitive", "etcd/method.c",
     "if (bytes_eq(path, bytes_of(methods[i].path, methods[i].path_len)))",
     "if (path.n == methods[i].path_len && strncasecmp((const char *)path.p, methods[i].path, path.n) == 0)",
     "unit/etcd/method", "unit/proxy/request", more=[("etcd/method.c", '#include "etcd/method.h"',
                                                      '#include "etcd/method.h"\n#include <strings.h>')])
rule("method-whole", "a method's path is compared as a whole", "etcd/method.c",
     "if (bytes_eq(path, bytes_of(methods[i].path, methods[i].path_len)))",
     "if (bytes_has_prefix(path, bytes_of(methods[i].path, methods[i].path_len)))", "unit/etcd/method")
rule("method-put", "the values of a Put are looked at", "etcd/method.c",
     'METHOD(KV "Put", ETCD_UNARY, ETCD_PUT)', 'METHOD(KV "Put", ETCD_UNARY, ETCD_OPAQUE)', "unit/etcd/method")
rule("method-txn", "the values of a Txn are looked at", "etcd/method.c",
     'METHOD(KV "Txn", ETCD_UNARY, ETCD_TXN)', 'METHOD(KV "Txn", ETCD_UNARY, ETCD_OPAQUE)', "unit/etcd/method")
rule("method-range-stream", "the values of a RangeStream are looked at", "etcd/method.c",
     "ETCD_SERVER_STREAM, ETCD_RANGE_STREAM)", "ETCD_SERVER_STREAM, ETCD_OPAQUE)", "unit/etcd/method")
rule("method-unknown", "a method that is not on the list is refused", "etcd/method.c",
     "    return NULL;\n", "    return &methods[ARRAY_LEN(methods) - 1];\n", "unit/etcd/method", "unit/proxy/request")
rule("method-range", "the values of a Range are looked at", "etcd/method.c",
     'METHOD(KV "Range", ETCD_UNARY, ETCD_RANGE)', 'METHOD(KV "Range", ETCD_UNARY, ETCD_OPAQUE)', "unit/etcd/method")
rule("method-delete-range", "the values of a DeleteRange's answer are looked at", "etcd/method.c",
     'METHOD(KV "DeleteRange", ETCD_UNARY, ETCD_DELETE_RANGE)', 'METHOD(KV "DeleteRange", ETCD_UNARY, ETCD_OPAQUE)',
     "unit/etcd/method")
rule("method-watch", "the values of a Watch are looked at", "etcd/method.c",
     'METHOD(WATCH "Watch", ETCD_BIDI, ETCD_WATCH)', 'METHOD(WATCH "Watch", ETCD_BIDI, ETCD_OPAQUE)', "unit/etcd/method")
rule("path-query", "a path with a query is an unknown method", "proxy/request.c",
     "    uint8_t whole[PATH_MAX_LEN] = {'/'};\n",
     "    uint8_t whole[PATH_MAX_LEN] = {'/'};\n"
     "    const uint8_t *query = path.n == 0 ? NULL : memchr(path.p, '?', path.n);\n"
     "    if (query != NULL)\n        path.n = (size_t)(query - path.p);\n", "unit/proxy/request")
rule("no-gateway", "of HTTP without gRPC only probes get to etcd, not its JSON gateway", "proxy/probe.c",
     "if (strcmp(path, allowed[i]) == 0)", 'if (strcmp(path, allowed[i]) == 0 || strncmp(path, "/v3/", 4) == 0)',
     "unit/proxy/probe")
rule("http-method", "a call is a POST", "proxy/request.c",
     'if (!bytes_eq(f.method, BYTES_LIT("POST")))', "if (f.method.n == 0)", "unit/proxy/request")
rule("content-type", "a call has gRPC's content type", "proxy/request.c",
     'if (out->content_type.n == 0)\n        return no_grpc(out, "415"',
     'if (out->content_type.n == 0 && f.content_type.n == 0)\n        return no_grpc(out, "415"', "unit/proxy/request")
rule("request-encoding", "a compressed request is refused", "proxy/request.c",
     'if (f.encoding.n > 0 && !bytes_eq(f.encoding, BYTES_LIT("identity")))',
     "if (f.encoding.n > 1024)", "unit/proxy/request")
rule("accept-encoding", "etcd is not asked for compressed answers", "proxy/request.c",
     'BYTES_LIT("grpc-accept-encoding"), BYTES_LIT("identity"));\n    return ERR_OK;',
     'BYTES_LIT("grpc-accept-encoding"), BYTES_LIT("gzip"));\n    return ERR_OK;', "unit/proxy/request",
     "unit/proxy/call")
rule("encoding-not-passed", "the client's grpc-encoding does not reach etcd", "proxy/fields.c",
     "return n == NAME_OTHER || n == NAME_GRPC_STATUS;",
     "return n == NAME_OTHER || n == NAME_GRPC_STATUS || n == NAME_ENCODING;", "unit/proxy/request",
     "unit/proxy/call")

section("protobuf: what parsers disagree on")

rule("doubled-scalar", "a key or value that comes twice in a protected Put is refused", "etcd/walk.c",
     "if (is_again && !s->is_answer)\n            note_soft(s, ERR_REQ_DOUBLED, fd->number);", "", "unit/etcd/scan")
rule("doubled-message", "a sub-message that comes twice is refused", "etcd/walk.c",
     "return is_again ? hard(s, ERR_REQ_DOUBLED, ERR_ANS_DOUBLED, fd->number) : ERR_OK;",
     "(void)is_again;\n    return ERR_OK;", "unit/etcd/scan")
rule("oneof-twice", "two members of a oneof are refused", "etcd/walk.c",
     "if (has_oneof && !is_again)", "if (has_oneof && !is_again && s->depth > 99)", "unit/etcd/scan")
rule("unknown-field", "an unknown field beside a protected value is refused", "etcd/walk.c",
     "note_soft(s, ERR_REQ_UNKNOWN_FIELD, f->number);", "", "unit/etcd/scan")
rule("unknown-operation", "an operation of a Txn that is not known is refused", "etcd/walk.c",
     "if (m->is_strict)", "if (m->is_strict && s->depth > 99)", "unit/etcd/scan")
rule("wire-type", "a known field with another wire type is refused", "etcd/walk.c",
     "return wire == fd->wire || (fd->kind", "return wire == fd->wire || wire == PB_FIXED32 || (fd->kind",
     "unit/etcd/scan", "unit/etcd/mutate")
rule("depth", "messages nest no deeper than is documented", "etcd/walk.c",
     "if (depth > max)", "if (depth > max + 2)", "unit/etcd/scan")
rule("operations", "a Txn has 128 operations at most", "etcd/walk.c",
     "++s->op_count > LIMIT_TXN_OPS", "++s->op_count > LIMIT_TXN_OPS + 1", "unit/etcd/scan")
rule("compares", "a Txn has 128 comparisons at most", "etcd/scan_request.c",
     "++s->compare_count > LIMIT_TXN_OPS", "++s->compare_count > LIMIT_TXN_OPS + 1", "unit/etcd/scan")
rule("odd-fields", "a message has so many odd fields at most", "etcd/walk.c",
     "if (++s->odd_count <= LIMIT_ODD_FIELDS + len / ODD_FIELD_BYTES)", "if (++s->odd_count <= SIZE_MAX - len)",
     "unit/etcd/scan")
rule("field-number-0", "field number 0 is malformed", "pb/wire.c",
     "if (tag >> 3 < 1 || tag", "if (tag", "unit/pb/span", "unit/pb/reader")
rule("wire-types-6-7", "wire types 6 and 7 are malformed", "pb/wire.c",
     " || (tag & 7) > PB_FIXED32)", ")", "unit/pb/span", "unit/pb/reader")
rule("varint-64-bits", "a varint has 64 bits at most", "pb/wire.c",
     "if (i == PB_VARINT_MAX - 1 && in.p[i] > 1)", "if (i == PB_VARINT_MAX)", "unit/pb/span")
rule("length-past-end", "a length that goes past the end is malformed", "pb/reader.c",
     "if (h->varint > end - pos->at)\n            return PB_BAD;", "if (h->varint > end - pos->at)\n            return PB_MORE;",
     "unit/pb/reader", more=[("pb/reader.c", "if (n > end - pos->at)\n        return PB_BAD;",
                              "if (n > end - pos->at)\n        return PB_MORE;")])
rule("cut-field", "a field that the message's end cuts is malformed", "pb/reader.c",
     "if (r == PB_MORE && pos->at + left == end)", "if (r == PB_MORE && pos->at + left > end)", "unit/pb/reader")
rule("groups-match", "a group ends with its own number", "pb/wire.c",
     "if (g->depth == 0 || g->number[g->depth - 1] != h->number)", "if (g->depth == 0)", "unit/pb/span",
     "unit/pb/reader")
rule("empty-key", "a Put without a key is refused", "etcd/scan_request.c",
     "if (got->key.n == 0)\n        return ERR_REQ_EMPTY_KEY;", "", "unit/etcd/scan")
rule("any-key-counts", "each key that a Put names counts, also one that a later one overrides", "etcd/scan_request.c",
     "if (etcd_rules_find(s->rules, key) != NULL)\n        note_protected(s, key);",
     "(void)s;\n    (void)key;\n    (void)note_protected;", "unit/etcd/scan")

section("gRPC")

rule("request-flag", "a message with the compressed flag is refused", "proxy/lane_collect.c",
     "if (prefix->flag != 0)\n        return lane__fails(l, ERR_MESSAGE_COMPRESSED);", "", "unit/proxy/call")
rule("flag-byte", "other flags than 0 and 1 are refused", "proxy/lane_collect.c",
     "if (prefix.flag > 1)", "if (prefix.flag > 2)", "unit/proxy/call")
rule("request-size", "a message beyond the limit is refused", "proxy/lane_collect.c",
     "if (prefix->length > max)", "if (prefix->length > max + (1u << 30))", "unit/proxy/call")
rule("request-size-at-once", "it is refused by its prefix, before its body came", "proxy/lane_collect.c",
     "if (prefix->length > max)", "if (prefix->length > max && l->in.len - GRPC_PREFIX_LEN >= prefix->length)",
     "unit/proxy/call")
rule("request-cut", "half a message at the end of the stream is refused", "proxy/lane_collect.c",
     "return l->has_ended ? lane__fails(l, ERR_MESSAGE_CUT) : STEP_WAIT;", "return STEP_WAIT;", "unit/proxy/call")
rule("request-none", "a unary call without a message is refused", "proxy/lane_collect.c",
     "if (l->in.len > 0 || (l->messages == 0 && !is_bidi))", "if (l->in.len > 0)", "unit/proxy/call")
rule("request-extra", "bytes behind the message of a unary call are refused", "proxy/lane_collect.c",
     "if (!is_bidi && l->in.len - GRPC_PREFIX_LEN > prefix->length)",
     "if (!is_bidi && l->in.len - GRPC_PREFIX_LEN > prefix->length + 4096)", "unit/proxy/call")
rule("request-whole", "nothing of a unary request goes to etcd before its stream has ended", "proxy/lane_collect.c",
     "if (is_bidi ? c->up == NULL || lane__is_held(l) : !l->has_ended)",
     "if (is_bidi && (c->up == NULL || lane__is_held(l)))", "unit/proxy/call")
rule("answer-flag", "a compressed answer is refused", "proxy/lane_collect.c",
     "if (prefix->flag != 0)\n        return lane__fails(l, ERR_ANS_COMPRESSED);", "", "unit/proxy/lane",
     "unit/proxy/call_answer")
rule("answer-encoding", "an answer with a grpc-encoding is refused", "proxy/call.c",
     'if (head.encoding.n > 0 && !bytes_eq(head.encoding, BYTES_LIT("identity"))) {', "if (head.encoding.n > 1024) {",
     "unit/proxy/call_answer", "unit/proxy/lane", "unit/proxy/call")
rule("answer-doubled", "a unary call has one answer", "proxy/lane_collect.c",
     "if (l->messages > 0 && c->method->shape == ETCD_UNARY)", "if (l->messages > 9 && c->method->shape == ETCD_UNARY)",
     "unit/proxy/lane", "unit/proxy/call_answer")
rule("answer-cut", "an answer that ends in the middle is no answer", "proxy/lane_collect.c",
     "if (l->in.len > 0)\n        return lane__fails(l, ERR_ANS_CUT);", "", "unit/proxy/lane", "unit/proxy/call_answer")
rule("answer-no-trailers", "an answer without trailers is no answer", "proxy/call_end.c",
     "call_fail_err(c, ERR_ANS_CUT);\n        return;",
     "call__end(c, &(struct call_end){.how = CALL_END_ANSWERED, .status = GRPC_OK});\n        return;",
     "unit/proxy/call_answer", "unit/proxy/call")
rule("answer-two-statuses", "trailers with two statuses are refused", "proxy/call_end.c",
     "if (head.grpc_status_count > 1)", "if (head.grpc_status_count > 2)", "unit/proxy/call_answer", "unit/proxy/call")

rule("answer-http", "an answer is HTTP 200 and gRPC's", "proxy/call.c",
     'if (!bytes_eq(head.status, BYTES_LIT("200")) || !grpc_content_type_ok(head.content_type)) {',
     "if (head.status.n == 0) {", "unit/proxy/call_answer", "unit/proxy/call")
rule("upstream-lost", "a call whose connection to etcd is lost fails, and is not handed on as to be repeated",
     "proxy/call.c", "if (code == H2_REFUSED_STREAM && !c->down_has_headers && c->down != NULL) {",
     "if ((code == H2_REFUSED_STREAM || how == H2_END_LOST) && !c->down_has_headers && c->down != NULL) {",
     "unit/proxy/call_answer", "unit/proxy/call", "unit/proxy/upstream_group", "e2e/faults:Connections.test_upstream_lost_under_a_call")

section("requests: what is sealed")

rule("failure-branch", "the Puts of a Txn's failure branch are sealed", "etcd/schema.c",
     "SUB(2, MSGS, &request_op),\n    SUB(3, MSGS, &request_op),",
     "SUB(2, MSGS, &request_op),\n    FIELD(3, MSGS, LEN),", "unit/etcd/scan", "unit/etcd/txn")
rule("success-branch", "the Puts of a Txn's success branch are sealed", "etcd/schema.c",
     "SUB(2, MSGS, &request_op),\n    SUB(3, MSGS, &request_op),",
     "FIELD(2, MSGS, LEN),\n    SUB(3, MSGS, &request_op),", "unit/etcd/scan", "unit/etcd/txn")
rule("nested-txn", "the Puts of a nested Txn are sealed", "etcd/schema.c",
     "SUB(4, ONEOF_MSG, &txn_request),", "FIELD(4, ONEOF_MSG, LEN),", "unit/etcd/scan", "unit/etcd/txn")
rule("compare-target", "a comparison whose target is a protected value is refused", "etcd/scan_request.c",
     "etcd__enum(got, COMPARE_TARGET) == 3 || etcd__has(got, COMPARE_VALUE)", "etcd__has(got, COMPARE_VALUE)",
     "unit/etcd/scan")
rule("compare-value", "a comparison that holds a value for a protected key is refused", "etcd/scan_request.c",
     "etcd__enum(got, COMPARE_TARGET) == 3 || etcd__has(got, COMPARE_VALUE)", "etcd__enum(got, COMPARE_TARGET) == 3",
     "unit/etcd/scan")
rule("compare-range", "so is one over a range that could touch a protected key", "etcd/scan_request.c",
     "if (!is_protected && !may_touch(s, got->key, end))",
     "if (!is_protected && !may_touch(s, got->key, bytes_of(NULL, 0)))", "unit/etcd/scan")
rule("sort-by-value", "a list of protected keys sorted by value is refused", "etcd/scan_request.c",
     "if (etcd__enum(got, RANGE_SORT_TARGET) == 4 && r.end.n > 0 &&", "if (etcd__enum(got, RANGE_SORT_TARGET) == 99 &&",
     "unit/etcd/scan")
rule("ignore-value", "ignore_value with a value is refused", "etcd/scan_request.c",
     "if (has_ignore && len > 0)", "if (has_ignore && len > 1u << 30)", "unit/etcd/scan")
rule("empty-value", "an empty value of a protected key is sealed, too", "etcd/scan_request.c",
     "if (!etcd__has(got, PUT_VALUE)) /* the empty value is sealed, too */\n"
     "        return etcd__edit(s, ETCD__SEAL, key->value_at + key->value_len, 0, v);",
     "(void)key;\n    if (!etcd__has(got, PUT_VALUE))\n        return ERR_OK;", "unit/etcd/scan", "unit/etcd/apply")
rule("no-write-key", "a protected key without a provider that seals is refused", "etcd/scan_request.c",
     "return first->key_count > 0 ? ERR_OK : ERR_NO_WRITE_KEY;", "return ERR_OK;", "unit/etcd/scan",
     "unit/etcd/providers", "unit/etcd/apply", more=[
         ("etcd/scan_request.c", "if (list->count == 0)\n        return etcd__plan_fail(s->p, ERR_NO_WRITE_KEY, got->key);",
          "if (list->count == 0)\n        return ERR_OK;")])
rule("no-randomness", "without random bytes nothing is sealed", "envelope/kmsv2_gcm.c",
     "TRY(ctx->random(ctx->random_arg, out, HEAD_MAX));", "(void)!ctx->random(ctx->random_arg, out, HEAD_MAX);",
     "unit/envelope/seal")
rule("no-randomness-local", "nor by the other providers", "envelope/gcm.c",
     "TRY(ctx->random(ctx->random_arg, out, ENVELOPE__NONCE_LEN));", "(void)!ctx->random(ctx->random_arg, out, ENVELOPE__NONCE_LEN);",
     "unit/envelope/local", "unit/envelope/seal")
rule("all-or-nothing", "a Txn of which one value can't be sealed fails as a whole", "etcd/apply.c",
     "count_sealed(a, v, e);\n    if (e != ERR_OK)\n        return etcd__plan_fail(a->p, e, v->key);",
     "count_sealed(a, v, e);", "unit/etcd/apply", "unit/etcd/providers", "unit/etcd/nomem")
rule("arrived-sealed", "a value that arrives with the mark of sealed ones stays only if it opens", "etcd/scan_request.c",
     "if (len > 0 && begins_with_mark(&got->f[PUT_VALUE]))", "if (len > 1u << 30 && begins_with_mark(&got->f[PUT_VALUE]))",
     "unit/etcd/scan", "unit/etcd/providers", "unit/etcd/apply")
rule("arrived-not-authentic", "plaintext that looks sealed is not stored where identity writes", "etcd/apply.c",
     "return provider_traits(v->list->v[0])->is_identity ? ERR_REQ_SEALED_VALUE : ERR_OK;", "return ERR_OK;",
     "unit/etcd/providers", "unit/etcd/apply")
rule("key-of-prefix", "a prefix ends where a segment of the key ends", "etcd/rules.c",
     "return bytes_has_prefix(key, prefix) && (key.n == prefix.n || key.p[prefix.n] == '/');",
     "return bytes_has_prefix(key, prefix);", "unit/etcd/rules")
rule("rule-memory", "the rule of the last key is taken only for keys within it", "etcd/rules.c",
     "&& !rule->is_dotless &&\n        is_within(key, rule->prefix))", "&& !rule->is_dotless)", "unit/etcd/rules")
rule("longest-rule", "the longest prefix decides", "etcd/rules.c",
     "r->is_last[i] = !has_longer(r, &r->v[i]);", "r->is_last[i] = true;\n    (void)has_longer;", "unit/etcd/rules")

section("answers: what is let out")

rule("planted-plaintext", "plaintext under a protected key is no value", "etcd/scan_answer.c",
     "count_bad(s, f, list, e);\n        return e;",
     "count_bad(s, f, list, e);\n        return e == ERR_NO_MATCHING_PREFIX ? ERR_OK : e;", "unit/etcd/scan_kv")
rule("one-text", "a client is not told why a value does not open", "proxy/status.c",
     "return err_scope(e) == SCOPE_VALUE || err_scope(e) == SCOPE_ANSWER;", "return err_scope(e) == SCOPE_ANSWER;",
     "unit/proxy/status")
rule("planted-empty", "an empty value under a protected key is no value", "etcd/scan_answer.c",
     "if (list != NULL && !(kv->value.value_len == 0 && (may_be_empty || keys_only)))",
     "(void)may_be_empty;\n    if (list != NULL && kv->value.value_len > 0)", "unit/etcd/scan_kv")
rule("gcm-tag", "GCM's tag is verified", "envelope/gcm.c",
     "TRY(open_pieces(c, &data, len - ENVELOPE__TAG_LEN, out));\n    return EVP_DecryptFinal_ex(c, none, &n) == 1 ? ERR_OK",
     "TRY(open_pieces(c, &data, len - ENVELOPE__TAG_LEN, out));\n"
     "    return EVP_DecryptFinal_ex(c, none, &n) < 9 ? ERR_OK",
     "unit/envelope/open", "unit/envelope/local")
rule("gcm-tag-flat", "also where the value lies in one piece", "envelope/gcm.c",
     "return envelope__crypto_failed(ERR_CRYPTO);\n    return EVP_DecryptFinal_ex(c, none, &n) == 1 ? ERR_OK",
     "return envelope__crypto_failed(ERR_CRYPTO);\n    return EVP_DecryptFinal_ex(c, none, &n) < 9 ? ERR_OK",
     "unit/envelope/open", "unit/envelope/golden")
rule("kmsv2-bound", "a KMS v2 value is bound to its etcd key", "envelope/kmsv2_gcm.c",
     "e = envelope__gcm_seal(ctx, key, out + ENVELOPE__INFO_LEN, aad, in,",
     "aad.n = 0;\n    e = envelope__gcm_seal(ctx, key, out + ENVELOPE__INFO_LEN, aad, in,", "unit/envelope/open",
     "unit/envelope/golden", more=[
         ("envelope/kmsv2_gcm.c", "const uint8_t *head = b.n < n ? copy : b.p;\n    enum err e;\n",
          "const uint8_t *head = b.n < n ? copy : b.p;\n    enum err e;\n\n    aad.n = 0;\n")])
rule("aesgcm-bound", "an aesgcm value is bound to its etcd key", "envelope/gcm.c",
     "TRY(ctx->random(ctx->random_arg, out, ENVELOPE__NONCE_LEN));\n",
     "TRY(ctx->random(ctx->random_arg, out, ENVELOPE__NONCE_LEN));\n    aad.n = 0;\n", "unit/envelope/local",
     "unit/envelope/golden", more=[("envelope/gcm.c", "if (len < sizeof nonce)\n        return ERR_TOO_SHORT;",
                                    "if (len < sizeof nonce)\n        return ERR_TOO_SHORT;\n    aad.n = 0;")])
rule("secretbox-tag", "secretbox's tag is verified", "envelope/secretbox.c",
     "!secret_eq(ours, tag, sizeof ours)", "!secret_eq(ours, tag, sizeof ours - 1)",
     "unit/envelope/secretbox", "unit/envelope/local")
rule("secretbox-first", "nothing is decrypted before the tag is verified", "envelope/secretbox.c",
     "if (e == ERR_OK)\n        open_pieces(&b, data, len, out);", "open_pieces(&b, data, len, out);",
     "unit/envelope/secretbox", "unit/envelope/local")
rule("memo-key", "a value that was opened a moment ago is given again for the same key only", "envelope/memo.c",
     "&& bytes_eq(bytes_of(m->aad, m->aad_len), aad) &&", "&& aad.n > 0 &&", "unit/envelope/memo")
rule("memo-bytes", "and for the same bytes only", "envelope/memo.c",
     "if (b.n == 0 || memcmp(m->data + at, b.p, b.n) != 0)", "if (b.n == 0)", "unit/envelope/memo")
rule("unverified-cut", "what was written of a value that does not open is cut off", "etcd/direct_kv.c",
     "etcd__chain_cut(d->out, len);\n    d->copied = copied;", "(void)len;\n    d->copied = copied;",
     "unit/etcd/direct")
rule("unverified-cut-answer", "an answer of which one value does not open goes out in no part", "etcd/direct.c",
     "if (verdict == ETCD_REJECT) {\n        etcd__chain_cut(d->out, len);", "if (verdict == ETCD_REJECT) {",
     "unit/etcd/direct")
rule("unverified-cut-apply", "also where the plan opens it", "etcd/apply.c",
     "if (e != ERR_OK && e != ERR_AGAIN && !etcd__apply_keep_earlier(&a))\n        etcd__chain_cut(out,",
     "if (e != ERR_OK && e != ERR_AGAIN && !etcd__apply_keep_earlier(&a) && p == NULL)\n        etcd__chain_cut(out,",
     "unit/etcd/apply", "unit/etcd/direct")
rule("not-skipped", "an event whose value does not open ends the watch, it is not skipped", "etcd/scan_watch.c",
     "if (!err_spares_earlier(e) || !s->has_earlier)\n        return e;",
     "if (err_spares_earlier(e))\n        return ERR_OK;", "unit/etcd/scan_kv", "unit/etcd/apply", "unit/proxy/lane")
rule("one-watch-ends", "the client of that watch is told", "proxy/lane.c",
     "if (ends_one_watch(l, e))\n        return lane__watch_cancel(l, e);",
     "if (ends_one_watch(l, e)) {\n        lane__message_over(l);\n        lane__set_state(l, LANE_COLLECT);\n"
     "        return STEP_NEXT;\n    }", "unit/proxy/lane", "unit/proxy/lane_keys", "unit/proxy/nomem_proxy")
rule("outside", "an answer holds no other keys than were asked for", "etcd/scan_answer.c",
     "return is_held ? ERR_OK : ERR_ANS_OUTSIDE;", "(void)is_held;\n    return ERR_OK;", "unit/etcd/scan_kv")
rule("outside-direct", "also where it is opened without a plan", "etcd/direct_kv.c",
     "if (kv->value_len == 0 || !etcd_range_holds(d->range, kv->key))", "if (kv->value_len == 0)", "unit/etcd/direct")
rule("prev-key", "prev_kv is of the event's own key", "etcd/scan_watch.c",
     "if (prev->is_there && (!kv->is_there || !bytes_eq(kv->key, prev->key)))",
     "if (prev->is_there && !kv->is_there)", "unit/etcd/scan_kv")
rule("prev-key-direct", "also where it is opened without a plan", "etcd/direct.c",
     " || !bytes_eq(prev.key, kv.key))", ")", "unit/etcd/direct")
rule("kv-once", "a KeyValue with two keys or two values is refused", "etcd/schema.c",
     "[KV_KEY] = KEY_FIELD(1, ONCE),", "[KV_KEY] = KEY_FIELD(1, SCALAR),", "unit/etcd/scan_kv", "unit/etcd/mutate",
     more=[("etcd/schema.c", "[KV_VALUE] = FIELD(5, ONCE, LEN),", "[KV_VALUE] = FIELD(5, SCALAR, LEN),")])
rule("response-kind", "a response answers an operation of its kind", "etcd/txn.c",
     "return asked(t) == (enum etcd_asked)number ? ERR_OK : ERR_ANS_OUTSIDE;", "(void)number;\n    return ERR_OK;",
     "unit/etcd/txn")
rule("response-without-operation", "a response without an operation is refused", "etcd/txn.c",
     "if (l->next == 0) /* a response without an operation */\n        return ERR_ANS_OUTSIDE;",
     "if (l->next == 0)\n        return ERR_OK;", "unit/etcd/txn")
rule("operation-without-response", "an operation without a response is refused", "etcd/txn.c",
     "if (top(t)->next != 0) /* an operation without a response */\n        return ERR_ANS_OUTSIDE;", "",
     "unit/etcd/txn", "unit/etcd/mutate")
rule("response-empty", "a response without a member is refused", "etcd/txn.c",
     "return t->has_member ? ERR_OK : ERR_ANS_OUTSIDE;", "return ERR_OK;", "unit/etcd/txn", "unit/etcd/mutate")
rule("response-nested", "a Txn's response answers a Txn", "etcd/txn.c",
     "if (asked(t) != ETCD_ASKED_TXN)\n        return ERR_ANS_OUTSIDE;", "if (asked(t) != ETCD_ASKED_TXN)\n        return ERR_OK;",
     "unit/etcd/txn", "unit/etcd/mutate")
rule("succeeded-late", "`succeeded` counts only before the responses that it judges", "etcd/txn.c",
     "if (l->has_branch) /* the responses before it were held to what it was then */\n        return ERR_ANS_MALFORMED;", "",
     "unit/etcd/txn", "unit/etcd/mutate")
rule("answer-no-key", "a value without a key is refused", "etcd/scan_answer.c",
     "if (kv->key.n == 0 && kv->value.value_len > 0)\n        return ERR_ANS_NO_KEY;",
     "if (kv->key.n == 0 && kv->value.value_len > 0)\n        return ERR_OK;", "unit/etcd/scan_kv", "unit/etcd/scan")
rule("created-unasked", "a watch that nobody asked for is not created", "etcd/ask.c",
     "if (create == NULL)\n        return ERR_ANS_UNKNOWN_WATCH;", "if (create == NULL)\n        return ERR_OK;",
     "unit/etcd/ask", "unit/etcd/scan_kv")
rule("created-events", "what says that a watch is created holds no events, also where it is taken in pieces",
     "etcd/large_watch.c", "return st->info.created && st->info.has_events ? ERR_ANS_MALFORMED : ERR_OK;",
     "return ERR_OK;", "unit/etcd/large")
rule("unknown-watch", "events of a watch that nobody asked for are refused", "etcd/scan_watch.c",
     "return info->has_events ? ERR_ANS_UNKNOWN_WATCH : ERR_OK;", "return ERR_OK;", "unit/etcd/scan_kv",
     "unit/etcd/ask", "unit/etcd/scan")

section("identity")

rule("identity-write", "plaintext is written only with the flag that says so", "policy/ruleset.c",
     "if (provider_traits(v[0])->is_identity && !o->allow_identity_writes) {",
     "if (provider_traits(v[0])->is_identity && o->kms_v1_cbc_reads) {", "unit/policy/ruleset")
rule("identity-alone", "a configuration that protects nothing needs that flag, too", "policy/ruleset.c",
     "if (e == ERR_OK && r->protected_count == 0)", "if (e == ERR_OK && r->protected_count == SIZE_MAX)",
     "unit/policy/ruleset")
rule("identity-mark", "identity does not give out what another provider sealed", "envelope/provider.c",
     "return ERR_IDENTITY_SAW_ENCRYPTED;", "out->form = ENVELOPE_PLAIN;", "unit/envelope/provider", "unit/envelope/open")
rule("identity-counted", "reads of plaintext are counted", "etcd/scan_answer.c",
     "s->p->plain++;", "", "unit/etcd/scan_kv", "unit/etcd/providers", "unit/etcd/scan")

section("the KMS plugin")

rule("status-healthz", "a plugin that is not ok is not healthy", "kms/lifecycle.c",
     'if (!bytes_eq(s->healthz, BYTES_LIT("ok")))', "if (s->healthz.n == 0)", "unit/kms/lifecycle")
rule("status-version", "a plugin of another version is not healthy", "kms/lifecycle.c",
     'if (!bytes_eq(version, BYTES_LIT("v2")) &&', 'if (!bytes_has_prefix(version, BYTES_LIT("v2")) &&',
     "unit/kms/lifecycle")
rule("key-id-empty", "an empty key id is refused", "envelope/dek_id.c",
     "if (key_id.n == 0)\n        return ERR_KEY_ID_EMPTY;", "", "unit/envelope/dek_id", "unit/kms/lifecycle")
rule("key-id-long", "a key id has 1024 bytes at most", "envelope/dek_id.c",
     "return key_id.n > LIMIT_KEY_ID ? ERR_KEY_ID_TOO_LONG : ERR_OK;",
     "return key_id.n > LIMIT_KEY_ID + 1 ? ERR_KEY_ID_TOO_LONG : ERR_OK;", "unit/envelope/dek_id", "unit/kms/lifecycle")
rule("key-id-same", "Encrypt's key id is Status's", "kms/lifecycle.c",
     "if (!bytes_eq(answer->key_id, lifecycle_key_id_bytes(&lc->status_key_id))) {",
     "if (answer->key_id.n != lc->status_key_id.n) {", "unit/kms/lifecycle")
rule("wrapped-empty", "an empty wrapped DEK is refused", "envelope/dek_id.c",
     "if (id->wrapped.n == 0)\n        return ERR_DEK_SOURCE_EMPTY;", "", "unit/envelope/dek_id")
rule("wrapped-long", "a wrapped DEK has 1024 bytes at most", "envelope/dek_id.c",
     "if (id->wrapped.n > LIMIT_WRAPPED_DEK)", "if (id->wrapped.n > LIMIT_WRAPPED_DEK + 1)", "unit/envelope/dek_id")
rule("annotations-names", "an annotation's key is a domain name", "envelope/dek_id.c",
     "if (!domain_ok(a->key) || a->value.n > LIMIT_ANNOTATIONS)",
     "(void)domain_ok;\n        if (a->value.n > LIMIT_ANNOTATIONS)", "unit/envelope/dek_id")
rule("annotations-total", "annotations have 32 KiB in all at most", "envelope/dek_id.c",
     "if (total > LIMIT_ANNOTATIONS)", "if (total > 2 * LIMIT_ANNOTATIONS)", "unit/envelope/dek_id")
rule("dek-size", "an unwrapped seed has 32 bytes at least, a key is an AES key", "envelope/dek.c",
     "return n >= SEED_MIN && n <= SEED_MAX ? ERR_OK : ERR_BAD_DEK_SIZE;",
     "return n > 0 && n <= SEED_MAX && SEED_MIN > 0 ? ERR_OK : ERR_BAD_DEK_SIZE;", "unit/envelope/dek")
rule("answer-exposes", "a plugin that sends the seed back in clear is refused", "kms/plugin_v2.c",
     "if (kms_answer_exposes(id, bytes_of(p->seed, PLUGIN_SECRET_LEN))) {",
     "if (p->seed == NULL && kms_answer_exposes(id, bytes_of(p->seed, PLUGIN_SECRET_LEN))) {", "unit/kms/plugin",
     "unit/kms/manager")
rule("write-key-expires", "a write key is used for 3 minutes after the last good Status at most", "kms/keyring.c",
     "if (s->write_dek == NULL || loop_now_ms(r->loop) > s->expiry_ms)", "if (s->write_dek == NULL)",
     "unit/kms/keyring", "unit/kms/manager")
rule("expiry-from-status", "these 3 minutes begin before Encrypt is called", "kms/lifecycle.c",
     "lc->expiry = lc->next_expiry;\n    end_check(lc, now);",
     "lc->expiry = lc->next_expiry;\n    lc->expiry.ms = now.ms + LIFECYCLE_WRITE_MS;\n    end_check(lc, now);",
     "unit/kms/lifecycle")
rule("old-state-kept", "a check that fails leaves key and expiry as they were", "kms/lifecycle.c",
     'snprintf(why, sizeof why, "failed to encrypt DEK, error: %s", text);',
     'snprintf(why, sizeof why, "failed to encrypt DEK, error: %s", text);\n    lc->expiry = lc->next_expiry;',
     "unit/kms/lifecycle")
rule("single-flight", "a DEK that is being unwrapped is not asked for again", "kms/unwrap.c",
     "w = find(u, request->digest);", "w = find(u, request->digest);\n    w = NULL;", "unit/kms/unwrap", "unit/kms/manager")
rule("refusal-remembered", "a refusal of the plugin is remembered for a while", "kms/unwrap.c",
     "dek_cache_put(&u->refused, first_request(w)->digest, NULL, err, until_ms);", "", "unit/kms/unwrap",
     "unit/kms/manager")
rule("cache-bounded", "caches of DEKs and of refusals are bounded", "kms/cache.c",
     "if (c->count >= c->max)", "if (c->count >= 2 * c->max)", "unit/kms/cache")
rule("calls-bounded", "calls of the plugin at a time are bounded", "kms/unwrap.c",
     "while (u->calling_count < UNWRAP_CALLS_MAX) {", "while (u->calling_count < 100 * UNWRAP_CALLS_MAX) {",
     "unit/kms/unwrap", "unit/kms/manager")
rule("held-bounded", "what waits for the plugin is bounded", "kms/unwrap.c",
     "if (u->held_bytes + held_bytes > UNWRAP_HELD_MAX) {", "if (u->held_bytes + held_bytes > 64 * UNWRAP_HELD_MAX) {",
     "unit/kms/unwrap", "unit/kms/manager")
rule("keys-a-message", "a message asks for so many DEKs at a time", "proxy/lane_keys.c",
     "&& b->pending < LIMIT_KEYS_A_MESSAGE)", "&& b->pending < 64 * LIMIT_KEYS_A_MESSAGE)", "unit/proxy/lane_keys")
rule("refused-value", "a value that its DEK did not open is remembered, so it costs one call", "proxy/lane_keys.c",
     "if (u->err != ERR_OK)\n        keyring_refuse_value", "if (u->err == ERR_COUNT)\n        keyring_refuse_value",
     "unit/proxy/lane_keys")
rule("turns", "opening many values is done in turns", "etcd/apply.c",
     "a->left = p->apply_max == 0 ? SIZE_MAX : p->apply_max;", "a->left = SIZE_MAX;", "unit/etcd/apply",
     "unit/proxy/lane_turns")

rule("call-deadline", "a call of the plugin has its time limit", "kms/plugin.c",
     "uint64_t timeout_ms = max_ms < p->timeout_ms ? max_ms : p->timeout_ms;",
     "uint64_t timeout_ms = max_ms + 1000 * p->timeout_ms;", "unit/kms/plugin", "unit/kms/manager")
rule("key-wait", "a call waits for a key for so long at most", "kms/waits.c",
     "w->deadline_ms = loop_now_ms(r->loop) + LIMIT_KEY_WAIT_MS;",
     "w->deadline_ms = loop_now_ms(r->loop) + 100 * LIMIT_KEY_WAIT_MS;", "unit/kms/keyring")
rule("keys-a-connection", "one client's connection has so many DEKs asked for at a time", "kms/waits.c",
     "return a != NULL && (a->in_flight >= LIMIT_KEYS_A_CONNECTION || !list_is_empty(&a->held)) &&",
     "return a != NULL && (a->in_flight >= 64 * LIMIT_KEYS_A_CONNECTION) &&", "unit/kms/keyring", "unit/kms/manager",
     "unit/proxy/lane_keys")
rule("plugin-answer", "an answer of the plugin is bounded", "kms/plugin.c",
     "client_distrust(p->client, LIMIT_PLUGIN_ANSWER);", "client_distrust(p->client, 64 * LIMIT_PLUGIN_ANSWER);",
     "unit/kms/plugin")

section("attacks through etcd")

rule("prefix-colon", "a provider's prefix ends with the colon behind its name", "policy/ruleset.c",
     't->is_kms ? ":" : "");', 't->is_kms ? "" : "");', "unit/policy/ruleset")
rule("prefix-whole", "the prefix is compared as a whole", "envelope/provider.c",
     "if (len < prefix.n)\n        return false;",
     "if (len < prefix.n)\n        return false;\n    if (prefix.n > 14)\n        prefix.n = 14;", "unit/envelope/provider",
     "unit/envelope/open")
rule("cache-key-id", "the key id is part of the name under which a DEK is kept", "envelope/hash.c",
     "    put_counted(&s, id->key_id);\n", "", "unit/envelope/dek_id")
rule("cache-wrapped", "so is the wrapped DEK", "envelope/hash.c",
     "    put_counted(&s, id->wrapped);\n", "", "unit/envelope/dek_id")
rule("cache-annotations", "so are the annotations", "envelope/hash.c",
     "        put_counted(&s, id->annotations[i].value);\n", "", "unit/envelope/dek_id")
rule("cache-lengths", "their lengths, too: no two ids have the same name", "envelope/hash.c",
     "    sha_put(s, be, sizeof be);\n    if (b.n > 0)", "    (void)be;\n    if (b.n > 0)", "unit/envelope/dek_id")
rule("id-eq-key-id", "two DEKs with another key id are not the same", "envelope/dek_id.c",
     " || !bytes_eq(a->key_id, b->key_id))", ")", "unit/envelope/dek_id", "unit/kms/keyring")
rule("id-eq-annotations", "nor are those with other annotations", "envelope/dek_id.c",
     "!bytes_eq(a->annotations[i].value, b->annotations[i].value))", "a->annotations[i].value.n != b->annotations[i].value.n)",
     "unit/envelope/dek_id", "unit/kms/keyring")
rule("like-bytes", "a value is taken for one like the last by all bytes behind its data", "envelope/kmsv2.c",
     "like->tail.n > 0 && bytes_eq(like->tail, tail);", "like->tail.n > 0 && like->tail.n == tail.n;",
     "unit/envelope/open", "unit/etcd/scan_kv")
rule("alike-bytes", "also where it is opened without a plan", "etcd/direct_kv.c",
     "if (kv->data_len == 0 || !ends_with(kv, k->alike.tail))", "(void)ends_with;\n    if (kv->data_len == 0)",
     "unit/etcd/direct")
rule("limits-before-kms", "what breaks a limit is refused before the plugin is asked", "envelope/kmsv2.c",
     "TRY(object_validate(&o, out->data_len));", "(void)object_validate;", "unit/envelope/open", "unit/envelope/object")

section("reload")

rule("unprotect", "a reload leaves no key unprotected without the flag that says so", "server/reload.c",
     "if (s->settings->allow_unprotect)\n        return ERR_OK;", "if (s->settings != NULL)\n        return ERR_OK;",
     "unit/server/server", "e2e/reload:Refused.test_wildcard_that_is_taken_back")
rule("unprotect-below", "the rules of both sets are looked at for that", "etcd/rules.c",
     "if (loses_below(&s, old) || loses_below(&s, fresh))", "if (loses_below(&s, old))", "unit/etcd/rules")
rule("probation", "a new configuration is taken over only when its plugin was reached", "server/reload.c",
     "if (ailing == NULL) {\n        check_keys(set);", "if (set != NULL) {\n        check_keys(set);",
     "unit/server/server", "e2e/probation:Probation.test_probation")
rule("drop-keys", "a reload that drops a key looks whether a stored value needs it", "server/reload.c",
     "if (!s->settings->allow_drop_keys)", "if (s->is_draining)", "unit/server/server", "e2e/drop_keys:Drop.test_each_kind")
rule("drop-dotless", "and a rule for segments without a dot has nothing of those with one", "converge/drop.c",
     "if (share == CONVERGE_NONE)\n            continue;\n        is_covered |= share == CONVERGE_ALL;",
     "is_covered |= is_above && share <= CONVERGE_ALL;", "unit/converge/drop")

section("bounds: what one peer can make us hold or do")

rule("frames", "frames that do nothing end a connection", "h2/guard.c",
     "return h2__bucket_take(&g->frames, cost, now_ms);", "(void)h2__bucket_take(&g->frames, cost, now_ms);\n    return true;",
     "unit/h2/guard", "unit/h2/conformance")
rule("resets", "so do resets beyond what a client with timeouts sends", "h2/guard.c",
     "if (type == H2__RST_STREAM && !h2__bucket_take(&g->resets, 1, now_ms))\n        return false;", "", "unit/h2/guard")
rule("violations", "so do streams that we have to reset", "h2/streams.c",
     "if (c->opts.is_server && !h2__bucket_take(&c->guard.violations, 1, loop_now_ms(c->loop)))",
     "if (c->opts.is_server && c->guard.violations.cap == 0)", "unit/h2/guard", "unit/h2/streams", "unit/h2/conformance")
rule("header-block", "a header block is bounded, also in pieces", "h2/frame_in.c",
     "if (++b->frames > BLOCK_FRAMES_MAX || n > BLOCK_MAX(c) - b->len) {", "if (++b->frames > 100 * BLOCK_FRAMES_MAX) {",
     "unit/h2/frame_in", "unit/h2/conformance")
rule("continuations", "so is the number of its frames", "h2/frame_in.c",
     "if (++b->frames > BLOCK_FRAMES_MAX || n", "if (++b->frames > 100 * BLOCK_FRAMES_MAX || n", "unit/h2/frame_in",
     "unit/h2/conformance")
rule("field-list", "a field list is bounded as it is decoded", "h2/message_in.c",
     "limits = (struct h2__hpack_limits){LIMIT_HEADER_BYTES, LIMIT_HEADER_FIELDS};",
     "limits = (struct h2__hpack_limits){16 * LIMIT_HEADER_BYTES, LIMIT_HEADER_FIELDS};", "unit/h2/session")
rule("window-conn", "nobody sends more than the connection's window", "h2/window.c",
     "if (len > (uint32_t)c->recv_left) {", "if (len > (uint32_t)c->recv_left + (1u << 24)) {", "unit/h2/window",
     "unit/h2/conformance")
rule("window-stream", "nor more than the stream's", "h2/window.c",
     "(int64_t)len > (int64_t)s->recv_left + slack(s->c))", "(int64_t)len > (int64_t)s->recv_left + (1 << 24) + slack(s->c))",
     "unit/h2/window", "unit/h2/conformance")
rule("window-overflow", "no peer raises a window above 2^31-1", "h2/window.c",
     "if ((int64_t)s->send_left + n > H2__WINDOW_MAX) {\n        h2__stream_error(s, H2_FLOW_CONTROL_ERROR);\n        return;\n    }\n",
     "if ((int64_t)s->send_left + n > H2__WINDOW_MAX)\n        return;\n", "unit/h2/window", "unit/h2/conformance")
rule("discard-queue", "a stream whose bytes are dropped leaves its queue whole", "h2/stream.c",
     "h2__queue_leave(s); /* it may", "list_remove(&s->send_node); /* it may", "unit/h2/model", "unit/h2/send")
rule("goaway-waiting", "a GOAWAY ends all that it leaves out", "h2/goaway.c",
     "    while ((s = h2__queue_next_waiting(c)) != NULL)\n        h2__stream_finish(s, H2_REFUSED_STREAM, H2_END_RESET);\n",
     "", "unit/h2/goaway", "unit/h2/model")
rule("progress-in-message", "who waits for something else meanwhile is looked at again", "proxy/progress.c",
     "*waits |= is_in_message(l);", "(void)is_in_message;", "unit/proxy/relief", "unit/proxy/lane_large", "unit/proxy/walk")
rule("credit-given-once", "credit is given back once for what has come", "h2/window.c",
     "s->recv_back += n < (size_t)held ? (uint32_t)n : (uint32_t)held;", "s->recv_back += (uint32_t)n;", "unit/h2/window")
rule("credit-for-room", "credit is given as far as there is room", "proxy/lane_credit.c",
     "uint64_t most = left(l->call->worker, ROOM_PARTS);", "uint64_t most = UINT64_MAX;", "unit/proxy/lane_credit",
     "unit/proxy/relief")
rule("credit-by-client", "who has more waits for who has less", "proxy/lane_credit.c",
     "link_claims(l->call->link) + n <= most && !is_behind(l);", "link_claims(l->call->link) + n <= most;",
     "unit/proxy/holder")
rule("credit-one-client", "many connections of one client are no more than one", "proxy/holder.c",
     "if (strcmp(h->who, who) == 0)", "if (strcmp(h->who, who) == 0 && who == NULL)", "unit/proxy/holder")
rule("memory-few", "who holds little is not refused for a call that stays", "proxy/worker_relief.c",
     "#define FEW (4u * LIMIT_SLAB_SIZE)", "#define FEW 0u", "unit/proxy/holder")
rule("credit-for-others", "one client's credit leaves room to others", "proxy/lane_credit.c",
     "link_claims(l->call->link) + n <= most", "link_claims(l->call->link) + n < UINT64_MAX", "unit/proxy/lane_credit",
     "unit/proxy/relief")
rule("credit-reader", "who does not read gets no more answers from etcd", "proxy/lane_credit.c",
     "h2_stream_queued(to) >= LIMIT_STREAM_OUT)\n        return true;", "h2_stream_queued(to) >= 1u << 30)\n        return true;",
     "unit/proxy/lane_credit", "unit/proxy/lane", "unit/proxy/call")
rule("memory-limit", "a worker that holds more than the limit lets it go", "base/budget.c",
     "if (held > p->of->fair)\n        return false;", "", "unit/base/budget", "unit/proxy/relief")
rule("memory-of-others", "what workers draw is counted together", "base/budget.c",
     "if (before + n > b->limit)\n            return false;", "if (p->drawn + n > b->limit)\n            return false;",
     "unit/base/budget")
rule("memory-hungry", "nobody waits for room for ever", "proxy/worker_relief.c",
     "    end_hunger(w);\n", "    (void)end_hunger;\n", "unit/proxy/relief")
rule("answer-unit", "one KeyValue of an answer is bounded", "etcd/large.c",
     "if (f->value_len > LIMIT_ANSWER_UNIT)\n        return ERR_MEMORY_LIMIT;", "", "unit/etcd/large",
     "unit/proxy/lane_large")
rule("answer-small", "so is what an answer has beside its KeyValues", "etcd/large.c",
     "if (f->value_len > LIMIT_ANSWER_SMALL || held > LIMIT_ANSWER_SMALL)", "if (f->value_len > 16 * LIMIT_ANSWER_SMALL)",
     "unit/etcd/large", "unit/proxy/lane_large")
rule("filler", "what completes an answer that failed is bounded", "etcd/large_apply.c",
     "size_t allowed = sent > LIMIT_FILLER ? sent : LIMIT_FILLER;", "size_t allowed = SIZE_MAX;\n\n    (void)sent;",
     "unit/etcd/large", "unit/proxy/lane_large")
rule("watched", "the watches of one stream are bounded", "etcd/ask.c",
     "if (a->watched + range_cost(r) > LIMIT_WATCHED)", "if (a->watched + range_cost(r) > 64 * LIMIT_WATCHED)",
     "unit/etcd/ask", "unit/etcd/scan")

section("the process: what it can't do any more")

rule("watch-hung", "a file system that hangs stops nobody but the opener", "loop/watch.c",
     "if (!file_can_be_looked_at(w->names[i].given))\n            return ERR_TIMEOUT;", "(void)file_can_be_looked_at;",
     "unit/loop/watch")
rule("contain-default", "a system call that is not on the list fails", "contain/seccomp.c",
     "is_log ? SCMP_ACT_LOG : SCMP_ACT_ERRNO(EPERM)", "is_log ? SCMP_ACT_LOG : SCMP_ACT_LOG", "unit/contain/contain")
rule("contain-program", "a new program ends the process", "contain/seccomp.c",
     "    add_all(f, SCMP_ACT_KILL_PROCESS, deadly, ARRAY_LEN(deadly));\n", "", "unit/contain/contain")
rule("contain-fork", "no process is made", "contain/seccomp.c",
     "allow_masked(f, SCMP_SYS(clone), 0, CLONE_VM | CLONE_THREAD, CLONE_VM | CLONE_THREAD);",
     "allow_masked(f, SCMP_SYS(clone), 0, 0, 0);", "unit/contain/contain")
rule("contain-clone3", "nor by the call whose flags can't be judged", "contain/seccomp.c",
     "seccomp_rule_add(f->ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0)",
     "seccomp_rule_add(f->ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone3), 0)", "unit/contain/contain")
rule("contain-families", "sockets are unix and IP", "contain/seccomp.c",
     "families[] = {AF_UNIX, AF_INET, AF_INET6};", "families[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET};\n",
     "unit/contain/contain", more=[("contain/seccomp.c", "types[] = {SOCK_STREAM, SOCK_DGRAM};",
                                    "types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_RAW};")])
rule("contain-raw", "none is raw", "contain/seccomp.c", "types[] = {SOCK_STREAM, SOCK_DGRAM};",
     "types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_RAW};", "unit/contain/contain")
rule("contain-files", "files are opened to read", "contain/seccomp.c",
     "const uint64_t writes = O_ACCMODE | O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY);", "const uint64_t writes = 0;",
     "unit/contain/contain")
rule("contain-create", "none is made", "contain/seccomp.c",
     "O_ACCMODE | O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY);", "O_ACCMODE;", "unit/contain/contain")
rule("contain-code", "no memory is made executable", "contain/seccomp.c",
     "allow_masked(f, SCMP_SYS(mprotect), 2, PROT_EXEC, 0);", "allow_masked(f, SCMP_SYS(mprotect), 2, 0, 0);",
     "unit/contain/contain")
rule("contain-anonymous-code", "what is mapped executable is a file", "contain/seccomp.c",
     "SCMP_A3_64(SCMP_CMP_MASKED_EQ, MAP_ANONYMOUS, 0)};", "SCMP_A3_64(SCMP_CMP_MASKED_EQ, 0, 0)};", "unit/contain/contain")
rule("contain-writable-code", "and not writable", "contain/seccomp.c",
     "SCMP_A2_64(SCMP_CMP_MASKED_EQ, both, PROT_EXEC)", "SCMP_A2_64(SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC & both)",
     "unit/contain/contain")
rule("contain-others", "no other process is sent a signal", "contain/seccomp.c",
     "allow_masked(f, SCMP_SYS(tgkill), 0, UINT32_MAX, (uint64_t)getpid());",
     "allow_masked(f, SCMP_SYS(tgkill), 0, 0, 0);", "unit/contain/contain")
rule("contain-prctl", "what protects the process is not taken back", "contain/seccomp.c",
     "allow_masked(f, SCMP_SYS(prctl), 0, UINT32_MAX, PR_SET_NAME);", "allow_masked(f, SCMP_SYS(prctl), 0, 0, 0);",
     "unit/contain/contain")
rule("contain-limits", "nor its limits", "contain/seccomp.c",
     "{SCMP_A0_64(SCMP_CMP_EQ, 0), SCMP_A2_64(SCMP_CMP_EQ, 0)};",
     "{SCMP_A0_64(SCMP_CMP_EQ, 0), SCMP_A2_64(SCMP_CMP_GE, 0)};", "unit/contain/contain",
     more=[("contain/seccomp.c", "SCMP_SYS(prlimit64), 2, look", "SCMP_SYS(prlimit64), 0, look")])
rule("contain-ioctl", "of a terminal nothing is asked but what it is", "contain/seccomp.c",
     "allow_masked(f, SCMP_SYS(ioctl), 1, UINT32_MAX, requests[i]);", "allow_masked(f, SCMP_SYS(ioctl), 1, 0, 0 * requests[i]);",
     "unit/contain/contain")
rule("contain-privileges", "no capability is left", "contain/privileges.c",
     "else if (have_none() || (keep_only(0) && have_none()))", "else if (have_none() || keep_only(1u << CAP_CHOWN))",
     "unit/contain/contain", "e2e/contain:InForce.test_every_thread")
rule("contain-new-privs", "no new program gets any", "contain/contain.c",
     "prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {", "prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) < 0) {",
     "unit/contain/contain")
rule("contain-required", "--require-containment refuses a start without it", "contain/contain.c",
     "if (o->is_required && wanted[i] && !states[i].is_in_force) {",
     "if (o->is_required && o->user != NULL && wanted[i] && !states[i].is_in_force) {", "unit/contain/contain")
rule("opener-list", "the opener hands out what is on its list", "contain/opener_process.c",
     "if (n != (ssize_t)sizeof request || request.index >= count)",
     "if (n != (ssize_t)sizeof request)", "unit/contain/opener_process")
rule("opener-files", "and of that regular files", "contain/opener_process.c",
     "if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {", "if (fstat(fd, &st) == 0) {", "unit/contain/opener")
rule("opener-late", "what the opener says too late is not taken for the file that was asked for next",
     "contain/opener.c", "    if (!is_ready())\n        return -1;", "    opener.state = WELL;", "unit/contain/opener")
rule("not-dumpable", "no core is written, nobody of the same user looks in", "base/secret.c",
     "if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || setrlimit(RLIMIT_CORE, &none) != 0)",
     "if (setrlimit(RLIMIT_CORE, &none) != 0)", "unit/base/secret")
rule("no-core", "nor is the limit of cores other than 0", "base/secret.c",
     " || setrlimit(RLIMIT_CORE, &none) != 0)", " || (void *)&none == NULL)", "unit/base/secret")
rule("wiped-on-fork", "a process that is forked has no keys", "base/secret.c",
     "(void)madvise((void *)start, end - start, MADV_WIPEONFORK);", "(void)start;", "unit/base/secret")

rule("contain-rings", "nobody makes a ring of io_uring, whose operations no filter sees", "contain/contain.c",
     "    if (seccomp)\n        contain__seccomp_no_rings();", "    (void)seccomp;", "unit/contain/contain")

section("TLS")

rule("tls-version", "TLS 1.2 at least", "net/tls.c", "SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) == 1 &&",
     "SSL_CTX_set_min_proto_version(ctx, TLS1_VERSION) == 1 &&", "unit/net/tls", "e2e/tls:Scan.test_old_versions")
rule("tls-ciphers", "with forward secrecy and AEAD", "net/tls.c", "SSL_CTX_set_cipher_list(ctx, CIPHERS_12) == 1 &&",
     'SSL_CTX_set_cipher_list(ctx, CIPHERS_12 ":ECDHE-ECDSA-AES128-SHA256") == 1 &&', "unit/net/tls")
rule("tls-client-cert", "a client without a certificate is refused where a CA is set", "net/tls.c",
     "SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, on_verify);", "SSL_VERIFY_PEER, on_verify);", "unit/net/tls")
rule("tls-client-ca", "so is one of another CA", "net/tls.c",
     "    if (is_ok != 1)\n        return is_ok;\n", "    if (is_ok != 1)\n        is_ok = 1;\n", "unit/net/tls")
rule("tls-client-name", "and one of a name that is not on the list", "net/tls.c",
     "return is_refused(store, X509_V_ERR_APPLICATION_VERIFICATION);", "return 1;", "unit/net/tls")
rule("tls-client-revoked", "and one that was revoked", "net/tls.c",
     "return is_refused(store, X509_V_ERR_CERT_REVOKED);", "return 1;", "unit/net/tls", "e2e/reload:Files.test_revoked_clients")
rule("tls-server-chain", "a server's chain is verified", "net/tls.c",
     "SSL_CTX_set_verify(t->ctx, SSL_VERIFY_PEER, NULL);", "SSL_CTX_set_verify(t->ctx, SSL_VERIFY_NONE, NULL);", "unit/net/tls")
rule("tls-server-name", "its name is in its SAN", "net/tls.c",
     "return SSL_set1_host(ssl, host) == 1 && SSL_set_tlsext_host_name(ssl, host) == 1;",
     "return SSL_set_tlsext_host_name(ssl, host) == 1;", "unit/net/tls")
rule("tls-server-ip", "so is its address", "net/tls.c",
     "return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;", "return true;", "unit/net/tls")
rule("tls-server-cn", "the CN is no name", "net/tls.c",
     "X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);",
     "X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);", "unit/net/tls")
rule("tls-alpn", "a server that does not say h2 is not spoken to", "net/transport.c",
     "if (!net__tls_demands_h2(c->tls) || c->alpn == NET_ALPN_H2)", "if (!net__tls_demands_h2(c->tls) || c->alpn != NET_ALPN_HTTP1)",
     "unit/net/tls")

section("the proxy's own user")

rule("own-rights", "a client without a token is nobody to etcd: it never gets the proxy's own", "proxy/request.c",
     "    fields_add_passed(f, h);\n    fields_add_static(f, BYTES_LIT(\"te\"), BYTES_LIT(\"trailers\"));",
     "    fields_add_passed(f, h);\n    extern char secret_lent[256];\n    if (secret_lent[0] != '\\0')\n"
     "        fields_add_static(f, BYTES_LIT(\"token\"), bytes_str(secret_lent));\n"
     "    fields_add_static(f, BYTES_LIT(\"te\"), BYTES_LIT(\"trailers\"));",
     "e2e/login:Works.test_no_client_gets_the_proxys_rights",
     more=[("base/secret.c", "static bool is_locked;\n",
            "extern char secret_lent[256];\nchar secret_lent[256];\nstatic bool is_locked;\n"),
           ("sweep/login.c", "    set_token(l, copy);\n",
            "    set_token(l, copy);\n    extern char secret_lent[256];\n"
            "    (void)snprintf(secret_lent, sizeof secret_lent, \"%s\", copy);\n")])
rule("own-password-in-sight", "serve takes no password from where others see it", "server/login.c",
     "if (o->etcd_user != NULL && strchr(o->etcd_user, ':') != NULL)", "if (o == NULL)", "e2e/login:Works.test_flags")

section("secrets in memory and in texts")

rule("slab-wiped", "memory that held plaintext is wiped with its last user", "base/slice.c",
     "secret_wipe(slab->data, slab->fill < slab->cap ? slab->fill : slab->cap);", "(void)slab;", "unit/base/slice")
rule("secret-wiped", "so is memory of keys", "base/secret.c", "secret_wipe(b->data, b->n);", "(void)b;",
     "unit/base/secret")
