// Correlation of images with packed filters: what forward convolution is, and backward data once for every
// residue of the stride. Taps outside the image are skipped: outputs are computed in rectangles that have the
// same taps inside.
#pragma once
#include "kernels/conv_tile.h"

namespace convoy::CONVOY_CPU {

struct Axis {
  int64_t outputs;         // made along this axis
  int64_t first, step;     // output o lies at first + o·step
  int64_t stride, offset;  // and reads the inputs o·stride + offset + tap
  int64_t taps, inputs;
};

struct Correlation {
  Axis h, w;
  int64_t C, K;  // channels of x and y
  const float* x;
  float* y;
  const float* mask;       // laid out as y, or null
  int64_t y_image, y_row;  // elements from one image, one row of y to the next
  bool relu;
};

// Filters are packed in panels of up to kPanelLanes output channels: a row of biases, then a row per tap and
// input channel. Panels lie one after the other; the last may be one vector narrow.
constexpr int64_t panel_count(int64_t K) {
  return (K + kPanelLanes - 1) / kPanelLanes;
}
constexpr int64_t panel_vectors(int64_t K, int64_t panel) {
  const int64_t vectors = (K - panel * kPanelLanes + kLanes - 1) / kLanes;
  return vectors < kPanelVectors ? vectors : kPanelVectors;
}
constexpr int64_t panel_floats(int64_t K, int64_t rows) {
  return panel_count(K) * kPanelLanes * (1 + rows);
}
constexpr int64_t panel_offset(int64_t rows, int64_t panel) {
  return panel * kPanelLanes * (1 + rows);
}

// Packs a panel of a matrix w[K,D], whose rows are w_row apart: the panel's rows [first, end), and with row 0
// the biases (or zeros).
void pack_rows(const float* w, int64_t w_row, const float* bias, int64_t K, int64_t panel, int64_t first,
               int64_t end, float* packed);

// Computes the channels of one packed panel for images [image, image_end) and output rows [row, row_end).
void correlate(const Correlation& c, int64_t panel, const float* packed, int64_t image, int64_t image_end,
               int64_t row, int64_t row_end);

// How a batch of images is cut into blocks that fit a core's cache, each some images or a band of one image's
// rows. It may depend on the threads: every output is a sum of its own, in the same order in any block.
struct Blocks {
  int64_t images, rows;  // of the batch, of an image
  int64_t groups = 1;    // the images are dealt into that many groups
  int64_t bands = 1;     // and their rows into that many bands
  int64_t count() const { return groups * bands; }
  int64_t image(int64_t block) const { return images * (block / bands) / groups; }
  int64_t image_end(int64_t block) const { return images * (block / bands + 1) / groups; }
  // The part of `of` rows; the parts of two axes of nearly equal extents belong together.
  int64_t row(int64_t block, int64_t of) const { return of * (block % bands) / bands; }
  int64_t row_end(int64_t block, int64_t of) const { return of * (block % bands + 1) / bands; }
};
Blocks cut_blocks(int64_t images, int64_t rows, int64_t image_bytes, int64_t panels, int threads);

}  // namespace convoy::CONVOY_CPU
