// NVRTC's interface over the simulator's compiler: what it calls a cubin is a shared library.

#include <cstring>

#include "compiler.h"

typedef int nvrtcResult;

struct Program {
    std::string source;
    std::string name;
    sim::Compilation compiled;
};
typedef Program* nvrtcProgram;

#define NVRTC_API extern "C" __attribute__((visibility("default")))

namespace {

constexpr nvrtcResult SUCCESS = 0, INVALID_INPUT = 3, INVALID_PROGRAM = 4, COMPILATION = 6;
constexpr int ARCHS[] = {75, 80, 86, 87, 88, 89, 90, 100, 103, 110, 120, 121};
constexpr int N_ARCHS = sizeof ARCHS / sizeof ARCHS[0];
constexpr const char* NAMES[] = {
    "NVRTC_SUCCESS",
    "NVRTC_ERROR_OUT_OF_MEMORY",
    "NVRTC_ERROR_PROGRAM_CREATION_FAILURE",
    "NVRTC_ERROR_INVALID_INPUT",
    "NVRTC_ERROR_INVALID_PROGRAM",
    "NVRTC_ERROR_INVALID_OPTION",
    "NVRTC_ERROR_COMPILATION",
    "NVRTC_ERROR_BUILTIN_OPERATION_FAILURE",
};

// Texts end with a zero, which is counted.
nvrtcResult give_size(size_t* bytes, size_t n) {
    if (bytes == nullptr) return INVALID_INPUT;
    *bytes = n;
    return SUCCESS;
}

nvrtcResult give(char* to, const char* from, size_t bytes) {
    if (to == nullptr) return INVALID_INPUT;
    std::memcpy(to, from, bytes);
    return SUCCESS;
}

}  // namespace

NVRTC_API const char* nvrtcGetErrorString(nvrtcResult result) {
    bool is_known = result >= 0 && result < (int)(sizeof NAMES / sizeof NAMES[0]);
    return is_known ? NAMES[result] : "NVRTC_ERROR unknown";
}

NVRTC_API nvrtcResult nvrtcVersion(int* major, int* minor) {
    if (major == nullptr || minor == nullptr) return INVALID_INPUT;
    *major = 13;
    *minor = 0;
    return SUCCESS;
}

NVRTC_API nvrtcResult nvrtcGetNumSupportedArchs(int* count) {
    if (count == nullptr) return INVALID_INPUT;
    *count = N_ARCHS;
    return SUCCESS;
}

NVRTC_API nvrtcResult nvrtcGetSupportedArchs(int* archs) {
    if (archs == nullptr) return INVALID_INPUT;
    std::memcpy(archs, ARCHS, sizeof ARCHS);
    return SUCCESS;
}

NVRTC_API nvrtcResult nvrtcCreateProgram(nvrtcProgram* program, const char* source, const char* name, int n_headers,
                                         const char* const*, const char* const*) {
    // Sources come with their headers in them.
    if (program == nullptr || source == nullptr || n_headers != 0) return INVALID_INPUT;
    *program = new Program{source, name == nullptr ? "default_program" : name, {}};
    return SUCCESS;
}

NVRTC_API nvrtcResult nvrtcDestroyProgram(nvrtcProgram* program) {
    if (program == nullptr || *program == nullptr) return INVALID_PROGRAM;
    delete *program;
    *program = nullptr;
    return SUCCESS;
}

NVRTC_API nvrtcResult nvrtcCompileProgram(nvrtcProgram program, int n_options, const char* const* options) {
    if (program == nullptr) return INVALID_PROGRAM;
    std::vector<std::string> all(options, options + n_options);
    program->compiled = sim::compile(program->source, program->name, all);
    return program->compiled.is_done ? SUCCESS : COMPILATION;
}

NVRTC_API nvrtcResult nvrtcGetProgramLogSize(nvrtcProgram program, size_t* bytes) {
    if (program == nullptr) return INVALID_PROGRAM;
    return give_size(bytes, program->compiled.log.size() + 1);
}

NVRTC_API nvrtcResult nvrtcGetProgramLog(nvrtcProgram program, char* log) {
    if (program == nullptr) return INVALID_PROGRAM;
    return give(log, program->compiled.log.c_str(), program->compiled.log.size() + 1);
}

NVRTC_API nvrtcResult nvrtcGetCUBINSize(nvrtcProgram program, size_t* bytes) {
    if (program == nullptr || !program->compiled.is_done) return INVALID_PROGRAM;
    return give_size(bytes, program->compiled.image.size());
}

NVRTC_API nvrtcResult nvrtcGetCUBIN(nvrtcProgram program, char* cubin) {
    if (program == nullptr || !program->compiled.is_done) return INVALID_PROGRAM;
    return give(cubin, program->compiled.image.data(), program->compiled.image.size());
}

// There is no text in between; the image does as well.
NVRTC_API nvrtcResult nvrtcGetPTXSize(nvrtcProgram program, size_t* bytes) { return nvrtcGetCUBINSize(program, bytes); }
NVRTC_API nvrtcResult nvrtcGetPTX(nvrtcProgram program, char* ptx) { return nvrtcGetCUBIN(program, ptx); }
