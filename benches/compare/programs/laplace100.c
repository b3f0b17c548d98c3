#include "bench.h"
enum { N = 100, SWEEPS = 200 };
static double plate[N][N];
static double run(void) {
    Int n = unknown(N);
    for (int k = 0; k < SWEEPS; k++)
        for (Int i = 1; i < n - 1; i++)
            for (Int j = 1; j < n - 1; j++)
                plate[i][j] = (plate[i][j - 1] + plate[i][j + 1] + plate[i - 1][j] + plate[i + 1][j]) * 0.25;
    return plate[1][1];
}
int main(void) {
    for (int j = 0; j < N; j++) plate[0][j] = 1.0;
    report((double)SWEEPS * (N - 2) * (N - 2), run);
}
