#include "crowd/processor.h"

#include "register.h"

namespace crowd::python {

void register_processor(pybind11::module_& module) {
  module.def("has_int8_dot", &has_int8_dot,
             "Whether this processor multiplies and sums bytes in one instruction (VNNI).");
}

}  // namespace crowd::python
