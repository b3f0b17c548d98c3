/* The program of examples/deltablue.flow. */
#include "bench.h"
#include <assert.h>
#undef NDEBUG
enum { REQUIRED = 0, PREFERRED = 2, STRONG_DEFAULT = 3, NORMAL = 4, WEAKEST = 6 };
enum { NONE, FORWARD, BACKWARD };
enum { STAY, EDIT, EQUAL, SCALE };
typedef struct Link { void *item; struct Link *next; } Link;
typedef struct Constraint Constraint;
typedef struct Variable { Int value; Link *constraints; Constraint *determined_by; Int mark, strength, stay; } Variable;
struct Constraint { Int kind, strength; Variable *a, *b, *scale, *offset; Int direction; };
static Int last_mark;

/* Memory for one run, forgotten as a whole. */
static char arena[1 << 24];
static size_t used;
static void *make(size_t size) {
    if (used + size > sizeof arena) abort();
    void *p = arena + used;
    used += (size + 7) & ~(size_t)7;
    return p;
}
static Link *link_to(void *item, Link *next) { Link *l = make(sizeof *l); *l = (Link){ item, next }; return l; }
static Variable *variable(Int value) { Variable *v = make(sizeof *v); *v = (Variable){ value, NULL, NULL, 0, WEAKEST, 1 }; return v; }
static Constraint *constraint(Int kind, Int strength, Variable *a, Variable *b, Variable *scale, Variable *offset) {
    Constraint *c = make(sizeof *c);
    *c = (Constraint){ kind, strength, a, b, scale, offset, NONE };
    return c;
}
static Int new_mark(void) { return last_mark = add(last_mark, 1); }
static Variable *input(Constraint *c) { return c->direction == FORWARD ? c->a : c->b; }
static Variable *output(Constraint *c) { return c->direction == FORWARD && c->b ? c->b : c->a; }
static void add_incrementally(Constraint *c);
static void remove_incrementally(Constraint *c);

static void choose_direction(Constraint *c, Int mark) {
    Variable *a = c->a, *b = c->b;
    c->direction = NONE;
    if (!b) { if (a->mark != mark && c->strength < a->strength) c->direction = FORWARD; }
    else if (a->mark == mark) { if (b->mark != mark && c->strength < b->strength) c->direction = FORWARD; }
    else if (b->mark == mark) { if (c->strength < a->strength) c->direction = BACKWARD; }
    else if (a->strength > b->strength) { if (c->strength < a->strength) c->direction = BACKWARD; }
    else if (c->strength < b->strength) c->direction = FORWARD;
}
static void execute(Constraint *c) {
    if (c->kind == EQUAL) output(c)->value = input(c)->value;
    else if (c->kind == SCALE) {
        if (c->direction == FORWARD) c->b->value = add(mul(c->a->value, c->scale->value), c->offset->value);
        else c->a->value = sub(c->b->value, c->offset->value) / c->scale->value;
    }
}
static void recalculate(Constraint *c) {
    Variable *out = output(c);
    if (!c->b) { out->strength = c->strength; out->stay = c->kind == STAY; return; }
    Variable *from = input(c);
    out->strength = c->strength > from->strength ? c->strength : from->strength;
    out->stay = from->stay;
    if (c->scale) out->stay = from->stay && c->scale->stay && c->offset->stay;
    if (out->stay) execute(c);
}
static Link *consumers(Variable *v, Link *rest) {
    for (Link *l = v->constraints; l; l = l->next) {
        Constraint *c = l->item;
        if (c != v->determined_by && c->direction != NONE) rest = link_to(c, rest);
    }
    return rest;
}
static int propagate(Constraint *c, Int mark) {
    Link *todo = link_to(c, NULL);
    while (todo) {
        Constraint *d = todo->item;
        todo = todo->next;
        Variable *out = output(d);
        if (out->mark == mark) { remove_incrementally(c); return 0; }
        recalculate(d);
        todo = consumers(out, todo);
    }
    return 1;
}
static Constraint *satisfy(Constraint *c, Int mark) {
    choose_direction(c, mark);
    if (c->direction == NONE) { assert(c->strength != REQUIRED); return NULL; }
    if (c->b) {
        input(c)->mark = mark;
        if (c->scale) { c->scale->mark = mark; c->offset->mark = mark; }
    }
    Variable *out = output(c);
    Constraint *overridden = out->determined_by;
    if (overridden) overridden->direction = NONE;
    out->determined_by = c;
    int done = propagate(c, mark);
    assert(done);
    out->mark = mark;
    return overridden;
}
static void add_incrementally(Constraint *c) { Int mark = new_mark(); while (c) c = satisfy(c, mark); }
static void join(Variable *v, Constraint *c) { v->constraints = link_to(c, v->constraints); }
static void add_constraint(Constraint *c) {
    join(c->a, c);
    if (c->b) join(c->b, c);
    if (c->scale) { join(c->scale, c); join(c->offset, c); }
    add_incrementally(c);
}
static Link *without(Link *list, Constraint *c) {
    if (!list) return NULL;
    if (list->item == c) return list->next;
    Link *l = list;
    while (l->next && l->next->item != c) l = l->next;
    if (l->next) l->next = l->next->next;
    return list;
}
static void remove_from_variables(Constraint *c) {
    c->a->constraints = without(c->a->constraints, c);
    if (c->b) c->b->constraints = without(c->b->constraints, c);
    if (c->scale) {
        c->scale->constraints = without(c->scale->constraints, c);
        c->offset->constraints = without(c->offset->constraints, c);
    }
}
static Link *remove_propagated(Variable *out) {
    out->determined_by = NULL;
    out->strength = WEAKEST;
    out->stay = 1;
    Link *unsatisfied = NULL, *todo = link_to(out, NULL);
    while (todo) {
        Variable *v = todo->item;
        todo = todo->next;
        for (Link *l = v->constraints; l; l = l->next) {
            Constraint *c = l->item;
            if (c->direction == NONE) unsatisfied = link_to(c, unsatisfied);
            else if (c != v->determined_by) { recalculate(c); todo = link_to(output(c), todo); }
        }
    }
    return unsatisfied;
}
static void remove_incrementally(Constraint *c) {
    Variable *out = output(c);
    c->direction = NONE;
    remove_from_variables(c);
    Link *unsatisfied = remove_propagated(out);
    for (Int strength = REQUIRED; strength < WEAKEST; strength++)
        for (Link *l = unsatisfied; l; l = l->next)
            if (((Constraint *)l->item)->strength == strength) add_incrementally(l->item);
}
static void destroy(Constraint *c) { if (c->direction != NONE) remove_incrementally(c); else remove_from_variables(c); }
static int inputs_known(Constraint *c, Int mark) {
    if (!c->b) return 1;
    Variable *from = input(c);
    return from->mark == mark || from->stay || !from->determined_by;
}
static Link *plan_from(Constraint *edit) {
    Int mark = new_mark();
    Link *plan = NULL, *todo = edit->direction != NONE ? link_to(edit, NULL) : NULL, *result = NULL;
    while (todo) {
        Constraint *c = todo->item;
        todo = todo->next;
        Variable *out = output(c);
        if (out->mark != mark && inputs_known(c, mark)) {
            plan = link_to(c, plan);
            out->mark = mark;
            todo = consumers(out, todo);
        }
    }
    for (; plan; plan = plan->next) result = link_to(plan->item, result);
    return result;
}
static void execute_all(Link *plan) { for (; plan; plan = plan->next) execute(plan->item); }
static Int chain(Int n) {
    Variable *first = variable(0), *last = first;
    for (Int i = 0; i < n; i++) {
        Variable *next = variable(0);
        add_constraint(constraint(EQUAL, REQUIRED, last, next, NULL, NULL));
        last = next;
    }
    add_constraint(constraint(STAY, STRONG_DEFAULT, last, NULL, NULL, NULL));
    Constraint *edit = constraint(EDIT, PREFERRED, first, NULL, NULL, NULL);
    add_constraint(edit);
    Link *plan = plan_from(edit);
    for (Int i = 0; i < 100; i++) { first->value = i; execute_all(plan); assert(last->value == i); }
    destroy(edit);
    return last->value;
}
static void change(Variable *v, Int value) {
    Constraint *edit = constraint(EDIT, PREFERRED, v, NULL, NULL, NULL);
    add_constraint(edit);
    Link *plan = plan_from(edit);
    for (int i = 0; i < 10; i++) { v->value = value; execute_all(plan); }
    destroy(edit);
}
static Int projection(Int n) {
    Variable *scale = variable(10), *offset = variable(1000), *source = NULL, *targets[n];
    for (Int i = 0; i < n; i++) {
        source = variable(i);
        targets[i] = variable(i);
        add_constraint(constraint(STAY, NORMAL, source, NULL, NULL, NULL));
        add_constraint(constraint(SCALE, REQUIRED, source, targets[i], scale, offset));
    }
    Variable *target = targets[n - 1];
    change(source, 17);
    assert(target->value == 1170);
    change(target, 1050);
    assert(source->value == 5);
    change(scale, 5);
    for (Int i = 0; i < n - 1; i++) assert(targets[i]->value == i * 5 + 1000);
    change(offset, 2000);
    Int sum = 0;
    for (Int i = 0; i < n; i++) sum = add(sum, targets[i]->value);
    return add(sum, source->value);
}
static double run(void) {
    double r = 0;
    for (int i = 0; i < 100; i++) {
        used = 0;
        last_mark = 0;
        r = chain(unknown(100)) * 1e7 + projection(unknown(100));
    }
    return r;
}
int main(void) { report(100, run); }
