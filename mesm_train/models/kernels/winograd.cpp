// 3x3 convolutions of 4x4 windows of sites by Winograd's minimal filtering F(4x4, 3x3); see __init__.py.
//
// Y = A' [(G g G') . (B' d B)] A for a 3x3 filter g and the 6x6 sites d around a window: 36 products a pair of channels
// for the 144 of a full one. The matrices are those of Lavin and Gray, Fast Algorithms for Convolutional Neural Networks
// (2016), for the points 0, 1, -1, 2, -2; pure.py has them as numbers, here they are the sums that they stand for. A window
// is 36 rows of sites, -1 where there is none or it is not active; the middle 4x4 are computed.

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "vectors.h"

using namespace mesm;

namespace {

constexpr int kOut = 4, kSide = 6, kPoints = kSide * kSide;
constexpr int kStrip = 24;      // windows that a thread transforms and multiplies at once, a multiple of kRows
constexpr int kLongStrip = 48;  // the same for the gradient of a weight
constexpr int kSums = 32;       // partial sums of a weight's gradient, at most
constexpr int kPartial = 2 * kLongStrip;  // windows of one, at least
constexpr int kSlice = 16384;   // products of inputs and outputs that a task gathers, about: 36 x 64 kB

// B' d, of the six numbers of a line that are `from` apart, to six that are `to` apart.
template <class V> inline void input_line(const V* d, int from, V* t, int to) {
  const V d0 = d[0], d1 = d[from], d2 = d[2 * from], d3 = d[3 * from], d4 = d[4 * from], d5 = d[5 * from];
  const V a = d4 - 4 * d2, b = d3 - 4 * d1, c = d4 - d2, e = d3 - d1;
  t[0] = 4 * d0 + (d4 - 5 * d2);
  t[to] = a + b;
  t[2 * to] = a - b;
  t[3 * to] = c + 2 * e;
  t[4 * to] = c - 2 * e;
  t[5 * to] = 4 * d1 + (d5 - 5 * d3);
}

// A' m, six to four.
template <class V> inline void output_line(const V* m, int from, V* y, int to) {
  const V m1 = m[from], m2 = m[2 * from], m3 = m[3 * from], m4 = m[4 * from];
  const V s = m1 + m2, d = m1 - m2, u = m3 + m4, e = m3 - m4;
  y[0] = m[0] + (s + u);
  y[to] = d + 2 * e;
  y[2 * to] = s + 4 * u;
  y[3 * to] = (d + 8 * e) + m[5 * from];
}

// A y, four to six.
template <class V> inline void spread_line(const V* y, int from, V* m, int to) {
  const V y0 = y[0], y1 = y[from], y2 = y[2 * from], y3 = y[3 * from];
  const V even = y0 + y2, odd = y1 + y3, far = y0 + 4 * y2, skew = 2 * y1 + 8 * y3;
  m[0] = y0;
  m[to] = even + odd;
  m[2 * to] = even - odd;
  m[3 * to] = far + skew;
  m[4 * to] = far - skew;
  m[5 * to] = y3;
}

// G g, three to six.
template <class V, class T> inline void filter_line(const V* g, int from, V* u, int to) {
  const V g0 = g[0], g1 = g[from], g2 = g[2 * from];
  const V even = g0 + g2, far = g0 * T(1. / 24) + g2 * T(1. / 6);
  u[0] = g0 * T(1. / 4);
  u[to] = (even + g1) * T(-1. / 6);
  u[2 * to] = (even - g1) * T(-1. / 6);
  u[3 * to] = far + g1 * T(1. / 12);
  u[4 * to] = far - g1 * T(1. / 12);
  u[5 * to] = g2;
}

// G' u, six to three.
template <class V, class T> inline void gather_line(const V* u, int from, V* g, int to) {
  const V u1 = u[from], u2 = u[2 * from], u3 = u[3 * from], u4 = u[4 * from];
  const V near = (u1 + u2) * T(-1. / 6), far = u3 + u4;
  g[0] = u[0] * T(1. / 4) + near + far * T(1. / 24);
  g[to] = (u1 - u2) * T(-1. / 6) + (u3 - u4) * T(1. / 12);
  g[2 * to] = near + far * T(1. / 6) + u[5 * from];
}

// B' d B of a window's rows, which are `step` apart, point i to `to` + i * plane.
template <class T>
void window_in(const int32_t* window, const T* x, int step, const T* zeros, int c, T* to, int64_t plane) {
  const T* from[kPoints];
  for (int i = 0; i < kPoints; ++i) from[i] = window[i] < 0 ? zeros : x + int64_t(window[i]) * step;
  for (int j = 0; j < c; j += kLanes<T>) {
    Vec<T> d[kPoints], t[kSide];
    for (int i = 0; i < kPoints; ++i) d[i] = load(from[i] + j);
    for (int i = 0; i < kSide; ++i) input_line(d + i, kSide, d + i, kSide);
    for (int i = 0; i < kSide; ++i) {
      input_line(d + i * kSide, 1, t, 1);
      for (int k = 0; k < kSide; ++k) store(to + (i * kSide + k) * plane + j, t[k]);
    }
  }
}

// The row of an output of a window.
inline int64_t output_row(const int32_t* window, int i, int k) { return window[(i + 1) * kSide + k + 1]; }

// A' m A plus the bias to a window's rows of y, point i from m + i * c.
template <class T> void window_out(const int32_t* window, const T* m, const T* bias, int c, T* y) {
  for (int j = 0; j < c; j += kLanes<T>) {
    Vec<T> d[kPoints], s[kOut * kSide], t[kOut];
    for (int i = 0; i < kPoints; ++i) d[i] = load(m + int64_t(i) * c + j);
    for (int k = 0; k < kSide; ++k) output_line(d + k, kSide, s + k, kSide);
    for (int i = 0; i < kOut; ++i) {
      output_line(s + i * kSide, 1, t, 1);
      for (int k = 0; k < kOut; ++k)
        if (const int64_t row = output_row(window, i, k); row >= 0)
          store(y + row * c + j, bias ? t[k] + load(bias + j) : t[k]);
    }
  }
}

// A dy A' of a window's rows of dy, point i to `to` + i * plane.
template <class T> void window_spread(const int32_t* window, const T* dy, const T* zeros, int c, T* to, int64_t plane) {
  for (int j = 0; j < c; j += kLanes<T>) {
    Vec<T> d[kOut * kOut], s[kSide * kOut], t[kSide];
    for (int i = 0; i < kOut; ++i)
      for (int k = 0; k < kOut; ++k) {
        const int64_t row = output_row(window, i, k);
        d[i * kOut + k] = load((row < 0 ? zeros : dy + row * c) + j);
      }
    for (int k = 0; k < kOut; ++k) spread_line(d + k, kOut, s + k, kOut);
    for (int i = 0; i < kSide; ++i) {
      spread_line(s + i * kOut, 1, t, 1);
      for (int k = 0; k < kSide; ++k) store(to + (i * kSide + k) * plane + j, t[k]);
    }
  }
}

// Numbers from a point of the packed filters to the next. A vector more than needed, or the points of a pair of channels
// would fall on the same lines of the cache.
template <class T> inline int64_t filter_plane(int cin, int cout) { return int64_t(cin) * cout + kLanes<T>; }

// G g G' of a weight (9, cin, cout), or with `mirror` of (9, cout, cin) turned and transposed, one block a point and tile.
template <class T>
std::unique_ptr<T[]> filters(const T* weight, const std::vector<Tile>& tiles, int cin, int cout, bool mirror,
                             int threads) {
  const int64_t plane = filter_plane<T>(cin, cout), line = 9 * cout + kLanes<T>;
  auto packed = uninitialised<T>(kPoints * plane);
#pragma omp parallel num_threads(threads)
  {
    const auto turned = uninitialised<T>(mirror ? kLanes<T> * line : 0);  // of some inputs
#pragma omp for schedule(static)
    for (int first = 0; first < cin; first += kLanes<T>) {
      for (int k = 0; mirror && k < 9; ++k)
        transpose(weight + int64_t(8 - k) * cout * cin + first, cin, cout, kLanes<T>, &turned[k * cout], line);
      for (int c = first; c < first + kLanes<T>; ++c) {
        const T* from = mirror ? &turned[(c - first) * line] : weight + int64_t(c) * cout;
        const int64_t step = mirror ? cout : int64_t(cin) * cout;
        for (Tile tile : tiles)
          for (int j = 0; j < tile.width; j += kLanes<T>) {
            T* to = &packed[int64_t(tile.first) * cin + int64_t(c) * tile.width + j];
            Vec<T> g[9], s[kSide * 3], u[kSide];
            for (int k = 0; k < 9; ++k) g[k] = load(from + k * step + tile.first + j);
            for (int k = 0; k < 3; ++k) filter_line<Vec<T>, T>(g + k, 3, s + k, 3);
            for (int i = 0; i < kSide; ++i) {
              filter_line<Vec<T>, T>(s + i * 3, 1, u, 1);
              for (int k = 0; k < kSide; ++k) store(to + (i * kSide + k) * plane, u[k]);
            }
          }
      }
    }
  }
  return packed;
}

template <class T>
void conv(const T* x, const T* weight, const T* bias, const int32_t* windows, int64_t count, T* y, int cin, int cout,
          bool mirror, int threads) {
  const auto tiles = tiles_of<T>(cout);
  const auto packed = filters(weight, tiles, cin, cout, mirror, threads);
  const std::vector<T> zeros(cin);
  // A vector more than needed, or points of all windows would fall on the same lines of the cache.
  const int64_t wide = kPoints * cin + kLanes<T>, narrow = kPoints * cout + kLanes<T>;
#pragma omp parallel num_threads(threads)
  {
    const auto d = uninitialised<T>(kStrip * wide), m = uninitialised<T>(kStrip * narrow);
    const T* in[kStrip];
    T* out[kStrip];
#pragma omp for schedule(dynamic)
    for (int64_t first = 0; first < count; first += kStrip) {
      const int some = int(std::min<int64_t>(kStrip, count - first));
      const int32_t* strip = windows + first * kPoints;
      for (int t = 0; t < some; ++t) window_in(strip + t * kPoints, x, cin, zeros.data(), cin, &d[t * wide], cin);
      for (int i = 0; i < kPoints; ++i) {
        for (int t = 0; t < some; ++t) in[t] = &d[t * wide + int64_t(i) * cin];
        for (Tile tile : tiles) {
          for (int t = 0; t < some; ++t) out[t] = &m[t * narrow + int64_t(i) * cout + tile.first];
          const T* w = &packed[i * filter_plane<T>(cin, cout) + int64_t(tile.first) * cin];
          multiply_tile<T, false>(tile, some, in, out, w, cin);
        }
      }
      for (int t = 0; t < some; ++t) window_out(strip + t * kPoints, &m[t * narrow], bias, cout, y);
    }
  }
}

// G' u G of `size` products a point, `plane` apart, tap k to `to` + k * step.
template <class T> void gather(const T* u, int64_t size, int64_t plane, T* to, int64_t step) {
  for (int64_t j = 0; j < size; j += kLanes<T>) {
    Vec<T> d[kPoints], s[3 * kSide], g[3];
    for (int i = 0; i < kPoints; ++i) d[i] = load(u + i * plane + j);
    for (int k = 0; k < kSide; ++k) gather_line<Vec<T>, T>(d + k, kSide, s + k, kSide);
    for (int i = 0; i < 3; ++i) {
      gather_line<Vec<T>, T>(s + i * kSide, 1, g, 1);
      for (int k = 0; k < 3; ++k) store(to + (i * 3 + k) * step + j, g[k]);
    }
  }
}

// A task is some windows and a slice of the inputs. How windows are shared out depends on their number only, and so does
// the order in which what they give is added.
template <class T>
void conv_weight(const T* x, const T* dy, const int32_t* windows, int64_t count, T* dw, int cin, int cout, int threads) {
  const auto tiles = tiles_of<T>(cout);
  const int sums = int(std::clamp<int64_t>(count / kPartial, 1, kSums));
  const int64_t share = (count + sums - 1) / sums, strips = (share + kLongStrip - 1) / kLongStrip;
  const int strip = int((share + strips - 1) / strips);
  const int slices = std::max((cin * cout + kSlice - 1) / kSlice, (threads + sums - 1) / sums);
  const int slice = std::max((cin / kLanes<T> + slices - 1) / slices, 1) * kLanes<T>, parts = (cin + slice - 1) / slice;
  const int64_t size = int64_t(cin) * cout, plane = int64_t(slice) * cout;
  // A vector more than needed, or all points of a window would fall on the same lines of the cache.
  const int64_t wide = int64_t(strip) * slice + kLanes<T>, narrow = int64_t(strip) * cout + kLanes<T>;
  const std::vector<T> zeros(std::max(cin, cout));
  const auto partial = uninitialised<T>(sums * 9 * size);
  std::vector<int32_t> order(strip);
  std::iota(order.begin(), order.end(), 0);
#pragma omp parallel num_threads(threads)
  {
    const auto d = uninitialised<T>(kPoints * wide), m = uninitialised<T>(kPoints * narrow);
    const auto u = uninitialised<T>(kPoints * plane);
#pragma omp for schedule(dynamic)
    for (int task = 0; task < sums * parts; ++task) {
      const int s = task / parts, c = task % parts * slice, inputs = std::min(slice, cin - c);
      const int64_t last = std::min(count, (s + 1) * share);
      std::fill_n(u.get(), kPoints * plane, T(0));
      for (int64_t first = s * share; first < last; first += strip) {
        const int some = int(std::min<int64_t>(strip, last - first));
        for (int t = 0; t < some; ++t) {
          const int32_t* window = windows + (first + t) * kPoints;
          window_in(window, x + c, cin, zeros.data(), inputs, &d[t * slice], wide);
          window_spread(window, dy, zeros.data(), cout, &m[t * cout], narrow);
        }
        for (int i = 0; i < kPoints; ++i)
          for (Tile tile : tiles)
            outer_tile(tile, &d[i * wide], order.data(), &m[i * narrow + tile.first], order.data(), some,
                       &u[i * plane + tile.first], inputs, slice, cout, cout);
      }
      gather(u.get(), int64_t(inputs) * cout, plane, &partial[int64_t(s) * 9 * size + int64_t(c) * cout], size);
    }
#pragma omp for schedule(static)
    for (int64_t j = 0; j < 9 * size; j += kLanes<T>) {
      Vec<T> sum = load(dw + j);
      for (int s = 0; s < sums; ++s) sum += load(&partial[s * 9 * size + j]);
      store(dw + j, sum);
    }
  }
}

}  // namespace

// For numbers of inputs and outputs that are multiples of 64 bytes. The weight's gradient is added to dw.
#define MESM_EXPORT(T, S)                                                                                              \
  extern "C" {                                                                                                         \
  void mesm_winograd_##S(const T* x, const T* w, const T* bias, const int32_t* windows, T* y, int64_t count, int cin,  \
                         int cout, int mirror, int threads) {                                                          \
    conv(x, w, bias, windows, count, y, cin, cout, mirror, threads);                                                   \
  }                                                                                                                    \
  void mesm_winograd_weight_##S(const T* x, const T* dy, const int32_t* windows, T* dw, int64_t count, int cin,        \
                                int cout, int threads) {                                                               \
    conv_weight(x, dy, windows, count, dw, cin, cout, threads);                                                        \
  }                                                                                                                    \
  }

MESM_EXPORT(float, f32)
MESM_EXPORT(double, f64)
