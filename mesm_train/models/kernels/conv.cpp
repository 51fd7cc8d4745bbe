// Convolutions of rows of active sites, pair by pair of neighbours; see __init__.py for what each computes.
//
// Every output element is summed by one thread in one order that depends neither on the number of rows nor on the
// number of threads: results are bitwise the same from run to run, and a row's convolution is the same in any batch.
// Compiled for the machine it runs on (-march=native); GCC's vector types make it portable to any of its targets.

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "vectors.h"

using namespace mesm;

namespace {

constexpr int kChunk = 128;  // output rows of a task: their input and output stay in the L2 cache
constexpr int kGroup = 384;  // rows of dy that a weight gradient takes at once, for all taps
constexpr int kPart = 66;    // inputs of a weight gradient's task, at most: a multiple of kRows

// weight (taps, cin, cout), or with `mirror` (taps, cout, cin) taken from its last tap to its first, to one block a tile.
template <class T>
std::unique_ptr<T[]> pack(const T* weight, const std::vector<Tile>& tiles, int taps, int cin, int cout, bool mirror,
                          int threads) {
  auto packed = uninitialised<T>(int64_t(taps) * cin * padded<T>(cout));
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int item = 0; item < int(tiles.size()) * taps; ++item) {
    const Tile tile = tiles[item / taps];
    const int k = item % taps;
    T* to = packed.get() + int64_t(taps) * cin * tile.first + int64_t(k) * cin * tile.width;
    const T* from = weight + int64_t(mirror ? taps - 1 - k : k) * cin * cout;
    for (int c = 0; !mirror && c < cin; ++c) copy_tile(tile, from + int64_t(c) * cout + tile.first, to + c * tile.width);
    if (mirror && tile.used < tile.width) std::fill_n(to, int64_t(cin) * tile.width, T(0));
    if (mirror) transpose(from + int64_t(tile.first) * cin, cin, tile.used, cin, to, tile.width);
  }
  return packed;
}

// The rows to compute: a list of them, or all.
struct Rows {
  const int32_t* list;
  int64_t count;

  int64_t operator[](int64_t i) const { return list ? list[i] : i; }
};

template <class T>
void conv(const T* x, const T* weight, const T* bias, const int32_t* near, Rows rows, T* y, int taps, int cin, int cout,
          bool mirror, int threads) {
  const auto tiles = tiles_of<T>(cout);
  const auto packed = pack(weight, tiles, taps, cin, cout, mirror, threads);
  const std::vector<T> zeros(cout);
#pragma omp parallel num_threads(threads)
  {
    std::vector<const T*> in(int64_t(taps) * kChunk);
    std::vector<T*> out(int64_t(taps) * kChunk), to(kChunk);
    std::vector<int> counts(taps);
#pragma omp for schedule(dynamic)
    for (int64_t first = 0; first < rows.count; first += kChunk) {
      std::fill(counts.begin(), counts.end(), 0);
      for (int64_t i = first; i < std::min(first + kChunk, rows.count); ++i) {
        const int64_t row = rows[i];
        copy(bias ? bias : zeros.data(), y + row * cout, cout);
        for (int k = 0; k < taps; ++k) {
          const int64_t from = near ? near[row * taps + k] : row;
          if (from < 0) continue;
          in[k * kChunk + counts[k]] = x + from * cin;
          out[k * kChunk + counts[k]++] = y + row * cout;
        }
      }
      for (Tile tile : tiles)
        for (int k = 0; k < taps; ++k) {
          for (int i = 0; i < counts[k]; ++i) to[i] = out[k * kChunk + i] + tile.first;
          const T* w = packed.get() + int64_t(taps) * cin * tile.first + int64_t(k) * cin * tile.width;
          multiply_tile<T, true>(tile, counts[k], &in[k * kChunk], to.data(), w, cin);
        }
    }
  }
}

// The pairs of a tap, (row of x, row of dy within its group of the list), in the order of the list; group i begins at
// `first[i]`.
struct Pairs {
  std::vector<int32_t> in, out;
  std::vector<int64_t> first;
};

std::vector<Pairs> pairs_of(const int32_t* near, Rows rows, int taps, int threads) {
  std::vector<Pairs> found(taps);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
  for (int k = 0; k < taps; ++k) {
    Pairs& tap = found[k];
    tap.in.reserve(rows.count);
    tap.out.reserve(rows.count);
    for (int64_t i = 0; i < rows.count; ++i) {
      if (i % kGroup == 0) tap.first.push_back(int64_t(tap.in.size()));
      const int32_t from = near[rows[i] * taps + k];
      if (from < 0) continue;
      tap.in.push_back(from);
      tap.out.push_back(int32_t(i % kGroup));
    }
    tap.first.push_back(int64_t(tap.in.size()));
  }
  return found;
}

// A task is some inputs of dw, of several taps. It goes through dy in groups of rows, which are laid out tile by tile
// and stay in the caches for all its taps: tap by tap, x and dy came from memory nine times, on the largest grids at
// half the speed.
template <class T>
void conv_weight(const T* x, const T* dy, const int32_t* near, Rows rows, T* dw, int taps, int cin, int cout,
                 int threads) {
  const auto tiles = tiles_of<T>(cout);
  const auto pairs = pairs_of(near, rows, taps, threads);
  const int together = threads <= 4 ? taps : threads <= 12 ? 3 : 1;  // taps of a task; fewer, and there are more tasks
  const int parts = std::max((cin + kPart - 1) / kPart, (threads * together + taps - 1) / taps);
  const int part = (cin + parts - 1) / parts;
#pragma omp parallel num_threads(threads)
  {
    std::vector<T> g(int64_t(kGroup) * padded<T>(cout));
#pragma omp for schedule(dynamic)
    for (int item = 0; item < (taps + together - 1) / together * parts; ++item) {
      const int k0 = item / parts * together, c = item % parts * part, inputs = std::min(part, cin - c);
      for (int64_t group = 0; group * kGroup < rows.count && inputs > 0; ++group) {
        const int64_t first = group * kGroup;
        const int height = int(std::min<int64_t>(kGroup, rows.count - first));
        for (Tile tile : tiles)
          for (int r = 0; r < height; ++r)
            copy_tile(tile, dy + rows[first + r] * cout + tile.first, &g[int64_t(tile.first) * kGroup + r * tile.width]);
        for (int k = k0; k < std::min(k0 + together, taps); ++k) {
          const Pairs& tap = pairs[k];
          const int64_t begin = tap.first[group];
          T* to = dw + (int64_t(k) * cin + c) * cout;
          for (Tile tile : tiles)
            outer_tile(tile, x + c, tap.in.data() + begin, &g[int64_t(tile.first) * kGroup], tap.out.data() + begin,
                       int(tap.first[group + 1] - begin), to + tile.first, inputs, cin, tile.width, cout);
        }
      }
    }
  }
}

}  // namespace

// The rows are `count` of the list, or without one the first `count`. The weight's gradient is added to dw.
#define MESM_EXPORT(T, S)                                                                                              \
  extern "C" {                                                                                                         \
  void mesm_conv_##S(const T* x, const T* w, const T* bias, const int32_t* near, const int32_t* list, T* y,            \
                     int64_t count, int taps, int cin, int cout, int mirror, int threads) {                            \
    conv(x, w, bias, near, Rows{list, count}, y, taps, cin, cout, mirror, threads);                                    \
  }                                                                                                                    \
  void mesm_conv_weight_##S(const T* x, const T* dy, const int32_t* near, const int32_t* list, T* dw, int64_t count,   \
                            int taps, int cin, int cout, int threads) {                                                \
    conv_weight(x, dy, near, Rows{list, count}, dw, taps, cin, cout, threads);                                         \
  }                                                                                                                    \
  }

MESM_EXPORT(float, f32)
MESM_EXPORT(double, f64)
