// How a data set falls into batches.
#pragma once
#include <cstdint>
#include <vector>

namespace convoy {

// The sizes that batches of up to `batch` rows have, over `count` rows: the full one, and the short last one.
// Largest first.
inline std::vector<int64_t> batch_rows(int64_t count, int64_t batch) {
  std::vector<int64_t> rows;
  if (count >= batch) rows.push_back(batch);
  if (count % batch != 0) rows.push_back(count % batch);
  return rows;
}

inline int64_t batches_of(int64_t count, int64_t batch) {
  return (count + batch - 1) / batch;
}

}  // namespace convoy
