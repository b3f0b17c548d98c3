/* The program of nbody.flow. */
#include "bench.h"
enum { STEPS = 20000 };
static double m[5], x[5], y[5], z[5], u[5], v[5], w[5];
static void prepare(void) {
    static const double M[] = { 39.47841760435743, 0.03769367487038949, 0.011286326131968767, 0.0017237240570597112, 0.0020336868699246304 };
    static const double X[] = { 0.0, 4.84143144246472090, 8.34336671824457987, 12.8943695621391310, 15.3796971148509165 };
    static const double Y[] = { 0.0, -1.16032004402742839, 4.12479856412430479, -15.1111514016986312, -25.9193146099879641 };
    static const double Z[] = { 0.0, -0.103622044471123109, -0.403523417114321381, -0.223307578892655734, 0.179258772950371181 };
    static const double U[] = { 0.0, 0.606326392995832, -1.01077434617879236, 1.08279100644153536, 0.979090732243897976 };
    static const double V[] = { 0.0, 2.81198684491626016, 1.82566237123041186, 0.868713018169608219, 0.594698998647676060 };
    static const double W[] = { 0.0, -0.02521836165988763, 0.00841576137658415351, -0.0108326374013636358, -0.0347559555078103857 };
    double pu = 0, pv = 0, pw = 0;
    for (int i = 0; i < 5; i++) {
        m[i] = M[i]; x[i] = X[i]; y[i] = Y[i]; z[i] = Z[i]; u[i] = U[i]; v[i] = V[i]; w[i] = W[i];
        pu += u[i] * m[i]; pv += v[i] * m[i]; pw += w[i] * m[i];
    }
    u[0] = -pu / 39.47841760435743; v[0] = -pv / 39.47841760435743; w[0] = -pw / 39.47841760435743;
}
static void advance(double dt) {
    for (int i = 0; i < 5; i++)
        for (int j = i + 1; j < 5; j++) {
            double dx = x[i] - x[j], dy = y[i] - y[j], dz = z[i] - z[j];
            double square = dx * dx + dy * dy + dz * dz;
            double force = dt / (square * sqrt(square));
            u[i] -= dx * m[j] * force; v[i] -= dy * m[j] * force; w[i] -= dz * m[j] * force;
            u[j] += dx * m[i] * force; v[j] += dy * m[i] * force; w[j] += dz * m[i] * force;
        }
    for (int i = 0; i < 5; i++) { x[i] += dt * u[i]; y[i] += dt * v[i]; z[i] += dt * w[i]; }
}
static double run(void) {
    prepare();
    for (int k = 0; k < STEPS; k++) advance(0.01);
    return x[0];
}
int main(void) { report(STEPS, run); }
