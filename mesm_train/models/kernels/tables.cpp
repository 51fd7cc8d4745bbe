// Which rows are neighbours, and which sites a convolution takes 4x4 at a time; see __init__.py.

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

extern "C" {

// Of a mask (b, height, width): the rank of each active site (-1: none), the ranks of its 3x3 neighbours, and of the 4
// children of each pooled site that has any; the mask and the places of the pooled sites. Writes how many sites and
// pooled sites there are to counts[0..2).
void mesm_tables(const uint8_t* mask, int64_t b, int height, int width, int32_t* rank, int64_t* sites, int32_t* near,
                 int32_t* pool, uint8_t* pooled, int64_t* places, int64_t* counts, int threads) {
  const int64_t size = int64_t(height) * width;
  int64_t n = 0, m = 0;
  for (int64_t s = 0; s < b * size; ++s) {
    rank[s] = mask[s] ? int32_t(n) : -1;
    if (mask[s]) sites[n++] = s;
  }
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t i = 0; i < n; ++i) {
    const int64_t s = sites[i];
    const int y = int(s % size / width), x = int(s % width);
    for (int k = 0; k < 9; ++k) {
      const int v = y + k / 3 - 1, u = x + k % 3 - 1;
      const bool inside = v >= 0 && v < height && u >= 0 && u < width;
      near[i * 9 + k] = inside ? rank[s + int64_t(k / 3 - 1) * width + k % 3 - 1] : -1;
    }
  }
  int64_t window = 0;
  for (int64_t p = 0; p < b; ++p)
    for (int y = 0; y < height; y += 2)
      for (int x = 0; x < width; x += 2, ++window) {
        const int32_t* top = rank + p * size + int64_t(y) * width + x;
        const int32_t child[4] = {top[0], top[1], top[width], top[width + 1]};
        pooled[window] = child[0] >= 0 || child[1] >= 0 || child[2] >= 0 || child[3] >= 0;
        if (!pooled[window]) continue;
        places[m] = window;
        std::memcpy(pool + m++ * 4, child, sizeof child);
      }
  counts[0] = n;
  counts[1] = m;
}

// Of the same grids, the 4x4 windows with at least `least` pairs of neighbours: the ranks of their 6x6 sites, the border
// included (-1: none), and the rows that are in no such window. Writes how many windows and rows to counts[0..2).
void mesm_windows(const int32_t* rank, const int32_t* near, const int64_t* sites, int64_t n, int64_t b, int height,
                  int width, int least, int32_t* windows, int32_t* alone, int64_t* counts, int threads) {
  const int down = (height + 3) / 4, across = (width + 3) / 4;
  const auto window_of = [=](int64_t site) {
    const int64_t line = site / width;
    return (line / height * down + line % height / 4) * across + site % width / 4;
  };
  std::vector<int32_t> place(b * down * across);
  for (int64_t i = 0; i < n; ++i) {
    int32_t& pairs = place[window_of(sites[i])];
    for (int k = 0; k < 9; ++k) pairs += near[i * 9 + k] >= 0;
  }
  int64_t chosen = 0, others = 0;
  for (int32_t& pairs : place) pairs = pairs >= least ? int32_t(chosen++) : -1;
  for (int64_t i = 0; i < n; ++i)
    if (place[window_of(sites[i])] < 0) alone[others++] = int32_t(i);
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t w = 0; w < int64_t(place.size()); ++w) {
    if (place[w] < 0) continue;
    const int64_t picture = w / (down * across);
    const int y = int(w / across % down) * 4 - 1, x = int(w % across) * 4 - 1;
    int32_t* to = windows + int64_t(place[w]) * 36;
    for (int i = 0; i < 6; ++i)
      for (int j = 0; j < 6; ++j) {
        const bool inside = y + i >= 0 && y + i < height && x + j >= 0 && x + j < width;
        to[i * 6 + j] = inside ? rank[(picture * height + y + i) * width + x + j] : -1;
      }
  }
  counts[0] = chosen;
  counts[1] = others;
}
}
