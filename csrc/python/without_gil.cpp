#include "without_gil.h"

#include <atomic>
#include <chrono>
#include <thread>

namespace crowd::python {
namespace {

std::atomic<bool> exiting{false};
// Threads that have found Python not exiting, and do not have the lock yet.
std::atomic<int> waiting{0};

// Runs before Python starts to end other threads: whoever waits for the lock by now still gets it.
void begin_exit() {
  exiting = true;
  PyThreadState* state = PyEval_SaveThread();
  while (waiting > 0) std::this_thread::yield();
  PyEval_RestoreThread(state);
}

}  // namespace

void take_gil(PyThreadState* state) {
  ++waiting;
  if (exiting) {
    --waiting;
    for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
  }
  PyEval_RestoreThread(state);
  --waiting;
}

void watch_exit() {
  pybind11::module_::import("atexit").attr("register")(pybind11::cpp_function(&begin_exit));
}

}  // namespace crowd::python
