/* SPDX-License-Identifier: Apache-2.0 */
#include "converge/record.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/digit.h"
#include "kms/text.h"

#define HEAD "etcd-envelope 1\n"
#define RULE "\nrule "
#define HASH_LEN 32u    /* digits of a hash that are shown */
#define RULES_MAX 8192u /* a record of more is hardly one that etcd takes (1.5 MiB) */

/* --- writing ---------------------------------------------------------------------------------- */

/* What would end a word, or could stand for something else, as %XX. */
static void put_word(FILE *f, struct bytes text)
{
    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = text.p[i];

        if (c <= ' ' || c >= 0x7f || strchr("%,*?", c) != NULL)
            fprintf(f, "%%%02x", c);
        else
            fputc(c, f);
    }
}

/* What stored values begin with, without the mark of all: "aesgcm:v1:NAME:", "kms:v2:NAME:". */
static void put_prefix(FILE *f, const struct provider *p, uint32_t key)
{
    size_t mark = sizeof ENVELOPE_MARK - 1;

    if (p->prefix.n > mark)
        put_word(f, bytes_of(p->prefix.p + mark, p->prefix.n - mark));
    if (p->key_count > 0)
        put_word(f, p->keys[key].prefix);
}

/* A stream over out, whose last byte stays NUL. */
static FILE *open_text(char out[static CONVERGE_KEY_TEXT])
{
    memset(out, 0, CONVERGE_KEY_TEXT);
    return fmemopen(out, CONVERGE_KEY_TEXT - HASH_LEN - 1, "w");
}

enum err converge_opens_text(const struct provider *p, uint32_t key,
                             char out[static CONVERGE_KEY_TEXT])
{
    char check[DEK_CHECK_TEXT] = "";
    FILE *f;

    if (provider_traits(p)->is_identity) {
        snprintf(out, CONVERGE_KEY_TEXT, "identity");
        return ERR_OK;
    }
    if (p->key_count > 0)
        TRY(dek_check_text(p->keys[key].dek, check));
    f = open_text(out);
    if (f == NULL)
        return ERR_NOMEM;
    put_prefix(f, p, key);
    fclose(f);
    strcat(out, check); /* there is room: see open_text */
    return ERR_OK;
}

enum err converge_writes_text(const struct provider_list *list, const struct keyring *ring,
                              char out[static CONVERGE_KEY_TEXT])
{
    const struct provider *p;
    const struct provider_traits *t;
    char hash[KMS_HASH_TEXT];
    const struct dek *dek;

    if (list->count == 0) {
        snprintf(out, CONVERGE_KEY_TEXT, "-");
        return ERR_OK;
    }
    p = list->v[0];
    t = provider_traits(p);
    TRY(converge_opens_text(p, 0, out));
    if (!t->is_kms || t->has_dek_per_value)
        return ERR_OK;
    dek = ring == NULL ? NULL : keyring_state(ring, p);
    if (dek == NULL)
        strcat(out, "?");
    else
        strncat(out, kms_hash_text(dek->id.key_id, hash) + strlen("sha256:"), HASH_LEN);
    return ERR_OK;
}

/* The first word of a rule's line: its prefix, with a star when it is for dotless segments. */
static void put_rule_prefix(FILE *f, const struct key_rule *rule)
{
    put_word(f, bytes_str(rule->prefix));
    fputs(rule->kind == KEY_RULE_DOTLESS ? "/*" : "/", f);
}

static enum err put_rule(FILE *f, const struct key_rule *rule, const struct provider_list *list,
                         const struct keyring *ring)
{
    char text[CONVERGE_KEY_TEXT];
    const char *separator = "";

    fputs("rule ", f);
    put_rule_prefix(f, rule);
    fputc(' ', f);
    put_word(f, bytes_str(rule->resource[0] == '\0' ? "none" : rule->resource));
    TRY(converge_writes_text(list, ring, text));
    fprintf(f, " %s ", text);
    for (uint32_t i = 0; i < list->count; i++) {
        uint32_t keys = list->v[i]->key_count > 0 ? list->v[i]->key_count : 1;

        for (uint32_t k = 0; k < keys; k++) {
            TRY(converge_opens_text(list->v[i], k, text));
            fprintf(f, "%s%s", separator, text);
            separator = ",";
        }
    }
    fputs(list->count == 0 ? "-\n" : "\n", f);
    return ERR_OK;
}

enum err converge_record_make(const struct ruleset *rules, const struct keyring *ring,
                              const char *name, char **text)
{
    enum err e = ERR_OK;
    size_t len;
    FILE *f;

    *text = NULL;
    f = open_memstream(text, &len);
    if (f == NULL)
        return ERR_NOMEM;
    fputs(HEAD "name ", f);
    put_word(f, bytes_str(name));
    fprintf(f, "\nconfig %s\n", rules->config->hash);
    for (size_t i = 0; i < rules->key_rules->count && e == ERR_OK; i++)
        e = put_rule(f, &rules->key_rules->v[i], &rules->lists[i], ring);
    if (ferror(f) && e == ERR_OK)
        e = ERR_NOMEM;
    if (fclose(f) != 0 && e == ERR_OK)
        e = ERR_NOMEM;
    if (e == ERR_OK && *text != NULL)
        return ERR_OK;
    free(*text);
    *text = NULL;
    return e == ERR_OK ? ERR_NOMEM : e;
}

/* --- reading ---------------------------------------------------------------------------------- */

/* A rule's line: its words, borrowed. */
struct line {
    struct bytes prefix, resource, writes, opens;
};

static struct bytes next_word(const char **at)
{
    size_t n = strcspn(*at, " \n");
    struct bytes word = bytes_of(*at, n);

    *at += n + ((*at)[n] == ' ');
    return word;
}

/* The line that begins at *at, which moves behind it. False: there is none that is understood. */
static bool next_line(const char **at, struct line *out)
{
    if (strncmp(*at, RULE + 1, sizeof RULE - 2) != 0)
        return false;
    *at += sizeof RULE - 2;
    out->prefix = next_word(at);
    out->resource = next_word(at);
    out->writes = next_word(at);
    out->opens = next_word(at);
    if (out->prefix.n == 0 || out->resource.n == 0 || out->writes.n == 0 || out->opens.n == 0 ||
        (*at)[-1] == ' ' || **at != '\n')
        return false;
    ++*at;
    return true;
}

char *converge_record_copy(struct bytes stored)
{
    char *text = malloc(stored.n + 1);

    if (text == NULL)
        return NULL;
    for (size_t i = 0; i < stored.n; i++)
        text[i] = (char)(stored.p[i] == '\0' ? 1 : stored.p[i]); /* neither is in a record */
    text[stored.n] = '\0';
    return text;
}

static bool find_line(const char *record, struct bytes prefix, struct line *out)
{
    const char *at = converge_record_rules(record);

    while (next_line(&at, out))
        if (bytes_eq(out->prefix, prefix))
            return true;
    return false;
}

static size_t count_lines(const char *record)
{
    const char *at = converge_record_rules(record);
    struct line line;
    size_t n = 0;

    while (next_line(&at, &line))
        n++;
    return n;
}

static int by_bytes(const void *a, const void *b)
{
    return bytes_cmp(*(const struct bytes *)a, *(const struct bytes *)b);
}

/* Are all rules understood, and no two of one prefix, which would contradict each other? Who may
 * write where records lie can make one of 100,000 rules: sorted, and not too many, for the control
 * thread waits meanwhile. */
static bool has_good_rules(const char *record)
{
    const char *at = converge_record_rules(record);
    size_t count = count_lines(record), n = 0;
    struct bytes *v = count > RULES_MAX ? NULL : malloc((count + 1) * sizeof *v);
    struct line line;
    bool is_good;

    if (v == NULL)
        return false;
    while (next_line(&at, &line))
        v[n++] = line.prefix;
    is_good = *at == '\0';
    qsort(v, n, sizeof *v, by_bytes);
    for (size_t i = 1; i < n; i++)
        is_good = is_good && !bytes_eq(v[i - 1], v[i]);
    free(v);
    return is_good;
}

bool converge_record_is_understood(const char *record)
{
    const char *at = record;

    if (strncmp(record, HEAD, sizeof HEAD - 1) != 0)
        return false;
    while ((*at >= ' ' && *at < 0x7f) || *at == '\n')
        at++;
    if (*at != '\0' || at[-1] != '\n')
        return false;
    return has_good_rules(record);
}

const char *converge_record_rules(const char *record)
{
    const char *rules = strstr(record, RULE);

    return rules == NULL ? "" : rules + 1;
}

static bool is_unknown(const struct line *l)
{
    return l->writes.p[l->writes.n - 1] == '?';
}

const char *converge_record_name(const char *record, char out[static CONVERGE_NAME_MAX])
{
    const char *at = strstr(record, "\nname ");
    size_t n = 0;

    if (at != NULL)
        for (at += strlen("\nname "); *at > ' ' && *at < 0x7f && n + 1 < CONVERGE_NAME_MAX; at++) {
            bool is_space = strncmp(at, "%20", 3) == 0;

            out[n++] = is_space ? ' ' : *at == '"' ? '\'' : *at;
            at += is_space ? 2 : 0;
        }
    out[n] = '\0';
    return out;
}

bool converge_record_is_complete(const char *record)
{
    const char *at = converge_record_rules(record);
    struct line line;

    while (next_line(&at, &line))
        if (is_unknown(&line))
            return false;
    return true;
}

/* Is the key that is written with among those of the list? A plugin's is without its hash there. */
static bool is_opened(struct bytes writes, struct bytes opens)
{
    const uint8_t *colon = memrchr(writes.p, ':', writes.n);
    size_t head = colon == NULL ? writes.n : (size_t)(colon + 1 - writes.p);

    while (opens.n > 0) {
        const uint8_t *comma = memchr(opens.p, ',', opens.n);
        size_t n = comma == NULL ? opens.n : (size_t)(comma - opens.p);
        struct bytes one = bytes_of(opens.p, n);

        if (bytes_eq(one, writes) ||
            (bytes_has_prefix(one, BYTES_LIT("kms:")) && bytes_eq(one, bytes_of(writes.p, head))))
            return true;
        n += comma != NULL;
        opens = bytes_of(opens.p + n, opens.n - n);
    }
    return false;
}

/* Part of a text, which is somebody else's: cut. */
#define SHOWN(b) (int)((b).n < 120 ? (b).n : 120), (const char *)(b).p

static enum converge_difference compare_lines(const struct line *a, const struct line *b, char *why,
                                              size_t why_len)
{
    if (is_unknown(a) || is_unknown(b)) {
        snprintf(why, why_len,
                 "what %s writes %.*s with is not known yet: its plugin has not "
                 "answered",
                 is_unknown(b) ? "it" : "this proxy", SHOWN(a->resource));
        return CONVERGE_UNKNOWN;
    }
    if (!bytes_eq(a->writes, b->writes)) {
        snprintf(why, why_len, "it writes %.*s with %.*s, this proxy with %.*s", SHOWN(a->resource),
                 SHOWN(b->writes), SHOWN(a->writes));
        return CONVERGE_DIFFERS;
    }
    if (!is_opened(a->writes, b->opens) || !is_opened(b->writes, a->opens)) {
        snprintf(why, why_len, "%.*s can't be opened by both", SHOWN(a->resource));
        return CONVERGE_DIFFERS;
    }
    return CONVERGE_AGREES;
}

enum converge_difference converge_record_compare(const char *mine, const char *theirs, char *why,
                                                 size_t why_len)
{
    enum converge_difference worst = CONVERGE_AGREES;
    const char *at = converge_record_rules(mine);
    struct line a, b;

    if (!converge_record_is_understood(theirs)) {
        snprintf(why, why_len,
                 "what it says of itself is not understood: it may be of another version");
        return CONVERGE_DIFFERS;
    }
    while (next_line(&at, &a)) {
        enum converge_difference d = CONVERGE_DIFFERS;
        char text[512];

        if (find_line(theirs, a.prefix, &b))
            d = compare_lines(&a, &b, text, sizeof text);
        else
            snprintf(text, sizeof text, "it has no rule for %.*s", SHOWN(a.prefix));
        if (d < worst)
            snprintf(why, why_len, "%s", text);
        worst = d < worst ? d : worst;
    }
    if (worst == CONVERGE_DIFFERS || count_lines(mine) == count_lines(theirs))
        return worst;
    snprintf(why, why_len, "it has rules that this proxy does not have");
    return CONVERGE_DIFFERS;
}

/* --- rules of two sets ------------------------------------------------------------------------ */

bool converge_lies_in(const char *prefix, const char *other)
{
    size_t n = strlen(other);

    return strncmp(prefix, other, n) == 0 && (prefix[n] == '\0' || prefix[n] == '/');
}

enum converge_share converge_share_of(const struct key_rule *above, const struct key_rule *rule)
{
    const char *rest = rule->prefix + strlen(above->prefix);

    if (above->kind != KEY_RULE_DOTLESS)
        return CONVERGE_ALL;
    if (rest[0] == '\0')
        return rule->kind == KEY_RULE_DOTLESS ? CONVERGE_ALL : CONVERGE_SOME;
    return memchr(rest + 1, '.', strcspn(rest + 1, "/")) == NULL ? CONVERGE_ALL : CONVERGE_NONE;
}

/* The rule of a line, whose prefix is the caller's to free; NULL: no memory. */
static struct key_rule rule_of(const struct line *l)
{
    bool is_dotless = l->prefix.p[l->prefix.n - 1] == '*';
    size_t n = l->prefix.n - 1, len = 0;
    struct key_rule out = {.kind = is_dotless ? KEY_RULE_DOTLESS : KEY_RULE_PREFIX,
                           .prefix = malloc(l->prefix.n)};

    n -= is_dotless && n > 0; /* the slash before the star */
    for (size_t i = 0; i < n && out.prefix != NULL; i++) {
        const uint8_t *p = l->prefix.p + i;
        int high = *p == '%' && i + 2 < n ? digit_hex(p[1]) : -1;
        int low = high < 0 ? -1 : digit_hex(p[2]);

        out.prefix[len++] = (char)(low < 0 ? *p : high << 4 | low);
        i += low < 0 ? 0 : 2;
    }
    if (out.prefix != NULL)
        out.prefix[len] = '\0';
    return out;
}

/* The length of the longest prefix in the record that is for all keys of the rule; 0: none. */
static size_t nearest_len(const char *record, const struct key_rule *mine)
{
    const char *at = converge_record_rules(record);
    size_t longest = 0;
    struct line line;

    while (next_line(&at, &line)) {
        struct key_rule theirs = rule_of(&line);
        size_t n = theirs.prefix == NULL ? 0 : strlen(theirs.prefix);

        if (n > longest && converge_lies_in(mine->prefix, theirs.prefix) &&
            converge_share_of(&theirs, mine) == CONVERGE_ALL)
            longest = n;
        free(theirs.prefix);
    }
    return longest;
}

/* Is there a key for which the i-th rule is ours, and this one theirs? nearest: see nearest_len. */
static bool do_meet(const struct key_rules *rules, size_t i, const struct key_rule *theirs,
                    size_t nearest)
{
    const struct key_rule *mine = &rules->v[i];

    if (converge_lies_in(mine->prefix, theirs->prefix))
        return strlen(theirs->prefix) >= nearest &&
               converge_share_of(theirs, mine) != CONVERGE_NONE;
    if (!converge_lies_in(theirs->prefix, mine->prefix) ||
        converge_share_of(mine, theirs) == CONVERGE_NONE)
        return false;
    for (size_t k = 0; k < rules->count; k++) {
        const struct key_rule *nearer = &rules->v[k];

        if (strlen(nearer->prefix) > strlen(mine->prefix) &&
            converge_lies_in(theirs->prefix, nearer->prefix) &&
            converge_share_of(nearer, theirs) == CONVERGE_ALL)
            return false;
    }
    return true;
}

bool converge_record_writes(const char *record, const struct key_rules *rules, size_t i,
                            const char *key)
{
    size_t nearest = nearest_len(record, &rules->v[i]);
    const char *at = converge_record_rules(record);
    struct line line;

    while (next_line(&at, &line)) {
        struct key_rule theirs;
        bool is_met;

        if (!is_opened(line.writes, bytes_str(key)))
            continue;
        theirs = rule_of(&line);
        is_met = theirs.prefix == NULL || do_meet(rules, i, &theirs, nearest); /* when in doubt */
        free(theirs.prefix);
        if (is_met)
            return true;
    }
    return false;
}
