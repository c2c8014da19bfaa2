#include "convert.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <cstring>

namespace crowd {
namespace {

namespace py = pybind11;

using Floats = py::array_t<float, py::array::c_style | py::array::forcecast>;

// An array of the result.
Floats floats(const py::object& result, const char* name) { return result.attr(name).cast<Floats>(); }

std::vector<float> to_vector(const Floats& array) {
  return std::vector<float>(array.data(), array.data() + array.size());
}

Map to_map(const Floats& array) { return {array.shape(0), array.shape(1), to_vector(array)}; }

std::vector<Point> to_points(const Floats& array) {
  std::vector<Point> points(static_cast<std::size_t>(array.shape(0)));
  const float* coordinates = array.data();
  for (Point& point : points) {
    point = {coordinates[0], coordinates[1]};
    coordinates += 2;
  }
  return points;
}

// What a function of Python has made; null where it has raised.
py::object made(PyObject* object) {
  if (object == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(object);
}

// Text of Python for bytes that name a file: as Python's own functions have it, whether they are UTF-8 or
// not.
py::object to_file_name(const std::string& name) {
  return made(PyUnicode_DecodeFSDefaultAndSize(name.data(), static_cast<py::ssize_t>(name.size())));
}

py::dict to_zones(const std::map<std::string, std::vector<Point>>& zones) {
  py::dict polygons;
  for (const auto& [name, corners] : zones) {
    py::list polygon;
    for (const Point& corner : corners) polygon.append(py::make_tuple(corner.x, corner.y));
    polygons[py::str(name)] = polygon;
  }
  return polygons;
}

}  // namespace

py::dict to_arguments(const Options& options) {
  py::dict arguments;
  arguments["model"] = to_file_name(options.model);
  arguments["device"] = options.device;
  arguments["backend"] = options.backend;
  arguments["compute_type"] = options.compute_type;
  arguments["steps"] = options.steps;
  arguments["samples"] = options.samples;
  arguments["seed"] = options.seed;
  arguments["cpu_threads"] = options.cpu_threads;
  if (!options.cache_dir.empty()) arguments["cache_dir"] = to_file_name(options.cache_dir);
  arguments["performance"] = options.performance;
  return arguments;
}

py::dict to_arguments(const CountOptions& options) {
  py::dict arguments;
  arguments["steps"] = options.steps;
  arguments["samples"] = options.samples;
  if (!options.zones.empty()) arguments["zones"] = to_zones(options.zones);
  return arguments;
}

py::object to_path(const std::filesystem::path& path) {
#ifdef _WIN32
  return py::cast(path.native());
#else
  return to_file_name(path.native());
#endif
}

std::string to_file_bytes(const py::object& text) {
  return py::bytes(made(PyUnicode_EncodeFSDefault(text.ptr())));
}

std::string to_utf8(const py::str& text) {
  return py::bytes(made(PyUnicode_AsEncodedString(text.ptr(), "utf-8", "backslashreplace")));
}

py::object to_bytes(const void* bytes, std::size_t size) {
  if (bytes == nullptr && size > 0) {
    throw Error("ImageError", "the picture is " + std::to_string(size) +
                                  " bytes at no address; expected an encoded picture");
  }
  return made(PyBytes_FromStringAndSize(static_cast<const char*>(bytes), static_cast<py::ssize_t>(size)));
}

py::array to_array(const Image& image) {
  if (image.data == nullptr || std::min({image.height, image.width, image.channels}) < 1) {
    throw Error("ImageError", "the picture is " + std::to_string(image.height) + "x" +
                                  std::to_string(image.width) + "x" + std::to_string(image.channels) +
                                  (image.data == nullptr ? " at no address" : "") +
                                  "; expected [height, width, channels] of at least 1 pixel");
  }
  const std::ptrdiff_t pixel = image.pixel_stride != 0 ? image.pixel_stride : image.channels;
  const std::ptrdiff_t row = image.row_stride != 0 ? image.row_stride : image.width * pixel;
  // With an owner, even one of nothing, the array is a view and not a copy.
  const py::capsule owner(image.data, [](void*) {});
  py::array array(py::dtype::of<std::uint8_t>(), {image.height, image.width, image.channels},
                  {row, pixel, std::ptrdiff_t{1}}, image.data, owner);
  array.attr("flags").attr("writeable") = false;
  return array;
}

CountResult to_result(const py::object& result) {
  CountResult converted;
  converted.count = result.attr("count").cast<int>();
  converted.points = to_points(floats(result, "points"));
  converted.scores = to_vector(floats(result, "scores"));
  converted.heatmap = to_map(floats(result, "heatmap"));
  converted.density = to_map(floats(result, "density"));
  converted.uncertainty = to_map(floats(result, "uncertainty"));
  const auto [low, high] = result.attr("interval").cast<std::pair<int, int>>();
  converted.interval = {low, high};
  const auto [width, height] = result.attr("image_size").cast<std::pair<int, int>>();
  converted.image_size = {width, height};
  converted.zones = result.attr("zones").cast<std::map<std::string, int>>();
  converted.timings = result.attr("timings").cast<std::map<std::string, double>>();
  converted.warnings = result.attr("warnings").cast<std::vector<std::string>>();
  return converted;
}

std::string describe(const py::error_already_set& error) {
  // Any class may be raised, and its __str__ may raise in turn.
  try {
    return to_utf8(py::str(error.value()));
  } catch (const py::error_already_set&) {
    return "its message cannot be shown, as its __str__ fails";
  }
}

Error to_error(const py::error_already_set& error) {
  // Not its __name__: a metaclass may have one of its own that raises, or that is no text.
  const char* name = reinterpret_cast<PyTypeObject*>(error.type().ptr())->tp_name;
  const char* dot = std::strrchr(name, '.');
  return Error(dot == nullptr ? name : dot + 1, describe(error));
}

}  // namespace crowd
