#pragma once

#include <random>
#include <vector>

#include "crowd/tensor_view.h"

namespace crowd::test {

// What the values are drawn from.
enum class Values {
  normal,   // finite, of size 1
  strange,  // now and then NaN (of any bits), infinity, zero of either sign or a denormal number
  few,      // from five numbers, so that many are equal
};

// A tensor of random strides, in memory that ends where it does; memory between its pixels is NaN.
template <typename Element>
struct Tensor {
  std::vector<Element> memory;
  BasicTensorView<Element> view;
};

class RandomInput {
 public:
  explicit RandomInput(unsigned seed) : bits_(seed) {}

  // In [low, high].
  Index integer(Index low, Index high);
  // In [1, most], small ones more often.
  Index side(Index most);
  bool chance(double probability) { return std::bernoulli_distribution(probability)(bits_); }
  double number(double low, double high) { return std::uniform_real_distribution<double>(low, high)(bits_); }
  float value(Values values);
  std::vector<float> array(Index size, Values values);
  // Strides with gaps, negative, or zero (all rows or pixels the same).
  template <typename Element>
  Tensor<Element> tensor(Index batch, Index height, Index width, Index channels, Values values);

 private:
  std::mt19937 bits_;
};

}  // namespace crowd::test
