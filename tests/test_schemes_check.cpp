// #wrong of bench-schemes: rounding is none of it, a row in the wrong place is.
#include <gtest/gtest.h>

#include <cmath>

#include "schemes_check.h"
#include "synthetic_batch.h"

namespace convoy {
namespace {

constexpr int64_t kBatch = 12;

Net small_net() {
  return parse_net("input 8x8x3\nconv 8 3x3 pad 1\nrelu\nmaxpool 2\nfc 16\nrelu\nfc 5\n", "small.net");
}

// What a worker alone gets whose batch was changed after it was made.
template <class Change>
double wrong(const Change& change) {
  const Net net = small_net();
  Exec exec = cpu_exec(cpu_backend("auto"), 1);
  const OneWorkersWeights one(net, kBatch, exec);
  const Plan plan = make_plan(net, kBatch);
  Model model = make_model(net, plan, synthetic_options(net), exec, {kBatch}, {});
  const SyntheticBatch data(net, plan);
  Batch batch = data.batch();
  change(model, batch);
  return one.wrong(model, exec, batch);
}

TEST(SchemesCheck, TheSameRunIsNotWrong) {
  EXPECT_EQ(wrong([](Model&, Batch&) {}), 0);
}

TEST(SchemesCheck, RoundingIsNotWrong) {
  const double off = wrong([](Model& model, Batch&) {
    for (const View& view : model.values)
      for (int64_t i = 0; i < view.count(); i += 3) view.f32()[i] = std::nextafter(view.f32()[i], 1.0f);
  });
  EXPECT_GT(off, 0);
  EXPECT_LE(off, 1);
}

TEST(SchemesCheck, ARowInTheWrongPlaceIsWrong) {
  EXPECT_GT(wrong([](Model&, Batch& batch) {
              const int64_t bytes = batch.pixels.shape.row();
              std::swap_ranges(batch.pixels.data, batch.pixels.data + bytes, batch.pixels.data + 3 * bytes);
            }),
            1);
}

TEST(SchemesCheck, AWeightThatKeepsItsErrorIsWrong) {
  // The last bias has moved by much less than this once the step is made.
  EXPECT_GT(wrong([](Model& model, Batch&) { model.values.back().f32()[0] += 0.01f; }), 1);
}

TEST(SchemesCheck, SyntheticRowsDoNotDependOnTheDivision) {
  const Net net = small_net();
  const SyntheticBatch whole(net, make_plan(net, kBatch));
  for (int rank = 0; rank < 5; ++rank) {
    PlanOptions options;
    options.world = 5;
    options.rank = rank;
    const SyntheticBatch own(net, make_plan(net, kBatch, options));
    const RowRange rows = part_of(kBatch, rank, 5);
    const Batch &a = whole.batch(), &b = own.batch();
    ASSERT_EQ(b.rows, rows.count);
    ASSERT_EQ(b.first_row, rows.first);
    const int64_t bytes = a.pixels.shape.row();
    EXPECT_TRUE(
        std::equal(b.pixels.data, b.pixels.data + rows.count * bytes, a.pixels.data + rows.first * bytes));
    for (int64_t n = 0; n < rows.count; ++n)
      EXPECT_EQ(b.labels.as<int32_t>()[n], a.all_labels.as<int32_t>()[rows.first + n]);
  }
}

}  // namespace
}  // namespace convoy
