#include "convoy/philox.h"
#include "kernels/each.cuh"
#include "kernels/normalize.h"

namespace convoy::cuda {
namespace {

constexpr int64_t kStaged =
    1024;  // channels whose constants a block keeps; those of more are computed each time

struct Images {
  int H, W, C;
  const uint8_t* pixels;
  const float *mean, *stddev;
  const int32_t* index;  // null: not augmented
  const StepScalars* scalars;
  uint64_t seed;
  int pad;
  bool flip;
};

struct Move {
  int dh = 0, dw = 0;
  bool flipped = false;
};

__device__ Move move_of(const Images& a, int64_t n) {
  Move m;
  if (a.index == nullptr) return m;
  const Philox4 v = philox(a.seed, 0, static_cast<uint32_t>(a.index[n]),
                           static_cast<uint32_t>(a.scalars->epoch), kAugmentStream);
  const uint32_t places = static_cast<uint32_t>(2 * a.pad + 1);
  m.dh = static_cast<int>(v.v[0] % places) - a.pad;
  m.dw = static_cast<int>(v.v[1] % places) - a.pad;
  m.flipped = a.flip && v.v[2] % 2 == 1;
  return m;
}

__device__ float scale_of(const Images& a, int c) {
  return 1.0f / (255.0f * a.stddev[c]);
}
__device__ float shift_of(const Images& a, int c) {
  return a.mean[c] / a.stddev[c];
}

// `parts` blocks share an image; a thread makes kPack elements that lie together.
template <class T, int kPack>
__global__ void __launch_bounds__(kEachThreads) normalize_kernel(Images a, int parts, int64_t blocks, T* y) {
  CONVOY_SHARED(float, scales, [kStaged]);
  CONVOY_SHARED(float, shifts, [kStaged]);
  const bool staged = a.C <= kStaged;
  for (int c = static_cast<int>(threadIdx.x); staged && c < a.C; c += kEachThreads) {
    scales[c] = scale_of(a, c);
    shifts[c] = shift_of(a, c);
  }
  __syncthreads();
  const int image = a.H * a.W * a.C, step = parts * kEachThreads * kPack;
  for (int64_t block = blockIdx.x; block < blocks; block += gridDim.x) {
    const int64_t n = block / parts;
    const int part = static_cast<int>(block % parts);
    const Move m = move_of(a, n);
    const uint8_t* pixels = a.pixels + n * image;
    for (int first = (part * kEachThreads + static_cast<int>(threadIdx.x)) * kPack; first < image;
         first += step) {
      int c = first % a.C, w = first / a.C % a.W, h = first / a.C / a.W;
      float values[kPack];
      for (int j = 0; j < kPack; ++j) {
        const int from_h = h + m.dh, from_w = (m.flipped ? a.W - 1 - w : w) + m.dw;
        const bool inside = from_h >= 0 && from_h < a.H && from_w >= 0 && from_w < a.W;
        values[j] = 0;
        if (inside) {
          const float pixel = pixels[(from_h * a.W + from_w) * a.C + c];
          values[j] = pixel * (staged ? scales[c] : scale_of(a, c)) - (staged ? shifts[c] : shift_of(a, c));
        }
        if (++c == a.C) {
          c = 0;
          if (++w == a.W) w = 0, ++h;
        }
      }
      store_floats(y + n * image + first, values);
    }
  }
}

template <class T, int kPack>
void launch(Exec& ex, const Images& a, int64_t N, T* y) {
  constexpr int64_t kPacks = 4;  // of a thread: it draws its image's move once
  const int64_t image = int64_t{a.H} * a.W * a.C;
  const int64_t parts = (image + kEachThreads * kPack * kPacks - 1) / (kEachThreads * kPack * kPacks);
  const int64_t blocks = N * parts;
  const dim3 grid(static_cast<unsigned>(blocks < kEachBlocks ? blocks : kEachBlocks));
  CONVOY_LAUNCH((normalize_kernel<T, kPack>), grid, dim3(kEachThreads), 0, stream(ex), a,
                static_cast<int>(parts), blocks, y);
  CONVOY_CUDA(cudaGetLastError());
}

}  // namespace

void normalize(Exec& ex, const NormalizeArgs& a) {
  const Shape& shape = a.pixels.shape;
  CONVOY_CHECK(shape.rank == 4, "pixels are ", shape, ", expected N x H x W x C");
  const int64_t N = shape[0], C = shape[3];
  // A thread's next element may lie a step behind the last one.
  CONVOY_CHECK(shape.row() < INT32_MAX / 2, "images of ", shape.row(), " numbers");
  Images images{};
  images.H = static_cast<int>(shape[1]), images.W = static_cast<int>(shape[2]);
  images.C = static_cast<int>(C);
  images.pixels = operand<uint8_t>(a.pixels, shape, "pixels");
  images.mean = operand<float>(a.mean, Shape{C}, "mean");
  images.stddev = operand<float>(a.stddev, Shape{C}, "stddev");
  CONVOY_CHECK(a.augmentation.pad >= 0 && a.augmentation.pad < INT32_MAX / 4, "pad ", a.augmentation.pad);
  if (a.augmentation.pad > 0 || a.augmentation.flip) {
    CONVOY_CHECK(a.scalars != nullptr, "augmentation without scalars");
    images.index = operand<int32_t>(a.index, Shape{N}, "index");
    images.scalars = a.scalars;
    images.seed = a.augmentation.seed;
    images.pad = static_cast<int>(a.augmentation.pad);
    images.flip = a.augmentation.flip;
  }
  with_float(a.y.dtype, [&](auto zero) {
    using T = decltype(zero);
    constexpr int kPack = kVectorBytes / static_cast<int>(sizeof(T));
    T* y = operand<T>(a.y, shape, "y");
    if (a.y.count() == 0) return;
    if (shape.row() % kPack == 0 && aligned(kVectorBytes, y)) {
      launch<T, kPack>(ex, images, N, y);
    } else {
      launch<T, 1>(ex, images, N, y);
    }
  });
}

}  // namespace convoy::cuda
