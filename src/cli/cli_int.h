/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of cli/.
 *
 *   serve.c            the proxy
 *   encrypt.c          encrypt and decrypt: one value, with the providers of its key
 *   inspect.c          what a stored value says of itself, found by facts.c and, for kms v2,
 *                      object.c
 *   tool_args.c        the flags that the tools have beside the proxy's
 *   memory.c           memory for keys, locked or allowed not to be
 *   value.c            a value from standard input, to standard output
 *   fetch.c            a DEK from a KMS plugin, waited for
 *   report.c           facts as text or JSON
 *   words.c            what an error of a stored value means
 *   rules.c            the rule set of the configuration */
#ifndef CLI_CLI_INT_H
#define CLI_CLI_INT_H

#include <stdio.h>

#include "base/slice.h"
#include "config/settings.h"
#include "proxy/ruleset.h"

#define CLI__WHY_MAX 4096

/* Says why on standard error; returns status. */
int cli__refuse(int status, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* --- tool_args.c ------------------------------------------------------------------------------ */

struct cli__flag {
    const char *name;   /* without dashes */
    const char **value; /* set to the argument's own memory; NULL beforehand */
};

/* What of argv is not the tool's own, in order. */
struct cli__args {
    char **rest; /* points into argv; the array is the caller's to free */
    int rest_count;
    bool wants_help;
};

/* Takes the flags of the table out of argv: "--name=value" or "--name value"; of several the last
 * counts. Also -h and --help. Errors: ERR_CONFIG with why (a value is missing); then nothing is to
 * be freed. */
MUST_CHECK enum err cli__args_take(int argc, char *const argv[], const struct cli__flag *flags,
                                   size_t flag_count, struct cli__args *out, char *why,
                                   size_t why_len);

/* --- memory.c --------------------------------------------------------------------------------- */

/* Sets aside the memory for keys. Returns CLI_OK, or the exit status after having said why not. */
MUST_CHECK int cli__lock_memory(const struct settings *o);
/* For when the log has started: says so where the memory is not locked. */
void cli__warn_unlocked(void);

/* --- value.c ---------------------------------------------------------------------------------- */

#define CLI__VALUE_MAX (16u * 1024 * 1024)

enum cli__encoding { CLI__RAW, CLI__BASE64, CLI__HEX };

/* text NULL: raw. False: no such encoding. */
MUST_CHECK bool cli__encoding_parse(const char *text, enum cli__encoding *out);
/* Decodes in place; white space is skipped. What is left of the text is wiped. False: not of that
 * encoding. */
MUST_CHECK bool cli__decode(enum cli__encoding encoding, uint8_t *p, size_t *n);
/* Everything until the end of fd, at most CLI__VALUE_MAX bytes, into a slab that is wiped on its
 * last drop. Errors: ERR_SYSTEM, ERR_MESSAGE_TOO_LARGE, ERR_CONFIG (not of that encoding),
 * ERR_NOMEM; all with why. */
MUST_CHECK enum err cli__value_read(int fd, enum cli__encoding encoding, struct slab_pool *pool,
                                    struct slice *out, char *why, size_t why_len);
/* Errors: ERR_SYSTEM with why. */
MUST_CHECK enum err cli__value_write(int fd, struct bytes value, char *why, size_t why_len);

/* --- fetch.c ---------------------------------------------------------------------------------- */

/* Asks the plugin of a KMS provider for a DEK and waits for the answer: the one that id names, or
 * with id NULL the one to write with. The plugin is checked first, as serve does at its start: a
 * plugin that cannot be used fails here. *out is a reference. Errors, all with why: ERR_NO_STATE,
 * ERR_KMS_AWAY, ERR_NO_WRITE_KEY (not reachable or not usable), ERR_KMS_ERROR, ERR_BAD_DEK_SIZE (it
 * does not unwrap this DEK), ERR_NOMEM, ERR_SYSTEM, ERR_CONFIG. */
MUST_CHECK enum err cli__fetch_dek(const struct ruleset *rules, const struct provider *provider,
                                   const struct dek_id *id, struct dek **out, char *why,
                                   size_t why_len);

/* --- report.c --------------------------------------------------------------------------------- */

/* Facts in order, as lines "label: value" or as one JSON object. Bytes that are not printable ASCII
 * are shown as hex, under the JSON name with "_hex" behind it. */
struct cli__report {
    FILE *f;
    bool is_json;
    bool has_any; /* a member of the present object was written */
    bool in_list;
};

void cli__report_begin(struct cli__report *r, FILE *f, bool is_json);
void cli__report_bytes(struct cli__report *r, const char *name, const char *label, struct bytes v);
void cli__report_text(struct cli__report *r, const char *name, const char *label, const char *v);
void cli__report_size(struct cli__report *r, const char *name, const char *label, size_t v);
/* JSON only: what the text says in other words. */
void cli__report_flag(struct cli__report *r, const char *name, bool v);
/* A list of objects with a text and a size or a text each; of no items it is [] in JSON and nothing
 * in text. */
void cli__report_list_begin(struct cli__report *r, const char *name);
void cli__report_item_size(struct cli__report *r, const char *label, struct bytes key, size_t v);
void cli__report_item_text(struct cli__report *r, const char *label, const char *key,
                           const char *v);
void cli__report_list_end(struct cli__report *r);
void cli__report_end(struct cli__report *r);

/* --- object.c --------------------------------------------------------------------------------- */

/* What a kms v2 value says of itself as far as it can be parsed, whether valid or not. Borrows from
 * the value. */
struct cli__object {
    bool is_whole; /* parsed to its end */
    struct dek_id id;
    struct bytes data;                  /* encryptedData */
    size_t unknown_count;               /* fields that no Kubernetes version writes */
    size_t doubled_count;               /* fields given again */
    struct dek_annotation *annotations; /* of id; heap */
};

/* Errors: ERR_NOMEM. */
MUST_CHECK enum err cli__object_look(struct bytes in, struct cli__object *out);
void cli__object_fini(struct cli__object *o);

/* --- inspect.c -------------------------------------------------------------------------------- */

/* Explains the stored value on f; returns the exit status. */
int cli__inspect(struct slice value, FILE *f, bool is_json);

/* --- words.c ---------------------------------------------------------------------------------- */

/* What the class of a stored value that does not open means. Static storage. */
const char *cli__words(enum err e);

#endif
