#include "bench/ops_bench.h"

namespace convoy::bench {
namespace {

Problem conv(const char* net, const char* name, int64_t N, int64_t H, int64_t C, int64_t K, int64_t R,
             int64_t stride, int64_t pad) {
  return {net, name, false, C <= 3, {N, H, H, C, K, R, R, stride, stride, pad, pad}};
}

Problem fc(const char* net, const char* name, int64_t N, int64_t D, int64_t F) {
  return {net, name, true, false, {N, 1, 1, D, F, 1, 1, 1, 1, 0, 0}};
}

}  // namespace

std::vector<Problem> problems() {
  return {
      conv("table", "3->32@32", 32, 32, 3, 32, 3, 1, 1),
      conv("table", "32->64@16", 32, 16, 32, 64, 3, 1, 1),
      conv("table", "64->128@32", 32, 32, 64, 128, 3, 1, 1),
      conv("table", "256->256@8", 32, 8, 256, 256, 3, 1, 1),
      conv("table", "512->512@4", 32, 4, 512, 512, 3, 1, 1),
      conv("table", "512->512@2", 32, 2, 512, 512, 3, 1, 1),
      fc("cifar_cnn", "fc 4096->256", 32, 4096, 256),
      fc("cifar_cnn", "fc 256->10", 32, 256, 10),
      conv("mnist_cnn", "1->32@28", 64, 28, 1, 32, 3, 1, 0),
      conv("mnist_cnn", "32->64@26", 64, 26, 32, 64, 3, 1, 0),
      fc("mnist_cnn", "fc 9216->128", 64, 9216, 128),
      fc("mlp", "fc 784->512", 64, 784, 512),
      fc("mlp", "fc 784->512", 1, 784, 512),
      fc("mlp", "fc 512->10", 64, 512, 10),
      conv("vgg16@32", "3->64@32", 128, 32, 3, 64, 3, 1, 1),
      conv("vgg16@32", "64->64@32", 128, 32, 64, 64, 3, 1, 1),
      conv("vgg16@32", "128->128@16", 128, 16, 128, 128, 3, 1, 1),
      fc("vgg16@32", "fc 512->4096", 128, 512, 4096),
      fc("vgg16@32", "fc 4096->4096", 128, 4096, 4096),
      conv("resnet18@32", "64->64@32", 64, 32, 64, 64, 3, 1, 1),
      conv("resnet18@32", "64->128@32/2", 64, 32, 64, 128, 3, 2, 1),
      conv("resnet18@32", "1x1 64->128@32/2", 64, 32, 64, 128, 1, 2, 0),
      conv("resnet18@32", "256->512@8/2", 64, 8, 256, 512, 3, 2, 1),
      conv("resnet18@224", "7x7 3->64@224/2", 8, 224, 3, 64, 7, 2, 3),
      conv("alexnet", "11x11 3->64@224/4", 32, 224, 3, 64, 11, 4, 2),
      conv("alexnet", "5x5 64->192@27", 32, 27, 64, 192, 5, 1, 2),
      conv("alexnet", "192->384@13", 32, 13, 192, 384, 3, 1, 1),
      conv("alexnet", "384->256@13", 32, 13, 384, 256, 3, 1, 1),
      conv("alexnet", "256->256@13", 32, 13, 256, 256, 3, 1, 1),
      fc("alexnet", "fc 9216->4096", 32, 9216, 4096),
      fc("alexnet", "fc 4096->1000", 32, 4096, 1000),
      conv("vgg16@224", "64->64@224", 2, 224, 64, 64, 3, 1, 1),
      conv("vgg16@224", "256->256@56", 2, 56, 256, 256, 3, 1, 1),
  };
}

}  // namespace convoy::bench
