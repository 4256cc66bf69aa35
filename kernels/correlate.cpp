#include "kernels/correlate.h"

#include "kernels/sizes.h"

namespace convoy::CONVOY_CPU {
namespace {

// Consecutive outputs that have the same taps inside the image.
struct Span {
  int64_t begin, end;  // outputs
  int64_t tap, taps;   // the first tap inside, and how many
};

Span taps_inside(const Axis& axis, int64_t output) {
  const int64_t at = output * axis.stride + axis.offset;
  const int64_t first = at < 0 ? -at : 0;
  const int64_t last = axis.inputs - at < axis.taps ? axis.inputs - at : axis.taps;
  return {output, output, first, last > first ? last - first : 0};
}

Span next_span(const Axis& axis, int64_t output, int64_t end) {
  Span span = taps_inside(axis, output);
  for (++output; output < end; ++output) {
    const Span next = taps_inside(axis, output);
    if (next.taps != span.taps || (next.taps > 0 && next.tap != span.tap)) break;
  }
  span.end = output;
  if (span.taps == 0) span.tap = 0;
  return span;
}

// A rectangle of outputs with the same taps, for some images.
struct Rectangle {
  int64_t image, image_end;
  Span h, w;
};

class Pixels {
 public:
  Pixels(const Correlation& c, const Rectangle& r, int64_t channel) : c_(c), r_(r), channel_(channel) {}

  // Without taps nothing is read, and the place may lie outside.
  bool empty() const { return r_.h.taps == 0 || r_.w.taps == 0; }
  int64_t x_step() const { return empty() ? 0 : c_.w.stride * c_.C; }
  int64_t y_step() const { return c_.w.step * c_.K; }
  const float* x(int64_t image, int64_t p, int64_t q) const {
    if (empty()) return c_.x;
    const int64_t row = image * c_.h.inputs + p * c_.h.stride + c_.h.offset + r_.h.tap;
    return c_.x + (row * c_.w.inputs + q * c_.w.stride + c_.w.offset + r_.w.tap) * c_.C;
  }
  int64_t y(int64_t image, int64_t p, int64_t q) const {
    return image * c_.y_image + (c_.h.first + p * c_.h.step) * c_.y_row +
           (c_.w.first + q * c_.w.step) * c_.K + channel_;
  }

 private:
  const Correlation& c_;
  const Rectangle& r_;
  int64_t channel_;
};

// `count` pixels in tiles of nearly equal size: the first `more` have one pixel more than the others.
struct Deal {
  explicit Deal(int64_t count)
      : tiles((count + kTilePixels - 1) / kTilePixels), few(count / tiles), more(count % tiles) {}
  int64_t tiles, few, more;
  int64_t pixels(int64_t i) const { return few + (i < more); }
};

struct TileFunctions {
  TileFunction few, more;
  TileFunctions(const Deal& deal, int64_t vectors, Finish finish)
      : few(tile_function(deal.few, vectors, finish)),
        more(deal.more > 0 ? tile_function(deal.few + 1, vectors, finish) : few) {}
  void run(const Tile& tile, bool big) const { (big ? more : few)(tile); }
  // Kernels for pixels `step` apart, where there are any.
  bool shorten(const Deal& deal, int64_t vectors, Finish finish, int64_t length, int64_t step) {
    const TileFunction f = short_tile_function(deal.few, vectors, finish, length, step);
    if (f == nullptr) return false;
    few = f;
    if (deal.more > 0) more = short_tile_function(deal.few + 1, vectors, finish, length, step);
    return true;
  }
};

// Tiles along rows: nothing to decide from one pixel to the next, which counts where a tile has few steps.
void along_rows(const Rectangle& r, const Pixels& pixels, const Deal& deal, const TileFunctions& run,
                bool shortened, Tile& tile) {
  const int64_t x_step = pixels.x_step(), y_step = pixels.y_step();
  for (int64_t n = r.image; n < r.image_end; ++n)
    for (int64_t p = r.h.begin; p < r.h.end; ++p) {
      const float* x = pixels.x(n, p, r.w.begin);
      int64_t y = pixels.y(n, p, r.w.begin);
      for (int64_t i = 0; i < deal.tiles; ++i) {
        // Those past the tile's pixels are not looked at.
        for (int64_t j = 0; j < (shortened ? 2 : kTilePixels); ++j) {
          tile.x[j] = x + (j < deal.pixels(i) ? j : 0) * x_step;
          tile.y[j] = y + j * y_step;
        }
        run.run(tile, i < deal.more);
        x += deal.pixels(i) * x_step;
        y += deal.pixels(i) * y_step;
      }
    }
}

// Tiles across rows and images.
void across_rows(const Rectangle& r, const Pixels& pixels, const Deal& deal, const TileFunctions& run,
                 Tile& tile) {
  const int64_t x_step = pixels.x_step(), y_step = pixels.y_step();
  int64_t n = r.image, p = r.h.begin, q = r.w.begin;
  const float* x = pixels.x(n, p, q);
  int64_t y = pixels.y(n, p, q);
  for (int64_t i = 0; i < deal.tiles; ++i) {
    for (int64_t j = 0; j < deal.pixels(i); ++j) {
      tile.x[j] = x;
      tile.y[j] = y;
      x += x_step;
      y += y_step;
      if (++q < r.w.end) continue;
      q = r.w.begin;
      if (++p == r.h.end) {
        p = r.h.begin;
        if (++n == r.image_end) break;
      }
      x = pixels.x(n, p, q);
      y = pixels.y(n, p, q);
    }
    run.run(tile, i < deal.more);
  }
}

void correlate_rectangle(const Correlation& c, Tile& tile, int64_t vectors, int64_t channel,
                         const Rectangle& r) {
  constexpr int64_t kFewSteps = 100;
  const bool partial = tile.channels < vectors * kLanes;
  const Finish finish = partial ? kPartial : c.mask != nullptr ? kMask : c.relu ? kRelu : kStore;
  const Pixels pixels(c, r, channel);
  tile.segments = pixels.empty() ? 0 : r.h.taps;
  tile.length = r.w.taps * c.C;
  const int64_t columns = r.w.end - r.w.begin;
  const bool rows = tile.segments * tile.length < kFewSteps && columns > kTilePixels / 2;
  const Deal deal(rows ? columns : (r.image_end - r.image) * (r.h.end - r.h.begin) * columns);
  TileFunctions run(deal, vectors, finish);
  if (rows) {
    const bool shortened = run.shorten(deal, vectors, finish, tile.length, pixels.x_step());
    along_rows(r, pixels, deal, run, shortened, tile);
  } else {
    across_rows(r, pixels, deal, run, tile);
  }
}

}  // namespace

void correlate(const Correlation& c, int64_t panel, const float* packed, int64_t image, int64_t image_end,
               int64_t row, int64_t row_end) {
  if (image == image_end) return;
  const int64_t vectors = panel_vectors(c.K, panel);
  const int64_t channel = panel * kPanelLanes;
  const int64_t channels = c.K - channel;
  Tile tile;
  tile.to = c.y;
  tile.mask = c.mask;
  tile.bias = packed;
  tile.x_step = c.w.inputs * c.C;
  tile.weight_step = c.w.taps * c.C * vectors * kLanes;
  tile.channels = channels < vectors * kLanes ? channels : vectors * kLanes;
  tile.relu = c.relu;
  for (Span h{0, row, 0, 0}; h.end < row_end;) {
    h = next_span(c.h, h.end, row_end);
    for (Span w{0, 0, 0, 0}; w.end < c.w.outputs;) {
      w = next_span(c.w, w.end, c.w.outputs);
      tile.weights = tile.bias + (1 + (h.tap * c.w.taps + w.tap) * c.C) * vectors * kLanes;
      correlate_rectangle(c, tile, vectors, channel, {image, image_end, h, w});
    }
  }
}

void pack_rows(const float* w, int64_t w_row, const float* bias, int64_t K, int64_t panel, int64_t first,
               int64_t end, float* to) {
  const int64_t vectors = panel_vectors(K, panel);
  for (int64_t v = 0; v < vectors; ++v) {
    const int64_t k = panel * kPanelLanes + v * kLanes;
    const int64_t count = smaller(kLanes, K - k);
    if (first == 0) store(to + v * kLanes, bias != nullptr ? load_first(bias + k, count) : Vec{});
    for (int64_t d = first; d < end; d += kLanes) {
      const int64_t columns = smaller(kLanes, end - d);
      Vec block[kLanes] = {};
      if (count == kLanes && columns == kLanes)
        for (int i = 0; i < kLanes; ++i) block[i] = load(w + (k + i) * w_row + d);
      else
        for (int i = 0; i < count; ++i) block[i] = load_first(w + (k + i) * w_row + d, columns);
      transpose(block);
      for (int i = 0; i < columns; ++i) store(to + (1 + d + i) * vectors * kLanes + v * kLanes, block[i]);
    }
  }
}

Blocks cut_blocks(int64_t images, int64_t rows, int64_t image_bytes, int64_t panels, int threads) {
  // Half of the 1 MiB second-level cache of a smaller core.
  constexpr int64_t kBlockBytes = 512 * 1024;
  Blocks blocks{images, rows};
  if (images == 0 || rows == 0) return blocks;
  int64_t wanted = (images * image_bytes + kBlockBytes - 1) / kBlockBytes;
  // A few pieces for each thread, all of about the same work.
  const int64_t enough = threads > 1 ? (2 * threads + panels - 1) / panels : 1;
  if (wanted < enough) wanted = enough;
  wanted = (wanted + threads - 1) / threads * threads;
  blocks.groups = wanted < images ? wanted : images;
  const int64_t bands = (wanted + images - 1) / images;
  blocks.bands = bands < rows ? bands : rows;
  return blocks;
}

}  // namespace convoy::CONVOY_CPU
