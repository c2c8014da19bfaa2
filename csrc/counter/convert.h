#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <filesystem>
#include <string>

#include "crowd/counter.h"

// Between C++ and the engine's Python objects; all need the interpreter lock.
namespace crowd {

// Arguments of engine.CrowdCounter.
pybind11::dict to_arguments(const Options& options);

// Keyword arguments of CrowdCounter.count.
pybind11::dict to_arguments(const CountOptions& options);

// What Python calls a file: text, or on Windows wide text, that opens it, even where its name is not UTF-8.
pybind11::object to_path(const std::filesystem::path& path);

// The bytes that name a file, of Python's text for them: what to_path() makes text of.
std::string to_file_bytes(const pybind11::object& text);

// UTF-8, whatever the text holds: file names that are not UTF-8 are no proper Unicode in Python.
std::string to_utf8(const pybind11::str& text);

// A copy of the bytes of a picture file.
pybind11::object to_bytes(const void* bytes, std::size_t size);

// A NumPy array on the picture's own memory: uint8 [H, W, C], read-only.
pybind11::array to_array(const Image& image);

CountResult to_result(const pybind11::object& result);

// The message of a Python exception; never throws what Python raises while it is made.
std::string describe(const pybind11::error_already_set& error);

// The class name and message of a Python exception; never throws what Python raises meanwhile.
Error to_error(const pybind11::error_already_set& error);

}  // namespace crowd
