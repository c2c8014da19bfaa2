// Loads a plug-in that brings crowd::Counter, and with it Python, into a program that knows neither.
//
//   plugin_test PLUGIN PICTURE PYTHON

#include <dlfcn.h>

#include <cstdio>

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  void* plugin = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  if (plugin == nullptr) {
    std::fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  using CountPeople = int (*)(const char*, const char*);
  const auto count_people = reinterpret_cast<CountPeople>(dlsym(plugin, "count_people"));
  return count_people != nullptr && count_people(argv[2], argv[3]) > 0 ? 0 : 1;
}
