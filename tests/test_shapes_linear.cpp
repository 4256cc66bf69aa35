#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "convoy/data.h"

namespace convoy {
namespace {

// What the demo promises: a linear classifier on the pixels stays under 60 %. Softmax regression by SGD with
// momentum, and the best test accuracy of all epochs counts.
TEST(Shapes, LinearClassifierStaysUnder60Percent) {
  const DataSets sets = load_data({});
  constexpr size_t kInputs = 3072, kClasses = 10;
  std::vector<float> weights(kInputs * kClasses), inputs(kInputs);
  std::vector<uint8_t> pixels(kInputs);
  const Normalization& norm = sets.normalization;
  const auto scores = [&](const DataSet& set, int64_t index, float* logits) {
    set.read(index, pixels.data());
    std::fill(logits, logits + kClasses, 0.0f);
    for (size_t i = 0; i < kInputs; ++i) {
      inputs[i] = (pixels[i] / 255.0f - norm.mean[i % 3]) / norm.stddev[i % 3];
      for (size_t k = 0; k < kClasses; ++k) logits[k] += inputs[i] * weights[i * kClasses + k];
    }
  };
  float best_test = 0, train_accuracy = 0;
  for (int64_t epoch = 0; epoch < 12; ++epoch) {
    const float lr = 0.001f / static_cast<float>(1 + epoch);
    int64_t train_right = 0;
    for (const int32_t image : epoch_order(sets.train.count(), 3, epoch, true)) {
      float logits[kClasses];
      scores(sets.train, image, logits);
      const auto label = static_cast<size_t>(sets.train.labels[static_cast<size_t>(image)]);
      const float top = *std::max_element(logits, logits + kClasses);
      train_right += logits[label] == top;
      float sum = 0;
      for (float& z : logits) sum += z = std::exp(z - top);
      for (size_t k = 0; k < kClasses; ++k) logits[k] = lr * (logits[k] / sum - (k == label ? 1.0f : 0.0f));
      for (size_t i = 0; i < kInputs; ++i)
        for (size_t k = 0; k < kClasses; ++k) weights[i * kClasses + k] -= inputs[i] * logits[k];
    }
    int64_t right = 0;
    for (int64_t i = 0; i < sets.test.count(); ++i) {
      float logits[kClasses];
      scores(sets.test, i, logits);
      right +=
          std::max_element(logits, logits + kClasses) - logits == sets.test.labels[static_cast<size_t>(i)];
    }
    best_test = std::max(best_test, static_cast<float>(right) / static_cast<float>(sets.test.count()));
    train_accuracy = static_cast<float>(train_right) / static_cast<float>(sets.train.count());
  }
  std::printf("linear classifier: %.1f %% of the training images, %.1f %% of the test images\n",
              100 * static_cast<double>(train_accuracy), 100 * static_cast<double>(best_test));
  EXPECT_LT(best_test, 0.60f);
  EXPECT_GT(best_test, 0.12f) << "the classifier learned nothing: the test tests nothing";
}

}  // namespace
}  // namespace convoy
