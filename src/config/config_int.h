/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this module share: the tree of a parsed document and the list of what is wrong
 * with it. */
#ifndef CONFIG_INT_H
#define CONFIG_INT_H

#include "config/encryption.h"

/* --- the tree: what yaml.c and json.c give --- */

enum node_kind { NODE_NULL, NODE_BOOL, NODE_INT, NODE_FLOAT, NODE_STRING, NODE_SEQ, NODE_MAP };

struct node {
    enum node_kind kind;
    bool is_open;  /* its children are still being read: an alias to it would never end */
    bool boolean;  /* NODE_BOOL */
    double number; /* NODE_INT and NODE_FLOAT; exact up to 2^53 */
    char *text;    /* scalars: the text, NUL-terminated; wiped when freed */
    size_t text_len;
    struct node **items; /* NODE_SEQ: count items; NODE_MAP: key, value, key, value, ... */
    size_t count;
    size_t cap;
    size_t expanded; /* number of nodes below it, those behind aliases counted each time */
    struct node *next;
};

/* Owns all nodes. Aliased nodes have several parents. */
struct tree {
    struct node *all;
    struct node *root; /* NULL: no document */
    bool has_more;     /* something follows the first document */
    char problem[160]; /* after ERR_CONFIG: where and what; never text of the document */
};

/* Bounds of a document. Nodes are counted with aliases written out: by aliases of aliases a small
 * file can stand for more nodes than any memory holds. */
#define CONFIG_MAX_FILE (4u * 1024 * 1024)
#define CONFIG_MAX_NODES 10000u
#define CONFIG_MAX_DEPTH 32u
#define CONFIG_MAX_ANCHORS 1000u

/* Reads the first document as Kubernetes does: text whose first character but for white space is
 * '{' is JSON, all else YAML.
 * Errors: ERR_CONFIG with t->problem, ERR_NOMEM. config__tree_fini is due in any case. */
MUST_CHECK enum err config__read(struct bytes text, struct tree *t);
MUST_CHECK enum err config__read_yaml(struct bytes text, struct tree *t);
MUST_CHECK enum err config__read_json(struct bytes text, struct tree *t);
void config__tree_fini(struct tree *t);

/* A new node of the tree, text copied. NULL when out of memory. */
struct node *config__node_new(struct tree *t, enum node_kind kind, struct bytes text);
/* Appends a child; counts it. Errors: ERR_NOMEM, ERR_CONFIG with t->problem: too many nodes. */
MUST_CHECK enum err config__node_add(struct tree *t, struct node *parent, struct node *child);
/* The value of a field of a map, NULL when it is absent or null or when map is NULL. */
const struct node *config__get(const struct node *map, const char *name);
/* The text of a string field, "" when it is absent. */
const char *config__get_text(const struct node *map, const char *name);
/* Number of items of a sequence field. */
size_t config__get_count(const struct node *map, const char *name);
/* "a string", "a number", ... */
const char *config__kind_name(enum node_kind kind);
/* The kind of a plain (unquoted) YAML scalar; fills boolean and number of n. */
void config__resolve_plain(struct node *n);
/* Makes of a string what its YAML tag says; one that YAML doesn't define leaves it a string.
 * Errors: ERR_CONFIG (the text does not fit the tag), ERR_NOMEM. */
MUST_CHECK enum err config__apply_tag(struct node *n, const char *tag);
/* Length of the UTF-8 sequence at p (RFC 3629), 0 when it is none. n > 0. */
size_t config__utf8_len(const uint8_t *p, size_t n);

/* --- what is wrong: lines "path: reason" --- */

struct report {
    char *buf; /* NUL-terminated always */
    size_t cap;
    size_t used;
    size_t count; /* also of those that had no room */
    bool is_out_of_memory;
};

#define CONFIG_PATH_MAX 160

void config__report_init(struct report *r, char *buf, size_t cap);
void config__report(struct report *r, const char *path, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* ERR_OK when nothing was reported. */
enum err config__report_result(const struct report *r);
/* "text" in quotes with escapes, cut so that it fits. Returns out. */
#define CONFIG_QUOTE_MAX 128
const char *config__quote(const char *text, size_t len, char out[static CONFIG_QUOTE_MAX]);

/* --- the rules --- */

/* schema.c: types, unknown and doubled fields, durations. */
void config__check_schema(struct report *r, const struct node *root);
/* validate.c: what kube-apiserver's own validation asks for. The schema holds. */
void config__validate(struct report *r, const struct node *root, const struct enc_options *o);

/* --- files --- */

/* What to do with a path that is no file but a pipe, a FIFO or the like. */
enum config_pipes {
    CONFIG_PIPES_REFUSED = 0, /* while serving: it was read before, and waiting would block us */
    CONFIG_PIPES_WAIT         /* at the start: read to its end, which has to come in FILE_WAIT_MS */
};
/* Reads a file of at most CONFIG_MAX_FILE bytes; text is the caller's to wipe and free. Errors:
 * ERR_CONFIG with a reason that continues 'file "x" ...', ERR_NOMEM likewise. */
MUST_CHECK enum err config__read_file(const char *path, enum config_pipes pipes, uint8_t **text,
                                      size_t *len, char *reason, size_t reason_len);

/* --- texts --- */

/* A resource name split at its first dot; no dot: group "". */
struct group_resource {
    struct bytes plural;
    struct bytes group;
};
struct group_resource config__group_resource(const char *name);
bool config__group_resource_eq(struct group_resource a, struct group_resource b);
/* A DNS label, or with is_dotted a subdomain (RFC 1123): what a plural or a group can be. */
bool config__is_dns_name(struct bytes name, bool is_dotted);

/* "registry/", "//registry" and "/registry" become "/registry"; "" and "/" become "". Caller frees.
 * NULL when out of memory; sets *is_bad when a segment is "." or "..", which the API server would
 * have resolved. */
char *config__normalise(const char *path, bool *is_bad);
/* Is key equal to prefix, or does it begin with prefix and a slash? */
bool config__lies_in(const char *key, const char *prefix);

/* Go's time.ParseDuration: "300ms", "-1.5h", "1h2m". On failure a reason, else NULL. */
const char *config__duration(const char *text, int64_t *ns);
/* Standard base64 with padding as Go reads it: CR and LF are skipped, loose trailing bits accepted.
 * out: room for *out_len bytes, or NULL to learn that length only. False: not base64. */
bool config__base64(const char *text, size_t text_len, uint8_t *out, size_t *out_len);
/* A KMS endpoint: Go's url.Parse, of which only the path is used. path: room for strlen(text) + 1.
 * Returns NULL, or why it is no URL. scheme "" when there is none; it is lower case, cut to fit. */
#define CONFIG_SCHEME_MAX 32
const char *config__endpoint(const char *text, char scheme[static CONFIG_SCHEME_MAX], char *path);

#endif
