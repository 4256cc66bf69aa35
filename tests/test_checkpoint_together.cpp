// Checkpoints of models whose layers are split over workers: the file is that of one worker, and any number of
// workers loads it.
#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <thread>

#include "checkpoint_cases.h"
#include "convoy/backend.h"

namespace convoy {
namespace {

// Two layers read images, one of them an fc layer: 473,600 weights in two parts, whose border cuts a row.
Net big_net() {
  return parse_net("input 20x20x3\na: conv 32 3x3 pad 1\nb: bn\nc: relu\nd: fc 37\ne: bn\nf: relu\ng: fc 5\n",
                   "big.net");
}

// What one worker has of `whole` when the layers from `cut` on are split; a guard before and behind each tensor.
struct Share {
  HostTensors tensors;
  std::vector<std::vector<float>> arrays;

  Share(const Net& net, const HostTensors& whole, int cut, int rank, int world, bool filled = true) {
    const std::vector<ParameterSpec> specs = parameters(net);
    for (const ParameterSpec& spec : specs) {
      const bool split = world > 1 && spec.layer >= cut;
      tensors.own.push_back(split ? part_of(spec.shape[0], rank, world) : RowRange{0, spec.shape[0]});
    }
    arrays.reserve(specs.size() * (1 + whole.state.size()));
    for (size_t i = 0; i < specs.size(); ++i)
      tensors.values.push_back(take(specs[i], tensors.own[i], whole.values[i], filled));
    for (const HostTensors::State& state : whole.state) {
      tensors.state.push_back({state.kind, {}});
      for (size_t i = 0; i < specs.size(); ++i) {
        float* values = specs[i].buffer() ? nullptr : take(specs[i], tensors.own[i], state.values[i], filled);
        // Nothing at all points nowhere, as in a model.
        tensors.state.back().values.push_back(tensors.own[i].count == 0 ? nullptr : values);
      }
    }
  }
  float* take(const ParameterSpec& spec, RowRange own, const float* whole, bool filled) {
    const int64_t row = spec.shape.row();
    std::vector<float> values(static_cast<size_t>(own.count * row + 2), -7.0f);
    if (filled) std::copy_n(whole + own.first * row, own.count * row, values.begin() + 1);
    arrays.push_back(values);
    return arrays.back().data() + 1;
  }
};

// Each rank on a thread of its own; what they threw, as text with the kind of error, "" for none.
template <class Work>
std::vector<std::string> on_ranks(int world, const Work& work) {
  const std::vector<std::unique_ptr<Communicator>> workers = thread_communicators(world);
  std::vector<std::string> errors(static_cast<size_t>(world));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < world; ++rank) {
    threads.emplace_back([&, rank] {
      Exec exec;
      exec.backend = &cpu_backend("auto");
      std::string& error = errors[static_cast<size_t>(rank)];
      try {
        work(*workers[static_cast<size_t>(rank)], exec);
      } catch (const Aborted& e) {
        error = text("Aborted: ", e.what());
      } catch (const InputError& e) {
        error = text("InputError: ", e.what());
      } catch (const Error& e) {
        error = text("Error: ", e.what());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return errors;
}

// Nets with the optimizer states of their files.
struct Case {
  Net net;
  std::vector<std::string> kinds;
};
const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      {small_net(), {}}, {small_net(), {"momentum"}}, {small_net(), {"m", "v"}}, {big_net(), {"momentum"}}};
  return all;
}
constexpr int kWorlds[] = {1, 2, 3, 4, 8};

TEST(CheckpointTogether, TheFileIsThatOfOneWorker) {
  for (const auto& [net, kinds] : cases()) {
    const Folder alone;
    const Memory whole(net, kinds, 3);
    const TrainingRecord record = small_record();
    Exec none;
    save_checkpoint_together(nullptr, none, alone.path(), net, whole.tensors, record);
    const std::string name = "checkpoint-12.safetensors";
    const std::string want = read_bytes(alone / name);
    for (const int cut : {1, 5}) {  // from the convolution on, batch norm's buffers too; from an fc layer on
      for (const int world : kWorlds) {
        SCOPED_TRACE(text(net.name, ", ", kinds.size(), " states, cut ", cut, ", ", world, " workers"));
        const Folder together;
        const auto errors = on_ranks(world, [&, &n = net](Communicator& workers, Exec& exec) {
          const Share share(n, whole.tensors, cut, workers.rank(), world);
          EXPECT_EQ(
              save_checkpoint_together(&workers, exec, together.path(), n, share.tensors, record, {3, true}),
              "");
        });
        EXPECT_EQ(errors, std::vector<std::string>(static_cast<size_t>(world)));
        EXPECT_TRUE(read_bytes(together / name) == want);
        EXPECT_TRUE(read_bytes(together / "best.safetensors") == want);
        EXPECT_EQ(read_bytes(together / "latest"), name + "\n");
      }
    }
  }
}

TEST(CheckpointTogether, EveryWorkerLoadsItsRows) {
  for (const auto& [net, kinds] : cases()) {
    const Folder folder;
    const Memory whole(net, kinds, 3);
    write_safetensors(folder / "c", checkpoint_tensors(net, whole.tensors, small_record()));
    const TensorFile file(folder / "c");
    for (const int cut : {1, 5}) {
      for (const int world : kWorlds) {
        for (int rank = 0; rank < world; ++rank) {
          const Share want(net, whole.tensors, cut, rank, world);
          const Share got(net, whole.tensors, cut, rank, world, false);
          EXPECT_FALSE(load_parameters(file, net, got.tensors).last_layer_kept);
          EXPECT_TRUE(got.arrays == want.arrays)
              << net.name << ", cut " << cut << ", " << rank << " of " << world;
        }
      }
    }
  }
}

// Also those that keep none of the damaged rows.
TEST(CheckpointTogether, EveryWorkerFindsTheSameFaults) {
  const Net net = small_net();
  Memory whole(net, {}, 3);
  const size_t weight = 5;  // classifier.0.weight, [7,24]
  ASSERT_EQ(parameters(net)[weight].name, "classifier.0.weight");
  whole.tensors.values[weight][6 * 24] = INFINITY;
  const Folder folder;
  write_safetensors(folder / "inf", checkpoint_tensors(net, whole.tensors, small_record()));
  whole.tensors.values[weight][6 * 24] = 0;
  write_safetensors(folder / "bit", checkpoint_tensors(net, whole.tensors, small_record()));
  const TensorFile good(folder / "bit");
  std::string bytes = read_bytes(folder / "bit");
  char& byte = bytes[static_cast<size_t>(good.find("classifier.0.weight")->offset + 6 * 24 * 4)];
  byte = static_cast<char>(byte ^ 1);
  write_bytes(folder / "bit", bytes);
  for (int rank = 0; rank < 3; ++rank) {
    const Share share(net, whole.tensors, 5, rank, 3);
    EXPECT_SAYS(
        refusal(folder / "inf", [&] { load_parameters(TensorFile(folder / "inf"), net, share.tensors); }),
        "'classifier.0.weight' holds inf at [6,0]");
    EXPECT_SAYS(
        refusal(folder / "bit", [&] { load_parameters(TensorFile(folder / "bit"), net, share.tensors); }),
        "'classifier.0.weight': its checksum differs");
  }
}

void expect_one_error(const std::vector<std::string>& errors, const std::string& part) {
  EXPECT_EQ(errors[0].compare(0, 7, "Error: "), 0) << errors[0];
  EXPECT_SAYS(errors[0], part);
  for (size_t rank = 1; rank < errors.size(); ++rank)
    EXPECT_EQ(errors[rank], "Aborted: " + errors[0].substr(7));
}

TEST(CheckpointTogether, AFailureReachesEveryWorker) {
  const Net net = small_net();
  const Memory whole(net, {"momentum"}, 3);
  const Folder folder;
  for (const int world : {2, 5}) {
    const auto errors = on_ranks(world, [&](Communicator& workers, Exec& exec) {
      const Share share(net, whole.tensors, 1, workers.rank(), world);
      save_checkpoint_together(&workers, exec, folder / "none", net, share.tensors, small_record(1));
    });
    expect_one_error(errors, "none/checkpoint-1.safetensors");
  }
}

// A disk that is full from the second megabyte on, and then not any more.
TEST(CheckpointTogether, AfterAFullDiskTheWorkersGoOn) {
  const Net net = big_net();
  const Memory whole(net, {"momentum"}, 3);
  const Folder folder;
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  std::vector<std::string> first(3);
  const auto errors = on_ranks(3, [&](Communicator& workers, Exec& exec) {
    const Share share(net, whole.tensors, 1, workers.rank(), 3);
    const auto save = [&](int64_t step) {
      save_checkpoint_together(&workers, exec, folder.path(), net, share.tensors, small_record(step));
    };
    save(1);
    if (workers.rank() == 0) {
      rlimit full = before;
      full.rlim_cur = 3 << 20;
      setrlimit(RLIMIT_FSIZE, &full);
    }
    try {
      save(2);
    } catch (const Aborted& error) {
      first[static_cast<size_t>(workers.rank())] = text("Aborted: ", error.what());
    } catch (const Error& error) {
      first[static_cast<size_t>(workers.rank())] = text("Error: ", error.what());
    }
    if (workers.rank() == 0) setrlimit(RLIMIT_FSIZE, &before);
    save(3);
  });
  std::signal(SIGXFSZ, SIG_DFL);
  expect_one_error(first, "checkpoint-2.safetensors");
  EXPECT_EQ(errors, std::vector<std::string>(3));
  EXPECT_EQ(checkpoint_files(folder.path()),
            (std::vector<std::string>{checkpoint_path(folder.path(), 3), checkpoint_path(folder.path(), 1)}));
  EXPECT_FALSE(std::filesystem::exists(checkpoint_path(folder.path(), 2) + ".tmp"));
  TensorFile(checkpoint_path(folder.path(), 3)).verify();
}

TEST(CheckpointTogether, RowsThatNobodyHasAreAnError) {
  const Net net = small_net();
  const Memory whole(net, {}, 3);
  const Folder folder;
  const auto errors = on_ranks(3, [&](Communicator& workers, Exec& exec) {
    Share share(net, whole.tensors, 5, workers.rank(), 3);
    if (workers.rank() == 2) --share.tensors.own[5].count;
    save_checkpoint_together(&workers, exec, folder.path(), net, share.tensors, small_record());
  });
  expect_one_error(errors, "no worker has row 6 of classifier.0.weight");
  EXPECT_EQ(find_latest(folder.path()).file, "");
}

TEST(CheckpointTogether, AWorkerThatFailedEndsTheSave) {
  const Net net = small_net();
  const Memory whole(net, {}, 3);
  const Folder folder;
  const auto errors = on_ranks(4, [&](Communicator& workers, Exec& exec) {
    if (workers.rank() == 2) {
      workers.abort();
      throw Error("out of memory");
    }
    const Share share(net, whole.tensors, 5, workers.rank(), 4);
    save_checkpoint_together(&workers, exec, folder.path(), net, share.tensors, small_record());
  });
  for (const size_t rank : {0, 1, 3}) EXPECT_EQ(errors[rank].compare(0, 8, "Aborted:"), 0) << errors[rank];
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

// A file that one worker cannot read, though the others can, is passed over by all.
TEST(CheckpointTogether, AllGoOnFromTheSameFile) {
  const Net net = small_net();
  const Memory whole(net, {"momentum"}, 3);
  const Folder folder;
  for (const int64_t step : {10, 20, 30})
    save_checkpoint(folder.path(), checkpoint_tensors(net, whole.tensors, small_record(step)),
                    small_record(step));
  for (const int bad_rank : {-1, 0, 1, 2}) {
    std::vector<FoundCheckpoint> found(3);
    std::vector<int64_t> step(3);
    const auto errors = on_ranks(3, [&](Communicator& workers, Exec& exec) {
      const auto rank = static_cast<size_t>(workers.rank());
      found[rank] = find_latest_together(&workers, exec, folder.path(), [&](const std::string& file) {
        step[rank] = read_record(TensorFile(file)).step;
        if (workers.rank() == bad_rank && step[rank] == 30) input_error(file, ": rank ", rank, " cannot");
      });
    });
    EXPECT_EQ(errors, std::vector<std::string>(3));
    const int64_t want = bad_rank < 0 ? 30 : 20;
    EXPECT_EQ(step, std::vector<int64_t>(3, want));
    for (const FoundCheckpoint& f : found) EXPECT_EQ(f.file, checkpoint_path(folder.path(), want));
    EXPECT_EQ(found[0].warning.empty(), bad_rank < 0);
    if (bad_rank >= 0) {
      EXPECT_SAYS(found[0].warning, text("rank ", bad_rank, " cannot"));
    }
    EXPECT_EQ(found[1].warning + found[2].warning, "");
  }
}

TEST(CheckpointTogether, NothingToGoOnFromEndsEveryWorker) {
  const Folder folder;
  const auto look = [&](Communicator& workers, Exec& exec) {
    const FoundCheckpoint found =
        find_latest_together(&workers, exec, folder.path(), [&](const std::string& file) {
          if (workers.rank() == 2) input_error(file, ": not for rank 2");
        });
    EXPECT_EQ(found.file, "");
  };
  EXPECT_EQ(on_ranks(3, look), std::vector<std::string>(3));  // an empty folder
  const Net net = small_net();
  const Memory whole(net, {}, 3);
  save_checkpoint(folder.path(), checkpoint_tensors(net, whole.tensors, small_record()), small_record());
  const std::vector<std::string> errors = on_ranks(3, look);
  EXPECT_SAYS(errors[0], "InputError: ");
  EXPECT_SAYS(errors[0], "not for rank 2");
  EXPECT_SAYS(errors[0], "holds no checkpoint that is good");
  for (const size_t rank : {1, 2}) EXPECT_EQ(errors[rank], "Aborted: " + errors[0].substr(12));
}

TEST(CheckpointTogether, AllOrNone) {
  for (const int failing : {0, 1, 2}) {
    const auto errors = on_ranks(4, [&](Communicator& workers, Exec& exec) {
      all_or_none(&workers, exec, [] {});
      all_or_none(&workers, exec, [&] {
        if (workers.rank() == failing) input_error("file.safetensors: rank ", failing);
        if (workers.rank() > failing) throw Error("later");
      });
    });
    const std::string message = text("file.safetensors: rank ", failing);
    EXPECT_EQ(errors[0], "InputError: " + message);
    for (const size_t rank : {1, 2, 3}) EXPECT_EQ(errors[rank], "Aborted: " + message);
  }
  Exec none;
  EXPECT_THROW(all_or_none(nullptr, none, [] { input_error("alone"); }), InputError);
}

}  // namespace
}  // namespace convoy
