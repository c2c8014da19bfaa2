#include "crowd/parallel.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif
#ifdef __linux__
#include <sched.h>
#endif

namespace crowd {
namespace {

using Body = std::function<void(Index, int)>;

// One parallel_for call. It lives on the caller's stack: the caller leaves only after every helper has.
struct Job {
  const Body& body;
  const Index tasks;
  const int helpers_wanted;
  std::atomic<Index> next_task{0};
  // Guarded by the pool's mutex.
  int helpers_joined = 0;
  int helpers_active = 0;
  std::exception_ptr error;

  Job(const Body& body, Index tasks, int helpers) : body(body), tasks(tasks), helpers_wanted(helpers) {}

  std::exception_ptr work(int worker) {
    try {
      for (Index task; (task = next_task.fetch_add(1, std::memory_order_relaxed)) < tasks;)
        body(task, worker);
    } catch (...) {
      next_task.store(tasks, std::memory_order_relaxed);
      return std::current_exception();
    }
    return nullptr;
  }
};

class ThreadPool {
 public:
  void run(Job& job) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      start_threads(job.helpers_wanted);
      jobs_.push_back(&job);
    }
    for (int i = 0; i < job.helpers_wanted; ++i) wake_.notify_one();
    std::exception_ptr error = job.work(0);
    std::unique_lock<std::mutex> lock(mutex_);
    remove(job);
    done_.wait(lock, [&] { return job.helpers_active == 0; });
    if (!error) error = job.error;
    lock.unlock();
    if (error) std::rethrow_exception(error);
  }

  // Ends and joins the threads; a later run() is done by its caller alone.
  void stop() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  // As many as the system allows: the caller works too, so that any number will do, even none.
  void start_threads(int count) {
    try {
      while (!stopping_ && static_cast<int>(threads_.size()) < count) {
        threads_.emplace_back([this] { serve(); });
      }
    } catch (const std::system_error&) {
      // Asked again at the next call.
    }
  }

  void serve() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
      if (stopping_) return;
      Job& job = *jobs_.front();
      const int worker = ++job.helpers_joined;
      if (worker == job.helpers_wanted) jobs_.pop_front();
      ++job.helpers_active;
      lock.unlock();
      std::exception_ptr error = job.work(worker);
      lock.lock();
      if (error && !job.error) job.error = error;
      // A helper that found no task left must not come back to this job.
      remove(job);
      if (--job.helpers_active == 0) done_.notify_all();
    }
  }

  void remove(Job& job) { jobs_.erase(std::remove(jobs_.begin(), jobs_.end(), &job), jobs_.end()); }

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::deque<Job*> jobs_;
  std::vector<std::thread> threads_;
  bool stopping_ = false;
};

std::atomic<ThreadPool*> current_pool{nullptr};

// The pool itself is never freed, so that threads still running at exit find it whole.
struct StopAtExit {
  ~StopAtExit() {
    if (ThreadPool* pool = current_pool.load()) pool->stop();
  }
};

ThreadPool* make_pool() {
#if defined(__unix__) || defined(__APPLE__)
  // A forked child inherits the pool's memory but none of its threads: it starts with a new pool.
  static const int registered = pthread_atfork(nullptr, nullptr, [] { current_pool.store(nullptr); });
  static_cast<void>(registered);
#endif
  static const StopAtExit stop_at_exit;
  static_cast<void>(stop_at_exit);
  auto fresh = std::make_unique<ThreadPool>();
  ThreadPool* expected = nullptr;
  return current_pool.compare_exchange_strong(expected, fresh.get()) ? fresh.release() : expected;
}

Index count_processors() {
#ifdef __linux__
  // The standard library's number is of the machine, whatever taskset or a container leaves of it.
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0) return CPU_COUNT(&allowed);
#endif
  return static_cast<Index>(std::thread::hardware_concurrency());
}

}  // namespace

int count_workers(Index tasks, int threads) {
  const Index wanted = threads > 0 ? threads : count_processors();
  return static_cast<int>(std::max<Index>(1, std::min(wanted, tasks)));
}

void parallel_for(Index tasks, int threads, const Body& body) {
  const int helpers = count_workers(tasks, threads) - 1;
  if (helpers == 0) {
    for (Index task = 0; task < tasks; ++task) body(task, 0);
    return;
  }
  ThreadPool* pool = current_pool.load();
  if (pool == nullptr) pool = make_pool();
  Job job(body, tasks, helpers);
  pool->run(job);
}

}  // namespace crowd
