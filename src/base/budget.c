/* SPDX-License-Identifier: Apache-2.0 */
/* drawn is the only thing that threads share, and nothing else hangs on its value: relaxed order
 * is enough. It may pass the limit by what parts below their fair share have drawn; the others
 * see that with their next look and let go.
 * Failure modes: none; who may not hold what it holds is told so. */
#include "base/budget.h"

#define PORTION (4ull * 1024 * 1024)
#define PORTIONS_A_SHARE 4u /* at least, however small the limit is */

static uint64_t drawn_by_all(const struct budget *b)
{
    return atomic_load_explicit(&b->drawn, memory_order_relaxed);
}

void budget_init(struct budget *b, uint64_t limit, unsigned parts)
{
    uint64_t fair = limit / parts, least = fair / PORTIONS_A_SHARE;

    b->limit = limit;
    b->fair = fair;
    b->portion = least < PORTION ? least : PORTION;
    atomic_init(&b->drawn, 0);
}

void budget_join(struct budget_part *p, struct budget *b)
{
    *p = (struct budget_part){.of = b};
}

static void give_back(struct budget_part *p, uint64_t n)
{
    p->drawn -= n;
    atomic_fetch_sub_explicit(&p->of->drawn, n, memory_order_relaxed);
}

void budget_leave(struct budget_part *p)
{
    give_back(p, p->drawn);
}

/* Draws n if the sum stays within the limit. */
static bool try_draw(struct budget_part *p, uint64_t n)
{
    struct budget *b = p->of;
    uint64_t before = drawn_by_all(b);

    do {
        if (before + n > b->limit)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&b->drawn, &before, before + n,
                                                    memory_order_relaxed, memory_order_relaxed));
    p->drawn += n;
    return true;
}

bool budget__draw(struct budget_part *p, uint64_t held)
{
    uint64_t need = held - p->drawn;

    if (try_draw(p, need + p->of->portion) || try_draw(p, need))
        return true;
    if (held > p->of->fair)
        return false;
    p->drawn += need;
    atomic_fetch_add_explicit(&p->of->drawn, need, memory_order_relaxed);
    return true;
}

bool budget_may_keep(struct budget_part *p, uint64_t held)
{
    const struct budget *b = p->of;

    if (!budget_covers(p, held))
        return false;
    if (drawn_by_all(b) <= b->limit || p->drawn <= b->fair)
        return true;
    give_back(p, p->drawn - held);
    return drawn_by_all(b) <= b->limit || held <= b->fair;
}

uint64_t budget_excess(const struct budget_part *p, uint64_t held)
{
    uint64_t sum = drawn_by_all(p->of) - p->drawn + held, fair = p->of->fair;
    uint64_t over = sum > p->of->limit ? sum - p->of->limit : 0;
    uint64_t above = held > fair ? held - fair : 0;

    return over < above ? over : above;
}

uint64_t budget_left(const struct budget_part *p, uint64_t held, uint64_t below)
{
    uint64_t sum = drawn_by_all(p->of) - p->drawn + held;

    return sum < below ? below - sum : 0;
}

bool budget_settle(struct budget_part *p, uint64_t held)
{
    uint64_t keep = held + p->of->portion;

    if (p->drawn > keep)
        give_back(p, p->drawn - keep);
    return p->drawn <= p->of->portion;
}
