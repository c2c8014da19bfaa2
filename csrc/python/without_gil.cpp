#include "without_gil.h"

#include <atomic>
#include <chrono>
#include <thread>

#ifndef _WIN32
#include <pthread.h>
#endif

namespace crowd::python {
namespace {

std::atomic<bool> exiting{false};
// The thread that ends Python: it still runs what was registered to run at exit before this module was
// loaded.
std::thread::id exit_thread;
// Threads that have found Python not exiting, and do not have the lock yet.
std::atomic<int> waiting{0};

// Runs before Python starts to end other threads: a thread that waits for the lock by now still gets it.
void begin_exit() {
  exit_thread = std::this_thread::get_id();
  exiting = true;
  PyThreadState* state = PyEval_SaveThread();
  while (waiting > 0) std::this_thread::yield();
  PyEval_RestoreThread(state);
}

}  // namespace

void take_gil(PyThreadState* state) {
  ++waiting;
  if (exiting && std::this_thread::get_id() != exit_thread) {
    --waiting;
    for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
  }
  PyEval_RestoreThread(state);
  --waiting;
}

void watch_exit() {
#ifndef _WIN32
  // A child has none of the threads that were waiting in its parent.
  pthread_atfork(nullptr, nullptr, [] { waiting = 0; });
#endif
  pybind11::module_::import("atexit").attr("register")(pybind11::cpp_function(&begin_exit));
}

}  // namespace crowd::python
