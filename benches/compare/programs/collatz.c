#include "bench.h"
static double run(void) {
    Int steps = 0, limit = unknown(30000);
    for (Int start = 1; start < limit; start++)
        for (Int n = start; n != 1; steps = add(steps, 1)) n = n % 2 == 0 ? n / 2 : add(mul(3, n), 1);
    return steps;
}
int main(void) { report(2864133, run); }
