/* SPDX-License-Identifier: Apache-2.0 */
#include "rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/secret.h"
#include "failing_alloc.h"
#include "kms/manager.h"

struct pages_rig rig;

static struct ruleset *rules_of(const char *yaml)
{
    const struct enc_options enc = {.is_reload = false};
    const struct key_rules_opts keys = {.etcd_prefix = "/registry"};
    const struct ruleset_opts o = {.allow_kms_v1_writes = true};
    struct enc_config *config;
    struct key_rules *key_rules;
    struct ruleset *rules;
    char why[512];

    assert_int_equal(enc_config_parse(bytes_str(yaml), &enc, &config, why, sizeof why), ERR_OK);
    assert_int_equal(key_rules_build(config, &keys, &key_rules, why, sizeof why), ERR_OK);
    assert_int_equal(ruleset_new(config, key_rules, &o, &rules, why, sizeof why), ERR_OK);
    return rules;
}

void rig_use(const char *yaml)
{
    struct kms_manager_opts o = {.loop = &rig.s.loop};

    rig.set.rules = rules_of(yaml);
    o.plugins = rig.set.rules->plugins;
    o.plugin_count = rig.set.rules->plugin_count;
    assert_int_equal(kms_manager_new(&o, &rig.set.manager), ERR_OK);
    rig.s.set = &rig.set;
}

int rig_setup(void **state)
{
    const char *why;

    (void)state;
    memset(&rig, 0, sizeof rig);
    if (loop_init(&rig.s.loop) != ERR_OK ||
        net_url_parse("unix:///nobody/etcd", &rig.etcd_url, &why) != ERR_OK)
        return -1;
    rig.s.env.etcd_urls = &rig.etcd_url;
    rig.s.env.etcd_url_count = 1;
    return pages__source_open(&rig.source, &rig.s, &rig.settings) == ERR_OK ? 0 : -1;
}

static void on_closed(void *arg)
{
    loop_stop(arg);
}

int rig_teardown(void **state)
{
    (void)state;
    (void)alloc_recover();
    pages__source_close(&rig.source);
    if (rig.set.manager != NULL) {
        kms_manager_close(rig.set.manager, on_closed, &rig.s.loop);
        loop_run(&rig.s.loop);
        ruleset_drop(rig.set.rules);
    }
    loop_fini(&rig.s.loop);
    return 0;
}

int rig_setup_all(void **state)
{
    (void)state;
    return secret_init() == ERR_OK ? 0 : -1;
}
