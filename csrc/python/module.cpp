#include "register.h"
#include "without_gil.h"

PYBIND11_MODULE(_core, module) {
  module.doc() = "The kernels on the CPU; engine.kernels.reference defines what they compute.";
  crowd::python::watch_exit();
  crowd::python::register_criss_cross_attention(module);
  crowd::python::register_ddim_update(module);
  crowd::python::register_find_peaks(module);
  crowd::python::register_preprocess(module);
  crowd::python::register_processor(module);
  crowd::python::register_to_channels_last(module);
}
