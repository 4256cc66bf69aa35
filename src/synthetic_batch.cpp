#include "synthetic_batch.h"

#include "convoy/philox.h"

namespace convoy {

SyntheticBatch::SyntheticBatch(const Net& net, const Plan& plan, const Backend& memory) {
  const Input& in = net.input();
  const RowRange own = plan.own_rows(plan.batch);
  const int64_t classes = output_shapes(net, 1).back().count(), bytes = in.h * in.w * in.c;
  pixels_ = Tensor::on_host(memory, DType::kU8, {own.count, in.h, in.w, in.c});
  all_labels_ = Tensor::on_host(memory, DType::kI32, {plan.batch});
  index_ = Tensor::on_host(memory, DType::kI32, {plan.batch});
  auto* pixels = pixels_.view().as<uint8_t>();
  for (int64_t n = 0; n < own.count; ++n)
    for (int64_t i = 0; i < bytes; i += 16) {
      const Philox4 random =
          philox(1, static_cast<uint32_t>(i / 16), static_cast<uint32_t>(own.first + n), 0, 0);
      for (int64_t j = i; j < std::min(i + 16, bytes); ++j)
        pixels[n * bytes + j] = static_cast<uint8_t>(random.v[(j - i) / 4] >> (8 * (j % 4)));
    }
  for (int64_t n = 0; n < plan.batch; ++n) {
    all_labels_.view().as<int32_t>()[n] = static_cast<int32_t>(n % classes);
    index_.view().as<int32_t>()[n] = static_cast<int32_t>(n);
  }
  batch_.pixels = pixels_.view();
  batch_.labels = all_labels_.view().slice_rows(own.first, own.count);
  batch_.index = index_.view().slice_rows(own.first, own.count);
  batch_.rows = own.count;
  batch_.first_row = own.first;
  batch_.global_rows = plan.batch;
  batch_.all_labels = all_labels_.view();
}

ModelOptions synthetic_options(const Net& net) {
  ModelOptions options;
  const auto channels = static_cast<size_t>(net.input().c);
  options.normalization = {std::vector<float>(channels, 0.5f), std::vector<float>(channels, 0.25f)};
  return options;
}

}  // namespace convoy
