#pragma once

#include <pybind11/pybind11.h>

namespace crowd::python {

void register_criss_cross_attention(pybind11::module_& module);
void register_ddim_update(pybind11::module_& module);
void register_find_peaks(pybind11::module_& module);
void register_preprocess(pybind11::module_& module);
void register_processor(pybind11::module_& module);
void register_to_channels_last(pybind11::module_& module);

}  // namespace crowd::python
