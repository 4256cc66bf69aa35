// Traces: what is recorded, how it is brought together, and the file that a viewer opens.
#include <gtest/gtest.h>

#include <condition_variable>
#include <cstring>
#include <fstream>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "trace.h"

namespace convoy {
namespace {

using nlohmann::json;

const Backend& backend() {
  return cpu_backend("plain");
}
Exec direct() {
  Exec exec;
  exec.backend = &backend();
  return exec;
}

// Its transfers do nothing; sums take a while.
class Alone : public Communicator {
 public:
  explicit Alone(int rank = 0, int world = 1) : Communicator(rank, world) {}
  void abort() noexcept override {}

 protected:
  void do_all_reduce(Exec&, View) override { std::this_thread::sleep_for(std::chrono::milliseconds(2)); }
  void do_all_gather(Exec&, In, View, const Blocks&) override {}
  void do_reduce_scatter(Exec&, In, View, const Blocks&) override {}
  void do_broadcast(Exec&, View, int) override {}
  void do_reduce(Exec&, In, View, int) override {}
  void do_send(Exec&, In, int) override {}
  void do_recv(Exec&, View, int) override {}
  void do_barrier(Exec&) override {}
};

// The events of a trace file by their phase: "M" metadata, "X" spans.
std::map<std::string, std::vector<json>> events_of(const std::string& file) {
  std::map<std::string, std::vector<json>> events;
  const json content = json::parse(file);
  for (const json& event : content.at("traceEvents")) events[event.at("ph")].push_back(event);
  return events;
}

TEST(Trace, NestedSpansEndInsideTheOuterOneAndInOrder) {
  Trace trace;
  {
    const Span outer(&trace, Lane::kCompute, "pass", SpanKind::kCompute, 3);
    { const Span first(&trace, Lane::kCompute, "forward"); }
    { const Span second(&trace, Lane::kCompute, "backward"); }
  }
  const auto& spans = trace.spans(Lane::kCompute);
  ASSERT_EQ(spans.size(), 3u);
  EXPECT_STREQ(spans[0].name, "forward");
  EXPECT_STREQ(spans[1].name, "backward");
  EXPECT_STREQ(spans[2].name, "pass");
  EXPECT_EQ(spans[2].pass, 3);
  EXPECT_LE(spans[2].start, spans[0].start);
  EXPECT_LE(spans[0].start, spans[0].end);
  EXPECT_LE(spans[0].end, spans[1].start);
  EXPECT_LE(spans[1].end, spans[2].end);
  EXPECT_TRUE(trace.spans(Lane::kTransfer).empty());
}

TEST(Trace, NoneRecordsNothing) {
  const Span span(nullptr, Lane::kCompute, "nothing");
  Alone comm;
  Exec exec = direct();
  comm.barrier(exec);  // no trace_to: must not touch a trace
}

TEST(Trace, CountsWhatItHasNoRoomForAndTakesMoreAfterMakeRoom) {
  Trace trace;
  const size_t room = trace.spans(Lane::kTransfer).capacity();
  ASSERT_GE(room, Trace::kRoom);
  const SpanRecord* place = trace.spans(Lane::kTransfer).data();
  for (size_t i = 0; i < room + 5; ++i) trace.add(Lane::kTransfer, {"x"});
  EXPECT_EQ(trace.spans(Lane::kTransfer).size(), room);
  EXPECT_EQ(trace.spans(Lane::kTransfer).data(), place) << "recording allocated";
  EXPECT_EQ(trace.left_out(), 5);
  trace.make_room();
  for (size_t i = 0; i < Trace::kRoom; ++i) trace.add(Lane::kTransfer, {"x"});
  EXPECT_EQ(trace.left_out(), 5);
  EXPECT_EQ(json::parse(trace_json({traced_worker(0, trace)}))["otherData"]["spans_left_out"], 5);
}

TEST(Trace, TransfersAreSpansOfTheTimeThatTheyTake) {
  Trace trace;
  Alone comm;
  const CpuQueuePointer queue = cpu_queue();
  Exec exec = cpu_queue_exec(backend(), queue);
  comm.trace_to(&trace, Lane::kTransfer);
  float data[6] = {};
  const Blocks blocks = {3};
  comm.all_reduce(exec, {Traffic::kGradients, "sum gradients"}, View(data, {6}));
  comm.all_gather(exec, {Traffic::kRows, "gather rows", 4}, In(data, {3, 2}), View(data, {3, 2}), blocks);
  comm.broadcast(exec, {Traffic::kColumns, "columns"}, View(data, {6}), 0);
  exec.backend->synchronize(exec);
  const auto& spans = trace.spans(Lane::kTransfer);
  ASSERT_EQ(spans.size(), 3u);
  EXPECT_STREQ(spans[0].name, "sum gradients");
  EXPECT_EQ(spans[0].kind, SpanKind::kGradients);
  EXPECT_GE(spans[0].end - spans[0].start, 2000000);
  EXPECT_EQ(spans[1].kind, SpanKind::kRows);
  EXPECT_EQ(spans[1].pass, 4);
  EXPECT_GE(spans[1].start, spans[0].end);
  EXPECT_EQ(spans[2].kind, SpanKind::kColumns);
  comm.trace_to(nullptr, Lane::kTransfer);
  comm.barrier(exec);
  exec.backend->synchronize(exec);
  EXPECT_EQ(trace.spans(Lane::kTransfer).size(), 3u);
}

TEST(Trace, FileHasAProcessARankAThreadALaneAndBytes) {
  TracedWorker zero, one;
  one.rank = 1;
  zero.lanes[0] = {{"conv_forward features.0", SpanKind::kCompute, 5000001500, 5000002000, 0, -1}};
  one.lanes[1] = {{"gather rows", SpanKind::kRows, 5000000500, 5000001000, 4718592, 2}};
  auto events = events_of(trace_json({zero, one}));
  std::map<std::pair<int, int>, std::string> lanes;
  std::map<int, std::string> ranks;
  for (const json& event : events["M"])
    if (event.at("name") == "thread_name")
      lanes[{event.at("pid"), event.at("tid")}] = event.at("args").at("name");
    else if (event.at("name") == "process_name")
      ranks[event.at("pid")] = event.at("args").at("name");
  EXPECT_EQ(lanes,
            (std::map<std::pair<int, int>, std::string>{
                {{0, 0}, "compute"}, {{0, 1}, "transfer"}, {{1, 0}, "compute"}, {{1, 1}, "transfer"}}));
  EXPECT_EQ(ranks, (std::map<int, std::string>{{0, "rank 0"}, {1, "rank 1"}}));
  ASSERT_EQ(events["X"].size(), 2u);
  EXPECT_EQ(events["X"][0], json::parse(R"({"ph":"X","name":"conv_forward features.0","cat":"compute","pid":0,
      "tid":0,"ts":1.0,"dur":0.5,"args":{"bytes":0}})"));
  EXPECT_EQ(events["X"][1], json::parse(R"({"ph":"X","name":"gather rows","cat":"rows","pid":1,
      "tid":1,"ts":0.0,"dur":0.5,"args":{"bytes":4718592,"pass":2}})"));
}

TEST(Trace, NamesAreEscapedAndOtherBytesReplaced) {
  const std::string name = "a \"layer\\\" of\nmine <&> \x01 \xc3\xa9";
  TracedWorker worker;
  worker.lanes[0] = {{name}, {"not UTF-8: \xff"}};
  const auto spans = events_of(trace_json({worker}))["X"];
  EXPECT_EQ(spans[0].at("name"), name);
  EXPECT_EQ(spans[1].at("name"), "not UTF-8: \xef\xbf\xbd");
}

TEST(Trace, FileIsWrittenWholeOrRefusedByName) {
  TracedWorker worker;
  worker.lanes[1] = {{"gather rows", SpanKind::kRows, 10, 20, 8, 0}};
  const std::string file = testing::TempDir() + "/convoy_trace.json";
  write_trace(file, {worker});
  std::ifstream in(file);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(in), {}), trace_json({worker}));
  try {
    write_trace("/nowhere/trace.json", {worker});
    ADD_FAILURE() << "wrote into a folder that is not there";
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()),
              "/nowhere/trace.json: cannot write the trace: No such file or directory");
  }
}

// Ranks as threads that hand messages over; all that gather_traces asks for.
struct Post {
  std::mutex mutex;
  std::condition_variable news;
  int waiting = 0;
  std::map<int, std::vector<std::string>> from;  // by sender, in order
};
class Mail : public Alone {
 public:
  Mail(int rank, int world, Post& post) : Alone(rank, world), post_(post) {}

 private:
  void do_barrier(Exec&) override {
    std::unique_lock<std::mutex> lock(post_.mutex);
    ++post_.waiting;
    post_.news.notify_all();
    post_.news.wait(lock, [&] { return post_.waiting == world(); });
  }
  void do_send(Exec&, In view, int) override {
    const std::lock_guard<std::mutex> lock(post_.mutex);
    post_.from[rank()].emplace_back(reinterpret_cast<const char*>(view.data),
                                    static_cast<size_t>(view.bytes()));
    post_.news.notify_all();
  }
  void do_recv(Exec&, View view, int from) override {
    std::unique_lock<std::mutex> lock(post_.mutex);
    post_.news.wait(lock, [&] { return !post_.from[from].empty(); });
    const std::string message = post_.from[from].front();
    post_.from[from].erase(post_.from[from].begin());
    CONVOY_CHECK(static_cast<int64_t>(message.size()) == view.bytes(), message.size(), " bytes");
    std::memcpy(view.data, message.data(), message.size());
  }
  Post& post_;
};

TEST(Trace, OfEveryRankArrivesUnchangedOnRankZero) {
  constexpr int kWorld = 3;
  Post post;
  std::vector<TracedWorker> sent(kWorld), arrived;
  const auto worker = [&](int rank) {
    Trace trace;
    for (int i = 0; i < 5 * rank; ++i)
      trace.add(Lane::kCompute, {"conv", SpanKind::kCompute, i, i + 1, 0, -1});
    trace.add(Lane::kTransfer,
              {rank == 2 ? "" : "gather rows", SpanKind::kRows, 100 + rank, 200, 7 * rank, rank});
    sent[static_cast<size_t>(rank)] = traced_worker(rank, trace);
    Mail comm(rank, kWorld, post);
    Exec exec = direct();
    const std::vector<TracedWorker> got = gather_traces(comm, exec, trace);
    if (rank == 0)
      arrived = got;
    else
      EXPECT_TRUE(got.empty());
  };
  std::vector<std::thread> threads;
  for (int rank = 0; rank < kWorld; ++rank) threads.emplace_back(worker, rank);
  for (std::thread& thread : threads) thread.join();
  ASSERT_EQ(arrived.size(), 3u);
  EXPECT_EQ(arrived[2].lanes[0].size(), 10u);
  EXPECT_EQ(trace_json(arrived), trace_json(sent));
}

}  // namespace
}  // namespace convoy
