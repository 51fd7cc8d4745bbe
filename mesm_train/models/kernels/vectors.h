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

// out[r][0..N vectors) = (what it holds if Add) + sum over c of in[r][c] * w[c][..], for R rows; w is packed, so its rows
// are that wide.
template <class T, bool Add, int R, int N> void multiply(const T* const* in, T* const* out, const T* w, int cin) {
  Vec<T> sum[R][N];
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < N; ++v) sum[r][v] = Add ? load(out[r] + v * kLanes<T>) : Vec<T>{};
  for (int c = 0; c < cin; ++c, w += N * kLanes<T>) {
    Vec<T> b[N];
    for (int v = 0; v < N; ++v) b[v] = load(w + v * kLanes<T>);
    for (int r = 0; r < R; ++r) {
      const T a = in[r][c];
      for (int v = 0; v < N; ++v) sum[r][v] = fused(a, b[v], sum[r][v]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < N; ++v) store(out[r] + v * kLanes<T>, sum[r][v]);
}

template <class T, bool Add, int N> void multiply_rows(int rows, const T* const* in, T* const* out, const T* w, int cin) {
  for (; rows >= kRows; rows -= kRows, in += kRows, out += kRows) multiply<T, Add, kRows, N>(in, out, w, cin);
  switch (rows) {
    case 5: return multiply<T, Add, 5, N>(in, out, w, cin);
    case 4: return multiply<T, Add, 4, N>(in, out, w, cin);
    case 3: return multiply<T, Add, 3, N>(in, out, w, cin);
    case 2: return multiply<T, Add, 2, N>(in, out, w, cin);
    case 1: return multiply<T, Add, 1, N>(in, out, w, cin);
  }
}

template <class T, bool Add>
void multiply_tile(Tile tile, int rows, const T* const* in, T* const* out, const T* w, int cin) {
  if (tile.width == kWide * kLanes<T>) return multiply_rows<T, Add, kWide>(rows, in, out, w, cin);
  if (tile.width == kLanes<T>) return multiply_rows<T, Add, 1>(rows, in, out, w, cin);
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < cin; ++c)
      for (int j = 0; j < tile.width; ++j) out[r][j] += in[r][c] * w[c * tile.width + j];
}

// to[r][..] += sum over pairs of x[in[p]][r] * g[out[p]][..], for R inputs and N vectors of outputs; rows of x, g and to are
// cin, step and cout apart.
template <class T, int R, int N>
void outer(const T* x, const int32_t* in, const T* g, const int32_t* out, int pairs, T* to, int cin, int step, int cout) {
  Vec<T> sum[R][N];
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < N; ++v) sum[r][v] = load(to + int64_t(r) * cout + v * kLanes<T>);
  for (int p = 0; p < pairs; ++p) {
    const T *a = x + int64_t(in[p]) * cin, *row = g + int64_t(out[p]) * step;
    Vec<T> b[N];
    for (int v = 0; v < N; ++v) b[v] = load(row + v * kLanes<T>);
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < N; ++v) sum[r][v] = fused(a[r], b[v], sum[r][v]);
  }
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < N; ++v) store(to + int64_t(r) * cout + v * kLanes<T>, sum[r][v]);
}

template <class T, int N>
void outer_rows(const T* x, const int32_t* in, const T* g, const int32_t* out, int pairs, T* to, int rows, int cin,
                int step, int cout) {
  for (; rows >= kRows; rows -= kRows, x += kRows, to += int64_t(kRows) * cout)
    outer<T, kRows, N>(x, in, g, out, pairs, to, cin, step, cout);
  switch (rows) {
    case 5: return outer<T, 5, N>(x, in, g, out, pairs, to, cin, step, cout);
    case 4: return outer<T, 4, N>(x, in, g, out, pairs, to, cin, step, cout);
    case 3: return outer<T, 3, N>(x, in, g, out, pairs, to, cin, step, cout);
    case 2: return outer<T, 2, N>(x, in, g, out, pairs, to, cin, step, cout);
    case 1: return outer<T, 1, N>(x, in, g, out, pairs, to, cin, step, cout);
  }
}

template <class T>
void outer_tile(Tile tile, const T* x, const int32_t* in, const T* g, const int32_t* out, int pairs, T* to, int rows,
                int cin, int step, int cout) {
  if (tile.width == kWide * kLanes<T>) return outer_rows<T, kWide>(x, in, g, out, pairs, to, rows, cin, step, cout);
  if (tile.width == kLanes<T>) return outer_rows<T, 1>(x, in, g, out, pairs, to, rows, cin, step, cout);
  for (int p = 0; p < pairs; ++p)
    for (int r = 0; r < rows; ++r)
      for (int j = 0; j < tile.width; ++j)
        to[int64_t(r) * cout + j] += x[int64_t(in[p]) * cin + r] * g[int64_t(out[p]) * step + j];
}

}  // namespace mesm
