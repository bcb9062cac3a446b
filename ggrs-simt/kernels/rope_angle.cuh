// Cosine and sine of an angle of any size, to F32: the angle is brought into one turn in double, where it is exact.

#include "prelude.cuh"

DEVICE void rope_angle(double angle, float& cosine, float& sine) {
    const double TURN = 6.283185307179586476925;
    double turns = angle * (1.0 / TURN);
    float rest = (float)((turns - rint(turns)) * TURN);
    cosine = cosf(rest);
    sine = sinf(rest);
}
