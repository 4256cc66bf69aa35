// Checkpoints: one safetensors file with PyTorch's names and layouts, whole tensors whatever the split.
//
// A checkpoint holds the parameters ("features.0.weight": conv [K,C,R,S], fc [F,D] with D in C,H,W order
// where the layer reads an image), batch norm's buffers (running_mean, running_var, num_batches_tracked), the
// optimizer's state ("optimizer.momentum.features.0.weight", ".m.", ".v."), and in the header's __metadata__
// the training record, which is everything else that a bit-exact resume needs, and checksums.
//
// A run's folder: checkpoint-<step>.safetensors, best.safetensors, and `latest`, a line of text that names
// the newest. Every file is written under its name + ".tmp", synced, and renamed: a reader sees the old file
// or the new one, whole, whatever happens on the way.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "convoy/comm.h"
#include "convoy/safetensors.h"
#include "convoy/train.h"

namespace convoy {

// Where a model's tensors lie in host memory, one pointer for each of parameters(net), in Convoy's layout. A
// worker has some rows of a split layer's tensors, maybe none.
struct HostTensors {
  struct State {
    std::string kind;            // "momentum", or "m" and "v"
    std::vector<float*> values;  // null for buffers
  };
  std::vector<float*> values;
  std::vector<State> state;
  std::vector<RowRange> own;  // rows of the whole tensor that are here, one a parameter; empty: all of all
  std::vector<std::shared_ptr<Tensor>>
      copies;  // of the arenas, where the host does not see the model's memory
};
// A model's: the memory that it trains in; or, where the host does not see that, a copy of what it holds now, which
// put_back writes to the model.
HostTensors host_tensors(const Model& model, Exec& exec);
void put_back(const HostTensors& from, Model& model, Exec& exec);

// How a parameter stands in a file. Each of its rows, seen as a matrix, is transposed: [positions, channels]
// here, [channels, positions] there. Conv: positions are R·S; an fc layer that reads an image: H·W;
// others: 1.
struct FileLayout {
  std::string name;
  std::vector<int64_t> shape;  // as PyTorch has it
  int64_t positions = 1, channels = 1;
  int64_t row() const { return positions * channels; }  // elements, here and there
};
std::vector<FileLayout> file_layouts(const Net& net);  // one for each of parameters(net)

// Elements [first, first + count) in the file's order, out of and into a tensor in Convoy's layout; or some
// of its rows, where `first` counts from the first of these.
void to_file_order(const FileLayout& layout, const float* values, int64_t first, int64_t count, float* part);
void from_file_order(const FileLayout& layout, const float* part, int64_t first, int64_t count,
                     float* values);

// What a run needs to go on as if it had never stopped, besides its tensors.
struct TrainingRecord {
  std::string net_name, net_text;
  Input input;  // extents of the images
  std::vector<std::string> class_names;
  Normalization normalization;  // one mean and deviation a channel, or none
  OptimizerKind optimizer = OptimizerKind::kSgd;
  uint64_t seed = 0;
  int64_t world = 1;                            // workers
  int64_t step = 0;                             // steps done
  int64_t fc_updates = 0;                       // of the split layers: over `step` with an update a pass
  LossScale loss_scale;                         // of a run in f16
  int64_t epoch = 0, batch_in_epoch = 0;        // where the next step reads
  StepReport epoch_so_far;                      // sums of the batches that the epoch has done
  double best_accuracy = -1;                    // on the test set, a fraction; -1: not measured
  std::map<std::string, std::string> settings;  // of the command line, as text
};

// The record as metadata, and back: throws InputError naming file and field for what is missing, not a
// number, or out of range. has_record: false for a file that another program wrote.
std::map<std::string, std::string> record_metadata(const TrainingRecord& record);
bool has_record(const TensorFile& file);
TrainingRecord read_record(const TensorFile& file);

// Gives elements [first, first + count), in the file's order, of parameter `spec`: of its values (state -1) or
// of from.state[state].
using FetchPart = std::function<void(size_t spec, int state, int64_t first, int64_t count, float* to)>;

// A checkpoint's tensors: weights, buffers, num_batches_tracked (= record.step), optimizer state. They refer
// to the memory behind `from` and are brought into the file's order while they are written. Tensors that are
// not wholly in `from` come from `fetch`.
std::vector<TensorSource> checkpoint_tensors(const Net& net, const HostTensors& from,
                                             const TrainingRecord& record, const FetchPart& fetch = nullptr);

struct LoadOptions {
  bool other_classes = false;  // fine-tuning: a last layer with another number of outputs keeps what it has
};
struct LoadReport {
  bool last_layer_kept = false;
};

// Loads the net's parameters and buffers from a checkpoint or from any file with PyTorch's names (F32; F16,
// BF16 and F64 are converted), and the optimizer state of `to.state` where it has any. num_batches_tracked
// and other optimizer state are passed over. Reads all of each tensor and keeps the rows of `to.own`: every
// worker finds the same faults. Throws InputError: missing and unexpected names, shapes (as
// PyTorch has them) that differ, another dtype (all before anything is written), then per tensor, checksums,
// NaN and infinities, negative variances.
LoadReport load_parameters(const TensorFile& file, const Net& net, const HostTensors& to,
                           const LoadOptions& options = {});

// ---- the folder of a run ----

std::string checkpoint_path(const std::string& dir, int64_t step);  // DIR/checkpoint-500.safetensors
// The checkpoint-<step>.safetensors files in DIR, highest step first; none when there is no such folder.
std::vector<std::string> checkpoint_files(const std::string& dir);
// Removes what dead saves left. For a program's start: one program at a time writes to a folder.
void remove_temporaries(const std::string& dir);

struct SaveOptions {
  int64_t keep = 3;   // newest checkpoints that stay; 0: all
  bool best = false;  // it is the best so far: best.safetensors is written too
};

// Writes DIR/checkpoint-<record.step>.safetensors, then `latest`, then best.safetensors if asked, then
// removes the oldest checkpoints beyond `keep`: never later ones than this, and never the best. Returns a
// warning of one line when an old one cannot be removed, else "". Throws Error naming the file, the call and
// the reason when the disk is full or a call fails: then the checkpoint before is intact, `latest` names a
// whole one, and no temporary file is left.
std::string save_checkpoint(const std::string& dir, const std::vector<TensorSource>& tensors,
                            const TrainingRecord& record, const SaveOptions& options = {});

// The same by several workers, each of which calls it with the same arguments and its own rows: the first one
// writes whole tensors and asks the others for theirs, part by part. Without others (null) it is
// save_checkpoint. When it fails, the first worker throws the Error, and the others Aborted with its text. The
// warning is the first worker's alone. `exec` is for host memory.
std::string save_checkpoint_together(Communicator* workers, Exec& exec, const std::string& dir,
                                     const Net& net, const HostTensors& from, const TrainingRecord& record,
                                     const SaveOptions& options = {});

struct FoundCheckpoint {
  std::string file;     // empty: the folder holds no checkpoint
  std::string warning;  // one line when it is not the one that `latest` should have named
};

// The checkpoint to go on from: the one that `latest` names, or, when that does not read well, the newest
// that does. `use` reads a file and throws InputError when it is bad; without it the file is read through
// once to verify it. Throws InputError with the newest one's fault when there are checkpoints but none is
// good.
FoundCheckpoint find_latest(const std::string& dir,
                            const std::function<void(const std::string& file)>& use = nullptr);

// The same by several workers, each of which calls it: the first one chooses the file, all use it, and one that
// is bad for any of them is passed over by all. Errors and the warning as in save_checkpoint_together.
FoundCheckpoint find_latest_together(Communicator* workers, Exec& exec, const std::string& dir,
                                     const std::function<void(const std::string& file)>& use);

// Runs `work`, which transfers nothing, on every worker, and returns when all are done. Where it has thrown,
// the first worker throws the error of the lowest such rank, and the others Aborted with its text.
void all_or_none(Communicator* workers, Exec& exec, const std::function<void()>& work);

}  // namespace convoy
