/* A switch interpreter of the machine in examples/bytecode.flow. */
#include "bench.h"
enum { JUMP_IF_A, MOV_A_R0, MOV_A_R1, MOV_A_R2, MOV_R0_A, MOV_R1_A, MOV_R2_A, ADD_R0, ADD_R1, ADD_R2, DECR_A, RETURN_A };
static const unsigned char square[] = { MOV_A_R0, MOV_A_R1, MOV_R0_A, DECR_A, MOV_A_R0, MOV_R2_A, ADD_R1, MOV_A_R2, MOV_R0_A,
    JUMP_IF_A, 2, MOV_R2_A, RETURN_A };
static Int interpret(const unsigned char *code, Int a) {
    Int r0 = 0, r1 = 0, r2 = 0, pc = 0;
    for (;;) switch (code[pc++]) {
        case JUMP_IF_A: { Int target = code[pc++]; if (a) pc = target; break; }
        case MOV_A_R0: r0 = a; break;
        case MOV_A_R1: r1 = a; break;
        case MOV_A_R2: r2 = a; break;
        case MOV_R0_A: a = r0; break;
        case MOV_R1_A: a = r1; break;
        case MOV_R2_A: a = r2; break;
        case ADD_R0: a = add(a, r0); break;
        case ADD_R1: a = add(a, r1); break;
        case ADD_R2: a = add(a, r2); break;
        case DECR_A: a = sub(a, 1); break;
        case RETURN_A: return a;
    }
}
static double run(void) {
    const unsigned char *code = square;
    __asm__ volatile("" : "+r"(code));
    return interpret(code, unknown(300000));
}
int main(void) { report(3e5, run); }
