#pragma once

#include <functional>

#include "crowd/tensor_view.h"

namespace crowd {

// The number of threads that take part in a parallel_for of so many tasks; 0 threads stand for one per
// processor that the calling thread may run on (on Linux; elsewhere, one per processor of the machine).
int count_workers(Index tasks, int threads);

// Calls body(task, worker) once for every task in [0, tasks) and returns when all have run.
//
// count_workers(tasks, threads) threads take part, the caller among them; tasks are handed out in order.
// `worker`, below that number, is held by one thread at a time, so it may index scratch memory. A result
// that depends on the task alone is the same for any number of threads. The first exception thrown by a
// body is rethrown here, once the tasks under way have ended.
//
// May be called from several threads at once and from inside a body: each call waits for its own tasks
// only. The threads sleep between calls, are kept until the process exits, and are started anew in a
// forked child. Do not fork from inside a body.
void parallel_for(Index tasks, int threads, const std::function<void(Index task, int worker)>& body);

}  // namespace crowd
