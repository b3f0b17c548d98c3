#include "bench.h"
static double run(void) {
    Int res = 1, x = unknown(1), y = unknown(10000000);
    do { res = mul(res, x); y = sub(y, 1); } while (y);
    return res;
}
int main(void) { report(1e7, run); }
