/* SPDX-License-Identifier: Apache-2.0 */
#include "pages/configz.h"

#include <stdlib.h>
#include <string.h>

#include "base/fips.h"
#include "contain/contain.h"

/* A double-quoted YAML scalar. */
static void write_quoted(FILE *f, const char *text)
{
    fputc('"', f);
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;

        if (c == '"' || c == '\\')
            fprintf(f, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            fprintf(f, "\\x%02x", c);
        else
            fputc(c, f);
    }
    fputc('"', f);
}

static void write_field(FILE *f, const char *indent, const char *name, const char *value)
{
    fprintf(f, "%s%s: ", indent, name);
    write_quoted(f, value);
    fputc('\n', f);
}

static enum err write_settings(const struct settings *settings, FILE *f)
{
    char *text = NULL, *line, *end;
    size_t len;
    FILE *lines = open_memstream(&text, &len);
    bool is_whole;

    if (lines == NULL)
        return ERR_NOMEM;
    settings_write(settings, lines);
    fclose(lines);
    fputs("settings:\n", f);
    line = text;
    while (line != NULL && (end = strchr(line, '\n')) != NULL) {
        fprintf(f, "  %.*s\n", (int)(end - line), line);
        line = end + 1;
    }
    is_whole = line != NULL && *line == '\0'; /* else memory ran out in the middle of a line */
    free(text);
    return is_whole ? ERR_OK : ERR_NOMEM;
}

static void write_kms(const struct enc_provider *p, FILE *f)
{
    char timeout[32];

    snprintf(timeout, sizeof timeout, "%llums", (unsigned long long)p->timeout_ms);
    fputs("      - kms:\n", f);
    write_field(f, "          ", "apiVersion", p->kms_version == 1 ? "v1" : "v2");
    write_field(f, "          ", "name", p->name);
    write_field(f, "          ", "endpoint", p->endpoint);
    write_field(f, "          ", "timeout", timeout);
    if (p->kms_version == 1)
        fprintf(f, "          cachesize: %d\n", p->cache_size);
}

static void write_provider(const struct enc_provider *p, FILE *f)
{
    static const char *const names[] = {"none", "identity", "kms", "aesgcm", "aescbc", "secretbox"};

    if (p->kind == ENC_KMS) {
        write_kms(p, f);
        return;
    }
    fprintf(f, "      - %s:", names[p->kind]);
    if (p->key_count == 0) {
        fputs(" {}\n", f);
        return;
    }
    fputs("\n          keys:\n", f);
    for (size_t i = 0; i < p->key_count; i++) {
        write_field(f, "            - ", "name", p->keys[i].name);
        write_field(f, "              ", "secret", "(redacted)");
    }
}

static void write_containment(FILE *f)
{
    fputs("containment:\n", f);
    for (enum contain_part part = 0; part < CONTAIN_PARTS; part++) {
        const struct contain_state *st = contain_state(part);
        char text[sizeof st->text + 16];

        (void)snprintf(text, sizeof text, "%s%s",
                       st->is_in_force ? "" : "not in force: ", st->text);
        write_field(f, "  ", contain_part_name(part), text);
    }
}

enum err pages__configz_write(const struct pages_state *st, FILE *f)
{
    const struct enc_config *c = st->config;
    char provider[FIPS_PROVIDER_TEXT];

    if (c != NULL)
        write_field(f, "", "config-hash", c->hash);
    fprintf(f, "fips: %s\n", fips_is_on() ? "true" : "false");
    write_field(f, "", "crypto-provider", fips_provider(provider));
    if (c != NULL)
        fputs("encryption:\n", f);
    for (size_t i = 0; c != NULL && i < c->entry_count; i++) {
        const struct enc_entry *e = &c->entries[i];

        fputs("  - resources:\n", f);
        for (size_t k = 0; k < e->resource_count; k++) {
            fputs("      - ", f);
            write_quoted(f, e->resources[k]);
            fputc('\n', f);
        }
        fputs("    providers:\n", f);
        for (size_t k = 0; k < e->provider_count; k++)
            write_provider(&e->providers[k], f);
    }
    write_containment(f);
    return write_settings(st->settings, f);
}
