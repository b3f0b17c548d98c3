/* What the C programs share: checked arithmetic and a stopwatch. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef long long Int;

static inline Int add(Int a, Int b) { Int r; if (__builtin_add_overflow(a, b, &r)) abort(); return r; }
static inline Int sub(Int a, Int b) { Int r; if (__builtin_sub_overflow(a, b, &r)) abort(); return r; }
static inline Int mul(Int a, Int b) { Int r; if (__builtin_mul_overflow(a, b, &r)) abort(); return r; }

/* A number that the compiler does not know. */
static inline Int unknown(Int n) { __asm__ volatile("" : "+r"(n)); return n; }

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

/* Runs `f` three times and prints the least time for each of `units`, and what it returned. */
static void report(double units, double (*f)(void)) {
    double best = 1e300, result = 0;
    for (int i = 0; i < 3; i++) {
        double start = now();
        result = f();
        double time = now() - start;
        if (time < best) best = time;
    }
    printf("%.6f %.9g\n", best / units, result);
}
