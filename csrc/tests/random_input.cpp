#include "random_input.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>

#include "bfloat16.h"

namespace crowd::test {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// A quiet NaN of either sign with the given payload.
float nan_of(std::uint32_t payload) {
  const std::uint32_t bits = 0x7fc00000u | (payload & 0x803fffffu);
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

}  // namespace

Index RandomInput::integer(Index low, Index high) {
  return std::uniform_int_distribution<Index>(low, high)(bits_);
}

Index RandomInput::side(Index most) { return std::min(integer(1, most), integer(1, most)); }

float RandomInput::value(Values values) {
  constexpr float kFew[] = {-1.0f, 0.0f, 0.25f, 0.5f, 1.0f};
  if (values == Values::few) return kFew[integer(0, 4)];
  if (values == Values::strange && chance(0.02)) {
    const float strange[] = {
        nan_of(static_cast<std::uint32_t>(bits_())), kInfinity, -kInfinity, 0.0f, -0.0f, 1e-42f, -1e-45f};
    return strange[integer(0, 6)];
  }
  return std::normal_distribution<float>()(bits_);
}

std::vector<float> RandomInput::array(Index size, Values values) {
  std::vector<float> drawn(static_cast<std::size_t>(size));
  for (float& x : drawn) x = value(values);
  return drawn;
}

template <typename Element>
Tensor<Element> RandomInput::tensor(Index batch, Index height, Index width, Index channels, Values values) {
  const Index sizes[] = {width, height, batch};
  Index strides[3], extent = channels, first = 0;
  for (int axis = 0; axis < 3; ++axis) {
    const bool repeats = axis < 2 && chance(0.1);
    strides[axis] = repeats ? 0 : extent + (chance(0.5) ? integer(0, 9) : 0);
    extent += (sizes[axis] - 1) * strides[axis];
    if (chance(0.25)) {
      first += (sizes[axis] - 1) * strides[axis];
      strides[axis] = -strides[axis];
    }
  }
  Tensor<Element> tensor{std::vector<Element>(static_cast<std::size_t>(extent), from_float<Element>(kNaN)),
                         {}};
  tensor.view = {
      tensor.memory.data() + first, batch, height, width, channels, strides[2], strides[1], strides[0]};
  for (Index b = 0; b < batch; ++b) {
    for (Index y = 0; y < height; ++y) {
      for (Index x = 0; x < width; ++x) {
        Element* pixel = tensor.memory.data() + (tensor.view.pixel(b, y, x) - tensor.memory.data());
        for (Index c = 0; c < channels; ++c) pixel[c] = from_float<Element>(value(values));
      }
    }
  }
  return tensor;
}

template Tensor<float> RandomInput::tensor(Index, Index, Index, Index, Values);
template Tensor<Bfloat16> RandomInput::tensor(Index, Index, Index, Index, Values);

}  // namespace crowd::test
