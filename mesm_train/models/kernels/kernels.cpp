// The sparse blocks' kernels for a CPU: rows of active sites in, rows out; see __init__.py for what each computes.
//
// Every output element is summed by one thread in one order that depends neither on the number of rows nor on the
// number of threads: results are bitwise the same from run to run, and a row's convolution is the same in any batch.
// Compiled for the machine it runs on (-march=native); GCC's vector types make it portable to any of its targets.

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

#if defined(__AVX512F__)
constexpr int kBytes = 64, kWide = 4;  // 6 x 4 accumulators of 32 registers
#elif defined(__AVX__)
constexpr int kBytes = 32, kWide = 2;  // 6 x 2 of 16
#else
constexpr int kBytes = 16, kWide = 2;
#endif
constexpr int kRows = 6;     // rows of a register tile
constexpr int kChunk = 128;  // output rows of a task: their input and output stay in the L2 cache
constexpr int kGroup = 384;  // rows of dy that a weight gradient takes at once, for all taps
constexpr int kPart = 66;     // inputs of a weight gradient's task, at most: a multiple of kRows
constexpr int kBlock = 256;  // rows that are summed in T before they are added in double

template <class T> struct Vector;
template <> struct Vector<float> { typedef float type __attribute__((vector_size(kBytes), aligned(4), may_alias)); };
template <> struct Vector<double> { typedef double type __attribute__((vector_size(kBytes), aligned(8), may_alias)); };
template <class T> using Vec = typename Vector<T>::type;
template <class T> constexpr int kLanes = kBytes / int(sizeof(T));

template <class T> inline Vec<T> load(const T* p) { return *reinterpret_cast<const Vec<T>*>(p); }
template <class T> inline void store(T* p, Vec<T> v) { *reinterpret_cast<Vec<T>*>(p) = v; }

// Some numbers, vector by vector, without a call.
template <class T> inline void copy(const T* from, T* to, int count) {
  int i = 0;
  for (; i + kLanes<T> <= count; i += kLanes<T>) store(to + i, load(from + i));
  for (; i < count; ++i) to[i] = from[i];
}

// Columns are cut into tiles of kWide vectors, then single vectors, then what is left of a vector.
struct Tile { int first, width; };

template <class T> std::vector<Tile> tiles_of(int columns) {
  std::vector<Tile> tiles;
  int first = 0;
  for (int width : {kWide * kLanes<T>, kLanes<T>})
    for (; columns - first >= width; first += width) tiles.push_back({first, width});
  if (first < columns) tiles.push_back({first, columns - first});
  return tiles;
}

// out[r][0..N vectors) += sum over c of in[r][c] * w[c][..], for R rows; w is packed, so its rows are that wide.
template <class T, int R, int N> void multiply(const T* const* in, T* const* out, const T* w, int cin) {
  Vec<T> sum[R][N];
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < N; ++v) sum[r][v] = load(out[r] + v * kLanes<T>);
  for (int c = 0; c < cin; ++c, w += N * kLanes<T>) {
    Vec<T> b[N];
    for (int v = 0; v < N; ++v) b[v] = load(w + v * kLanes<T>);
    for (int r = 0; r < R; ++r) {
      const T a = in[r][c];
      for (int v = 0; v < N; ++v) sum[r][v] += a * b[v];
    }
  }
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < N; ++v) store(out[r] + v * kLanes<T>, sum[r][v]);
}

template <class T, int N> void multiply_rows(int rows, const T* const* in, T* const* out, const T* w, int cin) {
  for (; rows >= kRows; rows -= kRows, in += kRows, out += kRows) multiply<T, kRows, N>(in, out, w, cin);
  switch (rows) {
    case 5: return multiply<T, 5, N>(in, out, w, cin);
    case 4: return multiply<T, 4, N>(in, out, w, cin);
    case 3: return multiply<T, 3, N>(in, out, w, cin);
    case 2: return multiply<T, 2, N>(in, out, w, cin);
    case 1: return multiply<T, 1, N>(in, out, w, cin);
  }
}

template <class T>
void multiply_tile(Tile tile, int rows, const T* const* in, T* const* out, const T* w, int cin) {
  if (tile.width == kWide * kLanes<T>) return multiply_rows<T, kWide>(rows, in, out, w, cin);
  if (tile.width == kLanes<T>) return multiply_rows<T, 1>(rows, in, out, w, cin);
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < cin; ++c)
      for (int j = 0; j < tile.width; ++j) out[r][j] += in[r][c] * w[c * tile.width + j];
}

// weight (taps, cin, cout), or with `mirror` (taps, cout, cin) taken from its last tap to its first, to one block a tile.
template <class T>
std::vector<T> pack(const T* weight, const std::vector<Tile>& tiles, int taps, int cin, int cout, bool mirror,
                    int threads) {
  std::vector<T> packed(int64_t(taps) * cin * cout);
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int item = 0; item < int(tiles.size()) * taps; ++item) {
    const Tile tile = tiles[item / taps];
    const int k = item % taps;
    T* to = packed.data() + int64_t(taps) * cin * tile.first + int64_t(k) * cin * tile.width;
    const T* from = weight + int64_t(mirror ? taps - 1 - k : k) * cin * cout;
    for (int c = 0; !mirror && c < cin; ++c) copy(from + int64_t(c) * cout + tile.first, to + c * tile.width, tile.width);
    for (int block = 0; mirror && block < cin; block += kLanes<T>)  // one line of the cache a row
      for (int j = 0; j < tile.width; ++j)
        for (int c = block; c < std::min(block + kLanes<T>, cin); ++c)
          to[c * tile.width + j] = from[int64_t(tile.first + j) * cin + c];
  }
  return packed;
}

template <class T>
void conv(const T* x, const T* weight, const int32_t* near, T* y, int64_t n, int taps, int cin, int cout, int mirror,
          int threads) {
  const auto tiles = tiles_of<T>(cout);
  const auto packed = pack(weight, tiles, taps, cin, cout, mirror, threads);
#pragma omp parallel num_threads(threads)
  {
    std::vector<const T*> in(int64_t(taps) * kChunk);
    std::vector<int> out(int64_t(taps) * kChunk);
    std::vector<T*> to(kChunk);
    std::vector<int> counts(taps);
#pragma omp for schedule(dynamic)
    for (int64_t first = 0; first < n; first += kChunk) {
      const int rows = int(std::min<int64_t>(kChunk, n - first));
      std::fill(counts.begin(), counts.end(), 0);
      for (int r = 0; r < rows; ++r)
        for (int k = 0; k < taps; ++k) {
          const int64_t from = near ? near[(first + r) * taps + k] : first + r;
          if (from < 0) continue;
          in[k * kChunk + counts[k]] = x + from * cin;
          out[k * kChunk + counts[k]++] = r;
        }
      T* base = y + first * cout;
      std::memset(base, 0, sizeof(T) * rows * cout);
      for (Tile tile : tiles)
        for (int k = 0; k < taps; ++k) {
          for (int i = 0; i < counts[k]; ++i) to[i] = base + int64_t(out[k * kChunk + i]) * cout + tile.first;
          const T* w = packed.data() + int64_t(taps) * cin * tile.first + int64_t(k) * cin * tile.width;
          multiply_tile(tile, counts[k], &in[k * kChunk], to.data(), w, cin);
        }
    }
  }
}

// to[r][..] += sum over pairs of x[in[p]][r] * g[out[p]][..], for R inputs and N vectors of outputs.
template <class T, int R, int N>
void outer(const T* x, const int32_t* in, const T* g, const int32_t* out, int pairs, T* to, int cin, int cout) {
  Vec<T> sum[R][N];
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < N; ++v) sum[r][v] = load(to + int64_t(r) * cout + v * kLanes<T>);
  for (int p = 0; p < pairs; ++p) {
    const T *a = x + int64_t(in[p]) * cin, *row = g + int64_t(out[p]) * (N * kLanes<T>);
    Vec<T> b[N];
    for (int v = 0; v < N; ++v) b[v] = load(row + v * kLanes<T>);
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < N; ++v) sum[r][v] += a[r] * b[v];
  }
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < N; ++v) store(to + int64_t(r) * cout + v * kLanes<T>, sum[r][v]);
}

template <class T, int N>
void outer_rows(const T* x, const int32_t* in, const T* g, const int32_t* out, int pairs, T* to, int rows, int cin,
                int cout) {
  for (; rows >= kRows; rows -= kRows, x += kRows, to += int64_t(kRows) * cout)
    outer<T, kRows, N>(x, in, g, out, pairs, to, cin, cout);
  switch (rows) {
    case 5: return outer<T, 5, N>(x, in, g, out, pairs, to, cin, cout);
    case 4: return outer<T, 4, N>(x, in, g, out, pairs, to, cin, cout);
    case 3: return outer<T, 3, N>(x, in, g, out, pairs, to, cin, cout);
    case 2: return outer<T, 2, N>(x, in, g, out, pairs, to, cin, cout);
    case 1: return outer<T, 1, N>(x, in, g, out, pairs, to, cin, cout);
  }
}

template <class T>
void outer_tile(Tile tile, const T* x, const int32_t* in, const T* g, const int32_t* out, int pairs, T* to, int rows,
                int cin, int cout) {
  if (tile.width == kWide * kLanes<T>) return outer_rows<T, kWide>(x, in, g, out, pairs, to, rows, cin, cout);
  if (tile.width == kLanes<T>) return outer_rows<T, 1>(x, in, g, out, pairs, to, rows, cin, cout);
  for (int p = 0; p < pairs; ++p)
    for (int r = 0; r < rows; ++r)
      for (int j = 0; j < tile.width; ++j)
        to[int64_t(r) * cout + j] += x[int64_t(in[p]) * cin + r] * g[out[p] * tile.width + j];
}

// The pairs of a tap, (row of x, row of dy within its group), in the order of dy's rows; group i begins at `first[i]`.
struct Pairs {
  std::vector<int32_t> in, out;
  std::vector<int64_t> first;
};

std::vector<Pairs> pairs_of(const int32_t* near, int64_t n, int taps, int threads) {
  std::vector<Pairs> found(taps);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
  for (int k = 0; k < taps; ++k) {
    Pairs& tap = found[k];
    tap.in.reserve(n);
    tap.out.reserve(n);
    for (int64_t r = 0; r < n; ++r) {
      if (r % kGroup == 0) tap.first.push_back(int64_t(tap.in.size()));
      const int32_t from = near[r * taps + k];
      if (from < 0) continue;
      tap.in.push_back(from);
      tap.out.push_back(int32_t(r % kGroup));
    }
    tap.first.push_back(int64_t(tap.in.size()));
  }
  return found;
}

// A task is some inputs of dw, of several taps. It goes through dy in groups of rows, which are laid out tile by tile
// and stay in the caches for all its taps: tap by tap, x and dy came from memory nine times, on the largest grids at half the speed.
template <class T>
void conv_weight(const T* x, const T* dy, const int32_t* near, T* dw, int64_t n, int taps, int cin, int cout,
                 int threads) {
  const auto tiles = tiles_of<T>(cout);
  const auto pairs = pairs_of(near, n, taps, threads);
  std::memset(dw, 0, sizeof(T) * taps * cin * cout);
  const int together = threads <= 4 ? taps : threads <= 12 ? 3 : 1;  // taps of a task; fewer, and there are more tasks
  const int parts = std::max((cin + kPart - 1) / kPart, (threads * together + taps - 1) / taps);
  const int part = (cin + parts - 1) / parts;
#pragma omp parallel num_threads(threads)
  {
    std::vector<T> g(int64_t(kGroup) * cout);
#pragma omp for schedule(dynamic)
    for (int item = 0; item < (taps + together - 1) / together * parts; ++item) {
      const int k0 = item / parts * together, c = item % parts * part, rows = std::min(part, cin - c);
      for (int64_t group = 0; group * kGroup < n && rows > 0; ++group) {
        const int64_t first = group * kGroup;
        const int height = int(std::min<int64_t>(kGroup, n - first));
        for (Tile tile : tiles)
          for (int r = 0; r < height; ++r)
            copy(dy + (first + r) * cout + tile.first, &g[int64_t(tile.first) * kGroup + r * tile.width], tile.width);
        for (int k = k0; k < std::min(k0 + together, taps); ++k) {
          const Pairs& tap = pairs[k];
          const int64_t begin = tap.first[group];
          T* to = dw + (int64_t(k) * cin + c) * cout;
          for (Tile tile : tiles)
            outer_tile(tile, x + c, tap.in.data() + begin, &g[int64_t(tile.first) * kGroup], tap.out.data() + begin,
                       int(tap.first[group + 1] - begin), to + tile.first, rows, cin, cout);
        }
      }
    }
  }
}

// Column sums of two quantities over n rows, block by block: add(row, first, second) adds a row's to T buffers.
template <class T, class Add> void column_sums(int64_t n, int c, double* sums, int threads, Add add) {
  const int64_t blocks = (n + kBlock - 1) / kBlock;
  std::vector<T> partial(blocks * 2 * c);
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t b = 0; b < blocks; ++b) {
    T* first = partial.data() + b * 2 * c;
    for (int64_t r = b * kBlock; r < std::min(n, (b + 1) * kBlock); ++r) add(r, first, first + c);
  }
  std::fill(sums, sums + 2 * c, 0.0);
  for (int64_t b = 0; b < blocks; ++b)
    for (int j = 0; j < 2 * c; ++j) sums[j] += double(partial[b * 2 * c + j]);
}

template <class T> void moments(const T* x, int64_t n, int c, double* sums, int threads) {
  // Around the first row: the squares of what is far from 0 would lose the variance in float.
  const T* origin = x;
  column_sums<T>(n, c, sums, threads, [=](int64_t r, T* __restrict first, T* __restrict second) {
    const T* row = x + r * c;
    for (int j = 0; j < c; ++j) {
      const T d = row[j] - origin[j];
      first[j] += d;
      second[j] += d * d;
    }
  });
  for (int j = 0; n > 0 && j < c; ++j) {
    const double shift = double(origin[j]), sum = sums[j];
    sums[j] = sum + n * shift;
    sums[c + j] += 2 * shift * sum + n * shift * shift;
  }
}

template <class T>
void normalise(const T* x, const T* scale, const T* shift, T* y, int64_t n, int c, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t r = 0; r < n; ++r) {
    const T* row = x + r * c;
    T* __restrict to = y + r * c;
    for (int j = 0; j < c; ++j) {
      const T v = row[j] * scale[j] + shift[j];
      to[j] = v < 0 ? T(0) : v;  // NaN stays
    }
  }
}

template <class T>
void normalise_pool(const T* x, const T* scale, const T* shift, const int32_t* pool, T* y, uint8_t* which, int64_t m,
                    int c, int threads) {
#pragma omp parallel num_threads(threads)
  {
    std::vector<int> chosen(c);
    int* __restrict of = chosen.data();
#pragma omp for schedule(static)
    for (int64_t r = 0; r < m; ++r) {
      T* __restrict best = y + r * c;
      for (int j = 0; j < c; ++j) best[j] = 0, of[j] = 255;
      for (int i = 0; i < 4; ++i) {
        const int64_t from = pool[r * 4 + i];
        if (from < 0) continue;
        const T* row = x + from * c;
        for (int j = 0; j < c; ++j) {
          const T v = row[j] * scale[j] + shift[j];
          const bool take = (v > best[j]) | (v != v);
          best[j] = take ? v : best[j];
          of[j] = take ? i : of[j];
        }
      }
      for (int j = 0; j < c; ++j) which[r * c + j] = uint8_t(of[j]);
    }
  }
}

template <class T>
void norm_sums(const T* dy, const T* y, const T* x, const T* mean, int64_t n, int c, double* sums, int threads) {
  column_sums<T>(n, c, sums, threads, [=](int64_t r, T* __restrict first, T* __restrict second) {
    const T *g = dy + r * c, *out = y + r * c, *row = x + r * c;
    for (int j = 0; j < c; ++j) {
      const T past = out[j] > 0 ? g[j] : T(0);
      first[j] += past;
      second[j] += past * (row[j] - mean[j]);
    }
  });
}

template <class T>
void norm_sums_pool(const T* dy, const uint8_t* which, const int32_t* pool, const T* x, const T* mean, int64_t m, int c,
                    double* sums, int threads) {
  column_sums<T>(m, c, sums, threads, [=](int64_t r, T* __restrict first, T* __restrict second) {
    const uint8_t* chosen = which + r * c;
    const T* g = dy + r * c;
    for (int i = 0; i < 4; ++i) {
      const int64_t from = pool[r * 4 + i];
      if (from < 0) continue;
      const T* row = x + from * c;
      for (int j = 0; j < c; ++j) {
        const T past = chosen[j] == i ? g[j] : T(0);
        first[j] += past;
        second[j] += past * (row[j] - mean[j]);
      }
    }
  });
}

template <class T>
void norm_grad(const T* dy, const T* y, const T* x, const T* mean, const T* scale, const T* slope, const T* shift, T* dx,
               int64_t n, int c, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t r = 0; r < n; ++r) {
    const T *g = dy + r * c, *out = y + r * c, *row = x + r * c;
    T* __restrict to = dx + r * c;
    for (int j = 0; j < c; ++j)
      to[j] = scale[j] * (out[j] > 0 ? g[j] : T(0)) + slope[j] * (row[j] - mean[j]) + shift[j];
  }
}

// Every row is the child of one pooled site, so all of dx is written.
template <class T>
void norm_grad_pool(const T* dy, const uint8_t* which, const int32_t* pool, const T* x, const T* mean, const T* scale,
                    const T* slope, const T* shift, T* dx, int64_t m, int c, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t r = 0; r < m; ++r) {
    const uint8_t* chosen = which + r * c;
    const T* g = dy + r * c;
    for (int i = 0; i < 4; ++i) {
      const int64_t child = pool[r * 4 + i];
      if (child < 0) continue;
      const T* row = x + child * c;
      T* __restrict to = dx + child * c;
      for (int j = 0; j < c; ++j)
        to[j] = scale[j] * (chosen[j] == i ? g[j] : T(0)) + slope[j] * (row[j] - mean[j]) + shift[j];
    }
  }
}

}  // namespace

extern "C" {

// Of a mask (b, height, width): the rank of each active site (-1: none), the ranks of its 3x3 neighbours, and of the 4
// children of each pooled site that has any. Writes how many sites and pooled sites there are to counts[0..2).
void mesm_tables(const uint8_t* mask, int64_t b, int height, int width, int32_t* rank, int64_t* sites, int32_t* near,
                 int32_t* pool, int64_t* counts, int threads) {
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
  for (int64_t p = 0; p < b; ++p)
    for (int y = 0; y < height; y += 2)
      for (int x = 0; x < width; x += 2) {
        const int32_t* top = rank + p * size + int64_t(y) * width + x;
        const int32_t child[4] = {top[0], top[1], top[width], top[width + 1]};
        if (child[0] < 0 && child[1] < 0 && child[2] < 0 && child[3] < 0) continue;
        std::memcpy(pool + m++ * 4, child, sizeof child);
      }
  counts[0] = n;
  counts[1] = m;
}

#define MESM_EXPORT(T, S)                                                                                              \
  void mesm_conv_##S(const T* x, const T* w, const int32_t* near, T* y, int64_t n, int taps, int cin, int cout,        \
                     int mirror, int threads) {                                                                        \
    conv(x, w, near, y, n, taps, cin, cout, mirror, threads);                                                          \
  }                                                                                                                    \
  void mesm_conv_weight_##S(const T* x, const T* dy, const int32_t* near, T* dw, int64_t n, int taps, int cin,         \
                            int cout, int threads) {                                                                   \
    conv_weight(x, dy, near, dw, n, taps, cin, cout, threads);                                                         \
  }                                                                                                                    \
  void mesm_moments_##S(const T* x, int64_t n, int c, double* sums, int threads) { moments(x, n, c, sums, threads); }  \
  void mesm_normalise_##S(const T* x, const T* scale, const T* shift, T* y, int64_t n, int c, int threads) {           \
    normalise(x, scale, shift, y, n, c, threads);                                                                      \
  }                                                                                                                    \
  void mesm_normalise_pool_##S(const T* x, const T* scale, const T* shift, const int32_t* pool, T* y, uint8_t* which,  \
                               int64_t m, int c, int threads) {                                                        \
    normalise_pool(x, scale, shift, pool, y, which, m, c, threads);                                                    \
  }                                                                                                                    \
  void mesm_norm_sums_##S(const T* dy, const T* y, const T* x, const T* mean, int64_t n, int c, double* sums,          \
                          int threads) {                                                                               \
    norm_sums(dy, y, x, mean, n, c, sums, threads);                                                                    \
  }                                                                                                                    \
  void mesm_norm_sums_pool_##S(const T* dy, const uint8_t* which, const int32_t* pool, const T* x, const T* mean,      \
                               int64_t m, int c, double* sums, int threads) {                                          \
    norm_sums_pool(dy, which, pool, x, mean, m, c, sums, threads);                                                     \
  }                                                                                                                    \
  void mesm_norm_grad_##S(const T* dy, const T* y, const T* x, const T* mean, const T* scale, const T* slope,          \
                          const T* shift, T* dx, int64_t n, int c, int threads) {                                      \
    norm_grad(dy, y, x, mean, scale, slope, shift, dx, n, c, threads);                                                 \
  }                                                                                                                    \
  void mesm_norm_grad_pool_##S(const T* dy, const uint8_t* which, const int32_t* pool, const T* x, const T* mean,      \
                               const T* scale, const T* slope, const T* shift, T* dx, int64_t m, int c, int threads) { \
    norm_grad_pool(dy, which, pool, x, mean, scale, slope, shift, dx, m, c, threads);                                  \
  }

MESM_EXPORT(float, f32)
MESM_EXPORT(double, f64)
}
