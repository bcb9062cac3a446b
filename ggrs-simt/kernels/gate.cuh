// The activations of gated linear units, numbered as `GluKind::ALL`.

#include "prelude.cuh"

enum GluKind { SWIGLU, GEGLU, GEGLU_ERF, GEGLU_QUICK, REGLU };

DEVICE float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

DEVICE float glu_gate(i32 kind, float x) {
    switch (kind) {
        case SWIGLU: return x / (1.0f + expf(-x));
        case GEGLU: return x * sigmoid(1.595769122f * (x + 0.044715f * x * x * x));
        // 1 + erf(y), also where it is small.
        case GEGLU_ERF: return 0.5f * x * erfcf(x * -0.707106781f);
        case GEGLU_QUICK: return x * sigmoid(1.702f * x);
        default: return x > 0.0f || x != x ? x : 0.0f;
    }
}
