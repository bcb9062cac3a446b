// Loading of what the simulator's compiler makes: shared libraries, held in memory.

#include "modules.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <map>

#include "fibers.h"

extern "C" {
struct ggrs_sim_tls_index {
    unsigned long module, offset;
};
void* __tls_get_addr(ggrs_sim_tls_index*);
}

namespace sim {
namespace {

std::mutex mutex;
std::map<std::string, std::shared_ptr<const Code>>& loaded = *new std::map<std::string, std::shared_ptr<const Code>>;

u64 image_bytes(const u8* image) {
    Elf64_Ehdr header;
    std::memcpy(&header, image, sizeof header);
    if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_machine != EM_X86_64) return 0;
    u64 sections = header.e_shoff + (u64)header.e_shnum * header.e_shentsize;
    u64 segments = header.e_phoff + (u64)header.e_phnum * header.e_phentsize;
    return sections > segments ? sections : segments;
}

// The loader tells libraries apart by the names they are opened by: one way of many to write the same path.
std::string unique_path(int file) {
    static unsigned count = 0;
    std::string path = "/proc";
    unsigned n = ++count;
    for (int i = 0; i < 16; i++) path += n >> i & 1 ? "/." : "/";
    return path + "/self/fd/" + std::to_string(file);
}

u64 thread_local_bytes(void* library) {
    link_map* map = nullptr;
    if (dlinfo(library, RTLD_DI_LINKMAP, &map) != 0) return 0;
    struct Search {
        link_map* map;
        u64 bytes;
    } search = {map, 0};
    dl_iterate_phdr(
        [](dl_phdr_info* info, size_t, void* data) {
            Search* search = (Search*)data;
            if (info->dlpi_addr != search->map->l_addr) return 0;
            for (int i = 0; i < info->dlpi_phnum; i++)
                if (info->dlpi_phdr[i].p_type == PT_TLS) search->bytes = info->dlpi_phdr[i].p_memsz;
            return 1;
        },
        &search);
    return search.bytes;
}

}  // namespace

u8* Code::shared() const {
    ggrs_sim_tls_index index = {tls_module, 0};
    return (u8*)__tls_get_addr(&index);
}

Error load_code(const void* image, std::shared_ptr<const Code>& out) {
    u64 bytes = image_bytes((const u8*)image);
    if (bytes == 0) return report(Error::InvalidImage, "the image is none of the simulator's compiler");
    std::string content((const char*)image, bytes);
    std::lock_guard lock(mutex);
    auto found = loaded.find(content);
    if (found != loaded.end()) {
        out = found->second;
        return Error::None;
    }
    int file = memfd_create("ggrs-sim-module", MFD_CLOEXEC);
    if (file < 0 || write(file, image, bytes) != (ssize_t)bytes) {
        if (file >= 0) close(file);
        return report(Error::OutOfMemory, "no memory for a module");
    }
    void* library = dlopen(unique_path(file).c_str(), RTLD_NOW | RTLD_LOCAL);
    close(file);
    if (library == nullptr) return report(Error::InvalidImage, "a module does not load: %s", dlerror());
    ggrs_sim_module* info = (ggrs_sim_module*)dlsym(library, "ggrs_sim_module_info");
    if (info == nullptr || info->abi != GGRS_SIM_ABI) {
        return report(Error::InvalidImage, "the module is of another version of the simulator");
    }
    if (info->warp != settings().warp) {
        return report(Error::InvalidImage, "the module is compiled for warps of %u, devices have %u (GGRS_SIM_WARP)",
                      info->warp, settings().warp);
    }
    info->engine = &engine_functions;
    auto code = std::make_shared<Code>();
    code->library = library;
    code->warp = info->warp;
    code->shared_bytes = thread_local_bytes(library);
    size_t module = 0;
    if (code->shared_bytes != 0 && dlinfo(library, RTLD_DI_TLS_MODID, &module) == 0) code->tls_module = module;
    if (code->tls_module == 0) code->shared_bytes = 0;
    loaded.emplace(std::move(content), code);
    out = code;
    return Error::None;
}

Error find_kernel(const Module& module, const char* name, Kernel& out) {
    std::string symbol = std::string("ggrs_sim_kernel_") + name;
    const void* entry = dlsym(module.code->library, symbol.c_str());
    if (entry == nullptr) return report(Error::NotFound, "the module has no kernel %s", name);
    out.name = name;
    out.code = module.code;
    out.ordinal = module.ordinal;
    out.module = &module;
    std::memcpy(&out.entry, entry, sizeof out.entry);
    return Error::None;
}

}  // namespace sim
