// Calling the C++ compiler.

#include "compiler.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <sstream>

extern char** environ;

namespace sim {
namespace {

const char* const DEVICE_FILES[] = {"device.h", "device_abi.h", "device_integers.h", "device_math.h"};

std::string read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

// Of the library that this code is in.
std::string own_folder() {
    Dl_info info;
    if (dladdr((void*)&own_folder, &info) == 0) return ".";
    // It may have been opened by a path from another folder than the process is in later.
    static const std::string path = [](const char* name) {
        char* whole = realpath(name, nullptr);
        std::string path = whole == nullptr ? name : whole;
        std::free(whole);
        return path;
    }(info.dli_fname);
    size_t slash = path.rfind('/');
    return slash == std::string::npos ? "." : path.substr(0, slash);
}

std::string from_env(const char* name, const char* otherwise) {
    const char* value = std::getenv(name);
    return value == nullptr || *value == 0 ? otherwise : value;
}

// Digits of 128 bits of a text.
std::string digest(const std::string& text) {
    uint64_t a = 0xcbf29ce484222325u, b = 0x9e3779b97f4a7c15u;
    for (unsigned char c : text) {
        a = (a ^ c) * 0x100000001b3u;
        b = (b + c) * 0xff51afd7ed558ccdu;
        b ^= b >> 29;
    }
    char digits[33];
    std::snprintf(digits, sizeof digits, "%016zx%016zx", (size_t)a, (size_t)b);
    return digits;
}

// NAME=VALUE of each definition among the options.
std::vector<std::string> definitions(const std::vector<std::string>& options) {
    std::vector<std::string> found;
    for (size_t i = 0; i < options.size(); i++) {
        const std::string& option = options[i];
        std::string text;
        for (const char* beginning : {"--define-macro", "-D"}) {
            if (option.compare(0, std::strlen(beginning), beginning) == 0) {
                text = option.substr(std::strlen(beginning));
                break;
            }
        }
        bool is_definition = option.compare(0, 2, "-D") == 0 || option.compare(0, 14, "--define-macro") == 0;
        if (!is_definition) continue;
        if (text.empty() && i + 1 < options.size()) text = options[++i];
        size_t start = text.find_first_not_of("= ");
        if (start != std::string::npos) found.push_back(text.substr(start));
    }
    return found;
}

std::vector<std::string> arguments(const std::vector<std::string>& options) {
    std::vector<std::string> args = {
        from_env("GGRS_SIM_CXX", "g++"), "-std=c++17", "-O2", "-shared", "-fPIC", "-w",
        // A thread's own state, see device_abi.h.
        "-ffixed-r15",
        // Modules with the same names in them stay apart.
        "-fvisibility=hidden", "-fno-gnu-unique", "-Wl,-Bsymbolic",
        // Shared memory is all that is thread-local.
        "-ftls-model=local-dynamic", "-fno-math-errno", "-fno-trapping-math", "-fno-exceptions", "-fno-rtti",
        "-fno-stack-protector", "-fno-asynchronous-unwind-tables",
        // Large frames meet the page that guards a stack.
        "-fstack-clash-protection",
        // Integers and pointers are reinterpreted and overflow as on a device.
        "-fwrapv", "-fno-strict-aliasing",
        // Accesses that devices refuse; device.h has what is called then.
        "-fsanitize=alignment,bounds", "-fno-sanitize-recover=all", "-nodefaultlibs",
    };
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2")) args.push_back("-mavx2");
    if (__builtin_cpu_supports("fma")) args.push_back("-mfma");
    if (__builtin_cpu_supports("f16c")) args.push_back("-mf16c");
    if (__builtin_cpu_supports("popcnt")) args.push_back("-mpopcnt");
    std::istringstream more(from_env("GGRS_SIM_CXXFLAGS", ""));
    for (std::string flag; more >> flag;) args.push_back(flag);
    args.push_back("-DGGRS_WARP=" + from_env("GGRS_SIM_WARP", std::to_string(GGRS_SIM_DEFAULT_WARP).c_str()));
    for (const std::string& definition : definitions(options)) args.push_back("-D" + definition);
    return args;
}

// A folder of its own in the system's for temporary files, removed at the end.
struct Folder {
    std::string path;
    Folder() {
        path = from_env("TMPDIR", "/tmp") + "/ggrs-sim-XXXXXX";
        if (mkdtemp(path.data()) == nullptr) path.clear();
    }
    ~Folder() {
        if (path.empty()) return;
        for (const char* name : {"/source.cpp", "/image.so", "/log"}) unlink((path + name).c_str());
        rmdir(path.c_str());
    }
};

int run(const std::vector<std::string>& args, const std::string& log) {
    std::vector<char*> argv;
    for (const std::string& arg : args) argv.push_back((char*)arg.c_str());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    pid_t child;
    int failed = posix_spawnp(&child, argv[0], &actions, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    if (failed != 0) return -1;
    int status;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR) return -1;
    return status;
}

Compilation compile_now(const std::string& source, const std::string& name, std::vector<std::string> args) {
    Compilation result;
    Folder folder;
    if (folder.path.empty()) {
        result.log = "no folder for temporary files can be made";
        return result;
    }
    {
        std::ofstream file(folder.path + "/source.cpp", std::ios::binary);
        file << "#line 1 \"" << name << "\"\n" << source;
    }
    for (const std::string& arg : {std::string("-include"), own_folder() + "/device.h", std::string("-x"),
                                   std::string("c++"), folder.path + "/source.cpp", std::string("-o"),
                                   folder.path + "/image.so", std::string("-lm"), std::string("-lc"),
                                   std::string("-lgcc")}) {
        args.push_back(arg);
    }
    int status = run(args, folder.path + "/log");
    result.log = read_file(folder.path + "/log");
    if (status != 0) {
        if (status < 0) result.log = "the compiler " + args[0] + " does not start";
        return result;
    }
    result.image = read_file(folder.path + "/image.so");
    result.is_done = !result.image.empty();
    return result;
}

// One compilation; others of the same wait for it.
struct Entry {
    std::mutex mutex;
    bool is_there = false;
    Compilation result;
};
std::mutex entries_mutex;
// Never destroyed: threads may compile until the process ends.
std::map<std::string, std::shared_ptr<Entry>>& entries = *new std::map<std::string, std::shared_ptr<Entry>>;

// The files beside the library, which are part of every source.
const std::string& device_text() {
    static const std::string text = [] {
        std::string text;
        for (const char* file : DEVICE_FILES) text += read_file(own_folder() + "/" + file);
        return text;
    }();
    return text;
}

}  // namespace

Compilation compile(const std::string& source, const std::string& name, const std::vector<std::string>& options) {
    std::vector<std::string> args = arguments(options);
    std::string all = device_text() + source;
    for (const std::string& arg : args) all += '\n' + arg;
    std::string key = digest(all);
    std::shared_ptr<Entry> entry;
    {
        std::lock_guard lock(entries_mutex);
        std::shared_ptr<Entry>& place = entries[key];
        if (place == nullptr) place = std::make_shared<Entry>();
        entry = place;
    }
    std::lock_guard lock(entry->mutex);
    if (entry->is_there) return entry->result;
    std::string cache = from_env("GGRS_SIM_CACHE", (own_folder() + "/kernels").c_str()), kept = cache + "/" + key + ".so";
    Compilation result;
    if (!cache.empty()) result.image = read_file(kept);
    result.is_done = !result.image.empty();
    if (!result.is_done) {
        result = compile_now(source, name, std::move(args));
        if (result.is_done && !cache.empty()) {
            mkdir(cache.c_str(), 0777);
            std::string fresh = kept + "." + std::to_string(getpid());
            std::ofstream(fresh, std::ios::binary) << result.image;
            rename(fresh.c_str(), kept.c_str());
        }
    }
    entry->result = result;
    entry->is_there = true;
    return result;
}

}  // namespace sim
