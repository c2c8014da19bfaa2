// Counts the people in a picture file: count_picture PICTURE [PYTHON]
//
// PYTHON is the Python executable of the environment that crowd-engine is installed in; without it, that of
// the active virtual environment. Prints the count, its interval, and the position and score of each head.

#include <cstdio>
#include <filesystem>

#include "crowd/counter.h"

int main(int argc, char** argv) {
  if (argc < 2 || argc > 3) {
    std::fprintf(stderr, "usage: %s PICTURE [PYTHON]\n", argv[0]);
    return 2;
  }
  try {
    crowd::Options options;
    options.device = "cpu";
    if (argc == 3) options.python = argv[2];
    const crowd::Counter counter(options);
    const crowd::CountResult result = counter.count(std::filesystem::path(argv[1]));
    std::printf("%d people (%d-%d)\n", result.count, result.interval.low, result.interval.high);
    for (std::size_t i = 0; i < result.points.size(); ++i) {
      std::printf("%.9g %.9g %.9g\n", result.points[i].x, result.points[i].y, result.scores[i]);
    }
    for (const std::string& warning : result.warnings) std::fprintf(stderr, "%s\n", warning.c_str());
  } catch (const crowd::Error& error) {
    std::fprintf(stderr, "%s: %s\n", error.type(), error.what());
    return 1;
  }
}
