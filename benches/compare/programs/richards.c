/* The program of examples/richards.flow. */
#include "bench.h"
enum { IDLE, WORKER, HANDLER_A, HANDLER_B, DEVICE_A, DEVICE_B, TASKS };
enum { RUNNING = 0, RUNNABLE = 1, SUSPENDED = 2, HELD = 4, DATA = 4, COUNT = 1000 };
typedef struct Packet { struct Packet *link; Int id, kind, a1, a2[DATA]; } Packet;
typedef struct Tcb { struct Tcb *link; Int id, priority; Packet *queue; Int state; Int n1, n2; Packet *p1, *p2; } Tcb;
static Int queued, held, current_id;
static Tcb *list, *current, *blocks[TASKS];
static Packet packet_pool[16];
static Tcb tcb_pool[TASKS];
static int packets_used;

static Packet *packets(int count, Int id, Int kind) {
    Packet *queue = NULL;
    for (int i = 0; i < count; i++) {
        Packet *p = &packet_pool[packets_used++];
        *p = (Packet){ queue, id, kind, 0, { 0 } };
        queue = p;
    }
    return queue;
}
static void add_task(Int id, Int priority, Packet *queue, Int n1, Int n2) {
    Tcb *t = &tcb_pool[id];
    *t = (Tcb){ list, id, priority, queue, queue ? SUSPENDED | RUNNABLE : SUSPENDED, n1, n2, NULL, NULL };
    current = list = blocks[id] = t;
}
static Packet *append(Packet *p, Packet *queue) {
    p->link = NULL;
    if (!queue) return p;
    Packet *last = queue;
    while (last->link) last = last->link;
    last->link = p;
    return queue;
}
static Tcb *hold(void) { held = add(held, 1); current->state |= HELD; return current->link; }
static Tcb *suspend(void) { current->state |= SUSPENDED; return current; }
static Tcb *release(Int id) {
    Tcb *t = blocks[id];
    t->state &= 3;
    return t->priority > current->priority ? t : current;
}
static Tcb *send_on(Packet *p) {
    Tcb *t = blocks[p->id];
    queued = add(queued, 1);
    p->link = NULL;
    p->id = current_id;
    if (!t->queue) {
        t->queue = p;
        t->state |= RUNNABLE;
        if (t->priority > current->priority) return t;
    } else t->queue = append(p, t->queue);
    return current;
}
static Tcb *run_task(Tcb *t) {
    Packet *p = NULL;
    if (t->state == 3) {
        p = t->queue;
        t->queue = p->link;
        t->state = t->queue ? RUNNABLE : RUNNING;
    }
    switch (t->id) {
    case IDLE:
        t->n2 = sub(t->n2, 1);
        if (!t->n2) return hold();
        if (t->n1 % 2 == 0) { t->n1 /= 2; return release(DEVICE_A); }
        t->n1 = (t->n1 / 2) ^ 53256;
        return release(DEVICE_B);
    case WORKER:
        if (!p) return suspend();
        t->n1 = sub(HANDLER_A + HANDLER_B, t->n1);
        p->id = t->n1;
        p->a1 = 0;
        for (int i = 0; i < DATA; i++) { t->n2 = t->n2 % 26 + 1; p->a2[i] = t->n2; }
        return send_on(p);
    case DEVICE_A: case DEVICE_B:
        if (!p) {
            Packet *pending = t->p1;
            if (!pending) return suspend();
            t->p1 = NULL;
            return send_on(pending);
        }
        t->p1 = p;
        return hold();
    default:
        if (p) { if (p->kind) t->p1 = append(p, t->p1); else t->p2 = append(p, t->p2); }
        Packet *work = t->p1;
        if (work) {
            Int count = work->a1;
            if (count < DATA) {
                Packet *device = t->p2;
                if (device) {
                    t->p2 = device->link;
                    device->a1 = work->a2[count];
                    work->a1 = add(count, 1);
                    return send_on(device);
                }
            } else { t->p1 = work->link; return send_on(work); }
        }
        return suspend();
    }
}
static double run(void) {
    queued = held = packets_used = 0;
    list = current = NULL;
    add_task(IDLE, 0, NULL, 1, COUNT);
    current->state = RUNNING;
    add_task(WORKER, 1000, packets(2, WORKER, 1), HANDLER_A, 0);
    add_task(HANDLER_A, 2000, packets(3, DEVICE_A, 0), 0, 0);
    add_task(HANDLER_B, 3000, packets(3, DEVICE_B, 0), 0, 0);
    add_task(DEVICE_A, 4000, NULL, 0, 0);
    add_task(DEVICE_B, 5000, NULL, 0, 0);
    current = list;
    while (current) {
        Tcb *t = current;
        if ((t->state & HELD) || t->state == SUSPENDED) current = t->link;
        else { current_id = t->id; current = run_task(t); }
    }
    return queued * 10000 + held;
}
static double runs(void) { double r = 0; for (int i = 0; i < 100; i++) r = run(); return r; }
int main(void) { report(100 * 2322, runs); }
