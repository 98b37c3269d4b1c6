// Ends with 0 where what a task throws in a thread of onnxruntime is thrown again by Run::parallel, once.
#include <atomic>
#include <new>

#include "native_host.h"
#include "ort/kernel.h"

int main() {
  edgefc::ort::KernelContext context;
  context.threads = 2;
  const std::string name = "edgefc::Op";
  const edgefc::Run run(host::api(), context, name);
  for (const std::size_t tasks : {std::size_t{1}, std::size_t{5}}) {
    std::atomic<int> started{0};
    try {
      run.parallel(tasks, [&](std::size_t) {
        ++started;
        throw std::bad_alloc();
      });
      return 1;
    } catch (const std::bad_alloc&) {
      if (started != static_cast<int>(tasks)) return 2;
    }
  }
  return 0;
}
