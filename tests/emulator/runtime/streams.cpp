// Streams, events, graphs. Work has a ticket in its stream; an event is a stream and a ticket.
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <set>
#include <vector>

#include "runtime.h"

struct Piece {
  emulator::Operation run;
  emulator::Ready ready;
};
struct CUgraph_st {
  std::vector<Piece> pieces;
  std::set<cudaStream_t> streams;  // captured for it
};
struct CUgraphExec_st {
  std::vector<Piece> pieces;
};
struct CUstream_st {
  bool blocking = true;  // takes its turns with the null stream
  int device = 0;
  std::deque<Piece> queue;
  uint64_t queued = 0, done = 0;
  bool running = false;
  std::shared_ptr<CUgraph_st> capture;
};
// What an event stands for; it outlives the handle while a stream waits for it.
struct Mark {
  CUstream_st* stream = nullptr;
  uint64_t ticket = 0;
  std::shared_ptr<CUgraph_st> capture;
  std::chrono::steady_clock::time_point reached;
};
struct CUevent_st {
  std::shared_ptr<Mark> mark;
  int device = 0;
};

namespace emulator {
namespace {

std::set<CUstream_st*> streams;
CUstream_st null_stream;
std::condition_variable_any progress;  // of any stream; its lock is the runtime's, held once

CUstream_st& of(cudaStream_t stream) {
  return stream ? *stream : null_stream;
}

// Runs the stream's oldest work until `ticket` pieces of it are done; false: the next one has to wait.
bool run_until(CUstream_st& s, uint64_t ticket) {
  if (s.running) return s.done >= ticket;  // reached again through what it waits for
  s.running = true;
  while (s.done < ticket && !s.queue.empty()) {
    if (!broken() && s.queue.front().ready && !s.queue.front().ready()) break;
    const Operation operation = std::move(s.queue.front().run);
    s.queue.pop_front();
    ++s.done;
    operation();
    wake();
  }
  s.running = false;
  return s.done >= ticket;
}

void wait_until(CUstream_st& s, uint64_t ticket) {
  while (!run_until(s, ticket)) progress.wait(runtime_lock());
}

// Of a stream that is gone everything is done.
bool reached(const Mark& mark) {
  if (mark.stream != &null_stream && !streams.count(mark.stream)) return true;
  return run_until(*mark.stream, mark.ticket);
}

void finish_blocking_others(cudaStream_t stream) {
  if (stream == nullptr) {
    for (CUstream_st* s : streams) {
      if (s->blocking) run_until(*s, s->queued);
    }
  } else if (stream->blocking) {
    run_until(null_stream, null_stream.queued);
  }
}

}  // namespace

int device_of(cudaStream_t stream) {
  return stream ? stream->device : current_device();
}

bool capturing(cudaStream_t stream) {
  return of(stream).capture != nullptr;
}

void wake() {
  progress.notify_all();
}

void wait_for(const Ready& ready) {
  while (!ready()) progress.wait(runtime_lock());
}

void run_ready(cudaStream_t stream) {
  if (!stream || streams.count(stream)) run_until(of(stream), of(stream).queued);
}

cudaError_t submit(cudaStream_t stream, Operation operation, Ready ready) {
  if (stream && !streams.count(stream)) return result(cudaErrorInvalidResourceHandle);
  CUstream_st& s = of(stream);
  if (s.capture) {
    s.capture->pieces.push_back({std::move(operation), std::move(ready)});
    return result(cudaSuccess);
  }
  finish_blocking_others(stream);
  ++s.queued;
  s.queue.push_back({[operation = std::move(operation)] {
                       if (!broken()) operation();
                     },
                     std::move(ready)});
  if (!options().late) run_until(s, s.queued);
  wake();
  return result(cudaSuccess);
}

void finish(cudaStream_t stream) {
  if (stream) return wait_until(*stream, stream->queued);
  run_until(null_stream, null_stream.queued);
  for (CUstream_st* s : streams) run_until(*s, s->queued);
}

void drop_all() {
  const auto drop = [](CUstream_st& s) {
    s.queue.clear();
    s.done = s.queued;
    s.capture = nullptr;
  };
  drop(null_stream);
  for (CUstream_st* s : streams) drop(*s);
  wake();
}

}  // namespace emulator

using namespace emulator;

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* out, unsigned flags) {
  const Guard guard(runtime_lock());
  *out = new CUstream_st;
  (*out)->blocking = !(flags & cudaStreamNonBlocking);
  (*out)->device = current_device();
  streams.insert(*out);
  return result(cudaSuccess);
}
cudaError_t cudaStreamCreate(cudaStream_t* out) {
  return cudaStreamCreateWithFlags(out, 0);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const Guard guard(runtime_lock());
  if (!streams.count(stream)) return result(cudaErrorInvalidResourceHandle);
  finish(nullptr);  // nobody's event may point at it later
  streams.erase(stream);
  delete stream;
  return result(cudaSuccess);
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const Guard guard(runtime_lock());
  if (stream && !streams.count(stream)) return result(cudaErrorInvalidResourceHandle);
  if (capturing(stream)) return result(cudaErrorStreamCaptureUnsupported);
  finish_blocking_others(stream);
  wait_until(of(stream), of(stream).queued);
  return result(cudaSuccess);
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  const Guard guard(runtime_lock());
  CUstream_st& s = of(stream);
  if (s.done < s.queued) {  // one step each time that somebody asks: polling ends
    run_until(s, s.done + 1);
    return cudaErrorNotReady;
  }
  return result(cudaSuccess);
}
cudaError_t cudaDeviceSynchronize() {
  const Guard guard(runtime_lock());
  finish(nullptr);
  const std::set<CUstream_st*> all = streams;  // they come and go while this one waits
  for (CUstream_st* s : all)
    while (streams.count(s) && s->device == current_device() && !run_until(*s, s->queued))
      progress.wait(runtime_lock());
  return result(cudaSuccess);
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, void (*function)(void*), void* argument) {
  const Guard guard(runtime_lock());
  return submit(stream, [=] { function(argument); });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* out, unsigned) {
  *out = new CUevent_st;
  (*out)->device = current_device();
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* out) {
  return cudaEventCreateWithFlags(out, 0);
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const Guard guard(runtime_lock());
  delete event;
  return result(cudaSuccess);
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const Guard guard(runtime_lock());
  if (event->device != device_of(stream)) return result(cudaErrorInvalidResourceHandle);
  auto mark = std::make_shared<Mark>();
  event->mark = mark;
  CUstream_st& s = of(stream);
  mark->stream = &s;
  mark->capture = s.capture;
  if (s.capture) return result(cudaSuccess);
  const cudaError_t queued = submit(stream, [mark] { mark->reached = std::chrono::steady_clock::now(); });
  mark->ticket = s.queued;
  return queued;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const Guard guard(runtime_lock());
  const std::shared_ptr<Mark> mark = event->mark;
  if (!mark) return result(cudaSuccess);  // never recorded: nothing to wait for
  CUstream_st& s = of(stream);
  if (mark->capture) {  // the stream joins the capture: the graph's list is in the order of the calls
    s.capture = mark->capture;
    s.capture->streams.insert(&s);
    return result(cudaSuccess);
  }
  if (s.capture) return result(cudaSuccess);
  return submit(
      stream, [] {}, [mark] { return reached(*mark); });
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const Guard guard(runtime_lock());
  const std::shared_ptr<Mark> mark = event->mark;
  while (mark && !reached(*mark)) progress.wait(runtime_lock());
  return result(cudaSuccess);
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  const Guard guard(runtime_lock());
  const Mark* mark = event->mark.get();
  if (!mark || (mark->stream != &null_stream && !streams.count(mark->stream)) ||
      mark->stream->done >= mark->ticket)
    return result(cudaSuccess);
  run_until(*mark->stream, mark->stream->done + 1);
  return cudaErrorNotReady;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t first, cudaEvent_t last) {
  const Guard guard(runtime_lock());
  if (!first->mark || !last->mark) return result(cudaErrorInvalidResourceHandle);
  for (cudaEvent_t e : {first, last}) {
    if (e->mark->stream->done < e->mark->ticket) return cudaErrorNotReady;
  }
  *milliseconds =
      std::chrono::duration<float, std::milli>(last->mark->reached - first->mark->reached).count();
  return result(cudaSuccess);
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  const Guard guard(runtime_lock());
  if (!stream || stream->capture) return result(cudaErrorStreamCaptureUnsupported);
  stream->capture = std::make_shared<CUgraph_st>();
  stream->capture->streams.insert(stream);
  return result(cudaSuccess);
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* out) {
  const Guard guard(runtime_lock());
  *out = nullptr;
  if (!stream || !stream->capture) return result(cudaErrorStreamCaptureInvalidated);
  const std::shared_ptr<CUgraph_st> graph = stream->capture;
  for (cudaStream_t s : graph->streams) s->capture = nullptr;
  *out = new CUgraph_st{graph->pieces, {}};
  return result(cudaSuccess);
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* out, cudaGraph_t graph, unsigned long long) {
  const Guard guard(runtime_lock());
  *out = new CUgraphExec_st{graph->pieces};
  return result(cudaSuccess);
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
  const Guard guard(runtime_lock());
  for (const Piece& piece : graph->pieces) {
    if (const cudaError_t e = submit(stream, piece.run, piece.ready)) return e;
  }
  return result(cudaSuccess);
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
  delete graph;
  return cudaSuccess;
}
