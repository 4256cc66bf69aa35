#include "synthetic_batch.h"

#include "convoy/philox.h"

namespace convoy {

SyntheticBatch::SyntheticBatch(const Net& net, const Plan& plan) {
  const Input& in = net.input();
  const RowRange own = plan.own_rows(plan.batch);
  const int64_t classes = output_shapes(net, 1).back().count(), bytes = in.h * in.w * in.c;
  pixels_.resize(static_cast<size_t>(own.count * bytes));
  for (int64_t n = 0; n < own.count; ++n)
    for (int64_t i = 0; i < bytes; i += 16) {
      const Philox4 random =
          philox(1, static_cast<uint32_t>(i / 16), static_cast<uint32_t>(own.first + n), 0, 0);
      for (int64_t j = i; j < std::min(i + 16, bytes); ++j)
        pixels_[static_cast<size_t>(n * bytes + j)] =
            static_cast<uint8_t>(random.v[(j - i) / 4] >> (8 * (j % 4)));
    }
  for (int64_t n = 0; n < plan.batch; ++n) {
    all_labels_.push_back(static_cast<int32_t>(n % classes));
    index_.push_back(static_cast<int32_t>(n));
  }
  batch_.pixels = View(pixels_.data(), {own.count, in.h, in.w, in.c});
  batch_.labels = View(all_labels_.data() + own.first, {own.count});
  batch_.index = View(index_.data() + own.first, {own.count});
  batch_.rows = own.count;
  batch_.first_row = own.first;
  batch_.global_rows = plan.batch;
  batch_.all_labels = View(all_labels_.data(), {plan.batch});
}

ModelOptions synthetic_options(const Net& net) {
  ModelOptions options;
  const auto channels = static_cast<size_t>(net.input().c);
  options.normalization = {std::vector<float>(channels, 0.5f), std::vector<float>(channels, 0.25f)};
  return options;
}

}  // namespace convoy
