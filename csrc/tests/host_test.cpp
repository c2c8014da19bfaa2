// crowd::Counter in a program that runs Python already, and holds its lock.
//
//   host_test PICTURE PYTHON

#include <pybind11/embed.h>

#include <cstdio>
#include <future>
#include <string>

#include "check.h"
#include "crowd/counter.h"

namespace py = pybind11;

namespace {

void start_python(const std::string& executable) {
  PyConfig config;
  PyConfig_InitPythonConfig(&config);
  PyConfig_SetBytesString(&config, &config.program_name, executable.c_str());
  PyConfig_SetBytesString(&config, &config.executable, executable.c_str());
  py::initialize_interpreter(&config, 0, nullptr, false);
}

void run(const std::string& picture) {
  const crowd::Counter counter;
  const int count = counter.count(std::filesystem::path(picture)).count;
  crowd::test::check(count > 0, "nobody found");
  crowd::test::check(PyGILState_Check() == 1, "the host lost its lock");
  py::gil_scoped_release release;
  std::async(std::launch::async, [&] {
    crowd::test::check(counter.count(std::filesystem::path(picture)).count == count,
                       "another count in a thread");
    crowd::test::check(PyGILState_Check() == 0, "the thread kept the lock");
  }).get();
}

// Whatever is raised comes as Error, also where its message and the name of its class raise in turn.
void check_hostile_error(const std::string& picture) {
  const crowd::Counter counter;
  py::exec(R"(
import engine

class Names(type):
    @property
    def __name__(cls):
        raise ValueError("no name")

class Hostile(BaseException, metaclass=Names):
    def __str__(self):
        raise ValueError("no message")

def refuse(*arguments, **options):
    raise Hostile

engine.CrowdCounter.count = refuse
)");
  try {
    counter.count(std::filesystem::path(picture));
  } catch (const crowd::Error& error) {
    const std::string type = error.type();
    crowd::test::check(type == "Hostile", "the error is " + type);
    crowd::test::check(std::string(error.what()).find("cannot be shown") != std::string::npos, error.what());
    return;
  }
  crowd::test::check(false, "no error");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  try {
    start_python(argv[2]);
    run(argv[1]);
    check_hostile_error(argv[1]);
    // Outlives the interpreter; its destructor must leave Python alone.
    const crowd::Counter late;
    py::finalize_interpreter();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
