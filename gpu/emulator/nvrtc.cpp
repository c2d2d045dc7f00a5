// The library libnvrtc: constants for the emulator's own kernels or, with FWPKM_STAND_IN_NVRTC, the PTX of a true NVRTC.
#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <vector>

#include "stand_in.hpp"

using namespace stand_in;

namespace {

enum Result { SUCCESS = 0, OUT_OF_MEMORY = 1, COMPILATION = 6, INTERNAL_ERROR = 11 };

struct Program {
    std::string source, log, image;
};

// The compiler named in FWPKM_STAND_IN_NVRTC.
class Compiler {
public:
    explicit Compiler(const char* path) {
        // It opens its builtins by name, where they are not there already.
        const std::string folder = std::string(path).substr(0, std::string(path).rfind('/') + 1);
        const std::string names[] = {"libnvrtc-builtins.so.13.0", "libnvrtc-builtins.so"};
        for (const std::string& name : names)
            if (dlopen((folder + name).c_str(), RTLD_NOW | RTLD_GLOBAL)) break;
        library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    }

    // Whether it compiled; the PTX, or else the log.
    bool compile(const std::string& source, const std::vector<std::string>& options, std::string& text) {
        if (!library) return text = std::string("FWPKM_STAND_IN_NVRTC: ") + dlerror(), false;
        std::vector<const char*> words;
        for (const std::string& option : options) words.push_back(option.c_str());
        void* program = nullptr;
        call<const char*, const char*, int, void*, void*>("nvrtcCreateProgram", &program, source.c_str(), "fwpkm.cu", 0, nullptr,
                                                          nullptr);
        const bool good = call<int, const char* const*>("nvrtcCompileProgram", program, int(words.size()), words.data()) == 0;
        size_t size = 0;
        call<size_t*>(good ? "nvrtcGetPTXSize" : "nvrtcGetProgramLogSize", program, &size);
        text.resize(size);
        call<char*>(good ? "nvrtcGetPTX" : "nvrtcGetProgramLog", program, text.data());
        text.resize(size ? size - 1 : 0);
        call<>("nvrtcDestroyProgram", &program);
        return good;
    }

private:
    void* library;

    template <class... Rest> int call(const char* name, void* first, Rest... rest) {
        return reinterpret_cast<int (*)(void*, Rest...)>(dlsym(library, name))(first, rest...);
    }
};

template <class Body> int call(const char* name, Body body) {
    return answer(name, OUT_OF_MEMORY, INTERNAL_ERROR, body);
}

}  // namespace

EXPORT int nvrtcVersion(int* major, int* minor) {
    return call("nvrtcVersion", [&] {
        const int version = int(configured("nvrtc", 13990));
        return *major = version / 1000, *minor = version % 1000 / 10, SUCCESS;
    });
}
EXPORT const char* nvrtcGetErrorString(int result) { return result == 0 ? "NVRTC_SUCCESS" : "NVRTC_ERROR"; }
EXPORT int nvrtcCreateProgram(void** made, const char* source, const char*, int, const char* const*, const char* const*) {
    return call("nvrtcCreateProgram", [&] { return *made = new Program{source, "", ""}, SUCCESS; });
}
EXPORT int nvrtcDestroyProgram(void** program) {
    return call("nvrtcDestroyProgram", [&] { return delete static_cast<Program*>(*program), *program = nullptr, SUCCESS; });
}
EXPORT int nvrtcCompileProgram(void* handle, int count, const char* const* options) {
    return call("nvrtcCompileProgram", [&] {
        auto& program = *static_cast<Program*>(handle);
        const std::string device = "--gpu-architecture=sm_" + std::to_string(configured("capability", 90));
        bool separate = false, architecture = false;
        std::string constants;
        std::vector<std::string> passed;
        for (int i = 0; i < count; i++) {
            std::string option = options[i];
            if (option == "--fmad=false") separate = true;
            else if (option == device) architecture = true, option.replace(option.find("sm_"), 3, "compute_");
            else if (option.compare(0, 2, "-D") == 0 && option.find('=') != std::string::npos) constants += option.substr(2) + "\n";
            else if (option != "--std=c++17") program.log += "fwpkm.cu: unknown option " + option + "\n";
            passed.push_back(option);
        }
        if (!separate) program.log += "fwpkm.cu: the emulator does not fuse products and sums; --fmad=false is missing\n";
        if (!architecture) program.log += "fwpkm.cu: the architecture is not that of the device\n";
        if (program.source.find("KERNEL") == std::string::npos) program.log += "fwpkm.cu: no kernel\n";
        if (!program.log.empty()) return COMPILATION;
        const char* path = std::getenv("FWPKM_STAND_IN_NVRTC");
        if (!path) return program.image = std::string(MAGIC) + "\n" + constants, SUCCESS;
        static Compiler compiler(path);
        std::string text;
        if (!compiler.compile(program.source, passed, text)) return program.log = text, COMPILATION;
        return program.image = std::string(MAGIC_PTX) + "\n" + text, SUCCESS;
    });
}
EXPORT int nvrtcGetProgramLogSize(void* program, size_t* size) {
    return call("nvrtcGetProgramLogSize", [&] { return *size = static_cast<Program*>(program)->log.size() + 1, SUCCESS; });
}
EXPORT int nvrtcGetProgramLog(void* program, char* log) {
    return call("nvrtcGetProgramLog", [&] {
        const std::string& text = static_cast<Program*>(program)->log;
        return std::memcpy(log, text.c_str(), text.size() + 1), SUCCESS;
    });
}
EXPORT int nvrtcGetCUBINSize(void* program, size_t* size) {
    return call("nvrtcGetCUBINSize", [&] { return *size = static_cast<Program*>(program)->image.size() + 1, SUCCESS; });
}
EXPORT int nvrtcGetCUBIN(void* program, char* image) {
    return call("nvrtcGetCUBIN", [&] {
        const std::string& text = static_cast<Program*>(program)->image;
        return std::memcpy(image, text.c_str(), text.size() + 1), SUCCESS;
    });
}
