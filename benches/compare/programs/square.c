#include "bench.h"
static double run(void) {
    Int a = unknown(3000000), r0 = a, r1 = a, r2 = unknown(0);
    do { a = sub(a, 1); r0 = a; a = r2; a = add(a, r1); r2 = a; a = r0; } while (a);
    return r2;
}
int main(void) { report(3e6, run); }
