// What the tests of several workers have in common: random examples, and whole tensors to and from the workers' parts.
#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>

#include "convoy/philox.h"
#include "convoy/train.h"
#include "team.h"

namespace convoy {

// Rows that are numbered on through the batches of a run.
struct Examples {
  Shape image;
  int64_t rows;
  std::vector<uint8_t> pixels;
  std::vector<int32_t> labels, index;

  Examples(const Net& net, int64_t count, uint64_t seed) : image(output_shapes(net, 1)[0]), rows(count) {
    const auto classes = static_cast<uint32_t>(output_shapes(net, 1).back().row());
    for (int64_t i = 0; i < rows * image.row(); ++i)
      pixels.push_back(static_cast<uint8_t>(philox(seed, static_cast<uint32_t>(i), 0, 0, 1).v[0]));
    for (int64_t i = 0; i < rows; ++i)
      labels.push_back(static_cast<int32_t>(philox(seed, static_cast<uint32_t>(i), 0, 0, 2).v[0] % classes));
    index.resize(labels.size());
    std::iota(index.begin(), index.end(), 0);
  }
  // A worker's rows of the whole.
  Batch batch(int rank = 0, int world = 1) {
    const RowRange own = part_of(rows, rank, world);
    Batch b;
    b.pixels = View(pixels.data() + own.first * image.row(), image.with_rows(own.count));
    b.labels = View(labels.data() + own.first, Shape{own.count});
    b.index = View(index.data() + own.first, Shape{own.count});
    b.all_labels = View(labels.data(), Shape{rows});
    b.rows = own.count;
    b.first_row = own.first;
    b.global_rows = rows;
    return b;
  }
};

inline Normalization half_normalization(const Net& net) {
  const auto channels = static_cast<size_t>(net.input().c);
  return {std::vector<float>(channels, 0.5f), std::vector<float>(channels, 0.25f)};
}

using Tensors = std::vector<std::vector<float>>;  // one a parameter spec, whole

inline bool same_bits(const Tensors& a, const Tensors& b) {
  for (size_t i = 0; i < a.size(); ++i)
    if (a[i].size() != b[i].size() || std::memcmp(a[i].data(), b[i].data(), 4 * a[i].size()) != 0)
      return false;
  return a.size() == b.size();
}

// Everything of a run that a step changes, and the gradients it left.
struct State {
  Tensors values, gradients;
  std::array<Tensors, 2> moments;

  State() = default;
  explicit State(const Net& net) {
    for (const ParameterSpec& spec : parameters(net))
      values.emplace_back(static_cast<size_t>(spec.shape.count()), std::nanf(""));
    gradients = values;
    moments = {values, values};
  }
};

inline bool same_bits(const State& a, const State& b) {
  return same_bits(a.values, b.values) && same_bits(a.moments[0], b.moments[0]) &&
         same_bits(a.moments[1], b.moments[1]);
}

// f(view of this worker's part, the whole's elements) for every tensor that the model has.
template <class F>
void for_parts(const Model& model, State& whole, const F& f) {
  for (size_t i = 0; i < model.specs.size(); ++i) {
    const int64_t first = model.own[i].first * model.specs[i].shape.row();
    const auto part = [&](const View& own, std::vector<float>& all) {
      if (!own.empty()) f(own, all.data() + first);
    };
    part(model.values[i], whole.values[i]);
    part(model.gradients_of[i], whole.gradients[i]);
    for (int kind = 0; kind < 2; ++kind)
      part(state_of(model, i, kind), whole.moments[static_cast<size_t>(kind)][i]);
  }
}

inline void load(Model& model, State& from) {
  for_parts(model, from,
            [&](const View& own, const float* all) { copy_now(model, own.data, all, own.bytes()); });
}

// Workers that have the same element must have the same bits; not those that train apart.
inline void store(const Model& model, State& to, bool alike = true) {
  static std::mutex mutex;
  const std::lock_guard<std::mutex> lock(mutex);
  int64_t different = 0;
  for_parts(model, to, [&](const View& own, float* all) {
    const std::vector<float> now = values_of(model, own);
    for (size_t j = 0; j < now.size(); ++j) {
      different += alike && !std::isnan(all[j]) && std::memcmp(all + j, &now[j], 4) != 0;
      all[j] = now[j];
    }
  });
  EXPECT_EQ(different, 0) << "elements of worker " << model.team.rank() << " are not those of another worker";
}

inline PlanOptions mode(Parallel parallel, Scheme scheme = Scheme::kA, int64_t pass_rows = 0) {
  PlanOptions o;
  o.parallel = parallel;
  o.scheme = scheme;
  o.fc_batch_size = pass_rows;
  return o;
}

inline PlanOptions of_worker(PlanOptions options, const Team& team, int world) {
  options.world = world;
  options.rank = team.rank();
  return options;
}

}  // namespace convoy
