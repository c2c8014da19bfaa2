#pragma once

#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include "check.h"

namespace crowd::test {

// 8-bit RGB, rows and pixels following each other.
struct Pixels {
  std::ptrdiff_t height, width;
  std::vector<std::uint8_t> values;

  std::uint8_t at(std::ptrdiff_t y, std::ptrdiff_t x, std::ptrdiff_t c) const {
    return values[static_cast<std::size_t>((y * width + x) * 3 + c)];
  }
};

// A binary PPM file without comments, as Pillow writes it.
inline Pixels read_ppm(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string magic;
  std::ptrdiff_t width = 0, height = 0;
  int largest = 0;
  file >> magic >> width >> height >> largest;
  file.get();
  check(file && magic == "P6" && largest == 255, path + " is no 8-bit PPM file");
  Pixels pixels{height, width, std::vector<std::uint8_t>(static_cast<std::size_t>(height * width * 3))};
  file.read(reinterpret_cast<char*>(pixels.values.data()),
            static_cast<std::streamsize>(pixels.values.size()));
  check(file.good(), path + " is cut short");
  return pixels;
}

}  // namespace crowd::test
