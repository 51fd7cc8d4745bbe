// What the kernels are made of: vectors of the machine's width, and products of rows with packed blocks of columns.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#if defined(__FMA__)
#include <immintrin.h>
#endif

namespace mesm {

#if defined(__AVX512F__)
constexpr int kBytes = 64, kWide = 4;  // 6 x 4 accumulators of 32 registers
#elif defined(__AVX__)
constexpr int kBytes = 32, kWide = 2;  // 6 x 2 of 16
#else
constexpr int kBytes = 16, kWide = 2;
#endif
constexpr int kRows = 6;     // rows of a register tile

// Of the alignment that a vector has by itself. With aligned(sizeof(T)) local arrays begin at any multiple of that, and
// function templates of the type read them by instructions that need a multiple of kBytes, since GCC ignores attributes on
// a template's argument: compiled by GCC 11, 13 or 14, the process ended by SIGSEGV.
template <class T> struct Vector;
template <> struct Vector<float> { typedef float type __attribute__((vector_size(kBytes))); };
template <> struct Vector<double> { typedef double type __attribute__((vector_size(kBytes))); };
template <class T> using Vec = typename Vector<T>::type;
template <class T> constexpr int kLanes = kBytes / int(sizeof(T));

// At any address, in one instruction.
template <class T> inline Vec<T> load(const T* p) {
  Vec<T> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <class T> inline void store(T* p, Vec<T> v) { std::memcpy(p, &v, sizeof v); }

// The first `count` numbers of a vector, fewer than it has; the others are 0, and what lies behind is neither read nor
// written.
#if defined(__AVX512F__)
inline Vec<float> load_some(const float* p, int count) { return _mm512_maskz_loadu_ps(__mmask16((1 << count) - 1), p); }
inline Vec<double> load_some(const double* p, int count) { return _mm512_maskz_loadu_pd(__mmask8((1 << count) - 1), p); }
inline void store_some(float* p, Vec<float> v, int count) { _mm512_mask_storeu_ps(p, __mmask16((1 << count) - 1), v); }
inline void store_some(double* p, Vec<double> v, int count) { _mm512_mask_storeu_pd(p, __mmask8((1 << count) - 1), v); }
#else
template <class T> inline Vec<T> load_some(const T* p, int count) {
  Vec<T> v{};
  std::memcpy(&v, p, count * sizeof(T));
  return v;
}
template <class T> inline void store_some(T* p, Vec<T> v, int count) { std::memcpy(p, &v, count * sizeof(T)); }
#endif

// a * b + c, rounded once if the CPU can. GCC 11 and 13 left tiles of one row and one vector with two roundings, and a
// row's bits depended on how many rows were with it.
#if defined(__AVX512F__)
inline Vec<float> fused(float a, Vec<float> b, Vec<float> c) { return _mm512_fmadd_ps(_mm512_set1_ps(a), b, c); }
inline Vec<double> fused(double a, Vec<double> b, Vec<double> c) { return _mm512_fmadd_pd(_mm512_set1_pd(a), b, c); }
#elif defined(__FMA__)
inline Vec<float> fused(float a, Vec<float> b, Vec<float> c) { return _mm256_fmadd_ps(_mm256_set1_ps(a), b, c); }
inline Vec<double> fused(double a, Vec<double> b, Vec<double> c) { return _mm256_fmadd_pd(_mm256_set1_pd(a), b, c); }
#else
template <class T> inline Vec<T> fused(T a, Vec<T> b, Vec<T> c) { return a * b + c; }
#endif

// Some numbers, vector by vector, without a call.
template <class T> inline void copy(const T* from, T* to, int count) {
  int i = 0;
  for (; i + kLanes<T> <= count; i += kLanes<T>) store(to + i, load(from + i));
  for (; i < count; ++i) to[i] = from[i];
}

// Memory for so many numbers, which the caller writes. A vector would write zeros first: 37 MB of them for the filters of
// 512 to 512 channels, each time.
template <class T> std::unique_ptr<T[]> uninitialised(int64_t count) { return std::unique_ptr<T[]>(new T[count]); }

// to[c][r] = from[r][c] for some rows and columns, which are so far apart in memory. Line by line of the cache: where the
// rows are a power of two apart no processor fetches them ahead by itself.
template <class T>
void transpose(const T* from, int64_t from_step, int rows, int columns, T* to, int64_t to_step) {
  constexpr int kLine = 64 / int(sizeof(T)), kAhead = 16;
  for (int c0 = 0; c0 < columns; c0 += kLine) {
    const int c1 = std::min(c0 + kLine, columns);
    for (int r = 0; r < rows; ++r) {
      if (r + kAhead < rows) __builtin_prefetch(from + (r + kAhead) * from_step + c0);
      for (int c = c0; c < c1; ++c) to[c * to_step + r] = from[r * from_step + c];
    }
  }
}

// Columns are cut into tiles of kWide vectors, then of two, then single vectors, of which the last may be wider than the
// columns that are left: it has `used` of them. What is packed for it has as many as a vector.
struct Tile { int first, width, used; };

template <class T> std::vector<Tile> tiles_of(int columns) {
  std::vector<Tile> tiles;
  int first = 0;
  for (int vectors : {kWide, 2, 1})
    for (const int width = vectors * kLanes<T>; columns - first >= width; first += width)
      tiles.push_back({first, width, width});
  if (first < columns) tiles.push_back({first, kLanes<T>, columns - first});
  return tiles;
}

// Columns with those that fill the last tile.
template <class T> inline int padded(int columns) { return (columns + kLanes<T> - 1) / kLanes<T> * kLanes<T>; }

// The columns of a tile, from their place in a row to a row of the tile, which is filled with 0.
template <class T> inline void copy_tile(Tile tile, const T* from, T* to) {
  copy(from, to, tile.used);
  std::fill(to + tile.used, to + tile.width, T(0));
}

// out[r][0..N vectors) = (what it holds if Add) + sum over c of in[r][c] * w[c][..], for R rows; w is packed, so its rows
// are that wide. With Some, out has `used` columns of the vector only.
template <class T, bool Add, int R, int N, bool Some>
void multiply(const T* const* in, T* const* out, const T* w, int cin, int used) {
  Vec<T> sum[R][N];
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < N; ++v)
      sum[r][v] = !Add ? Vec<T>{} : Some ? load_some(out[r], used) : load(out[r] + v * kLanes<T>);
  for (int c = 0; c < cin; ++c, w += N * kLanes<T>) {
    Vec<T> b[N];
    for (int v = 0; v < N; ++v) b[v] = load(w + v * kLanes<T>);
    for (int r = 0; r < R; ++r) {
      const T a = in[r][c];
      for (int v = 0; v < N; ++v) sum[r][v] = fused(a, b[v], sum[r][v]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < N; ++v)
      if (Some) store_some(out[r], sum[r][v], used);
      else store(out[r] + v * kLanes<T>, sum[r][v]);
}

template <class T, bool Add, int N, bool Some = false>
void multiply_rows(int rows, const T* const* in, T* const* out, const T* w, int cin, int used) {
  for (; rows >= kRows; rows -= kRows, in += kRows, out += kRows) multiply<T, Add, kRows, N, Some>(in, out, w, cin, used);
  switch (rows) {
    case 5: return multiply<T, Add, 5, N, Some>(in, out, w, cin, used);
    case 4: return multiply<T, Add, 4, N, Some>(in, out, w, cin, used);
    case 3: return multiply<T, Add, 3, N, Some>(in, out, w, cin, used);
    case 2: return multiply<T, Add, 2, N, Some>(in, out, w, cin, used);
    case 1: return multiply<T, Add, 1, N, Some>(in, out, w, cin, used);
  }
}

template <class T, bool Add>
void multiply_tile(Tile tile, int rows, const T* const* in, T* const* out, const T* w, int cin) {
  if (tile.used < tile.width) return multiply_rows<T, Add, 1, true>(rows, in, out, w, cin, tile.used);
  if (tile.width == kWide * kLanes<T>) return multiply_rows<T, Add, kWide>(rows, in, out, w, cin, tile.used);
  if (tile.width == 2 * kLanes<T>) return multiply_rows<T, Add, 2>(rows, in, out, w, cin, tile.used);
  return multiply_rows<T, Add, 1>(rows, in, out, w, cin, tile.used);
}

// to[r][..] += sum over pairs of x[in[p]][r] * g[out[p]][..], for R inputs and N vectors of outputs; rows of x, g and to are
// cin, step and cout apart. With Some, `to` has `used` columns of the vector only.
template <class T, int R, int N, bool Some>
void outer(const T* x, const int32_t* in, const T* g, const int32_t* out, int pairs, T* to, int cin, int step, int cout,
           int used) {
  Vec<T> sum[R][N];
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < N; ++v)
      sum[r][v] = Some ? load_some(to + int64_t(r) * cout, used) : load(to + int64_t(r) * cout + v * kLanes<T>);
  for (int p = 0; p < pairs; ++p) {
    const T *a = x + int64_t(in[p]) * cin, *row = g + int64_t(out[p]) * step;
    Vec<T> b[N];
    for (int v = 0; v < N; ++v) b[v] = load(row + v * kLanes<T>);
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < N; ++v) sum[r][v] = fused(a[r], b[v], sum[r][v]);
  }
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < N; ++v)
      if (Some) store_some(to + int64_t(r) * cout, sum[r][v], used);
      else store(to + int64_t(r) * cout + v * kLanes<T>, sum[r][v]);
}

template <class T, int N, bool Some = false>
void outer_rows(const T* x, const int32_t* in, const T* g, const int32_t* out, int pairs, T* to, int rows, int cin,
                int step, int cout, int used) {
  for (; rows >= kRows; rows -= kRows, x += kRows, to += int64_t(kRows) * cout)
    outer<T, kRows, N, Some>(x, in, g, out, pairs, to, cin, step, cout, used);
  switch (rows) {
    case 5: return outer<T, 5, N, Some>(x, in, g, out, pairs, to, cin, step, cout, used);
    case 4: return outer<T, 4, N, Some>(x, in, g, out, pairs, to, cin, step, cout, used);
    case 3: return outer<T, 3, N, Some>(x, in, g, out, pairs, to, cin, step, cout, used);
    case 2: return outer<T, 2, N, Some>(x, in, g, out, pairs, to, cin, step, cout, used);
    case 1: return outer<T, 1, N, Some>(x, in, g, out, pairs, to, cin, step, cout, used);
  }
}

template <class T>
void outer_tile(Tile tile, const T* x, const int32_t* in, const T* g, const int32_t* out, int pairs, T* to, int rows,
                int cin, int step, int cout) {
  const int used = tile.used;
  if (used < tile.width) return outer_rows<T, 1, true>(x, in, g, out, pairs, to, rows, cin, step, cout, used);
  if (tile.width == kWide * kLanes<T>)
    return outer_rows<T, kWide>(x, in, g, out, pairs, to, rows, cin, step, cout, used);
  if (tile.width == 2 * kLanes<T>) return outer_rows<T, 2>(x, in, g, out, pairs, to, rows, cin, step, cout, used);
  return outer_rows<T, 1>(x, in, g, out, pairs, to, rows, cin, step, cout, used);
}

}  // namespace mesm
