#pragma once

#include <cstdint>
#include <cstring>

#include "crowd/tensor_view.h"

namespace crowd::test {

inline float to_float(float value) { return value; }

inline float to_float(Bfloat16 value) {
  const std::uint32_t bits = static_cast<std::uint32_t>(value.bits) << 16;
  float wide;
  std::memcpy(&wide, &bits, sizeof(wide));
  return wide;
}

template <typename Element>
Element from_float(float value);

template <>
inline float from_float<float>(float value) {
  return value;
}

// Cut off, not rounded: the tests need some number, not the nearest. A quiet NaN stays one.
template <>
inline Bfloat16 from_float<Bfloat16>(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return {static_cast<std::uint16_t>(bits >> 16)};
}

}  // namespace crowd::test
