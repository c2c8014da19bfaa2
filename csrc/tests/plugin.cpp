// A plug-in that counts, for plugin_test.cpp to load.

#include <cstdio>

#include "crowd/counter.h"

extern "C" int count_people(const char* picture, const char* python) {
  try {
    crowd::Options options;
    options.python = python;
    return crowd::Counter(options).count(std::filesystem::path(picture)).count;
  } catch (const crowd::Error& error) {
    std::fprintf(stderr, "%s: %s\n", error.type(), error.what());
    return -1;
  }
}
