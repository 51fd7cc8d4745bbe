// Batch norm, ReLU and pooling of rows; see __init__.py for what each computes.
//
// Sums are taken in blocks of rows, and the blocks' added in order: results do not depend on the number of threads.

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace {

constexpr int kBlock = 256;  // rows that are summed in T before they are added in double

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

#define MESM_EXPORT(T, S)                                                                                              \
  extern "C" {                                                                                                         \
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
  }                                                                                                                    \
  }

MESM_EXPORT(float, f32)
MESM_EXPORT(double, f64)
